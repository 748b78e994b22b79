"""The port *allocate*: how many rollouts each prompt of a step gets."""

from abc import abstractmethod

import numpy as np

from gdro.core.policy import Batch, Feedback, Policy
from gdro.core.types import FloatArray, IntArray


class Allocator(Policy):
    """Divides the rollouts of a step among its prompts.

    Attributes:
        reads_weights: Whether `allocate` reads `batch.weight_P`.
        propensity_P: After `allocate`, with what probability each prompt got the count it got
            (an expected fraction of its bin; see `exp3p`). None where nothing is drawn. It belongs
            to the plan: keep it there and hand it back in `Feedback`, for plans may come back late.
        surplus: Where `rounds` > 1, whether more is generated than trains; if not, what is
            generated in all rounds is the budget.
    """

    reads_weights: bool = False
    propensity_P: FloatArray | None = None
    surplus: bool = True

    @abstractmethod
    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        """Rollouts of each prompt, within lo_P..hi_P, with sum exactly `batch.budget`.

        Without surplus, those of the first round: their sum may be less.

        Raises:
            BudgetError: if the bounds exclude the budget.
        """

    def more(
        self, batch: Batch, groups: Feedback, train_P: IntArray, rng: np.random.Generator
    ) -> IntArray:
        """After a round: how many more rollouts each prompt is to get. Only where `rounds` > 1.

        Args:
            batch: The prompts as they were known before the step, and its budget.
            groups: Everything that has come back of the step, one entry per prompt.
            train_P: int64, how many rollouts of each prompt train so far.
            rng: Breaks ties.
        """
        raise NotImplementedError

    def pick(self, correct_G: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
        """Which `size` rollouts of a group train, as positions in it. Only where `rounds` > 1."""
        raise NotImplementedError
