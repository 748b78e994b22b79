"""What counts alike in the loss, and what one more rollout then does to the gradient (D16).

An engine that averages over rollouts (or tokens) lets a prompt with n rollouts push n times as
hard. On top of that, dividing by a group's standard deviation makes the expected gradient of a
prompt grow with n. The factor here turns such an average into one over prompts, or into one whose
expectation does not depend on n at all.
"""

from typing import Literal

import numpy as np

from gdro.core.types import FloatArray, IntArray

Aggregation = Literal["rollout", "prompt", "neutral"]


def gradient_scale(n_P: IntArray, p_P: FloatArray) -> FloatArray:
    """h(n, p): what a std-scaled group of n makes, in expectation, of a prompt's gradient (D16).

    For 0/1 rewards and TRL's unbiased standard deviation, E[mean over the group of
    A grad log pi] = h(n, p) grad p with

        h(n, p) = sqrt((n - 1) / n) E[sqrt(m (1 - m))] / (p (1 - p)),   n m ~ Binomial(n, p).

    The division is done inside the sum, C(n, c) p^(c-1) (1-p)^(n-c-1), so the limits at p = 0 and
    1, (n - 1) / sqrt(n), need no special case. TRL's 1e-4 beside the deviation is left out: as a
    mixed group's deviation is at least 1 / sqrt(n), it lowers h by less than sqrt(n) / 10^4.

    Args:
        n_P: Rollouts of each group, >= 1 (a group of one has h = 0).
        p_P: Probability in [0, 1] that a rollout is correct.
    """
    from scipy.special import gammaln, xlog1py, xlogy

    h_P = np.empty(n_P.size)
    for n in np.unique(n_P):
        mine = n_P == n
        c = np.arange(1, n)
        log_binomial = gammaln(n + 1) - gammaln(c + 1) - gammaln(n - c + 1)
        p = p_P[mine, None]
        terms = np.exp(log_binomial + xlogy(c - 1, p) + xlog1py(n - c - 1, -p))
        h_P[mine] = np.sqrt((n - 1) / n) * (terms @ (np.sqrt(c * (n - c)) / n))
    return h_P


def gradient_scale_between(n_P: FloatArray, p_P: FloatArray) -> FloatArray:
    """h(n, p) for any n >= 1, linear between integers: the mean over whole groups of mean size n.

    Args:
        n_P: Rollouts of each group, >= 1.
        p_P: Probability in [0, 1] that a rollout is correct.
    """
    below_P = np.floor(n_P).astype(np.int64)
    h_P, part_P = gradient_scale(below_P, p_P), n_P - below_P
    if part_P.any():
        h_P += part_P * (gradient_scale(below_P + 1, p_P) - h_P)
    return h_P


def aggregation_weight_P(
    aggregation: Aggregation, n_P: IntArray, n_mean: float, p_P: FloatArray, std_scaled: bool
) -> FloatArray:
    """Factor on the advantages of each prompt, for an engine that averages over rollouts.

    * `rollout`: 1.
    * `prompt`: n_mean / n.
    * `neutral`: n_mean / n times h(n_mean, p) / h(n, p); without std scaling h(n) = (n - 1) / n,
      the bias of a baseline that contains the rollout itself.

    Exactly 1.0 wherever n = n_mean, so a uniform allocation is left as it is. If n_mean is no
    integer, h(n_mean, p) is the mean of its neighbours' that a uniform allocation would have.

    Args:
        aggregation: What counts alike.
        n_P: Rollouts of each prompt, >= 2.
        n_mean: Mean rollouts per prompt, >= 2.
        p_P: Estimated success rate of each prompt, in [0, 1].
        std_scaled: Whether advantages are divided by the group's standard deviation.
    """
    if aggregation == "rollout":
        return np.ones(n_P.size)
    weight_P = n_mean / n_P
    if aggregation == "prompt":
        return weight_P
    if not std_scaled:
        return weight_P * ((n_P / (n_P - 1)) / (n_mean / (n_mean - 1)))
    target_P = gradient_scale_between(np.full(n_P.size, float(n_mean)), p_P)
    return weight_P * (target_P / gradient_scale(n_P, p_P))


def units_P(aggregation: Aggregation, n_P: IntArray) -> FloatArray:
    """How much each prompt counts in means and shares (D7, D9, Eq. 28).

    The units that the aggregation averages: rollouts for `rollout`, prompts for the others. Else
    `mass` would not realise q and the mean weight would not be 1.
    """
    return n_P.astype(np.float64) if aggregation == "rollout" else np.ones(n_P.size)
