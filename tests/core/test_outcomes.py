"""Outcomes late, in parts, incomplete, twice: what `observe` takes, against a model in plain dicts.

Counts of prompts commute. The generator is moved by deciding alone; moving averages and the bandit
depend on the order of `observe` calls, and on nothing else.
"""

import linecache
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gdro import Controller, ControllerConfig, Outcome, Plan
from gdro.core import checkpoint
from gdro.core.errors import DataError

BOUND = [f"p{i}" for i in range(8)]
KNOWN = [*BOUND, "not in the data set"]
STALENESS = 2
SEEDS = st.integers(0, 2**32 - 1)
EXACT = {"difficulty.memory": "all", "outcome.max_staleness": STALENESS}
METHODS = {
    "exp3p": {"rollout.allocator": "exp3p"},
    "dapo": {"select.policy": "dapo", "select.max_rounds": 3},
    "reinforce_ada": {"rollout.allocator": "reinforce_ada", "rollout.max_rounds": 3},
}


def make(changes: dict[str, Any], seed: int = 0) -> Controller:
    controller = Controller(ControllerConfig.from_dict(EXACT | changes), n_mean=3, seed=seed)
    controller.bind(BOUND)
    return controller


def outcome(plan: Plan, slot_R: np.ndarray, correct_R: np.ndarray) -> Outcome:
    tokens_R = 10 + slot_R
    return Outcome(prompt_R=np.asarray(plan.prompt_P)[slot_R], slot_R=slot_R, correct_R=correct_R,
                   tokens_R=tokens_R)  # fmt: skip


