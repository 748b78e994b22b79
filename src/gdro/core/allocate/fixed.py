"""Fixed quotas: rollouts by bin, in proportions that are given and never change."""

import numpy as np

from gdro.core.allocate.base import Allocator
from gdro.core.budget import separable
from gdro.core.errors import ConfigError
from gdro.core.policy import Batch, Setting
from gdro.core.types import UNSEEN, IntArray


class Fixed(Allocator):
    """n proportional to `rollout.quotas` of the prompt's bin, scaled to the budget.

    What a schedule chosen beforehand does: the control to allocators that find the proportions
    themselves. The integers minimise sum quota^2 / n.
    """

    def __init__(self, setting: Setting) -> None:
        quotas = setting.config.rollout.quotas or range(setting.num_bins, 0, -1)
        # groups of a column are not known before bind, which makes the method again
        if setting.num_bins and len(quotas) != setting.num_bins:
            raise ConfigError(
                f"rollout.quotas must have one number for each of the {setting.num_bins} bins, "
                f"got {quotas}"
            )
        self._quota_B = np.array([*quotas, setting.n_mean])  # the last is the unseen prompts'

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        quota_P = self._quota_B[np.where(batch.bin_P == UNSEEN, -1, batch.bin_P)]
        variance_P = batch.p_P * (1 - batch.p_P)
        return separable(quota_P**2, batch.lo_P, batch.hi_P, batch.budget, rng, variance_P)
