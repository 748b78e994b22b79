"""The controller as a user's own loop sees it: plan, observe, state."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import NAMES, RATES, make, run

from gdro import Controller, ControllerConfig, Outcome
from gdro.core import checkpoint
from gdro.core.errors import BudgetError, CheckpointError, ConfigError, DataError
from gdro.core.presets import PRESETS

VARIANTS = [
    ("grpo", {}), ("prompt", {}), ("rollout", {}), ("joint", {}), ("paper", {}), (None, {}),
    (None, {"prompt.realisation": "sample"}), (None, {"prompt.realisation": "mass"}),
    (None, {"difficulty.source": "column:g"}), (None, {"difficulty.source": "random"}),
    (None, {"prompt.signal": "failure", "prompt.ambiguity": "cvar"}),
    (None, {"prompt.signal": "learnability", "prompt.ambiguity": "chi_square"}),
    ("rollout", {"rollout.allocator": "neyman", "rollout.aggregation": "prompt"}),
    ("rollout", {"rollout.allocator": "signal", "rollout.aggregation": "neutral"}),
    ("rollout", {"rollout.allocator": "exp3p"}),
    (None, {"difficulty.level_column": "l"}),
    (None, {"difficulty.memory": "all", "difficulty.binning": "interval"}),
    ("grpo", {"prompt.weigh": "per_prompt"}), (None, {"prompt.weigh": "pass_at_k"}),
    ("rollout", {"rollout.allocator": "progress"}),
    ("grpo", {"rollout.allocator": "knapsack"}), ("grpo", {"select.policy": "greso"}),
    ("grpo", {"select.policy": "mopps"}), (None, {"select.policy": "sec"}),
    ("grpo", {"select.policy": "adarft"}),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "changes"), VARIANTS)
def test_a_run_keeps_its_promises(preset: str, changes: dict[str, Any]) -> None:
    """Exact budget within bounds, finite positive weights, a mean of 1 over what is averaged."""
    controller = make(changes, preset)
    config = controller.config
    for step, (plan, record) in enumerate(run(controller, 30)):
        assert plan.step == step == record.values["step"]
        assert plan.n_P.dtype == np.int64
        assert plan.n_P.sum() == 80
        assert plan.n_P.min() >= config.rollout.n_min
        assert plan.n_P.max() <= config.rollout.n_max
        assert np.isfinite(plan.weight_P).all()
        assert (plan.weight_P > 0).all()
        if config.prompt.normalize == "mean":
            units = plan.n_P if config.rollout.aggregation == "rollout" else np.ones(20)
            assert np.average(plan.adversary_P, weights=units) == pytest.approx(1)
        values = record.values
        assert sum(values["rollouts_B"]) + values["unseen_rollouts"] == 80
        assert sum(values["prompts_B"]) + values["unseen_prompts"] == 20
    if preset == "grpo" and not changes:
        assert (plan.n_P == 4).all()
        assert (plan.weight_P == 1.0).all()


@pytest.mark.parametrize(("preset", "changes"), VARIANTS)
def test_state_through_a_file_continues_the_run(
    preset: str, changes: dict[str, Any], tmp_path: Any
) -> None:
    whole = make(changes, preset)
    run(whole, 12)
    checkpoint.save(tmp_path / "c.npz", whole.state_dict(), fingerprint=whole.fingerprint)
    resumed = make(changes, preset, seed=99)
    resumed.load_state_dict(checkpoint.load(tmp_path / "c.npz", fingerprint=resumed.fingerprint))
    for (one, a), (other, b) in zip(run(whole, 8, seed=5), run(resumed, 8, seed=5), strict=True):
        assert one.step == other.step
        for name in ("prompt_P", "bin_P", "n_P", "weight_P"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_equal(a.values, b.values)


def test_a_state_of_another_data_set_is_refused() -> None:
    controller = make()
    state = controller.state_dict()
    other = Controller()
    other.bind(NAMES[:50])
    with pytest.raises(CheckpointError, match="60 rows, this one has 50"):
        other.load_state_dict(state)
    renamed = Controller()
    renamed.bind(np.char.add(NAMES, "x"))
    with pytest.raises(CheckpointError, match="other prompt ids"):
        renamed.load_state_dict(state)
    reordered = make({"prompt.realisation": "sample"})
    order = np.random.default_rng(0).permutation(len(NAMES))
    shuffled = Controller(reordered.config)
    shuffled.bind(NAMES[order])
    run(reordered, 5)
    shuffled.load_state_dict(reordered.state_dict())
    bins = reordered.difficulty.bin_P(reordered.pool.rows_N)
    np.testing.assert_array_equal(shuffled.difficulty.bin_P(shuffled.pool.rows_N), bins[order])
    np.testing.assert_array_equal(shuffled.pool.visits_N, reordered.pool.visits_N[order])
    assert reordered.pool.visits_N.max() > reordered.pool.visits_N.min()


def test_a_record_does_not_change_with_the_run() -> None:
    """Its numbers are worked out when they are read, from what was then."""
    now, later = make(), make()
    read = [dict(record.values) | record.metrics for _, record in run(now, 12)]
    kept = [record for _, record in run(later, 12)]
    np.testing.assert_equal([dict(r.values) | r.metrics for r in kept], read)


def test_unseen_prompts_are_neutral() -> None:
    """Method D4; the release counts them as hardest."""
    controller = make()
    first = controller.plan(NAMES[:10])
    assert (first.bin_P == -1).all()
    assert (first.n_P == 4).all()
    assert (first.weight_P == 1.0).all()
    run(controller, 20)
    rows = np.append(NAMES[:19], "new")
    plan = controller.plan(rows)
    assert plan.bin_P[-1] == -1
    assert plan.n_P[-1] == 4
    assert plan.weight_P[-1] == 1.0
    assert plan.n_P.max() > 4


def test_bins_are_those_of_the_prompts_of_the_step() -> None:
    """Method D15; the release applied the previous batch's bins by position."""
    controller = make()
    run(controller, 30)
    forward, back = controller.plan(NAMES[:20]), controller.plan(NAMES[:20][::-1])
    np.testing.assert_array_equal(forward.bin_P, back.bin_P[::-1])
    np.testing.assert_allclose(forward.weight_P.sum(), back.weight_P.sum())


