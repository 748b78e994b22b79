"""The weight that an allocation would have been, paid for with no rollout."""

import numpy as np

from gdro.core.aggregation import gradient_scale_between
from gdro.core.policy import Batch, Setting
from gdro.core.types import FloatArray, IntArray
from gdro.core.weigh.base import Weigher
from gdro.core.weigh.cap import mean_one_over_seen

_LEAST = 2.0**-53  # of 1 - p where p < 1 as a float


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
        self._mean, self._std_scaled = float(setting.n_mean), setting.std_scaled

    def weigh(self, batch: Batch, unit_P: FloatArray | IntArray) -> FloatArray:
        failure_P = np.maximum(1 - batch.p_P, _LEAST)
        n_P = _unrounded(self._power * np.log(failure_P), batch)
        push_P = n_P - 1.0
        if self._std_scaled:
            even_P = gradient_scale_between(np.full(n_P.size, self._mean), batch.p_P)
            push_P = n_P * gradient_scale_between(n_P, batch.p_P) / even_P
        return mean_one_over_seen(np.log(push_P), batch.bin_P, unit_P, self._cap)


def _unrounded(log_P: FloatArray, batch: Batch) -> FloatArray:
    """clip(s ratio, lo, hi) whose sum is the budget: s by bisection, all on logarithms."""
    log_P = log_P - log_P.max(initial=-np.inf)
    # from all at their fewest to all at their most
    low, high = 0.0, np.log(batch.hi_P.max(initial=1)) - log_P.min(initial=0.0)
    n_P = batch.lo_P.astype(np.float64)
    for _ in range(64):
        log_s = (low + high) / 2
        n_P = np.clip(np.exp(log_s + log_P), batch.lo_P, batch.hi_P)
        low, high = (log_s, high) if n_P.sum() < batch.budget else (low, log_s)
    return n_P
