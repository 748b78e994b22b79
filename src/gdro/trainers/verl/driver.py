"""Between verl's names and the controller's: which uid is which slot of which plan.

verl gives a prompt a new uid whenever it fetches it, and what comes back of it comes back under
that uid: at once where generation is synchronous, in any step and any company where it is not.
"""

import shutil
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdro.core.controller import Controller
from gdro.core.errors import DataError
from gdro.core.record import Record
from gdro.core.trace import TraceWriter, header_of, keep_aside
from gdro.core.types import FloatArray, IntArray, Outcome, Plan, PromptIds
from gdro.trainers.verl.border import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Came:
    """Rollouts that came back, one entry each (of a multi-output rollout, its last output).

    Attributes:
        key_R: The row that has the score.
        uid_R: The prompt's uid.
        score_R: float64, the sum of the row's token scores.
        correct_R: float64, 0 or 1.
        tokens_R: int64, tokens that the model has said, in all outputs of the rollout.
    """

    key_R: list[str]
    uid_R: list[str]
    score_R: FloatArray
    correct_R: FloatArray
    tokens_R: IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """The rollouts of one plan among those that came back.

    Attributes:
        plan: The plan.
        rows: int64, their positions in `Came`.
        slot_R: int64, their slots of the plan.
    """

    plan: Plan
    rows: IntArray
    slot_R: IntArray

    def outcome(self, came: Came, **more: FloatArray | None) -> Outcome:
        """What the controller learns from; `more` by the names of `Outcome`, along `Came`."""
        given = {name: None if a is None else a[self.rows] for name, a in more.items()}
        return Outcome(
            prompt_R=np.asarray(self.plan.prompt_P)[self.slot_R],
            slot_R=self.slot_R,
            correct_R=came.correct_R[self.rows],
            tokens_R=came.tokens_R[self.rows],
            **given,  # type: ignore[arg-type]
        )


class Driver:
    """The controller of a verl run, with what is in flight, and its trace.

    Args:
        settings: Checked.
        n_mean: `rollout.n`.
        std_scaled: Whether the estimator divides by the group's standard deviation.

    Attributes:
        controller: Decides.
        updates: Batches trained on so far; the next one's index in the trace.
        lost: Rollouts that were dispatched and never came, since the start.
        branched: Whether a named checkpoint was taken up; what the trace has beyond it is then kept
            aside.
    """

    def __init__(self, settings: Settings, *, n_mean: int, std_scaled: bool) -> None:
        self.controller = Controller(
            settings.controller, n_mean=n_mean, seed=settings.seed, std_scaled=std_scaled
        )
        self.updates = 0
        self.lost = 0
        self.branched = False
        self._settings = settings
        self._resumed = False
        self._plans: dict[int, Plan] = {}
        self._slots: dict[str, tuple[int, int]] = {}  # uid -> step of the plan, slot
        self._trace: TraceWriter | None = None

    def plan(self, uids: Sequence[str], ids: PromptIds) -> Plan:
        """Plans a dispatch of P prompts; exact in itself, however small."""
        plan = self.controller.plan(ids)
        self._plans[plan.step] = plan
        self._slots |= {uid: (plan.step, slot) for slot, uid in enumerate(uids)}
        return plan

    def parts(self, uid_R: Sequence[str]) -> list[Part]:
        """Rollouts by plan, in the order of plans.

        Raises:
            DataError: if a uid was not planned here.
        """
        unknown = next((uid for uid in uid_R if uid not in self._slots), None)
        if unknown is not None:
            raise DataError(f"rollouts of prompt {unknown} came back, which was not planned here")
        found = np.array([self._slots[uid] for uid in uid_R], np.int64).reshape(-1, 2)
        return [
            Part(plan=self._plans[step], rows=rows, slot_R=found[rows, 1])
            for step in np.unique(found[:, 0]).tolist()
            for rows in (np.flatnonzero(found[:, 0] == step),)
        ]

    def weight_R(self, uid_R: Sequence[str]) -> FloatArray:
        """What the advantages of each rollout are multiplied by."""
        weight_R = np.zeros(len(uid_R))
        for part in self.parts(uid_R):
            weight_R[part.rows] = part.plan.weight_R(part.slot_R)
        return weight_R

    def observe(
        self,
        came: Came,
        live: Container[str],
        *,
        loss_R: FloatArray | None = None,
        score_R: FloatArray | None = None,
    ) -> tuple[Record, int]:
        """Learns from what came back, and forgets what will not come any more.

        Args:
            came: What came back.
            live: Uids of which something may still come.
            loss_R: Prompt losses, along `came`.
            score_R: Gradient-norm proxies, likewise.

        Returns:
            The record, and how many dispatched rollouts are now known to be lost.
        """
        parts = self.parts(came.uid_R)
        record = self.controller.observe_together(
            [(p.plan, p.outcome(came, loss_R=loss_R, score_R=score_R)) for p in parts]
        )
        lost = -len(came.uid_R)
        for uid in dict.fromkeys(came.uid_R):
            step, slot = self._slots.pop(uid)
            lost += int(self._plans[step].n_P[slot])
        for uid in [uid for uid in self._slots if uid not in live]:
            step, slot = self._slots.pop(uid)
            lost += int(self._plans[step].n_P[slot])
            self.controller.abandon(self._plans[step], np.array([slot]))
        waiting = {step for step, _ in self._slots.values()}
        self._plans = {step: plan for step, plan in self._plans.items() if step in waiting}
        self.lost += lost
        self.updates += 1
        return record, lost

    # -- trace ----------------------------------------------------------------------------------

    def write(self, record: Record, seconds: dict[str, float]) -> None:
        """Appends the step that `observe` has just ended.

        The first one begins `trace.jsonl` or goes on with it: a command that only evaluates a
        checkpoint leaves the trace alone.
        """
        step = self.updates - 1
        if self._trace is None:
            self._trace = self._opened(step)
        self._trace.append(record.to_dict() | {"step": step, "time": seconds})

    def _opened(self, step: int) -> TraceWriter:
        """That of another run in the folder, or of another branch of this one, is kept aside."""
        path = Path(self._settings.trace)
        if path.exists() and (self.branched or not self._resumed):
            aside = keep_aside(path)
            if self._resumed:
                shutil.copyfile(aside, path)
        trace = TraceWriter(path, header_of(self.controller) | {"method": self._settings.method})
        trace.truncate_after(step)
        return trace

    # -- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The controller's state, and all that is in flight."""
        return {
            "controller": self.controller.state_dict(),
            "updates": self.updates,
            "lost": self.lost,
            "plans": [plan.state_dict() for plan in self._plans.values()],
            "uids": list(self._slots),
            "slots": np.array(list(self._slots.values()), np.int64).reshape(-1, 2),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state of the same configuration and data set."""
        self.controller.load_state_dict(state["controller"])
        self._resumed = True
        self.updates, self.lost = int(state["updates"]), int(state["lost"])
        plans: Iterable[Plan] = map(Plan.from_state, state["plans"])
        self._plans = {plan.step: plan for plan in plans}
        slots = map(tuple, state["slots"].tolist())
        self._slots = dict(zip(state["uids"], slots, strict=True))