def test_feedback_goes_to_the_right_prompt() -> None:
    """Shuffled rollouts teach the same; the release matched losses to reordered rows."""
    sorted_rows, shuffled = make(), make()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        ids = rng.permutation(NAMES)[:20]
        one, other = sorted_rows.plan(ids), shuffled.plan(ids)
        np.testing.assert_array_equal(one.n_P, other.n_P)
        prompt_R = np.repeat(ids, one.n_P)
        correct_R = rng.random(len(prompt_R)) < 0.4
        sorted_rows.observe(one, Outcome(prompt_R=prompt_R, correct_R=correct_R))
        order = rng.permutation(len(prompt_R))
        shuffled.observe(other, Outcome(prompt_R=prompt_R[order], correct_R=correct_R[order]))
    np.testing.assert_equal(sorted_rows.state_dict(), shuffled.state_dict())


@given(split=st.integers(1, 19), late=st.booleans())
@settings(max_examples=25, deadline=None)
def test_parts_and_late_outcomes(split: int, late: bool) -> None:
    """Disjoint parts of a plan count once each, and may come after the next plan."""
    controller, whole = make(), make()
    plan, same = controller.plan(NAMES[:20]), whole.plan(NAMES[:20])
    slot_R = np.repeat(np.arange(20), plan.n_P)
    correct_R = (slot_R % 3 == 0).astype(float)
    whole.observe(same, Outcome(prompt_R=NAMES[slot_R], correct_R=correct_R))
    if late:
        controller.plan(NAMES[20:40])
    for part in (slot_R < split, slot_R >= split):
        controller.observe(plan, Outcome(prompt_R=NAMES[slot_R[part]], correct_R=correct_R[part]))
    rows = controller.difficulty.rows(NAMES[:20])
    for mine, theirs in zip(
        controller.difficulty.evidence(rows), whole.difficulty.evidence(rows), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("memory", ["discounted", "window", "all"])
def test_counts_depend_on_the_order_of_a_prompts_own_outcomes_alone(memory: str) -> None:
    def counts(order: tuple[int, ...]) -> list[list[float]]:
        controller = make({"difficulty.memory": memory, "difficulty.window": 2})
        plans = [controller.plan(ids) for ids in (["p0", "p1"], ["p0"], ["p1"], ["p0"])]
        for step in order:
            ids = np.repeat(plans[step].prompt_P, plans[step].n_P)
            correct_R = np.arange(len(ids)) < step
            controller.observe(plans[step], Outcome(prompt_R=ids, correct_R=correct_R))
        evidence = controller.difficulty.evidence(controller.difficulty.rows(["p0", "p1"]))
        return [x.tolist() for x in evidence]

    assert counts((0, 1, 2, 3)) == counts((0, 2, 1, 3)) == counts((0, 1, 3, 2))
    assert (counts((0, 1, 2, 3)) == counts((3, 2, 1, 0))) == (memory == "all")


def test_steps_observed_is_one_past_the_last_plan_with_an_outcome() -> None:
    controller = make()
    assert controller.steps_observed == 0
    plans = [controller.plan(NAMES[:2]) for _ in range(3)]
    for step, expected in ((1, 2), (0, 2), (2, 3)):
        ids = np.repeat(NAMES[:2], plans[step].n_P)
        controller.observe(plans[step], Outcome(prompt_R=ids, correct_R=np.ones(len(ids))))
        assert controller.steps_observed == expected


def test_a_second_outcome_is_refused_and_counted() -> None:
    controller = make()
    plan = controller.plan(NAMES[:20])
    ids = np.repeat(NAMES[:20], plan.n_P)
    part = Outcome(prompt_R=ids[:40], correct_R=np.ones(40))
    controller.observe(plan, part)
    before = controller.difficulty.state_dict()
    with pytest.warns(UserWarning, match="10 slots had an outcome"):
        controller.observe(plan, part)
    np.testing.assert_equal(controller.difficulty.state_dict()["memory"], before["memory"])
    controller.observe(plan, Outcome(prompt_R=ids[40:], correct_R=np.ones(40)))
    with pytest.raises(DataError, match="plan 0, which is not among"):
        controller.observe(plan, part)


def test_a_plan_of_another_controller_is_refused() -> None:
    one, other = make(), make()
    plan, _ = one.plan(NAMES[:2]), other.plan(NAMES[2:4])
    before = other.state_dict()
    with pytest.raises(DataError, match="plan 0 of this controller has other prompts"):
        other.observe(plan, Outcome(prompt_R=["p0"], correct_R=[1]))
    np.testing.assert_equal(other.state_dict(), before)


def test_what_is_wrong_with_an_outcome() -> None:
    controller = make()

    def refuse(match: str, **outcome: Any) -> None:
        plan = controller.plan(NAMES[:2])
        with pytest.raises(DataError, match=match):
            controller.observe(plan, Outcome(**outcome))

    refuse("correct_R must be 0 or 1, got 0.5 at rollout 1", prompt_R=["p0", "p1"],
           correct_R=[1, 0.5])  # fmt: skip
    refuse("correct_R must be 0 or 1, got nan", prompt_R=["p0"], correct_R=[np.nan])
    refuse("one entry per rollout, 2, got", prompt_R=["p0", "p1"], correct_R=[1])
    refuse("loss_R must have one entry", prompt_R=["p0"], correct_R=[1], loss_R=[1, 2])
    refuse("'p9', which is not in the plan", prompt_R=["p9"], correct_R=[1])
    refuse("slot of the plan is of 'p1'", prompt_R=["p0"], correct_R=[1], slot_R=[1])
    refuse("slot_R must lie in 0 .. 1", prompt_R=["p0"], correct_R=[1], slot_R=[2])
    refuse("5 rollouts of slot 0 came back, the plan has 4", prompt_R=["p0"] * 5,
           correct_R=np.ones(5))  # fmt: skip
    for tokens in (-1, np.nan):
        refuse("tokens_R must be >= 0", prompt_R=["p0"], correct_R=[1], tokens_R=[tokens])
    plan = controller.plan(["p0", "p0"])
    with pytest.raises(DataError, match="twice in the plan: give slot_R"):
        controller.observe(plan, Outcome(prompt_R=["p0"], correct_R=[1]))
    controller.observe(
        plan, Outcome(prompt_R=["p0"] * 8, correct_R=np.ones(8), slot_R=np.repeat([0, 1], 4))
    )
    for wrong, match in (
        ({"padding_rollouts": -100}, "padding_rollouts must be >= 0, got -100"),
        ({"padding_tokens": -1}, "padding_tokens must be >= 0, got -1"),
        ({}, "surrogate needs a finite loss_R"),
        ({"loss_R": [np.nan]}, "surrogate needs a finite loss_R"),
        ({"loss_R": [0.1], "tokens_R": [1, 2]}, "tokens_R must have one entry"),
    ):
        surrogate = make({"prompt.signal": "surrogate"})
        plan = surrogate.plan(NAMES[:2])
        before = surrogate.state_dict()
        with pytest.raises(DataError, match=match):
            surrogate.observe(plan, Outcome(prompt_R=["p0"], correct_R=[1], **wrong))
        np.testing.assert_equal(surrogate.state_dict(), before)  # a mended call may follow
        surrogate.observe(plan, Outcome(prompt_R=["p0"], correct_R=[1], loss_R=[0.1]))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"prompt.signal": "surrogate"}, r"prompt\.signal=surrogate needs a finite loss_R"),
        ({"prompt.signal": "surrogate", "select.policy": "sample", "prompt.weigh": "none"},
         r"prompt\.signal=surrogate needs a finite loss_R"),
        ({"rollout.allocator": "exp3p", "rollout.utility": "surrogate"},
         r"rollout\.utility=surrogate needs a finite loss_R"),
        ({"rollout.proxy": "loss"}, r"rollout\.proxy=loss needs a finite loss_R"),
        ({"rollout.proxy": "score"}, r"rollout\.proxy=score needs a finite score_R"),
    ],
)  # fmt: skip
def test_an_outcome_without_what_the_configuration_needs_is_refused(
    changes: dict[str, Any], what: str
) -> None:
    controller = make(changes)
    plan = controller.plan(NAMES[:2])
    for missing in (None, [np.nan]):
        with pytest.raises(DataError, match=what):
            controller.observe(
                plan, Outcome(prompt_R=["p0"], correct_R=[1], loss_R=missing, score_R=missing)
            )


