"""pass@k and mean@k, from counts and from posteriors, with their intervals.

Two estimators for two uses. *Evaluation* draws a fixed number of rollouts, so the unbiased
estimator of Chen et al. (2021, arXiv 2107.03374) applies: `pass_at_k`. *Training* draws a number
that depends on earlier outcomes and discounts old ones, where that estimator is neither unbiased
nor defined; there the posterior mean under a Beta distribution is used: `posterior_pass_at_k`.
"""

import numpy as np
from numpy.typing import ArrayLike

from gdro.core.errors import DataError
from gdro.core.types import FloatArray

WORST_MIN_PROMPTS = 10
"""A group with fewer prompts is not called the worst: its score is mostly luck."""


def _counts(n: ArrayLike, correct: ArrayLike, at_least: int) -> tuple[FloatArray, FloatArray]:
    n_, c_ = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(correct, np.float64))
    if not np.all((c_ >= 0) & (c_ <= n_)):
        raise DataError("correct must lie between 0 and the number of rollouts")
    if not np.all(n_ >= at_least):
        raise DataError(f"needs at least {at_least} rollouts a prompt, got {n_.min():g}")
    return n_, c_


def pass_at_k(n: ArrayLike, correct: ArrayLike, k: int) -> FloatArray:
    """Unbiased estimate of pass@k from `n` rollouts of which `correct` are right.

    `1 - C(n - c, k) / C(n, k)`: the probability that k of the n rollouts, drawn without
    replacement, contain a right one.

    Args:
        n: Rollouts, any shape, all >= k.
        correct: Right rollouts, broadcast against `n`.
        k: k of pass@k, >= 1.

    Returns:
        float64 in [0, 1], the broadcast shape.

    Raises:
        DataError: if some n < k, or `correct` is not in 0..n.
    """
    n_, c_ = _counts(n, correct, at_least=k)
    fail = np.ones(n_.shape)
    for i in range(k):  # one factor is 0 where fewer than k rollouts are wrong
        fail *= (n_ - c_ - i) / (n_ - i)
    return 1.0 - fail


