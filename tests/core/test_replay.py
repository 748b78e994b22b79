"""The memory of rare successes, against a plain restatement."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro import Controller, ControllerConfig, Outcome
from gdro.core.checkpoint import load, save
from gdro.core.config import ReplayConfig
from gdro.core.errors import ConfigError, DataError
from gdro.core.replay import Success, Successes


def groups(draw, prompts=6):
    """Slot and verdict of the rollouts of a step, in any order."""
    slots = draw(st.lists(st.integers(0, prompts - 1), min_size=1, max_size=24))
    marks = draw(st.lists(st.booleans(), min_size=len(slots), max_size=len(slots)))
    return np.array(slots), np.array(marks, float)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 6), st.none() | st.integers(1, 3))
def test_lost_groups_recall_the_newest_success_of_their_prompt(data, capacity, max_age):
    memory = Successes(ReplayConfig(successes=True, capacity=capacity, max_age=max_age))
    rows = np.array([7, 3, 5, 11, 2, 0])  # of the slots' prompts
    kept: list[tuple[int, Success]] = []
    for step in range(6):
        slots, marks = groups(data.draw)
        expected = {}
        for slot, row in enumerate(rows.tolist()):
            mine = np.flatnonzero(slots == slot)
            known = dict(kept).get(row)
            young = known is not None and (max_age is None or step - known.step <= max_age)
            if len(mine) > 1 and not marks[mine].any() and young:
                expected[int(mine[-1])] = known
        assert memory.recalled(rows, slots, marks, step) == expected
        wanted = memory.wanted(slots, marks)
        assert all(marks[position] and slots[position] == s for position, s in wanted.items())
        assert sorted(wanted.values()) == sorted(
            {s for s, m in zip(slots, marks, strict=True) if m}
        )
        for position, slot in wanted.items():
            assert position == max(np.flatnonzero((slots == slot) & (marks > 0)))
            success = Success(tuple(range(position)), (1.0, float("nan")), step)
            row = int(rows[slot])
            memory.keep(row, success)
            kept = [(r, s) for r, s in kept if r != row] + [(row, success)]
            kept = kept[-capacity:]
        assert len(memory) == len(kept)


@given(st.permutations(range(5)))
def test_the_newest_is_kept_in_whatever_order_they_come(steps):
    memory = Successes(ReplayConfig(successes=True))
    for step in steps:
        memory.keep(3, Success((step,), (1.0,), step))
    recalled = memory.recalled(np.array([3]), np.array([0, 0]), np.zeros(2), 9)
    assert recalled == {1: Success((4,), (1.0,), 4)}


def test_the_state_is_whole_and_survives_a_file(tmp_path):
    config = ControllerConfig.from_dict({"replay.successes": True})
    controller = Controller(config, n_mean=2, seed=0)
    controller.bind(["a", "b", "c"])

    def step(marks, successes):
        plan = controller.plan(["a", "b", "c"])
        slots = plan.slot_R
        outcome = Outcome(prompt_R=np.asarray(plan.prompt_P)[slots], slot_R=slots, correct_R=marks)
        recalled, wanted = controller.recall(plan, outcome)
        controller.remember(plan, {slot: successes[slot] for slot in wanted.values()})
        controller.observe(plan, outcome)
        return recalled

    first = {0: Success((1, 2, 3), (1.0, 0.5), 0), 2: Success((), (1.0, 0.25), 0)}
    assert step([1, 0, 0, 0, 1, 1], first) == {}
    file = tmp_path / "state.npz"
    save(file, controller.state_dict(), fingerprint=controller.fingerprint)
    for again in (False, True):
        if again:
            controller = Controller(config, n_mean=2, seed=0)
            controller.bind(["a", "b", "c"])
            controller.load_state_dict(load(file, fingerprint=controller.fingerprint))
        plan = controller.plan(["a", "b", "c"])
        ids = np.asarray(plan.prompt_P)[plan.slot_R]
        outcome = Outcome(prompt_R=ids, slot_R=plan.slot_R, correct_R=np.zeros(6))
        recalled, wanted = controller.recall(plan, outcome)
        last = {s: int(np.flatnonzero(plan.slot_R == s)[-1]) for s in (0, 2)}
        alone = np.bincount(plan.slot_R) < 2
        expected = {last[s]: first[s] for s in (0, 2) if not alone[s]}
        assert recalled == expected
        assert wanted == {}
        assert controller.ledger.replayed == len(expected) > 0


def test_it_is_refused_with_rounds_and_for_a_foreign_plan():
    both = {"replay.successes": True, "select.policy": "dapo", "prompt.weigh": "none"}
    with pytest.raises(ConfigError, match=r"replay\.successes must be False"):
        Controller(ControllerConfig.from_dict(both))
    controller = Controller(ControllerConfig.from_dict({"replay.successes": True}), n_mean=2)
    plan = Controller(n_mean=2).plan([1, 2])
    with pytest.raises(DataError, match="plan 0"):
        controller.recall(plan, Outcome(prompt_R=[1, 1], correct_R=[0, 0]))
