"""Mean and variance of a group's gradient estimator, exact in the moments of one rollout.

With 0/1 rewards all right rollouts of a group share one advantage and all wrong ones another, so
the mean of A_i s_i over a group of n with c right, m = c / n, is k(c) (mean right s - mean wrong s)
with k = m (1 - m), or sqrt((n - 1) / n) sqrt(m (1 - m)) with TRL's std-scaled advantages (its 1e-4
left out). Given c the right ones are independent draws, and so are the wrong ones: the first two
moments of s among right and among wrong rollouts are all there is to know, for every n. Nothing is
assumed of the order in n.

s is the score of a rollout, the gradient of its log-probability over all parameters; variances are
traces. Suffixes as in gdro.core.types.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from gdro.core.aggregation import gradient_scale
from gdro.core.budget import concave, separable
from gdro.core.types import FloatArray, IntArray
from gdro.core.variance import advantage_variance

N_MIN, N_MEAN, N_MAX = 2, 4, 12
ESTIMATORS = ("unscaled, neutral", "std, neutral", "std, prompt")


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What 0/1 rewards leave to know of prompts; every array float64 [P].

    Attributes:
        p: Probability that a rollout is right.
        gap2: |mean right score - mean wrong score|^2.
        right: Trace of the covariance of s among right rollouts.
        wrong: The same among wrong ones.
    """

    p: FloatArray
    gap2: FloatArray
    right: FloatArray
    wrong: FloatArray

    def __getitem__(self, rows: IntArray) -> "Moments":
        return Moments(p=self.p[rows], gap2=self.gap2[rows], right=self.right[rows],
                       wrong=self.wrong[rows])  # fmt: skip


def group_mean_scale(p_P: FloatArray, n: int, scaled: bool) -> FloatArray:
    """E[group gradient] = scale x grad p: h(n, p) (D16), or (n - 1) / n without std scaling."""
    return gradient_scale(np.full(p_P.size, n), p_P) if scaled else np.full(p_P.size, (n - 1) / n)


def group_variance(x: Moments, n: int, scaled: bool) -> FloatArray:
    """Trace of the covariance of a group's gradient, the mean of A_i s_i over its n rollouts.

    Args:
        x: Moments of the prompts.
        n: Rollouts of the group, >= 2.
        scaled: Whether advantages are divided by the group's standard deviation.
    """
    c = np.arange(1, n)
    chance_PC = binom.pmf(c, n, x.p[:, None])
    spread = c / n * (1 - c / n)
    k2 = (n - 1) / n * spread if scaled else spread**2
    second_PC = x.gap2[:, None] + x.right[:, None] / c + x.wrong[:, None] / (n - c)
    mean2_P = (group_mean_scale(x.p, n, scaled) * x.p * (1 - x.p)) ** 2 * x.gap2
    return np.maximum((chance_PC * k2 * second_PC).sum(axis=1) - mean2_P, 0.0)


def curves(x: Moments, estimator: str) -> FloatArray:
    """[P, n_max - n_min + 1]: variance of a prompt's term of the step at every n (D16, D18).

    * unscaled, neutral: without std scaling, times n / (n - 1) over that of n_mean: the mean is
      (n_mean - 1) / n_mean grad p at every n;
    * std, neutral: std-scaled, divided by h(n, p) / h(n_mean, p): the mean is that of n_mean;
    * std, prompt: std-scaled and averaged per prompt: the mean grows with n.
    """
    scaled = estimator.startswith("std")
    at4 = group_mean_scale(x.p, N_MEAN, scaled)
    columns = []
    for n in range(N_MIN, N_MAX + 1):
        factor = at4 / group_mean_scale(x.p, n, scaled) if estimator.endswith("neutral") else 1.0
        columns.append(group_variance(x, n, scaled) * factor**2)
    return np.stack(columns, axis=1)


def score_proxy(p_P: FloatArray, right_P: FloatArray, wrong_P: FloatArray, n: int, scaled: bool):
    """Mean of A^2 u over a group's rollouts, where u has these means among right and wrong ones.

    With u = sum_t (1 - pi(y_t))^2 what the monitor's `score` expects; with u = |s|^2 what it would
    be if it knew each rollout's gradient norm.
    """
    c = np.arange(1, n)
    chance_PC = binom.pmf(c, n, p_P[:, None])
    if scaled:
        right_C, wrong_C = (n - 1) * (n - c) / n**2, (n - 1) * c / n**2
    else:
        right_C, wrong_C = c * (n - c) ** 2 / n**3, (n - c) * c**2 / n**3
    return (chance_PC @ right_C) * right_P + (chance_PC @ wrong_C) * wrong_P


def proxies(x: Moments, columns: dict[str, FloatArray], scaled: bool) -> dict[str, FloatArray]:
    """What each proxy of the variance monitor expects of a prompt at n_mean."""
    return {
        "reward p(1-p)": x.p * (1 - x.p),
        "reward, mean squared std advantage": advantage_variance(N_MEAN, x.p),
        "score": score_proxy(x.p, columns["u_right"], columns["u_wrong"], N_MEAN, scaled),
        "score with true norms": score_proxy(
            x.p, columns["right2"], columns["wrong2"], N_MEAN, scaled
        ),
    }


def best(curve_PK: FloatArray, budget: int, rng: np.random.Generator) -> IntArray:
    """Counts in n_min..n_max of least total variance that meet the budget.

    Exact where the curves are convex in n. Elsewhere the lower convex envelopes are shared out,
    which leaves at most one prompt between two corners.
    """
    hull_PK = np.stack([lower_envelope(row) for row in curve_PK])
    size = len(curve_PK)
    lo, hi = np.full(size, N_MIN), np.full(size, N_MAX)
    # `concave` maximises, and flattens what is no fall; shifted, all gains are positive.
    return concave(-np.diff(hull_PK, axis=1), N_MIN, lo, hi, budget, rng)


def lower_envelope(y_K: FloatArray) -> FloatArray:
    """The greatest convex curve below equally spaced points."""
    corners: list[int] = []
    for k in range(y_K.size):
        while len(corners) > 1:
            a, b = corners[-2:]
            if (y_K[b] - y_K[a]) * (k - b) < (y_K[k] - y_K[b]) * (b - a):
                break
            corners.pop()
        corners.append(k)
    return np.interp(np.arange(y_K.size), corners, y_K[corners])


def allocations(
    x: Moments, budget: int, rng: np.random.Generator, scores: dict[str, FloatArray]
) -> dict[str, IntArray]:
    """What allocators decide that know each prompt's p (and for neyman, a variance proxy).

    Args:
        x: Moments of the prompts.
        budget: Rollouts to share out.
        rng: Breaks ties.
        scores: Variances for the square-root law by name.
    """
    size = x.p.size
    lo, hi = np.full(size, N_MIN), np.full(size, N_MAX)
    n_K = np.arange(1, N_MAX)
    p = x.p[:, None]
    found = {"uniform": np.full(size, N_MEAN)}
    for name, v_P in scores.items():
        found[f"neyman, {name}"] = separable(v_P, lo, hi, budget, rng)
    for power in (1, 2):
        cost_P = (1 - x.p) ** (2 * power)
        found[f"hard_first {power}"] = separable(cost_P, lo, hi, budget, rng)
    found["signal"] = concave(p**n_K * (1 - p) + (1 - p) ** n_K * p, 1, lo, hi, budget, rng)
    return found


def total(curve_PK: FloatArray, n_P: IntArray) -> float:
    """Mean over prompts of the variance at the counts n_P."""
    return float(curve_PK[np.arange(n_P.size), n_P - N_MIN].mean())
