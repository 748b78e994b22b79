"""Weights of mean 1 under a cap (method D7)."""

import numpy as np

from gdro.core.types import UNSEEN, FloatArray, IntArray


def capped_mean_one(ratio_B: FloatArray, share_B: FloatArray, cap: float) -> FloatArray:
    """min(s * ratio, cap) with s such that the mean over shares is 1 (method D7), in closed form.

    Where the bins with a positive ratio hold less than 1 / cap of the units, they get the cap and
    the others share the rest alike.

    Args:
        ratio_B: Relative weights, >= 0, some > 0.
        share_B: Share of the units, > 0, summing to 1.
        cap: Largest weight, >= 1.

    Returns:
        float64 [B]; exactly ones where the ratios are alike to rounding.
    """
    top = float(ratio_B.max())
    if top - float(ratio_B.min()) <= 1e-12 * top:
        return np.ones(len(ratio_B))
    scale = 1.0 / float(share_B @ ratio_B)
    if scale * top <= cap:  # nothing to cap
        return scale * ratio_B
    order = np.argsort(-ratio_B, kind="stable")
    ratio, share = ratio_B[order], share_B[order]
    # With the j largest at the cap, the others carry 1 - cap * (their shares) in proportion; j is
    # the first for which that leaves the (j + 1)-th at or below the cap.
    held = np.r_[0.0, np.cumsum(share)[:-1]]
    rest = np.cumsum((share * ratio)[::-1])[::-1]
    j = int(np.argmax(np.r_[(1.0 - cap * held) * ratio <= cap * rest, True]))
    weight = np.full(len(ratio), cap)
    if j < len(ratio):
        tail = ratio[j:] / ratio[j] if ratio[j] > 0 else np.ones(len(ratio) - j)
        weight[j:] = (1.0 - cap * held[j]) * tail / (share[j:] @ tail)
    weight_B = np.empty(len(ratio))
    weight_B[order] = weight
    return weight_B


def mean_one_over_seen(
    log_P: FloatArray, bin_P: IntArray, unit_P: FloatArray | IntArray, cap: float
) -> FloatArray:
    """min(s * exp(log), cap) with mean 1 over the seen prompts' units; 1 for the unseen ones."""
    weight_P = np.ones(log_P.size)
    seen = np.flatnonzero(bin_P != UNSEEN)
    if seen.size:
        share, log = unit_P[seen] / unit_P[seen].sum(), log_P[seen]
        # relative to the largest: nothing overflows, and not all of it underflows
        weight_P[seen] = capped_mean_one(np.exp(log - log.max()), share, cap)
    return weight_P
