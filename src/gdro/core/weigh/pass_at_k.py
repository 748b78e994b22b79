"""The gradient of pass@k instead of pass@1, as a weight."""

import numpy as np

from gdro.core.policy import Batch, Setting
from gdro.core.types import FloatArray, IntArray
from gdro.core.weigh.base import Weigher
from gdro.core.weigh.cap import mean_one_over_seen


class PassAtK(Weigher):
    """min(s E[(1 - p)^(k - 1)], cap): grad pass@k = k (1 - p)^(k - 1) grad p.

    The expectation over the posterior Beta(a, b) is prod_{i < k - 1} (b + i) / (a + b + i); s makes
    the mean over the seen prompts 1 (method D7). Source: Walder and Karkhanis 2025 (PKPO, arXiv
    2505.15201) and Tang et al. 2025 (arXiv 2503.19595), who estimate the same gradient from the
    group alone. Exact where n has no weight of its own, unscaled advantages or
    `rollout.aggregation=neutral`; with std-scaled ones the push is h(n, p) times it (method D16).
    """

    def __init__(self, setting: Setting) -> None:
        self._k, self._cap = setting.config.prompt.k, setting.config.prompt.cap

    def weigh(self, batch: Batch, unit_P: FloatArray | IntArray) -> FloatArray:
        total_P, log_P = batch.a_P + batch.b_P, np.zeros(batch.a_P.size)
        for i in range(self._k - 1):
            log_P += np.log((batch.b_P + i) / (total_P + i))
        return mean_one_over_seen(log_P, batch.bin_P, unit_P, self._cap)
