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
        mean = a / (a + b)
        square = mean * (a + 1) / (a + b + 1)
        # (weight, sum) of c/n, then of c(c-1) / (n(n-1)), which visits of one rollout lack
        self._sum = start * np.array([1.0, mean, 1.0, square])
        self._fit()

    def observe(self, n_P: IntArray, correct_P: IntArray) -> None:
        """Adds one visit per entry; n_P >= 1."""
        n, c = n_P.astype(np.float64), correct_P.astype(np.float64)
        rate, pairs = c / n, np.count_nonzero(n > 1)
        square = rate * (c - 1) / np.maximum(n - 1, 1)  # c <= n: 0 at n = 1
        self._sum *= 2.0 ** (-len(n) / _HALF_LIFE)
        self._sum += (len(n), rate.sum(), pairs, square.sum())
        self._fit()

    def _fit(self) -> None:
        visits, total, pairs, squares = self._sum.tolist()
        mean = min(max(total / visits, _MEAN[0]), _MEAN[1])
        spread = (squares / pairs - mean**2) / (mean * (1 - mean))  # 1 / (a + b + 1)
        low, high = _STRENGTH
        strength = 1.0 / min(max(spread, 1 / (high + 1)), 1 / (low + 1)) - 1.0
        self.a, self.b = strength * mean, strength * (1 - mean)

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self._sum.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sum = state["sum"].copy()
        self._fit()


class LevelPriors:
    """A fitted prior for each level of a column; a level counts as known after 16 visits.

    Args:
        num_levels: L.
        a: Where every fit starts, with `b`.
        b: See `a`.
    """

    def __init__(self, num_levels: int, a: float, b: float) -> None:
        self._priors = [FittedPrior(a, b, start=2.0) for _ in range(num_levels)]
        self._visits: IntArray = np.zeros(num_levels, np.int64)

    def __len__(self) -> int:
        """L."""
        return len(self._priors)

    def observe(self, level_P: IntArray, n_P: IntArray, correct_P: IntArray) -> None:
        """Adds one visit per entry; level -1 is none."""
        for level in np.unique(level_P[level_P >= 0]):
            mine = level_P == level
            self._priors[level].observe(n_P[mine], correct_P[mine])
            self._visits[level] += np.count_nonzero(mine)

    def lookup(self, level_P: IntArray) -> tuple[FloatArray, FloatArray, np.ndarray]:
        """(a, b) of each entry's level, and whether the level is known."""
        a_L = np.array([prior.a for prior in self._priors])
        b_L = np.array([prior.b for prior in self._priors])
        known_P = (level_P >= 0) & (self._visits[level_P] >= _KNOWN)
        return a_L[level_P], b_L[level_P], known_P

    def estimates(self, k: int) -> tuple[np.ndarray, FloatArray]:
        """Whether each level is known, and the mean of pass@k under its prior."""
        a_L = np.array([prior.a for prior in self._priors])
        b_L = np.array([prior.b for prior in self._priors])
        return self._visits >= _KNOWN, posterior_pass_at_k(a_L, b_L, k)

    def state_dict(self) -> dict[str, Any]:
        sums = np.array([prior.state_dict()["sum"] for prior in self._priors])
        return {"sums": sums, "visits": self._visits.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._visits = state["visits"].copy()
        for prior, total in zip(self._priors, state["sums"], strict=True):
            prior.load_state_dict({"sum": total})
