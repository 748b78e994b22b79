"""Plans whose outcome may still come: late, in parts, or twice."""

import warnings
from typing import Any

import numpy as np

from gdro.core.errors import DataError
from gdro.core.types import IntArray, Plan


class Pending:
    """Remembers which slots of which plans have had their outcome.

    Args:
        max_staleness: A plan is forgotten once more than this many newer ones were made.

    Attributes:
        refused: Second outcomes of a slot, and those of abandoned ones, refused since the start.
    """

    def __init__(self, max_staleness: int) -> None:
        self._max_staleness = max_staleness
        self._seen: dict[int, np.ndarray] = {}
        self._plans: dict[int, tuple[int, np.ndarray]] = {}  # round and prompts of each
        self.refused = 0

    def add(self, plan: Plan) -> None:
        """A plan was made, or extended by more slots."""
        seen_P = np.zeros(len(plan.n_P), bool)
        old_P = self._seen.get(plan.step, seen_P[:0])
        seen_P[: len(old_P)] = old_P
        self._seen[plan.step] = seen_P
        self._plans[plan.step] = plan.round, np.asarray(plan.prompt_P)
        self._forget(plan.step - self._max_staleness - 1)

    def _forget(self, step: int) -> None:
        self._seen.pop(step, None)
        self._plans.pop(step, None)

    def check(self, plan: Plan) -> None:
        """Raises DataError unless the plan's outcome is awaited, and the plan is as it stands."""
        if plan.step not in self._seen:
            raise DataError(
                f"the outcome is of plan {plan.step}, which is not among the plans that this "
                "controller made and still waits for: an outcome of each of its slots has come, or "
                f"more than outcome.max_staleness = {self._max_staleness} plans followed it"
            )
        last, prompt_P = self._plans[plan.step]
        if plan.round != last:
            raise DataError(
                f"plan {plan.step} was extended, it is in round {last} and this one in round "
                f"{plan.round}: pass the plan that refill returned last"
            )
        if plan.prompt_P is not prompt_P and not np.array_equal(plan.prompt_P, prompt_P):
            raise DataError(f"plan {plan.step} of this controller has other prompts")

    def first(self, plan: Plan, slot_R: IntArray) -> np.ndarray:
        """Which rollouts are of slots that had no outcome yet; from now on they have had it."""
        self.check(plan)
        seen_P = self._seen[plan.step]
        kept_R = ~seen_P[slot_R]
        refused = 0 if kept_R.all() else len(np.unique(slot_R[~kept_R]))
        if refused and not self.refused:
            warnings.warn(
                f"plan {plan.step}: {refused} slots had an outcome, or were abandoned, before; "
                "what comes of them now is refused",
                stacklevel=6,  # whoever called observe
            )
        self.refused += refused
        seen_P[slot_R] = True
        if seen_P.all():
            self._forget(plan.step)
        return kept_R

    def close(self, step: int, slots: IntArray) -> None:
        """No outcome of these slots will come."""
        if step in self._seen:
            self._seen[step][slots] = True
            if self._seen[step].all():
                self._forget(step)

    def state_dict(self) -> dict[str, Any]:
        seen = {str(step): seen_P.copy() for step, seen_P in self._seen.items()}
        plans = {str(step): list(plan) for step, plan in self._plans.items()}
        return {"seen": seen, "plans": plans, "refused": self.refused}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen = {int(step): seen_P.copy() for step, seen_P in state["seen"].items()}
        self._plans = {int(k): (int(last), ids) for k, (last, ids) in state["plans"].items()}
        self.refused = int(state["refused"])
