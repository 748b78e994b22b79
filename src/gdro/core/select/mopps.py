"""MoPPS: prompts whose predicted success rate is near a target (Qu et al. 2025, 2507.04632)."""

import numpy as np

from gdro.core.policy import Setting
from gdro.core.select.base import Selector
from gdro.core.select.pool import Pool, smallest
from gdro.core.types import IntArray


class Mopps(Selector):
    """Thompson sampling near `select.target`: of `select.candidates` times as many prompts drawn
    uniformly, those whose draw from Beta(a, b) is nearest to it.

    The posterior is the classifier's. With `difficulty.memory=discounted` and
    `difficulty.prior=fixed` it is the source's own, a' = lambda a + (1 - lambda) a_0 + right,
    lambda = 2^(-1 / half_life) a visit; the default fits the prior to the population instead.
    """

    def __init__(self, setting: Setting) -> None:
        select = setting.config.select
        self._target, self._candidates = select.target, select.candidates

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        size = min(pool.size, max(num_prompts, round(self._candidates * num_prompts)))
        candidates = rng.choice(pool.size, size, replace=False)
        drawn = rng.beta(*pool.posterior(candidates))
        ties = np.zeros(size, np.int64)
        return candidates[smallest(np.abs(drawn - self._target), ties, num_prompts, rng)]