class Outcomes(RuleBasedStateMachine):
    """The model: what each prompt has had, which slots of which plans wait, and what was spent."""

    changes: dict[str, Any] = {}

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.controller = make(self.changes)
        self.plans: list[Plan] = []
        self.waiting: dict[int, set[int]] = {}  # step -> slots without an outcome
        self.visits: dict[str, list[tuple[int, int]]] = {prompt: [] for prompt in KNOWN}
        self.refused = self.rollouts = self.trained = self.tokens = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule()
    def plan_chosen_prompts(self) -> None:
        self._plan([BOUND[i] for i in self.controller.select(4)])

    @rule(prompts=st.lists(st.sampled_from(KNOWN), min_size=1, max_size=5))
    def plan_any_prompts(self, prompts: list[str]) -> None:
        self._plan(prompts)

    def _plan(self, prompts: list[str]) -> None:
        plan = self.controller.plan(prompts)
        assert plan.step == len(self.plans)
        assert plan.n_P.sum() == 3 * len(prompts)
        self.plans.append(plan)
        self.waiting[plan.step] = set(range(len(prompts)))
        for step in list(self.waiting):
            if plan.step - step > STALENESS:
                del self.waiting[step]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), seed=SEEDS)
    def observe_all_that_waits(self, data: Any, seed: int) -> None:
        plan = self._waiting_plan(data)
        slots = sorted(self.waiting[plan.step])
        self._observe(plan, slots, plan.n_P[slots], seed)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), seed=SEEDS, fewer=st.booleans())
    def observe_some_slots_first_or_second_time(self, data: Any, seed: int, fewer: bool) -> None:
        plan = self._waiting_plan(data)
        slots = sorted(data.draw(st.sets(st.integers(0, len(plan.n_P) - 1))))
        n_P = plan.n_P[slots]
        n_P = np.random.default_rng(seed).integers(1, n_P + 1) if fewer and slots else n_P
        self._observe(plan, slots, n_P, seed)

    def _waiting_plan(self, data: Any) -> Plan:
        return self.plans[data.draw(st.sampled_from(sorted(self.waiting)))]

    def _observe(self, plan: Plan, slots: list[int], n_P: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        slot_R = rng.permutation(np.repeat(np.array(slots, np.int64), n_P))
        correct_R = rng.random(len(slot_R)) < 0.5
        warned = self.refused > 0
        waiting = self.waiting[plan.step]
        for slot in slots:
            if slot not in waiting:
                self.refused += 1
                continue
            n = np.count_nonzero(slot_R == slot)
            right = np.count_nonzero(correct_R[slot_R == slot])
            self.visits[str(plan.prompt_P[slot])].append((n, right))
            self.rollouts += n
            self.trained += min(n, plan.train_P[slot])
            self.tokens += n * (10 + slot)
        waiting -= set(slots)
        if not waiting:
            del self.waiting[plan.step]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.controller.observe(plan, outcome(plan, slot_R, correct_R))
        assert len(caught) == (not warned and self.refused > 0), "one warning, at the first"
        for warning in caught:
            assert "controller.observe(plan" in linecache.getline(warning.filename, warning.lineno)

    @precondition(lambda self: len(self.plans) > len(self.waiting))
    @rule(data=st.data())
    def a_plan_that_no_longer_waits_is_refused(self, data: Any) -> None:
        steps = [plan.step for plan in self.plans if plan.step not in self.waiting]
        plan = self.plans[data.draw(st.sampled_from(steps))]
        slot_R = np.repeat(np.arange(len(plan.n_P)), plan.n_P)
        self._refuses(plan, outcome(plan, slot_R, np.ones(len(slot_R))), "not among the plans")

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_wrong_outcome_is_refused_whole(self, data: Any) -> None:
        plan = self._waiting_plan(data)
        prompts = [str(plan.prompt_P[0]), "a stranger"]
        self._refuses(plan, Outcome(prompt_R=prompts, correct_R=[1, 1], slot_R=[0, 0]), "stranger")

    def _refuses(self, plan: Plan, wrong: Outcome, match: str) -> None:
        before = self.controller.state_dict()
        for call in (self.controller.observe, self.controller.refill):
            with pytest.raises(DataError, match=match):
                call(plan, wrong)
        np.testing.assert_equal(self.controller.state_dict(), before)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), seed=SEEDS, rate=st.sampled_from([0.0, 0.5, 1.0]))
    def refill_a_plan_that_waits(self, data: Any, seed: int, rate: float) -> None:
        plan = self._waiting_plan(data)
        slot_R = np.repeat(np.arange(len(plan.n_P)), plan.n_P)
        correct_R = np.random.default_rng(seed).random(len(slot_R)) < rate
        more = self.controller.refill(plan, outcome(plan, slot_R, correct_R))
        if more is not None:
            assert more.round == plan.round + 1 < self.controller.rounds
            assert more.train_P.sum() == plan.train_P.sum()
            self.plans[plan.step] = more
            self.waiting[plan.step] |= set(range(len(plan.n_P), len(more.n_P)))

    @rule(seed=SEEDS)
    def go_on_from_a_file(self, seed: int) -> None:
        path = Path(self.folder.name) / "state.npz"
        old, new = self.controller, make(self.changes, seed)
        checkpoint.save(path, old.state_dict(), fingerprint=old.fingerprint)
        new.load_state_dict(checkpoint.load(path, fingerprint=new.fingerprint))
        np.testing.assert_equal(new.state_dict(), old.state_dict())
        self.controller = new

    @invariant()
    def counts_are_sums(self) -> None:
        n_P, correct_P = self.controller.difficulty.evidence(self.controller.difficulty.rows(KNOWN))
        assert n_P.tolist() == [sum(n for n, _ in visits) for visits in self.visits.values()]
        assert correct_P.tolist() == [sum(c for _, c in visits) for visits in self.visits.values()]
        visited = sum(bool(visits) for visits in self.visits.values())
        assert self.controller.difficulty.population_B().sum() == visited

    @invariant()
    def what_waits_and_what_was_spent(self) -> None:
        state = self.controller.state_dict()
        waits = {int(step): set(np.flatnonzero(~seen_P).tolist())
                 for step, seen_P in state["pending"]["seen"].items()}  # fmt: skip
        assert waits == self.waiting
        assert state["pending"]["refused"] == self.refused
        assert state["ledger"] == {
            "rollouts": self.rollouts, "trained": self.trained, "tokens": self.tokens,
            "replayed": 0,
        }  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_controller_agrees_with_the_model(method: str) -> None:
    machine = type(f"Outcomes of {method}", (Outcomes,), {"changes": METHODS[method]})
    bounded = settings(max_examples=25, stateful_step_count=25, deadline=None,
                       suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    run_state_machine_as_test(machine, settings=bounded)


# -- order ------------------------------------------------------------------------------------

PLANS = 6
AVERAGES = {"outcome.max_staleness": PLANS, "rollout.allocator": "exp3p"}


def started(**changes: Any) -> tuple[Controller, list[tuple[Plan, Outcome]]]:
    """A controller that knows the prompts, with plans that wait and their outcomes."""
    controller = make(AVERAGES | changes)
    for _ in range(3):  # every prompt has a bin
        plan = controller.plan(BOUND)
        slot_R = np.repeat(np.arange(len(BOUND)), plan.n_P)
        controller.observe(plan, outcome(plan, slot_R, (slot_R + np.arange(len(slot_R))) % 3 == 0))
    rng, waiting = np.random.default_rng(0), []
    for _ in range(PLANS):
        plan = controller.plan(rng.choice(BOUND, 4, replace=False))
        slot_R = np.repeat(np.arange(4), plan.n_P)
        waiting.append((plan, outcome(plan, slot_R, rng.random(len(slot_R)) < rng.random())))
    return controller, waiting


def observed(order: list[int], **changes: Any) -> dict[str, Any]:
    controller, waiting = started(**changes)
    for i in order:
        controller.observe(*waiting[i])
    return controller.state_dict()


FORWARD = observed(list(range(PLANS)))


@given(st.permutations(range(PLANS)))
@settings(max_examples=20, deadline=None)
def test_counts_commute_and_one_order_gives_one_state(order: list[int]) -> None:
    state = observed(order)
    np.testing.assert_equal(state["difficulty"]["memory"], FORWARD["difficulty"]["memory"])
    assert state["ledger"] == FORWARD["ledger"]
    assert state["pending"] == FORWARD["pending"]
    np.testing.assert_equal(observed(order), state)


def test_averages_and_the_bandit_follow_the_order() -> None:
    method, reverse = FORWARD["method"], observed(list(range(PLANS))[::-1])["method"]
    for part, name in (("adversary", "score_B"), ("variance", "v_B"),
                       ("allocator", "mean_BK")):  # fmt: skip
        mine, other = method[part][name], reverse[part][name]
        assert np.nanmax(np.abs(mine - other)) > 1e-3, part


def test_the_generator_is_moved_by_deciding_alone() -> None:
    controller, waiting = started()
    for plan, came in waiting:
        before = controller.state_dict()["rng"]
        controller.observe(plan, came)
        assert controller.state_dict()["rng"] == before
    controller.plan(BOUND)
    assert controller.state_dict()["rng"] != before


def test_an_outcome_of_nothing_teaches_nothing() -> None:
    """Every generation failed: the plan still waits."""
    for memory in ("all", "window", "discounted"):
        controller, waiting = started(**{"difficulty.memory": memory})
        before = controller.state_dict()
        record = controller.observe(waiting[0][0], Outcome(prompt_R=[], correct_R=[], tokens_R=[]))
        assert record.values["rollouts"] == 0
        np.testing.assert_equal(controller.state_dict(), before | {"observed": 4})
