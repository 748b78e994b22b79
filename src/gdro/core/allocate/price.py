"""The shadow price mu of one more rollout (Eq. 18-21, D12).

An exact allocation always has the mean n_mean, so the printed drive, realised mean - n_mean, never
moves a price. Both forms are driven by the *unconstrained* demand instead: the mean rollouts that
the bins would buy at this price.
"""

import math
from typing import Protocol


class Price(Protocol):
    """A price that follows the demand."""

    @property
    def value(self) -> float:
        """mu, in units of utility per rollout."""
        ...

    @property
    def state(self) -> float:
        """The number that moves; all there is to save."""
        ...

    @state.setter
    def state(self, state: float) -> None: ...

    def move(self, demand: float) -> None:
        """One step: up where the bins want more than n_mean rollouts a prompt, down where fewer."""
        ...


class LogPrice:
    """log mu += alpha (demand - n_mean) / n_mean: positive; steps are relative, whatever the
    scale of the utility.

    Starts at the price of Eq. 31 where v = 1/4, the largest p (1 - p). With integer arms the demand
    jumps over n_mean and the price settles into a cycle around the multiplier. It stays within a
    factor of 3,000 of its start: where utilities are flat the demand says nothing, and a price
    that had run away for hundreds of steps would take as many to come back.
    """

    _REACH = 8.0

    def __init__(self, alpha: float, n_mean: float) -> None:
        self._start = math.log(0.25 / n_mean**2)
        self.state = self._start
        self._alpha, self._n_mean = alpha, n_mean

    @property
    def value(self) -> float:
        return math.exp(self.state)

    def move(self, demand: float) -> None:
        moved = self.state + self._alpha * (demand - self._n_mean) / self._n_mean
        self.state = min(max(moved, self._start - self._REACH), self._start + self._REACH)


class AdditivePrice:
    """mu += alpha (demand - n_mean), from 0 (Eq. 21): signed, as `surrogate` utilities are."""

    def __init__(self, alpha: float, n_mean: float) -> None:
        self.state = 0.0
        self._alpha, self._n_mean = alpha, n_mean

    @property
    def value(self) -> float:
        return self.state

    def move(self, demand: float) -> None:
        self.state += self._alpha * (demand - self._n_mean)
