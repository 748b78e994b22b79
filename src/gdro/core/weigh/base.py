"""The port *weigh*: what the advantages of each prompt are multiplied by."""

from abc import abstractmethod

from gdro.core.policy import Batch, Policy
from gdro.core.types import FloatArray, IntArray


class Weigher(Policy):
    """Weighs the prompts of a step."""

    @abstractmethod
    def weigh(self, batch: Batch, unit_P: FloatArray | IntArray) -> FloatArray:
        """Weight of each prompt, >= 0, shape (P,); 1 for unseen prompts (method D4).

        Args:
            batch: The prompts.
            unit_P: What each counts for where means and shares are taken (method D16): its
                rollouts where the loss averages over rollouts, 1 where it averages over prompts.
        """
