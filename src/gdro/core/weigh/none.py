"""No weights: what GRPO does, and the control of every study."""

import numpy as np

from gdro.core.policy import Batch
from gdro.core.types import FloatArray, IntArray
from gdro.core.weigh.base import Weigher


class Even(Weigher):
    """1 for every prompt."""

    def weigh(self, batch: Batch, unit_P: FloatArray | IntArray) -> FloatArray:
        return np.ones(batch.bin_P.size)
