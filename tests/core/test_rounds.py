"""Steps that generate in rounds, through the controller: refill, settle, observe."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro import Controller, ControllerConfig, Outcome, Plan
from gdro.core.errors import ConfigError, DataError
from gdro.core.replay import Success

IDS = [f"prompt {i}" for i in range(40)]
DAPO = {"select.policy": "dapo", "prompt.weigh": "per_prompt"}
ADA = {"prompt.weigh": "none", "rollout.allocator": "reinforce_ada"}


def make(changes: dict[str, Any], ids: list[str] = IDS, n_mean: float = 4) -> Controller:
    controller = Controller(ControllerConfig.from_dict(changes), n_mean=n_mean, seed=0)
    controller.bind(ids)
    return controller


class Engine:
    """Generates what a plan asks for beyond what it has, and gives everything back shuffled."""

    def __init__(self, rate: Callable[[str], float], seed: int = 0) -> None:
        self.rate, self.rng = rate, np.random.default_rng(seed)
        self.came: list[list[bool]] = []

    def generate(self, plan: Plan) -> Outcome:
        self.came += [[] for _ in range(len(plan.n_P) - len(self.came))]
        for prompt, n, verdicts in zip(plan.prompt_P, plan.n_P, self.came, strict=True):
            new = self.rng.random(n - len(verdicts)) < self.rate(str(prompt))
            verdicts.extend(new.tolist())
        slot_R = np.repeat(np.arange(len(plan.n_P)), plan.n_P)
        correct_R = np.array([v for verdicts in self.came for v in verdicts])
        order = self.rng.permutation(len(slot_R))
        return Outcome(
            prompt_R=np.asarray(plan.prompt_P)[slot_R[order]], correct_R=correct_R[order],
            slot_R=slot_R[order], tokens_R=np.ones(len(order), int),
        )  # fmt: skip

    @property
    def mixed_P(self) -> np.ndarray:
        return np.array([0 < sum(verdicts) < len(verdicts) for verdicts in self.came])


def learn_some(controller: Controller, ids: list[str]) -> None:
    engine = Engine(lambda prompt: int(prompt.split()[1]) / 40)
    plan = controller.plan(ids)
    controller.observe(plan, engine.generate(plan))


# -- dapo -------------------------------------------------------------------------------------


@given(
    st.sampled_from(["uniform", "hard_first", "signal", "knapsack", "progress", "exp3p", "neyman"]),
    st.sampled_from(["none", "gdro", "per_prompt", "pass_at_k"]),
    st.sampled_from(["rollout", "prompt"]), st.sampled_from([3, 4, 4.5]), st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_dapo_replaces_the_groups_without_a_gradient(
    allocator: str, weigh: str, aggregation: str, n_mean: float, seed: int
) -> None:
    """Every promise of `refill`, round by round; half of the prompts are known before."""
    if allocator == "neyman":
        aggregation = "prompt"
    changes = {"prompt.weigh": weigh, "rollout.allocator": allocator,
               "rollout.aggregation": aggregation, "select.max_rounds": 4}  # fmt: skip
    controller = make(DAPO | changes, n_mean=n_mean)
    learn_some(controller, IDS[::2])
    spent = dict(vars(controller.ledger))
    engine = Engine(lambda prompt: int(prompt.split()[1]) % 3 / 2.5, seed)
    plan = controller.plan([IDS[i] for i in controller.select(6)])
    budget = int(6 * n_mean)
    outcome = engine.generate(plan)
    while (more := controller.refill(plan, outcome)) is not None:
        old, dropped_P = len(plan.n_P), (plan.train_P > 0) & ~engine.mixed_P
        assert more.round == plan.round + 1 < 4
        assert more.train_P.sum() == budget
        np.testing.assert_array_equal(more.n_P[:old], plan.n_P)
        np.testing.assert_array_equal(more.train_P[:old], np.where(dropped_P, 0, plan.train_P))
        np.testing.assert_array_equal(more.n_P[old:], more.train_P[old:])
        assert more.train_P[old:].min() >= controller.config.rollout.n_min
        assert more.train_P[old:].max() <= controller.config.rollout.n_max
        fresh = [str(prompt) for prompt in more.prompt_P[old:]]
        assert len(fresh) == len(set(fresh)) == dropped_P.sum()
        assert not set(fresh) & {str(prompt) for prompt in plan.prompt_P}
        assert fresh == [IDS[i] for i in more.row_P[old:]]
        assert np.all(more.row_P[:6] == -1)
        live = more.train_P > 0
        units = more.train_P[live] if aggregation == "rollout" else np.ones(6)
        assert np.average(more.adversary_P[live], weights=units) == pytest.approx(1)
        factor = 1 if aggregation == "rollout" else n_mean / more.train_P[live]
        np.testing.assert_allclose(more.weight_P[live], more.adversary_P[live] * factor)
        plan, outcome = more, engine.generate(more)
    live = plan.train_P > 0
    assert engine.mixed_P[live].all() or plan.round == 3
    rows = controller.settle(plan, outcome)
    slots = np.asarray(outcome.slot_R)[rows]
    np.testing.assert_array_equal(slots, np.repeat(np.arange(len(plan.n_P)), plan.train_P))
    assert len(set(rows)) == len(rows) == budget
    record = controller.observe(plan, outcome)
    assert record.values["trained"] == budget
    assert record.values["rollouts"] == plan.n_P.sum()
    assert controller.ledger.trained - spent["trained"] == budget
    assert controller.ledger.rollouts - spent["rollouts"] == plan.n_P.sum()
    assert controller.ledger.tokens == controller.ledger.rollouts, "a token each"


def test_dapo_stops_at_the_most_rounds_and_then_trains_on_what_there_is() -> None:
    controller, engine = make(DAPO | {"select.max_rounds": 3}), Engine(lambda _: 0.0)
    plan = controller.plan([IDS[i] for i in controller.select(4)])
    for round_ in (1, 2):
        more = controller.refill(plan, engine.generate(plan))
        assert more is not None
        assert more.round == round_
        plan = more
    outcome = engine.generate(plan)
    assert controller.refill(plan, outcome) is None
    assert plan.n_P.sum() == 3 * 16
    np.testing.assert_array_equal(plan.train_P, np.r_[np.zeros(8), plan.n_P[8:]])
    assert len(controller.settle(plan, outcome)) == 16
    assert controller.pool.visits_N.sum() == 12, "fresh prompts count as drawn"


def test_dapo_replaces_as_many_as_the_data_set_has() -> None:
    controller, engine = make(DAPO, ids=IDS[:6]), Engine(lambda _: 1.0)
    plan = controller.plan([IDS[i] for i in controller.select(4)])
    more = controller.refill(plan, engine.generate(plan))
    assert more is not None
    assert sorted(map(str, more.prompt_P)) == sorted(IDS[:6])
    assert (more.train_P > 0).tolist() == [False, False, True, True, True, True]
    assert more.train_P.sum() == 16
    assert controller.refill(more, engine.generate(more)) is None


def test_dapo_gives_unseen_prompts_more_than_the_mean_where_it_drops_more() -> None:
    """A fresh prompt takes the budget of the one it replaces, here not n_mean."""
    controller = make({"select.policy": "dapo", "rollout.allocator": "hard_first"})
    learn_some(controller, IDS[:20])
    plan = controller.plan(IDS[:20])
    hardest = int(np.argmax(plan.n_P))
    assert plan.n_P[hardest] > 4
    slot_R = np.repeat(np.arange(20), plan.n_P)
    first_R = np.r_[True, slot_R[1:] != slot_R[:-1]]  # every group is mixed but one
    outcome = Outcome(prompt_R=np.array(IDS)[slot_R], correct_R=first_R & (slot_R != hardest))
    more = controller.refill(plan, outcome)
    assert more is not None
    assert len(more.n_P) == 21
    assert more.bin_P[20] == -1
    assert more.n_P[20] == plan.n_P[hardest]


def test_dapo_has_nothing_to_replace_where_every_group_is_mixed() -> None:
    controller = make(DAPO)
    plan = controller.plan([IDS[i] for i in controller.select(4)])
    slot_R = np.repeat(np.arange(4), plan.n_P)
    first_R = np.r_[True, slot_R[1:] != slot_R[:-1]]
    outcome = Outcome(prompt_R=np.asarray(plan.prompt_P)[slot_R], correct_R=first_R)
    assert controller.refill(plan, outcome) is None


def test_failed_generations_have_no_gradient() -> None:
    """Slot 0 never came, slot 1 came with one rollout, slot 2 in part but mixed, slot 3 whole."""
    controller = make(DAPO)
    plan = controller.plan(IDS[:4])
    slot_R = np.array([1, 2, 2, 3, 3, 3, 3])
    correct_R = [1, 0, 1, 0, 0, 1, 1]
    outcome = Outcome(prompt_R=np.asarray(IDS)[slot_R], correct_R=correct_R)
    more = controller.refill(plan, outcome)
    assert more is not None
    assert more.train_P[:4].tolist() == [0, 0, 4, 4]
    assert more.train_P.sum() == 16
    assert sorted(controller.settle(more, outcome)) == [1, 2, 3, 4, 5, 6], "what there is of each"


def test_a_plan_that_was_extended_is_refused_as_it_was() -> None:
    """And one that a restored state does not know of."""
    controller, engine = make(DAPO), Engine(lambda _: 0.0)
    plan = controller.plan(IDS[:4])
    before, outcome = controller.state_dict(), engine.generate(plan)
    more = controller.refill(plan, outcome)
    assert more is not None
    for call in (controller.refill, controller.observe):
        with pytest.raises(
            DataError, match="plan 0 was extended, it is in round 1 and this one in round 0: pass"
        ):
            call(plan, outcome)
    controller.load_state_dict(before)
    with pytest.raises(DataError, match="it is in round 0 and this one in round 1"):
        controller.observe(more, engine.generate(more))
    controller.observe(plan, outcome)


def test_what_refill_refuses() -> None:
    for changes in (DAPO, ADA):
        controller = make(changes)
        plan = controller.plan(IDS[:4])
        engine = Engine(lambda _: 0.0)
        outcome = engine.generate(plan)
        other = make(changes).plan(IDS[4:8])
        before = controller.state_dict()
        for call in (controller.refill, controller.settle):
            with pytest.raises(DataError, match="'prompt [4-7]', but its slot of the plan is of"):
                call(plan, Engine(lambda _: 0.0).generate(other))
        controller.observe(plan, outcome)
        with pytest.raises(DataError, match="plan 0, which is not among the plans"):
            controller.refill(plan, outcome)
        assert before["pending"]["seen"].keys() == {"0"}
    unbound = Controller(ControllerConfig.from_dict(DAPO))
    plan = unbound.plan(IDS[:4])
    with pytest.raises(ConfigError, match=r"refill needs the data set: call bind\(prompt_ids\)"):
        unbound.refill(plan, Engine(lambda _: 0.0).generate(plan))


# -- reinforce_ada ----------------------------------------------------------------------------


@given(st.sampled_from(["balanced", "positive"]), st.sampled_from([3, 4, 4.5]),
       st.integers(0, 999))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_reinforce_ada_adds_rollouts_to_prompts_that_lack_a_signal(
    leave: str, n_mean: float, seed: int
) -> None:
    changes = ADA | {"rollout.exit": leave, "rollout.max_rounds": 3}
    controller = Controller(ControllerConfig.from_dict(changes), n_mean=n_mean)  # needs no data set
    engine = Engine(lambda prompt: int(prompt.split()[1]) / 40, seed)
    plan = first = controller.plan(IDS[::7])
    outcome = engine.generate(plan)
    while (more := controller.refill(plan, outcome)) is not None:
        assert more.round == plan.round + 1 < 3
        for slot, verdicts in enumerate(engine.came):
            right, train = sum(verdicts), plan.train_P[slot]
            least = min(right, len(verdicts) - right)
            done = right >= 1 if leave == "positive" else least >= train // 2
            assert more.n_P[slot] == plan.n_P[slot] + (0 if done else train)
        for name in ("train_P", "weight_P", "bin_P"):
            np.testing.assert_array_equal(getattr(more, name), getattr(first, name))
        plan, outcome = more, engine.generate(more)
    rows = controller.settle(plan, outcome)
    slots, correct_R = np.asarray(outcome.slot_R)[rows], np.asarray(outcome.correct_R)[rows]
    np.testing.assert_array_equal(slots, np.repeat(np.arange(6), plan.train_P))
    assert len(set(rows)) == len(rows) == 6 * n_mean
    for slot, verdicts in enumerate(engine.came):
        size, right = int(plan.train_P[slot]), sum(verdicts)
        possible = [r for r in range(right + 1) if 0 <= size - r <= len(verdicts) - right]
        taken = correct_R[slots == slot].sum()
        assert abs(2 * taken - size) == min(abs(2 * r - size) for r in possible)
    record = controller.observe(plan, outcome)
    assert record.values["trained"] == controller.ledger.trained == 6 * n_mean
    assert record.values["rollouts"] == controller.ledger.rollouts == plan.n_P.sum()


# -- second_look ------------------------------------------------------------------------------

LOOK = {"prompt.weigh": "none", "rollout.allocator": "second_look"}


@given(st.sampled_from([3, 4, 4.5, 7]), st.sampled_from([1.0, 2.0]), st.integers(0, 9999))
@settings(max_examples=60, deadline=None)
def test_a_second_look_spends_the_rest_of_the_budget_where_none_was_right(
    n_mean: float, power: float, seed: int
) -> None:
    config = ControllerConfig.from_dict(LOOK | {"rollout.power": power})
    controller = Controller(config, n_mean=n_mean)  # needs no data set
    if seed % 2:
        learn_some(controller, IDS[::3])
    engine, ids = Engine(lambda prompt: int(prompt.split()[1]) / 40, seed), IDS[::7]
    plan = controller.plan(ids)
    a_P, b_P = controller.difficulty.posterior(controller.difficulty.rows(ids))
    np.testing.assert_array_equal(plan.n_P, 2)
    first = engine.generate(plan)
    right_P = np.array([sum(verdicts) for verdicts in engine.came])
    more = controller.refill(plan, first)
    assert more is not None
    assert more.n_P.sum() == more.train_P.sum() == 6 * n_mean
    assert (more.n_P[right_P == 0] >= 3).all()
    assert more.n_P.max() <= 12

    cost_P = (1 - (a_P + right_P) / (a_P + b_P + 2)) ** (2 * power)
    found = (cost_P / more.n_P).sum()
    for up in range(6):  # no rollout is better given to another prompt: the optimum, by convexity
        for down in range(6):
            n_P = more.n_P + (np.arange(6) == up) - (np.arange(6) == down)
            if n_P.max() <= 12 and n_P[down] >= 2 + (right_P[down] == 0):
                assert found <= (cost_P / n_P).sum() + 1e-12

    outcome = engine.generate(more)
    assert controller.refill(more, outcome) is None
    assert sorted(controller.settle(more, outcome)) == list(range(int(6 * n_mean)))
    before = controller.ledger.rollouts
    record = controller.observe(more, outcome)
    assert record.values["trained"] == controller.ledger.rollouts - before == 6 * n_mean


def test_a_second_look_weighs_by_what_each_prompt_got() -> None:
    controller = Controller(ControllerConfig.from_dict(LOOK | {"rollout.aggregation": "prompt"}))
    engine, plan = Engine(lambda prompt: int(prompt.split()[1]) / 40), controller.plan(IDS[::7])
    more = controller.refill(plan, engine.generate(plan))
    assert more is not None
    np.testing.assert_allclose(more.weight_P * more.n_P, 4)


def test_a_success_takes_the_place_of_a_rollout_of_the_second_look() -> None:
    config = ControllerConfig.from_dict(LOOK | {"replay.successes": True})
    controller = Controller(config)
    plan = controller.plan(["a", "b"])
    slot_R = np.array([0, 0, 1, 1])
    names = np.array(["a", "b"])

    def outcome(slots: np.ndarray, correct: list[int]) -> Outcome:
        return Outcome(prompt_R=names[slots], slot_R=slots, correct_R=np.array(correct))

    recalled, wanted = controller.recall(plan, outcome(slot_R, [0, 1, 0, 0]))
    assert (recalled, wanted) == ({}, {1: 0})
    controller.remember(plan, {0: Success((7,), (1.0,), plan.step)})
    more = controller.refill(plan, outcome(slot_R, [0, 1, 0, 0]))
    assert more is not None
    slot_R = np.concatenate([slot_R, np.repeat([0, 1], more.n_P - 2)])
    correct = [0, 1, 0, 0] + [0] * 4
    assert controller.recall(more, outcome(slot_R, correct))[0] == {}  # b has no success yet
    controller.observe(more, outcome(slot_R, correct))

    plan = controller.plan(["a", "b"])
    first = np.array([0, 0, 1, 1])
    assert controller.recall(plan, outcome(first, [0] * 4))[0] == {}
    more = controller.refill(plan, outcome(first, [0] * 4))
    assert more is not None
    slot_R = np.concatenate([first, np.repeat([0, 1], more.n_P - 2)])
    recalled, _ = controller.recall(more, outcome(slot_R, [0] * 8))
    (place,) = recalled
    assert place >= 4
    assert slot_R[place] == 0
    assert recalled[place].tokens == (7,)
    assert controller.ledger.replayed == 1


def test_a_second_look_needs_rollouts_that_are_left() -> None:
    with pytest.raises(ConfigError, match=r"rollout\.n_min must be <= 1\.5 with rollout.allocator"):
        Controller(ControllerConfig.from_dict(LOOK), n_mean=2.5)


# -- everyone else ----------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["grpo", "joint", "greso", "mopps", "sec", "adarft", "knapsack"])
def test_methods_that_generate_once_are_ready_and_train_on_everything(preset: str) -> None:
    controller = Controller(ControllerConfig.preset(preset))
    controller.bind(IDS)
    assert controller.rounds == 1
    engine, plan = Engine(lambda _: 0.0), controller.plan(IDS[:4])
    outcome = engine.generate(plan)
    assert controller.refill(plan, outcome) is None
    rows = controller.settle(plan, outcome)
    assert sorted(rows) == list(range(16))
    assert np.all(np.diff(np.asarray(outcome.slot_R)[rows]) >= 0)
    np.testing.assert_array_equal(plan.train_P, plan.n_P)


@pytest.mark.parametrize(
    "policy",
    ["select.policy=dapo", "rollout.allocator=reinforce_ada", "rollout.allocator=second_look"],
)
def test_neutral_is_refused_where_the_outcome_chooses_what_trains(policy: str) -> None:
    path, name = policy.split("=")
    values = {"prompt.weigh": "none", "rollout.allocator": "uniform", path: name}
    config = ControllerConfig.from_dict(values | {"rollout.aggregation": "neutral"})
    with pytest.raises(ConfigError, match=f"must be rollout or prompt with {policy}, got neutral"):
        Controller(config)
