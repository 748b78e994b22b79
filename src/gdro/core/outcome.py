"""What comes back of a plan, checked at the border."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdro.core.errors import DataError
from gdro.core.types import FloatArray, IntArray, Outcome, Plan


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollouts:
    """The rollouts of an outcome, with the slot of the plan that each belongs to."""

    slot_R: IntArray
    correct_R: FloatArray
    loss_R: FloatArray | None
    score_R: FloatArray | None
    tokens_R: FloatArray | None

    def by_slot(
        self, kept_R: np.ndarray, size: int
    ) -> tuple[IntArray, IntArray, IntArray, FloatArray | None, FloatArray | None, float]:
        """Sums and means of the kept rollouts of each slot that has any.

        Returns:
            The slots, their rollouts and right ones among them, mean loss and mean score (None
            where not given), and the tokens of all (nan where not given).
        """
        kept: np.ndarray | slice = slice(None) if kept_R.all() else kept_R
        slot_R, correct_R = self.slot_R[kept], self.correct_R[kept]
        n_S = np.bincount(slot_R, minlength=size)
        slots = np.flatnonzero(n_S)

        def mean_P(values_R: FloatArray | None) -> FloatArray | None:
            if values_R is None:
                return None
            return np.bincount(slot_R, values_R[kept], size)[slots] / n_S[slots]

        right_S = np.bincount(slot_R, correct_R, size)
        tokens = np.nan if self.tokens_R is None else float(self.tokens_R[kept].sum())
        n_P, correct_P = n_S[slots], np.rint(right_S[slots]).astype(np.int64)
        return slots, n_P, correct_P, mean_P(self.loss_R), mean_P(self.score_R), tokens


def checked(plan: Plan, outcome: Outcome, required: Mapping[str, str]) -> Rollouts:
    """An outcome as arrays.

    Args:
        plan: The plan that it belongs to.
        outcome: As the engine gave it.
        required: Optional arrays that the configuration needs, and the field that needs each.

    Raises:
        DataError: if anything is missing, of the wrong length, not finite, negative where it is a
            number of rollouts or tokens, or of another plan.
    """
    for name in ("padding_rollouts", "padding_tokens"):
        if getattr(outcome, name) < 0:
            raise DataError(f"{name} must be >= 0, got {getattr(outcome, name)}")
    slot_R, correct_R = _slots_and_correct(plan, outcome)
    given: dict[str, FloatArray | None] = {}
    for name in ("loss_R", "score_R", "tokens_R"):
        values = getattr(outcome, name)
        if values is None and name in required:
            raise DataError(f"{required[name]} needs a finite {name} in every outcome; pass it")
        given[name] = None if values is None else _as_long(values, slot_R, name)
        if name in required and not np.isfinite(given[name]).all():  # type: ignore[arg-type]
            raise DataError(f"{required[name]} needs a finite {name} in every outcome")
    if given["tokens_R"] is not None and not (given["tokens_R"] >= 0).all():
        raise DataError("tokens_R must be >= 0 for every rollout")
    n_P = np.bincount(slot_R, minlength=len(plan.n_P))
    if (n_P > plan.n_P).any():
        slot = int(np.argmax(n_P > plan.n_P))
        raise DataError(
            f"{n_P[slot]} rollouts of slot {slot} came back, the plan has {plan.n_P[slot]}"
        )
    return Rollouts(slot_R=slot_R, correct_R=correct_R, **given)


def _as_long(values: Any, like_R: np.ndarray, name: str) -> FloatArray:
    array = np.asarray(values, np.float64)
    if array.shape != (len(like_R),):
        raise DataError(f"{name} must have one entry per rollout, {len(like_R)}, got {array.shape}")
    return array


def _slots_and_correct(plan: Plan, outcome: Outcome) -> tuple[IntArray, FloatArray]:
    """The slot and the 0/1 of each rollout."""
    prompt_R, prompt_P = np.asarray(outcome.prompt_R), np.asarray(plan.prompt_P)
    correct_R = _as_long(outcome.correct_R, prompt_R, "correct_R")
    other_R = (correct_R != 0) & (correct_R != 1)
    if other_R.any():
        row = int(np.argmax(other_R))
        raise DataError(f"correct_R must be 0 or 1, got {correct_R[row]} at rollout {row}")
    if outcome.slot_R is not None:
        slot_R = _as_long(outcome.slot_R, prompt_R, "slot_R").astype(np.int64)
        if len(slot_R) and not (slot_R.min() >= 0 and slot_R.max() < len(prompt_P)):
            raise DataError(f"slot_R must lie in 0 .. {len(prompt_P) - 1}")
        same_R = prompt_P[slot_R] == prompt_R if len(slot_R) else np.ones(0, bool)
        if not same_R.all():
            row = int(np.argmin(same_R))
            raise DataError(
                f"rollout {row} is of prompt {prompt_R[row].item()!r}, but its slot of the plan is "
                f"of {prompt_P[slot_R[row]].item()!r}"
            )
        return slot_R, correct_R
    order = np.argsort(prompt_P, kind="stable")
    ordered = prompt_P[order]
    if (ordered[1:] == ordered[:-1]).any():
        raise DataError("an id stands twice in the plan: give slot_R")
    place = np.minimum(np.searchsorted(ordered, prompt_R), len(ordered) - 1)
    if not (ordered[place] == prompt_R).all():
        row = int(np.argmin(ordered[place] == prompt_R))
        raise DataError(
            f"rollout {row} is of prompt {prompt_R[row].item()!r}, which is not in the plan"
        )
    return order[place], correct_R
