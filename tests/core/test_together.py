"""Parts of several plans as one step; slots of which nothing will come; settings resolved."""

import numpy as np
import pytest

from gdro import Controller, ControllerConfig, Outcome
from gdro.core.errors import ConfigError, DataError
from gdro.core.presets import PRESETS
from gdro.core.resolve import method_name, resolved
from gdro.core.types import Plan

IDS = [f"p{i}" for i in range(8)]
CONFIG = ControllerConfig.from_dict({"rollout.allocator": "exp3p"})


def outcome(plan, slots, seed=0):
    """Of some slots, by prompt alone: whatever plan it stands in."""
    slot_R = np.repeat(slots, plan.n_P[slots])
    ids = np.asarray(plan.prompt_P)[slot_R]
    correct_R = [float((int(i[1:]) + k) % 3 == 0) for k, i in enumerate(ids)]
    return Outcome(prompt_R=ids, slot_R=slot_R, correct_R=correct_R, tokens_R=np.full(len(ids), 7))


def test_parts_of_two_plans_are_one_step_of_the_averages():
    """Against one plan that held all of it: scores, counts, ledger and record agree."""
    apart, whole = (Controller(CONFIG, n_mean=4, seed=0) for _ in range(2))
    for controller in (apart, whole):
        plan = controller.plan(IDS)
        controller.observe(plan, outcome(plan, np.arange(8)))
    one, two = apart.plan(IDS[:4]), apart.plan(IDS[4:])
    both = whole.plan(IDS)
    for plan in (one, two, both):
        plan.n_P[:], plan.train_P[:] = 4, 4
        plan.propensity_P[:] = 0.5
    halves = [(plan, outcome(plan, np.arange(4))) for plan in (one, two)]
    slot_R = np.repeat(np.arange(8), 4)
    correct_R = np.concatenate([part.correct_R for _, part in halves])
    together = apart.observe_together(halves)
    alone = whole.observe(both, Outcome(prompt_R=np.array(IDS)[slot_R], slot_R=slot_R,
                                        correct_R=correct_R, tokens_R=np.full(32, 7)))  # fmt: skip
    np.testing.assert_allclose(apart.method.adversary.score_B, whole.method.adversary.score_B)
    rows = apart.difficulty.rows(IDS)
    for a, b in zip(
        apart.difficulty.posterior(rows), whole.difficulty.posterior(rows), strict=True
    ):
        np.testing.assert_allclose(a, b)
    assert apart.ledger == whole.ledger
    for name in ("rollouts", "reward", "tokens", "mixed_fraction"):
        assert together.values[name] == alone.values[name]
    assert together.values["step"] == two.step


def test_a_plan_twice_or_none_is_refused_and_nothing_is_learnt():
    controller = Controller(CONFIG, n_mean=4, seed=0)
    plan = controller.plan(IDS)
    first, rest = outcome(plan, np.arange(3)), outcome(plan, np.arange(3, 8))
    for parts in ([], [(plan, first), (plan, rest)]):
        with pytest.raises(DataError, match="at least one plan, each once"):
            controller.observe_together(parts)
    assert controller.ledger.rollouts == 0
    controller.observe(plan, first)
    controller.observe(plan, rest)


def test_slots_that_are_abandoned_are_not_waited_for():
    controller = Controller(CONFIG, n_mean=4, seed=0)
    plan = controller.plan(IDS)
    controller.observe(plan, outcome(plan, np.arange(6)))
    assert controller.state_dict()["pending"]["seen"]
    controller.abandon(plan, np.array([6]))
    with pytest.warns(UserWarning, match="1 slots had an outcome, or were abandoned, before"):
        controller.observe(plan, outcome(plan, np.array([6])))
    controller.abandon(plan, np.array([7]))
    assert not controller.state_dict()["pending"]["seen"]
    controller.abandon(plan, np.array([7]))  # it is gone already


def test_a_group_of_which_one_rollout_is_left_has_no_weight():
    plan = Controller(CONFIG, n_mean=4, seed=0).plan(IDS[:3])
    plan.weight_P[:] = [2.0, 3.0, 5.0]
    slot_R = np.array([2, 0, 1, 0, 0, 1])  # in any order; of the third prompt only one came back
    assert plan.weight_R(slot_R).tolist() == [0, 2, 3, 2, 2, 3]
    assert plan.weight_R(slot_R[:0]).tolist() == []


def test_a_plan_is_what_its_state_is():
    plan = Controller(CONFIG, n_mean=4, seed=0).plan(IDS)
    back = Plan.from_state(plan.state_dict())
    for name, value in plan.state_dict().items():
        np.testing.assert_array_equal(getattr(back, name), value)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_with_nothing_given_is_the_preset(preset):
    config = resolved(preset, {"rollout.n_min": None}, 4)
    assert config == ControllerConfig.preset(preset)
    assert method_name(preset, config) == preset


def test_what_is_given_wins_and_bounds_hold():
    config = resolved("rollout", {"difficulty.edges": [0.2, 0.5], "rollout.power": 1.0}, 8)
    assert config.difficulty.bins == 3
    assert config.rollout.n_max == 24
    assert method_name("rollout", config) == "rollout, changed"
    assert method_name("rollout", resolved("rollout", {}, 8)) == "rollout"
    with pytest.raises(ConfigError, match=r"must be within .* = 2 .. 3, got 4"):
        resolved("rollout", {"rollout.n_max": 3}, 4)
    with pytest.raises(ConfigError, match="rollout.powr is unknown"):
        resolved("rollout", {"rollout.powr": 3}, 4)
    for edges in (0.5, "0.5", [0.5, "x"]):
        with pytest.raises(ConfigError, match=r"difficulty\.edges must be"):
            resolved("rollout", {"difficulty.edges": edges}, 4)
