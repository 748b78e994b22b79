"""The port *select*: which prompts enter a step."""

from abc import abstractmethod

import numpy as np

from gdro.core.policy import Feedback, Policy
from gdro.core.select.pool import Pool
from gdro.core.types import IntArray


class Selector(Policy):
    """Chooses the prompts of a step from the pool."""

    @abstractmethod
    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        """Positions in the pool, distinct, `num_prompts` <= pool.size of them."""

    def replaces(self, groups: Feedback) -> np.ndarray:
        """After a round: which groups give way to fresh prompts. Only where `rounds` > 1.

        Args:
            groups: What has come back of the prompts that train as things stand.

        Returns:
            bool, one entry per group.
        """
        raise NotImplementedError
