"""More rollouts the less a prompt is solved: n proportional to (1 - p)^power."""

import numpy as np

from gdro.core.allocate.base import Allocator
from gdro.core.budget import separable
from gdro.core.policy import Batch, Setting
from gdro.core.types import IntArray


class HardFirst(Allocator):
    """The integers that minimise sum (1 - p)^(2 power) / n: n proportional to (1 - p)^power (D14).

    Under the aggregations `rollout` and `prompt` a rollout is also a weight (D16), so this is a
    weight curve of difficulty that is paid for in rollouts, and explores where it weighs. The
    adversary's weights do not enter: they would be counted twice.
    """

    def __init__(self, setting: Setting) -> None:
        self.power = setting.config.rollout.power

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        a_P = (1 - batch.p_P) ** (2 * self.power)
        variance_P = batch.p_P * (1 - batch.p_P)
        return separable(a_P, batch.lo_P, batch.hi_P, batch.budget, rng, variance_P)
