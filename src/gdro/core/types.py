"""What crosses the border between an engine and the controller.

Array suffixes, used everywhere:

| suffix | axis |
| --- | --- |
| `_P` | prompts of the batch (slots: one prompt may stand twice) |
| `_R` | rollouts, flat and ragged: never reshape by a group size |
| `_B` | difficulty bins, 0 is the hardest; -1 marks an unseen prompt |
| `_K` | candidate rollout counts (arms) |
| `_N` | all prompts of the data set |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
PromptIds = Sequence[int] | Sequence[str] | NDArray[np.integer] | NDArray[np.str_]

UNSEEN = -1
"""Bin of a prompt about which nothing is known yet (method D4)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What the engine is to do with the prompts of one step.

    Attributes:
        step: Index of the plan, counted from 0.
        prompt_P: The ids as given, in order; a copy.
        bin_P: int64, difficulty bin of each prompt, -1 for unseen ones.
        n_P: int64, rollouts of each prompt to generate, in all; `sum(n_P)` is exactly the budget
            (of `second_look` after the last round, of what has surplus in the first).
        weight_P: float64, what the advantages of each prompt are multiplied by: the adversary's
            weight times the factor of the aggregation (method D16).
        adversary_P: float64, the adversary's weight alone (Eq. 16).
        propensity_P: float64, the probability of each count where counts are drawn, else None.
        train_P: int64, how many of a prompt's rollouts train: all of them, unless the step
            generates in rounds (`Controller.refill`); their sum is the budget in every round.
        row_P: int64, position of each prompt in the ids given to `bind` where the controller chose
            it in a later round, -1 where the caller did.
        round: How many times the step was extended by `refill`.
    """

    step: int
    prompt_P: PromptIds
    bin_P: IntArray
    n_P: IntArray
    weight_P: FloatArray
    adversary_P: FloatArray
    propensity_P: FloatArray | None = None
    train_P: IntArray
    row_P: IntArray | None = None
    round: int = 0

    @property
    def slot_R(self) -> IntArray:
        """int64, slot of each rollout where they are generated slot by slot."""
        return np.repeat(np.arange(len(self.n_P)), self.n_P)

    def weight_R(self, slot_R: IntArray) -> FloatArray:
        """float64, the weight of each rollout that came back, given its slot.

        0 where a group came back with one rollout alone, for whose advantage engines may take its
        raw reward. Where others of a group are lost its weight stays that of the plan.
        """
        came_P = np.bincount(slot_R, minlength=len(self.n_P))
        return np.where(came_P > 1, self.weight_P, 0.0)[slot_R]

    def state_dict(self) -> dict[str, Any]:
        """Arrays and plain values, for a checkpoint that is written before the outcome has come."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "prompt_P": np.asarray(self.prompt_P)
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The plan that `state_dict` gave."""
        return cls(**state)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came back, one entry per rollout that was realised (any order, any subset).

    Attributes:
        prompt_R: Prompt id of each rollout, as given to `plan`.
        correct_R: The verifier's 0/1 of each rollout, apart from any shaped reward.
        slot_R: Position in `plan.prompt_P` of each rollout; needed only where one id stands
            twice in a plan.
        loss_R: Prompt loss of each rollout (Eq. 6-7): the negative clipped surrogate of the *raw*
            (unweighted) advantages plus beta times the KL, averaged over tokens. Needed by the
            signal `surrogate` and the `loss` variance proxy.
        score_R: Gradient-norm proxy A^2 * sum_t (1 - pi(y_t))^2 of each rollout, for the `score`
            variance proxy.
        tokens_R: Completion tokens of each rollout, for the ledger.
        padding_rollouts: Rollouts that the engine generated beside the plan's, to fill a batch,
            for the ledger.
        padding_tokens: Completion tokens of these.
    """

    prompt_R: PromptIds
    correct_R: NDArray[np.generic] | Sequence[float]
    slot_R: NDArray[np.integer] | Sequence[int] | None = None
    loss_R: NDArray[np.floating] | Sequence[float] | None = None
    score_R: NDArray[np.floating] | Sequence[float] | None = None
    tokens_R: NDArray[np.integer] | Sequence[int] | None = None
    padding_rollouts: int = 0
    padding_tokens: int = 0
