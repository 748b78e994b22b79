"""What one step of learning is made of: prompts that came back, of one plan or of several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdro.core.difficulty import Difficulty
from gdro.core.outcome import Rollouts
from gdro.core.pending import Pending
from gdro.core.types import FloatArray, IntArray, Plan


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """Prompts with their realised rollouts, one entry per slot that came back.

    Attributes:
        row_P: int64, the classifier's rows.
        bin_P: int64, bins when they were planned.
        planned_P: int64, rollouts planned.
        train_P: int64, rollouts that train.
        n_P: int64, rollouts that came back.
        correct_P: int64, right ones among them.
        adversary_P: float64, the adversary's weights.
        loss_P: Mean prompt loss, or None.
        score_P: Mean gradient-norm proxy, or None.
        propensity_P: Of the planned counts, or None.
        tokens: Completion tokens of all, nan where an outcome did not say.
    """

    row_P: IntArray
    bin_P: IntArray
    planned_P: IntArray
    train_P: IntArray
    n_P: IntArray
    correct_P: IntArray
    adversary_P: FloatArray
    loss_P: FloatArray | None
    score_P: FloatArray | None
    propensity_P: FloatArray | None
    tokens: float


def observed(
    parts: Sequence[tuple[Plan, Rollouts]], pending: Pending, difficulty: Difficulty
) -> Observed:
    """The prompts of the parts, one part after the other; second outcomes of a slot are left out.

    Args:
        parts: Checked outcomes with their plans.
        pending: What is awaited; from now on these slots have had their outcome.
        difficulty: Knows the rows.
    """
    found = []
    for plan, rollouts in parts:
        found.append(_of_one(plan, rollouts, pending, difficulty))
    if len(found) == 1:
        return found[0]

    def joined(name: str) -> np.ndarray | None:
        arrays = [getattr(one, name) for one in found]
        return None if any(array is None for array in arrays) else np.concatenate(arrays)

    arrays = {name: joined(name) for name in Observed.__dataclass_fields__ if name != "tokens"}
    return Observed(**arrays, tokens=sum(one.tokens for one in found))  # type: ignore[arg-type]


def _of_one(plan: Plan, rollouts: Rollouts, pending: Pending, difficulty: Difficulty) -> Observed:
    kept_R = pending.first(plan, rollouts.slot_R)
    slots, n_P, correct_P, loss_P, score_P, tokens = rollouts.by_slot(kept_R, len(plan.n_P))
    return Observed(
        row_P=difficulty.rows(plan.prompt_P)[slots],
        bin_P=plan.bin_P[slots],
        planned_P=plan.n_P[slots],
        train_P=np.minimum(plan.train_P[slots], n_P),
        n_P=n_P,
        correct_P=correct_P,
        adversary_P=plan.adversary_P[slots],
        loss_P=loss_P,
        score_P=score_P,
        propensity_P=None if plan.propensity_P is None else plan.propensity_P[slots],
        tokens=tokens,
    )
