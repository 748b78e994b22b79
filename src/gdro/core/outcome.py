"""What comes back of a plan, checked at the border."""

from typing import Any

import numpy as np

from gdro.core.errors import DataError
from gdro.core.types import FloatArray, IntArray, Outcome, Plan


def as_long(values: Any, like_R: np.ndarray, name: str) -> FloatArray:
    array = np.asarray(values, np.float64)
    if array.shape != (len(like_R),):
        raise DataError(f"{name} must have one entry per rollout, {len(like_R)}, got {array.shape}")
    return array


def slots_and_correct(plan: Plan, outcome: Outcome) -> tuple[IntArray, FloatArray]:
    """The slot and the 0/1 of each rollout."""
    prompt_R, prompt_P = np.asarray(outcome.prompt_R), np.asarray(plan.prompt_P)
    correct_R = as_long(outcome.correct_R, prompt_R, "correct_R")
    if not np.isin(correct_R, (0.0, 1.0)).all():
        row = int(np.argmin(np.isin(correct_R, (0.0, 1.0))))
        raise DataError(f"correct_R must be 0 or 1, got {correct_R[row]} at rollout {row}")
    if outcome.slot_R is not None:
        slot_R = as_long(outcome.slot_R, prompt_R, "slot_R").astype(np.int64)
        if len(slot_R) and not (slot_R.min() >= 0 and slot_R.max() < len(prompt_P)):
            raise DataError(f"slot_R must lie in 0 .. {len(prompt_P) - 1}")
        if len(slot_R) and not (prompt_P[slot_R] == prompt_R).all():
            row = int(np.argmin(prompt_P[slot_R] == prompt_R))
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
