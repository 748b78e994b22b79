"""Every prompt once an epoch: what trainers do, and the control of every study."""

import numpy as np

from gdro.core.select.base import Selector
from gdro.core.select.pool import Pool
from gdro.core.types import IntArray


class Uniform(Selector):
    """The next prompts in shuffled epochs. An engine may use its own sampler instead."""

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        return pool.next(num_prompts, rng)