def test_what_is_wrong_with_a_plan() -> None:
    with pytest.raises(ConfigError, match=r"n_mean must be within .* 2 .. 12, got 16"):
        Controller(n_mean=16)
    with pytest.raises(BudgetError, match="positive integer, got 3 prompts x 4.5"):
        Controller(n_mean=4.5).plan(["a", "b", "c"])
    assert Controller(n_mean=4.5).plan(["a", "b"]).n_P.sum() == 9
    assert Controller(n_mean=4.1).plan(list(range(30))).n_P.sum() == 123  # 122.99999999999999
    with pytest.raises(DataError, match="must be a list or an array, got str"):
        Controller().plan("abc")
    for column, match in (
        ("prior", "prior_column"),
        ("level", "level_column"),
        ("group", "source"),
    ):
        with pytest.raises(ConfigError, match=rf"bind\({column}=...\) and difficulty.{match}"):
            Controller().bind(["a"], **{column: [0.5]})
    with pytest.raises(ConfigError, match="go together"):
        Controller(ControllerConfig.from_dict({"difficulty.prior_column": "rate"})).bind(["a"])
    rated = Controller(ControllerConfig.from_dict({"difficulty.prior_column": "rate"}))
    with pytest.raises(DataError, match="prior has 1 entries for 2 prompts"):
        rated.bind(["a", "b"], prior=[0.5])
    with pytest.raises(BudgetError, match="got 0 prompts"):
        Controller().plan([])
    with pytest.raises(ConfigError, match=r"select needs the data set: call bind"):
        Controller().select(4)
    with pytest.raises(DataError, match="a step takes 61 prompts, the data set has 60 rows"):
        make({"prompt.realisation": "sample"}).select(61)
    with pytest.raises(DataError, match="has no group"):
        make({"difficulty.source": "column:g"}).plan(["stranger"])
    with pytest.raises(DataError, match="must be distinct"):
        Controller().bind(["a", "a"])


