"""The gradient variance monitor (paper 4.3, Eq. 28 and 33; method D18 and section 4)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gdro.core.config import RolloutConfig
from gdro.core.errors import DataError
from gdro.core.types import FloatArray, IntArray


def advantage_variance(n: float | IntArray | FloatArray, p: FloatArray) -> FloatArray:
    """Mean squared std-scaled advantage of a group: (n - 1) / n (1 - p^n - (1 - p)^n)  (D18).

    A mixed group has exactly (n - 1) / n (unbiased deviation), any other 0. Proportional to
    p (1 - p) at n = 2 and 3, nearly level where n p (1 - p) is large.

    Args:
        n: Rollouts of the group, >= 1; may be a mean.
        p: Probability in [0, 1] that a rollout is correct.
    """
    from scipy.special import xlog1py, xlogy

    mixed = -np.expm1(xlog1py(n, -p)) - np.exp(xlogy(n, p))
    return (1 - 1 / n) * np.maximum(mixed, 0.0)


def var_proxy(share_B: FloatArray, v_B: FloatArray, n_B: FloatArray | IntArray | float) -> float:
    """VarProxy(n) = sum_b share_b v_b / n_b (Eq. 28); over prompts as well, with share 1 / P."""
    return float(share_B @ (v_B / n_B))


def wse(share_B: FloatArray, v_B: FloatArray, n_B: FloatArray | IntArray | float) -> float:
    """Weighted standard error sum_b share_b sqrt(v_b / n_b) (Eq. 33).

    Reported because the paper does. It is least at n proportional to v^(1/3), not at the
    square-root law, whose objective is `var_proxy`.
    """
    return float(share_B @ np.sqrt(v_B / n_B))


def log_slope(v_B: FloatArray, n_B: FloatArray) -> float:
    """Least-squares slope of log n_b on log v_b: .5 under the square-root law (Eq. 30).

    NaN if fewer than two different v are above 0.
    """
    positive_B = v_B > 0
    x, y = np.log(v_B[positive_B]), np.log(n_B[positive_B])
    if not x.size or x.max() == x.min():
        return float("nan")
    x = x - x.sum() / x.size
    return float(x @ y / (x @ x))


class VarianceMonitor:
    """Running variance v_b of each bin, by one of three proxies (`rollout.proxy`).

    * `reward`: p (1 - p), or with std-scaled advantages (unless the aggregation is `neutral`) the
      mean squared advantage at n_mean (D18); mean over the bin's prompts.
    * `loss`: variance of the prompt loss within the bin, the paper's sigma_b^2 (close to 0 on
      policy, as D6 says). Takes two prompts of the bin.
    * `score`: mean of the gradient-norm proxy over the bin's rollouts.

    A moving average with rate `rollout.proxy_beta` that starts at the first value (D8); an absent
    bin keeps its own.
    """

    def __init__(
        self, config: RolloutConfig, num_bins: int, n_mean: float, std_scaled: bool
    ) -> None:
        self._proxy, self._beta = config.proxy, config.proxy_beta
        self._n_mean = n_mean
        self._scaled = std_scaled and config.aggregation != "neutral"
        self._v_B = np.full(num_bins, np.nan)

    @property
    def variance_B(self) -> FloatArray:
        """v_b; a bin without an observation has the mean of the others, and 1 if there are none."""
        unknown_B = np.isnan(self._v_B)
        if not unknown_B.any():
            return self._v_B.copy()
        mean = self._v_B[~unknown_B].mean() if not unknown_B.all() else 1.0
        return np.where(unknown_B, mean, self._v_B)

    def observe(
        self, bin_P: IntArray, n_P: IntArray, *, p_P: FloatArray | None = None,
        loss_P: FloatArray | None = None, score_P: FloatArray | None = None,
    ) -> None:  # fmt: skip
        """Takes in the prompts of one outcome; only the array of the configured proxy is read.

        Args:
            bin_P: Bin of each prompt; unseen ones (-1) are left out.
            n_P: Rollouts that came back.
            p_P: Success rate of one rollout (the posterior mean), for `reward`.
            loss_P: Mean prompt loss, for `loss`.
            score_P: Mean score of the prompt's rollouts, for `score`.
        """
        x_P = {"reward": p_P, "loss": loss_P, "score": score_P}[self._proxy]
        assert x_P is not None  # the configuration requires it of every outcome
        known_P = bin_P >= 0
        if not known_P.all():
            bin_P, x_P, n_P = bin_P[known_P], x_P[known_P], n_P[known_P]

        def sums(y_P: FloatArray | IntArray) -> FloatArray:
            return np.bincount(bin_P, y_P, self._v_B.size).astype(np.float64)

        count_B = np.bincount(bin_P, minlength=self._v_B.size)
        present_B = count_B > 0
        with np.errstate(divide="ignore", invalid="ignore"):  # absent bins are left out below
            if self._proxy == "reward":
                scaled = self._scaled
                v_P = advantage_variance(self._n_mean, x_P) if scaled else x_P * (1 - x_P)
                new_B = sums(v_P) / count_B
            elif self._proxy == "loss":
                deviation_P = x_P - (sums(x_P) / count_B)[bin_P]
                new_B, present_B = sums(deviation_P**2) / (count_B - 1), count_B > 1
            else:
                new_B, present_B = sums(n_P * x_P) / sums(n_P), sums(n_P) > 0
        old_B = np.where(np.isnan(self._v_B), new_B, self._v_B)
        moved_B = (1 - self._beta) * old_B + self._beta * new_B
        self._v_B = np.where(present_B, moved_B, self._v_B)

    def metrics(self, bin_P: IntArray, n_P: IntArray, unit_P: FloatArray) -> dict[str, float]:
        """What the allocation of a plan does to the proxies, beside a uniform one of equal budget.

        Shares are those of the units that the loss averages (D16): under `rollout` a prompt's
        share grows with its count, which leaves VarProxy as it was. Only prompts that have a bin
        count, a split bin with each of its counts. The slope is left out where it has no value.
        """
        known_P = bin_P >= 0
        if not known_P.any():
            return {}
        if not known_P.all():
            bin_P, n_P, unit_P = bin_P[known_P], n_P[known_P], unit_P[known_P]
        v_B, count_B = self.variance_B, np.bincount(bin_P, minlength=self._v_B.size)
        v_P, even_B = v_B[bin_P], count_B / bin_P.size
        share_P, n_mean = unit_P / unit_P.sum(), float(n_P.sum()) / n_P.size
        found = {
            "alloc/var_proxy": var_proxy(share_P, v_P, n_P),
            "alloc/var_proxy_uniform": var_proxy(even_B, v_B, n_mean),
            "alloc/wse": wse(share_P, v_P, n_P),
            "alloc/wse_uniform": wse(even_B, v_B, n_mean),
        }
        present = np.flatnonzero(count_B)
        n_B = np.bincount(bin_P, n_P)[present] / count_B[present]
        slope = log_slope(v_B[present], n_B)
        return found if np.isnan(slope) else found | {"alloc/log_slope": slope}

    def state_dict(self) -> dict[str, Any]:
        """The running values; NaN where a bin has none."""
        return {"v_B": self._v_B.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned for the same number of bins."""
        v_B = np.array(state["v_B"], dtype=np.float64)
        if v_B.shape != self._v_B.shape:
            raise DataError(
                f"the variances are of {v_B.size} bins, this monitor's of {self._v_B.size}"
            )
        self._v_B = v_B
