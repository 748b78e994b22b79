"""DAPO: filter groups without a gradient and refill (Yu et al. 2025, arXiv 2503.14476)."""

import numpy as np

from gdro.core.policy import Feedback, Setting
from gdro.core.select.base import Selector
from gdro.core.select.pool import Pool
from gdro.core.types import IntArray


class Dapo(Selector):
    """Uniform prompts; a group that is all right or all wrong gives its rollouts to a fresh prompt.

    Only groups with 0 < mean correct < 1 train (the source's Eq. 11), until `select.max_rounds`
    rounds of generation are spent: then those without a gradient stay, so that the batch keeps its
    size. Each round generates exactly as many rollouts as it replaces, where the source generates
    whole batches and cuts off the surplus. Not compute-neutral: what is filtered was generated.
    """

    def __init__(self, setting: Setting) -> None:
        self.rounds = setting.config.select.max_rounds

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        return pool.next(num_prompts, rng)

    def replaces(self, groups: Feedback) -> np.ndarray:
        return ~groups.mixed_P