@pytest.mark.parametrize("ids", [["a", "b"], [3, 5]])
def test_ids_in_an_array_of_objects_are_what_they_hold(ids: list, tmp_path: Any) -> None:
    given, plain = Controller(), Controller()
    plan = given.plan(np.array(ids, object))
    assert np.array_equal(plan.prompt_P, plain.plan(ids).prompt_P)
    checkpoint.save(tmp_path / "s.npz", given.state_dict() | {"plan": plan.state_dict()},
                    fingerprint="f")  # fmt: skip
    outcome = Outcome(prompt_R=np.array(ids, object)[plan.slot_R], correct_R=np.ones(8))
    given.observe(plan, outcome)
    assert given.difficulty.evidence(np.arange(2))[0].tolist() == plan.n_P.tolist()


@pytest.mark.parametrize("ids", [np.array([0, 1]), np.array(["a", "b"]), [0, 1]])
def test_a_plan_keeps_its_ids_whatever_becomes_of_the_array(ids: Any) -> None:
    controller, before = Controller(), list(ids)
    plan = controller.plan(ids)
    ids[:] = ids[::-1]
    assert list(plan.prompt_P) == before
    prompt_R = np.asarray(before)[plan.slot_R]
    controller.observe(plan, Outcome(prompt_R=prompt_R, correct_R=np.zeros(8)))


