"""The weight that an allocation would have been, paid for with no rollout."""

import numpy as np

from gdro.core.aggregation import gradient_scale
from gdro.core.policy import Batch, Setting
from gdro.core.types import FloatArray, IntArray
from gdro.core.weigh.base import Weigher
from gdro.core.weigh.cap import mean_one_over_seen


class Implied(Weigher):
    """n h(n, p) / h(n_mean, p) of `hard_first`, scaled to mean 1: the control to that allocation.

    A rollout count is also a weight (method D16): with rollouts averaged alike, n std-scaled ones
    push n h(n, p) as hard (without std scaling n - 1). Here every prompt is weighed by what
    `hard_first` with `rollout.power` would give it, whatever n it really has. At uniform n that is
    `hard_first` reduced to its weight; `rollout.aggregation=neutral` is all of it but the weight.

    n is the allocation before rounding, clip(s (1 - p)^power, n_min, n_max) within the budget, as a
    weight must not depend on how ties are broken; h is interpolated between integers.
    """

    def __init__(self, setting: Setting) -> None:
        self._power, self._cap = setting.config.rollout.power, setting.config.prompt.cap
        self._mean, self._std_scaled = round(setting.n_mean), setting.std_scaled

    def weigh(self, batch: Batch, unit_P: FloatArray | IntArray) -> FloatArray:
        n_P, p_P = _unrounded((1 - batch.p_P) ** self._power, batch), batch.p_P
        push_P = n_P - 1.0
        if self._std_scaled:
            below_P = np.floor(n_P).astype(np.int64)
            h_P, above_P = gradient_scale(below_P, p_P), gradient_scale(below_P + 1, p_P)
            h_P += (n_P - below_P) * (above_P - h_P)
            push_P = n_P * h_P / gradient_scale(np.full(n_P.size, self._mean), p_P)
        return mean_one_over_seen(np.log(push_P), batch.bin_P, unit_P, self._cap)


def _unrounded(ratio_P: FloatArray, batch: Batch) -> FloatArray:
    """clip(s ratio, lo, hi) whose sum is the budget: s by bisection on its logarithm."""
    low, high = -50.0, 50.0
    n_P = batch.lo_P.astype(np.float64)
    for _ in range(64):
        log_s = (low + high) / 2
        n_P = np.clip(np.exp(log_s) * ratio_P, batch.lo_P, batch.hi_P)
        low, high = (log_s, high) if n_P.sum() < batch.budget else (low, log_s)
    return n_P
