"""The same number of rollouts for every prompt: what GRPO does, and the control of every study."""

import numpy as np

from gdro.core.allocate.base import Allocator
from gdro.core.budget import separable
from gdro.core.policy import Batch
from gdro.core.types import IntArray


class Uniform(Allocator):
    """Counts that differ by at most one (where the bounds allow); who gets the extra is drawn."""

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        return separable(np.ones(batch.p_P.size), batch.lo_P, batch.hi_P, batch.budget, rng)
