"""The interface of the allocators, and what goes in and comes back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdro.core.types import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The prompts of one step, as known before anything is generated (D15).

    Attributes:
        bin_P: int64, difficulty bin; -1 for unseen prompts, whose bounds the caller has closed
            to floor(n_mean)..ceil(n_mean) (D4).
        p_P: Success rate of one rollout: the posterior mean.
        a_P: Beta posterior of that rate: pseudo-count of successes (the prior included), > 0.
        b_P: The same for failures, > 0.
        weight_P: The adversary's weight (Eq. 16), >= 0; ones without one.
        variance_B: Running variance proxy of each bin (4.3), > 0.
        lo_P: int64, fewest rollouts.
        hi_P: int64, most rollouts.
        budget: Rollouts of the step, to be met exactly (D11).
    """

    bin_P: IntArray
    p_P: FloatArray
    a_P: FloatArray
    b_P: FloatArray
    weight_P: FloatArray
    variance_B: FloatArray
    lo_P: IntArray
    hi_P: IntArray
    budget: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Feedback:
    """What became of the prompts of one plan: those that came back, in any order.

    Attributes:
        bin_P: int64, the bin at plan time; unseen prompts (-1) teach an allocator nothing.
        n_P: int64, rollouts that came back.
        correct_P: How many of them were correct.
        loss_P: Mean prompt loss (Eq. 6-7); needed by the utility `surrogate`.
        propensity_P: `allocator.propensity_P` of that plan; ones if left out.
    """

    bin_P: IntArray
    n_P: IntArray
    correct_P: FloatArray | IntArray
    loss_P: FloatArray | None = None
    propensity_P: FloatArray | None = None


class Allocator(ABC):
    """Divides the rollouts of a step among its prompts.

    Attributes:
        propensity_P: After `allocate`, with what probability each prompt got the count it got
            (an expected fraction of its bin; see `exp3p`). None where nothing is drawn. It belongs
            to the plan: keep it there and hand it back in `Feedback`, for plans may come back late.
    """

    propensity_P: FloatArray | None = None

    @abstractmethod
    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        """Rollouts of each prompt, within lo_P..hi_P, with sum exactly `batch.budget`.

        Raises:
            BudgetError: if the bounds exclude the budget.
        """

    def observe(self, feedback: Feedback) -> None:  # noqa: B027 - most allocators learn nothing
        """Learns from the outcome of a plan."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that `observe` has changed: arrays and JSON scalars."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restores what `state_dict` of the same configuration returned."""

    def metrics(self) -> dict[str, float]:
        """What is worth logging, by name (`alloc/...`)."""
        return {}