def test_a_fingerprint_depends_on_the_value_of_n_mean_and_not_on_its_type() -> None:
    config = ControllerConfig.preset("grpo")
    as_before = checkpoint.fingerprint(config.to_dict() | {"n_mean": 4, "std_scaled": True})
    for n_mean in (4, 4.0, np.int64(4), np.float32(4)):
        assert Controller(config, n_mean=n_mean).fingerprint == as_before
    half = [Controller(config, n_mean=n) for n in (2.5, np.float64(2.5), np.float32(2.5))]
    assert len({controller.fingerprint for controller in half}) == 1
    assert half[0].fingerprint != as_before


def test_same_seed_same_plans() -> None:
    for preset in PRESETS:
        for (one, _), (other, _) in zip(
            run(make(preset=preset), 15), run(make(preset=preset), 15), strict=True
        ):
            np.testing.assert_array_equal(one.n_P, other.n_P)
            np.testing.assert_array_equal(one.weight_P, other.weight_P)


def test_rates_known_beforehand_place_prompts_before_their_first_visit() -> None:
    controller = Controller(ControllerConfig.from_dict({"difficulty.prior_column": "rate"}))
    controller.bind(NAMES, prior=list(RATES))
    plan = controller.plan(NAMES)
    assert (plan.bin_P >= 0).all()
    order = np.argsort(RATES)
    assert (np.diff(plan.bin_P[order]) >= 0).all()
    assert (np.diff(plan.n_P[order]) <= 0).all()
    assert plan.n_P.max() > plan.n_P.min()


def test_import_is_cheap() -> None:
    """`import gdro` loads no engine (and takes <= .1 s over NumPy: benchmarks/controller.py)."""
    engines = "('torch', 'trl', 'scipy', 'datasets')"
    code = f"import sys, gdro; print([m for m in {engines} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