def mean_at_k(n: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Share of right rollouts, `correct / n` (mean@n).

    Raises:
        DataError: if some n < 1, or `correct` is not in 0..n.
    """
    n_, c_ = _counts(n, correct, at_least=1)
    return c_ / n_


def posterior_pass_at_k(a: ArrayLike, b: ArrayLike, k: int) -> FloatArray:
    """Posterior mean of pass@k when the success rate is Beta(a, b) (method D2).

    `1 - E[(1 - p)^k] = 1 - prod_{i<k} (b + i) / (a + b + i)`; `a` and `b` may be any positive
    reals, so discounted counts need no rounding.

    Args:
        a: Prior plus observed successes, any shape, > 0.
        b: Prior plus observed failures, broadcast against `a`, > 0.
        k: k of pass@k, >= 1.

    Returns:
        float64 in (0, 1).
    """
    a_, b_ = np.asarray(a, np.float64), np.asarray(b, np.float64)
    total = a_ + b_
    found = np.zeros(total.shape)
    added, right = np.empty(total.shape), np.empty(total.shape)
    for i in range(k):  # a sum of what each rollout adds: no cancellation where pass@k is tiny
        np.divide(a_, np.add(total, i, out=right), out=right)
        np.subtract(1.0, found, out=added)
        found += np.multiply(added, right, out=added)
    return found


def posterior_pass_at_k_interval(
    a: ArrayLike, b: ArrayLike, k: int, credibility: float
) -> tuple[FloatArray, FloatArray]:
    """Equal-tailed credible interval of pass@k when the success rate is Beta(a, b).

    pass@k = 1 - (1 - p)^k is monotone in p, so its quantiles are the images of p's.

    Args:
        a: Prior plus observed successes, > 0.
        b: Prior plus observed failures, > 0.
        k: k of pass@k, >= 1.
        credibility: Mass of the interval, in (0, 1).

    Returns:
        Lower and upper end, float64 in [0, 1].
    """
    from scipy.special import betaincinv  # imported here: `import gdro` stays cheap

    # The quantile of 1 - p ~ Beta(b, a), whose powers keep their precision near p = 1.
    tail = (1.0 - credibility) / 2.0
    lower = 1.0 - betaincinv(b, a, 1.0 - tail) ** k
    upper = 1.0 - betaincinv(b, a, tail) ** k
    return np.asarray(lower, np.float64), np.asarray(upper, np.float64)


def wilson(
    correct: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Wilson score interval of a rate: honest near 0 and 1 and for small n.

    Args:
        correct: Successes.
        n: Independent trials, >= 1.
        confidence: Coverage, in (0, 1).

    Returns:
        Lower and upper end, float64 in [0, 1].

    Raises:
        DataError: if some n < 1, or `correct` is not in 0..n.
    """
    from scipy.special import ndtri

    n_, c_ = _counts(n, correct, at_least=1)
    z = float(ndtri(0.5 + confidence / 2.0))
    rate = c_ / n_
    centre = (rate + z * z / (2 * n_)) / (1 + z * z / n_)
    half = z / (1 + z * z / n_) * np.sqrt(rate * (1 - rate) / n_ + z * z / (4 * n_ * n_))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def wilson_of_means(
    value_P: ArrayLike, trials: int = 1, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson interval of a mean over few prompts, each of several 0/1 trials.

    The trials of a prompt are alike, so they count for fewer than they are: the effective number of
    trials is what would give the spread that the prompts have, less what the t quantile exceeds the
    normal one by (Korn and Graubard 1998), and between the prompts alone and all trials. Where all
    prompts have one value, as with every rate 0 or every rate 1, it is the prompts alone, and for
    values of 0 and 1 (pass@k of k trials) this is `wilson`. It does not degenerate, as the
    bootstrap does.

    Args:
        value_P: One value per prompt, in [0, 1].
        trials: Independent trials behind each value, >= 1.
        confidence: Coverage, in (0, 1).

    Returns:
        Lower and upper end.

    Raises:
        DataError: if there is no prompt, or a value is not in [0, 1].
    """
    from scipy.special import ndtri, stdtrit

    values = np.asarray(value_P, np.float64)
    if values.size == 0 or not np.all((values >= 0) & (values <= 1)):
        raise DataError("a mean over prompts needs at least one prompt, and values in [0, 1]")
    count, mean = len(values), float(values.mean())
    effective = float(count)
    spread = float(values.var(ddof=1)) if count > 1 else 0.0
    if spread > 0:
        level = 0.5 + confidence / 2.0
        shrink = float(ndtri(level) / stdtrit(count - 1, level)) ** 2
        effective = shrink * count * mean * (1 - mean) / spread
        effective = min(max(effective, count), count * trials)
    low, high = wilson(min(mean * effective, effective), effective, confidence)
    return min(float(low), mean), max(float(high), mean)  # but for rounding, it holds the mean


def bootstrap_mean(
    value_P: ArrayLike, rng: np.random.Generator, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over prompts (the prompt is what is resampled).

    Args:
        value_P: One value per prompt, e.g. its mean@k; or S x P of several seeds, then seeds are
            resampled as well (the pigeonhole bootstrap, Owen 2007: it errs on the wide side).
        rng: Source of the resamples.
        confidence: Coverage, in (0, 1).
        resamples: Number of resamples.

    Returns:
        Lower and upper end.

    Raises:
        DataError: if there is no prompt.
    """
    values = np.asarray(value_P, np.float64)
    if values.size == 0:
        raise DataError("a mean over prompts needs at least one prompt")
    if values.ndim == 2 and len(values) == 1:
        values = values[0]
    prompts = values.shape[-1]
    means = np.empty(resamples)
    for i in range(resamples):  # one at a time: resamples x prompts may not fit in memory
        drawn = values[..., rng.integers(0, prompts, prompts)].mean(axis=-1)
        means[i] = drawn[rng.integers(0, len(drawn), len(drawn))].mean() if drawn.ndim else drawn
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, (tail, 1.0 - tail))
    return float(low), float(high)
