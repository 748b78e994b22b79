"""The prior of a prompt's success rate, fitted to the population (empirical Bayes; method D2)."""

from typing import Any

import numpy as np

from gdro.core.passk import posterior_pass_at_k
from gdro.core.types import FloatArray, IntArray

_MEAN = (0.005, 0.995)
_STRENGTH = (0.2, 16.0)
_HALF_LIFE = 4096.0
_START = 16.0
_KNOWN = 16


class FixedPrior:
    """Beta(a, b), given."""

    def __init__(self, a: float, b: float) -> None:
        self.a, self.b = a, b

    def observe(self, n_P: IntArray, correct_P: IntArray) -> None:
        """Learns nothing."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class FittedPrior:
    """Beta prior whose first two moments are those of the population's success rate.

    Within one visit n does not depend on the outcomes, so c/n and c(c-1) / (n(n-1)) are unbiased
    for p and p^2 whatever allocator chose n and however counts are discounted later; a fit to the
    prompts' *discounted* counts would be neither (their variance is not that of a binomial, and
    their n has seen outcomes). The running means over visits forget with a half-life of 4096
    visits and start from `start` visits' worth of Beta(a, b). Constant cost a visit, and no state a
    prompt. The population is the one that is visited: a prompt drawn more often counts more often.

    The mean is kept in [.005, .995] and a + b in [.2, 16], so that no prior is beyond evidence.
    """

    def __init__(self, a: float, b: float, start: float = _START) -> None:
        self._sum_4 = _started(a, b, start)
        self.a, self.b = _fitted(self._sum_4)

    def observe(self, n_P: IntArray, correct_P: IntArray) -> None:
        """Adds one visit per entry; n_P >= 1."""
        self._sum_4 = _added(self._sum_4, _moments(n_P, correct_P))
        self.a, self.b = _fitted(self._sum_4)

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self._sum_4.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sum_4 = state["sum"].copy()
        self.a, self.b = _fitted(self._sum_4)


class LevelPriors:
    """A fitted prior for each level of a column; a level counts as known after 16 visits.

    Args:
        num_levels: L.
        a: Where every fit starts, with `b`.
        b: See `a`.
    """

    def __init__(self, num_levels: int, a: float, b: float) -> None:
        self._start_4 = _started(a, b, 2.0)
        self._sum_L4: FloatArray = np.zeros((0, 4))
        self._beta_L2: FloatArray = np.zeros((0, 2))  # (a, b) of each level
        self._visits: IntArray = np.zeros(0, np.int64)
        self.grow(num_levels)

    def __len__(self) -> int:
        """L."""
        return len(self._visits)

    def grow(self, num_levels: int) -> None:
        """Adds levels without a visit, so that L is `num_levels`."""
        more = num_levels - len(self)
        self._sum_L4 = np.concatenate([self._sum_L4, np.tile(self._start_4, (more, 1))])
        self._beta_L2 = np.concatenate([self._beta_L2, np.tile(_fitted(self._start_4), (more, 1))])
        self._visits = np.concatenate([self._visits, np.zeros(more, np.int64)])

    def observe(self, level_P: IntArray, n_P: IntArray, correct_P: IntArray) -> None:
        """Adds one visit per entry; level -1 is none."""
        order = np.argsort(level_P, kind="stable")
        levels, starts = np.unique(level_P[order], return_index=True)
        parts = np.split(_moments(n_P[order], correct_P[order]), starts[1:], axis=1)
        for level, moments_4P in zip(levels.tolist(), parts, strict=True):
            if level >= 0:
                self._sum_L4[level] = _added(self._sum_L4[level], moments_4P)
                self._beta_L2[level] = _fitted(self._sum_L4[level])
                self._visits[level] += moments_4P.shape[1]

    def lookup(self, level_P: IntArray) -> tuple[FloatArray, FloatArray, np.ndarray]:
        """(a, b) of each entry's level, and whether the level is known."""
        known_P = (level_P >= 0) & (self._visits[level_P] >= _KNOWN)
        return self._beta_L2[level_P, 0], self._beta_L2[level_P, 1], known_P

    def estimates(self, k: int) -> tuple[np.ndarray, FloatArray]:
        """Whether each level is known, and the mean of pass@k under its prior."""
        a_L, b_L = self._beta_L2[:, 0], self._beta_L2[:, 1]
        return self._visits >= _KNOWN, posterior_pass_at_k(a_L, b_L, k)

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sum_L4.copy(), "visits": self._visits.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._visits = state["visits"].copy()
        self._sum_L4 = state["sums"].reshape(-1, 4).copy()  # flat where older states have no level
        fits = [_fitted(sum_4) for sum_4 in self._sum_L4]
        self._beta_L2 = np.array(fits, np.float64).reshape(-1, 2)


def _started(a: float, b: float, visits: float) -> FloatArray:
    """The sums of so many visits, as Beta(a, b) has them in the mean.

    (weight, sum) of c/n, then of c(c-1) / (n(n-1)), which visits of one rollout lack.
    """
    mean = a / (a + b)
    square = mean * (a + 1) / (a + b + 1)
    return visits * np.array([1.0, mean, 1.0, square])


def _moments(n_P: IntArray, correct_P: IntArray) -> FloatArray:
    """float64 [4, P]: what each visit adds to the four sums."""
    n, c = n_P.astype(np.float64), correct_P.astype(np.float64)
    rate = c / n
    square = rate * (c - 1) / np.maximum(n - 1, 1)  # c <= n: 0 at n = 1
    return np.stack([np.ones(len(n)), rate, (n > 1).astype(np.float64), square])


def _added(sum_4: FloatArray, moments_4P: FloatArray) -> FloatArray:
    return sum_4 * 2.0 ** (-moments_4P.shape[1] / _HALF_LIFE) + moments_4P.sum(axis=1)


def _fitted(sum_4: FloatArray) -> tuple[float, float]:
    """(a, b) of the Beta distribution with these moments, within the bounds."""
    visits, total, pairs, squares = sum_4.tolist()
    mean = min(max(total / visits, _MEAN[0]), _MEAN[1])
    spread = (squares / pairs - mean**2) / (mean * (1 - mean))  # 1 / (a + b + 1)
    low, high = _STRENGTH
    strength = 1.0 / min(max(spread, 1 / (high + 1)), 1 / (low + 1)) - 1.0
    return strength * mean, strength * (1 - mean)
