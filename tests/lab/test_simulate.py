"""The simulator: an exact gradient, exact budgets, the real controller, known parameters found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gdro.cli import main
from gdro.core.config import ControllerConfig
from gdro.core.errors import ConfigError, DataError
from gdro.core.presets import PRESETS
from gdro.core.trace import read_trace
from gdro.lab.folder import append_jsonl
from gdro.lab.simulate import (
    Population,
    Recorded,
    Runs,
    Training,
    World,
    calibrate,
    recorded,
    simulate,
    variants,
)
from gdro.lab.simulate.calibrate import FITTED, _at
from gdro.lab.simulate.policy import Look, Policy
from gdro.lab.simulate.run import _advantages
from gdro.lab.simulate.settings import from_flags, method

ROOT = Path(__file__).parents[2]

SMALL = Population(
    shares=(0.5, 0.5), rates=(0.5, 0.05), families=2, facts=8, choices=4, train=48, test=40,
    speed=0.3, spread=0.5, slip=0.05, near=0.4, novelty=2.0, gain=0.3, drift=0.04,
)  # fmt: skip
SHORT = Training(steps=8, prompts=12)


def without_time(run):
    return {name: value for name, value in run.items() if name not in ("seconds", "processor")}


def test_every_tier_starts_at_its_rate():
    world = World(SMALL, 0)
    success_N = Policy(world, 1.0).success(np.arange(len(world.fact_NL)))
    for tier, rate in enumerate(SMALL.rates):
        assert success_N[world.tier_N == tier].mean() == pytest.approx(rate, rel=1e-5)


def test_the_gradient_is_autograds():
    rng, world = np.random.default_rng(0), World(SMALL, 0)
    policy = Policy(world, 1.0)
    policy.odds_FC[:-1] += rng.normal(size=policy.odds_FC[:-1].shape) / 4
    policy.own_NLC += rng.normal(size=policy.own_NLC.shape) / 4
    prompt_P, slot_R = np.arange(6), np.repeat(np.arange(6), 3)
    there_PL = world.slip_NL1[prompt_P, :, 0] > 0
    policy.own_NLC[prompt_P] *= there_PL[..., None]
    look = Look(policy, prompt_P)
    drawn_RL = rng.random((len(slot_R), world.fact_NL.shape[1]))
    choice_RL, weight_R = look.choice(slot_R, drawn_RL), rng.normal(size=len(slot_R))
    weight_R[slot_R == 2] = 0  # a group of one reward
    right_RL = choice_RL == 0
    assert set(np.unique(right_RL)) == {True, False}
    assert (right_RL == look.right(slot_R, drawn_RL)).all()

    start_PLC = policy.odds_FC[world.fact_NL[prompt_P]] + policy.own_NLC[prompt_P]
    odds_PLC = torch.tensor(start_PLC, dtype=torch.float64, requires_grad=True)
    there_RL = torch.tensor(there_PL[slot_R])
    pi = (1 - SMALL.slip) * torch.softmax(odds_PLC[slot_R], -1)
    pi = torch.cat([pi[..., :1], pi[..., 1:] + SMALL.slip / (SMALL.choices - 1)], -1)
    pi_RL = pi.gather(-1, torch.tensor(choice_RL)[..., None])[..., 0]
    log_RL = torch.where(there_RL, pi_RL.log(), 0.0)  # and a step that there is not is right
    assert right_RL[~there_RL.numpy()].all()
    np.testing.assert_allclose(
        look.probability(slot_R, drawn_RL)[there_RL], pi_RL.detach()[there_RL], rtol=1e-4
    )
    (log_RL.sum(1) * torch.tensor(weight_R)).sum().backward()
    assert odds_PLC.grad is not None
    expected_PLC = np.nan_to_num(odds_PLC.grad.numpy())
    expected_PLC[~there_PL] = 0
    live_P, found_PLC = look.gradient(slot_R, drawn_RL, weight_R)
    assert live_P.tolist() == [0, 1, 3, 4, 5]
    np.testing.assert_allclose(found_PLC, expected_PLC[live_P], rtol=1e-3, atol=1e-5)
    assert not len(look.gradient(slot_R, drawn_RL, np.zeros(len(slot_R)))[0])


def test_an_update_is_adams_on_random_features():
    """Of a linear network with many features a fact, and many that the facts of a class share."""
    population, width = replace(SMALL, novelty=1e6, drift=0.0, speed=0.5), 4096
    world, rng = World(population, 0), np.random.default_rng(0)
    policy = Policy(world, 2.0)
    size, length = world.fact_NL.shape

    def directions(count):
        return rng.normal(size=(count, width)) / np.sqrt(width)

    share_K1, near = world.share_K1, population.near
    tiers_TT = np.linalg.cholesky([[1, near], [near, 1]])
    group_KD = (tiers_TT @ directions(len(share_K1)).reshape(-1, 2, width)).reshape(-1, width)
    share_F1, group_FD = (np.repeat(x, population.facts, 0) for x in (share_K1, group_KD))
    fact_FD = np.sqrt(1 - share_F1) * directions(len(share_F1)) + np.sqrt(share_F1) * group_FD
    fact_FD = np.append(fact_FD, np.zeros((1, width)), 0)  # of steps that there are not
    step_NLD = torch.tensor((np.sqrt(world.gain_F1) * fact_FD)[world.fact_NL])
    weights_DC = torch.zeros((width, population.choices), dtype=torch.float64, requires_grad=True)
    rate = 2 * population.speed / np.sqrt(width)
    adam = torch.optim.Adam([weights_DC], rate, betas=(0.0, 0.999), maximize=True)
    moved = []
    for _ in range(60):  # the first updates are of signs, until the second moments even out
        prompt_P = rng.permutation(size)[:12]
        there_PL = world.slip_NL1[prompt_P, :, 0] > 0
        gradient_PLC = rng.normal(size=(12, length, population.choices)).astype(np.float32)
        fact_S = world.fact_NL[prompt_P][there_PL]
        before = policy.odds_FC[fact_S], (step_NLD[prompt_P] @ weights_DC.detach())[there_PL]
        policy.ascend(prompt_P, gradient_PLC)
        adam.zero_grad()
        ((step_NLD[prompt_P] @ weights_DC) * torch.tensor(gradient_PLC)).sum().backward()
        adam.step()
        after = policy.odds_FC[fact_S], (step_NLD[prompt_P] @ weights_DC.detach())[there_PL]
        moved = [np.asarray(y - x).ravel() for x, y in zip(before, after, strict=True)]
    found, expected = moved
    assert np.corrcoef(found, expected)[0, 1] > 0.98
    assert found @ expected / (expected @ expected) == pytest.approx(1, abs=0.15)


def test_what_is_learnt_by_heart_helps_no_other_prompt():
    gains = []
    for novelty in (1e6, 1e-6):
        world = World(replace(SMALL, novelty=novelty, drift=0.0), 0)
        policy, seen, slot_R = Policy(world, 4.0), np.arange(SMALL.train), np.arange(SMALL.train)
        right_RL = np.zeros(world.fact_NL[seen].shape)  # the least number chooses what is right

        def learn(updates, policy=policy, seen=seen, slot_R=slot_R, right_RL=right_RL):
            for _ in range(updates):
                look = Look(policy, seen)
                policy.ascend(*look.gradient(slot_R, right_RL, np.ones(SMALL.train)))
            return np.array(
                [policy.success(seen).mean(), policy.success(policy.world.test_N).mean()]
            )

        first = learn(1)  # what is new of a prompt is never by heart
        gains.append(learn(9) - first)
    (known, known_others), (heart, heart_others) = gains
    assert known_others > 0.8 * known > 0.1
    assert heart > 0.05
    assert abs(heart_others) < 1e-3


def test_half_of_an_update_is_by_heart_after_so_many():
    """A prompt's own part against what its first fact gains."""
    population = replace(SMALL, families=1, novelty=2.0, gain=0.0, drift=0.0)
    world = World(population, 0)
    policy, rng = Policy(world, 1.0), np.random.default_rng(0)
    parts = []
    for _ in range(3):  # 0, 1 and 2 updates before
        gradient_PLC = rng.normal(size=(1, 5, population.choices)).astype(np.float32)
        fact = world.fact_NL[7, 0]
        before = policy.own_NLC[7].copy(), policy.odds_FC[fact].copy()
        policy.ascend(np.array([7]), gradient_PLC)
        first = world.fact_NL[7] == fact
        class_first = world.fact_NL[7] < world.fact_NL.max()
        # K of a fact with itself is 1; with others of its class it is `share`.
        share = world.share_K1[fact // population.facts, 0]
        total_C = gradient_PLC[0][first].sum(0) * (1 - share)
        total_C = total_C + share * gradient_PLC[0][class_first].sum(0)
        own = (policy.own_NLC[7] - before[0])[0] / gradient_PLC[0, 0]
        others = (policy.odds_FC[fact] - before[1]) / total_C
        parts.append(own / (own + others))
    np.testing.assert_allclose(parts[0], 0, atol=1e-4)
    np.testing.assert_allclose(parts[1], 1 / 3, rtol=1e-3)
    np.testing.assert_allclose(parts[2], 1 / 2, rtol=1e-3)


def test_known_facts_change_faster_by_a_power_of_their_odds():
    world = World(replace(SMALL, gain=0.5), 0)
    right_F, tier_F = world.base_FC[:-1, 0], np.arange(len(world.base_FC) - 1) // SMALL.facts % 2
    odds_F = right_F - np.logaddexp.reduce(world.base_FC[:-1, 1:], axis=1)
    easy, hard = (world.gain_F1[:-1, 0][tier_F == tier] for tier in (0, 1))
    apart = odds_F[tier_F == 0].mean() - odds_F[tier_F == 1].mean()
    assert np.log(easy.mean() / hard.mean()) == pytest.approx(0.5 * apart, rel=1e-4)
    assert world.gain_F1[:-1].mean() == pytest.approx(1)
    assert world.gain_F1[-1] == 0


def test_drift_grows_with_the_square_of_the_rate():
    moved = []
    for lr in (1.0, 2.0):
        policy = Policy(World(SMALL, 0), lr)
        before_FC = policy.odds_FC[:-1].copy()
        nothing = np.zeros((0, 5, SMALL.choices), np.float32)
        for _ in range(64):
            policy.ascend(np.zeros(0, np.int64), nothing)
        moved_FC = policy.odds_FC[:-1] - before_FC
        moved.append((moved_FC / np.sqrt(policy.world.gain_F1[:-1])).std())
    assert moved[0] == pytest.approx(SMALL.drift * 8, rel=0.1)
    assert moved[1] == pytest.approx(4 * moved[0], rel=1e-3)


def test_choices_come_as_often_as_the_policy_says():
    world = World(SMALL, 0)
    look, slot_R = Look(Policy(world, 1.0), np.arange(1)), np.zeros(40_000, np.int64)
    drawn_RL = np.random.default_rng(0).random((40_000, world.fact_NL.shape[1]))
    choice_RL = look.choice(slot_R, drawn_RL)
    assert (choice_RL == 0).all(1).mean() == pytest.approx(look.success_N[0], abs=0.01)
    probability_RL = look.probability(slot_R, drawn_RL)
    for choice in range(SMALL.choices):
        at = choice_RL[:, 0] == choice
        assert at.mean() == pytest.approx(probability_RL[at, 0].mean(), abs=0.01)


def test_advantages_are_trls():
    """Ragged groups, in any order."""
    rng = np.random.default_rng(0)
    slot_R = rng.permutation(np.repeat(np.arange(5), [2, 3, 4, 5, 12]))
    reward_R = rng.integers(2, size=slot_R.size).astype(float)
    reward_R[slot_R == 0] = 1
    found_R = _advantages(slot_R, reward_R, 5)
    for slot in range(5):
        group = torch.tensor(reward_R[slot_R == slot])
        expected = (group - group.mean()) / (group.std() + 1e-4)
        np.testing.assert_allclose(found_R[slot_R == slot], expected.numpy(), atol=1e-12)
    unscaled_R = _advantages(slot_R, reward_R, 5, scale=False)
    for slot in range(5):
        group = reward_R[slot_R == slot]
        np.testing.assert_allclose(unscaled_R[slot_R == slot], group - group.mean(), atol=1e-12)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_runs_within_its_budget_and_repeats_itself(name):
    runs = [simulate(method(name, {}), SMALL, SHORT, seed) for seed in (0, 0, 1)]
    assert without_time(runs[0]) == without_time(runs[1]) != without_time(runs[2])
    budget = SHORT.steps * SHORT.prompts * SHORT.n_mean
    spent = runs[0]["rollouts"]
    if name in ("dapo", "reinforce_ada"):  # what a step generates is known when it is over
        assert budget <= spent < budget + 5 * SHORT.prompts * SHORT.n_mean
        assert runs[0]["steps"] < SHORT.steps
    else:
        assert spent == runs[0]["trained"] == budget


def test_weights_change_what_is_learnt_and_nothing_else():
    changes = ({}, {"prompt.weigh": "gdro"})
    runs = [simulate(method("grpo", c), SMALL, SHORT, 0) for c in changes]
    assert runs[0]["rollouts"] == runs[1]["rollouts"]
    assert runs[0]["reward"][0] == runs[1]["reward"][0]  # before any update
    assert runs[0]["after"] != runs[1]["after"]


def test_a_memory_never_adds_rollouts_and_changes_what_is_learnt():
    runs = [simulate(method(name, {}), SMALL, SHORT, 0) for name in ("grpo", "replay")]
    assert runs[0]["rollouts"] == runs[1]["rollouts"]
    assert runs[0]["after"] != runs[1]["after"]


@pytest.mark.parametrize(
    "changes",
    [
        {"rollout.allocator": "hard_first", "rollout.n_min": 4, "rollout.n_max": 4},
        {"prompt.weigh": "gdro", "prompt.eta": 0.0},
        {"rollout.allocator": "hard_first", "rollout.power": 0.0},
    ],
)
def test_a_method_that_decides_as_grpo_learns_as_grpo(changes):
    grpo, same = (simulate(method("grpo", c), SMALL, SHORT, 3) for c in ({}, changes))
    assert same["after"] == grpo["after"]


def test_training_teaches():
    run = simulate(method("grpo", {}), SMALL, replace(SHORT, steps=60), 0)
    assert run["after"]["mean@8"] > run["before"]["mean@8"] + 0.05


def test_columns_are_known_to_the_controller():
    names = {"difficulty.source": "column:family"}, {"difficulty.level_column": "level"}
    for changes in (*names, {"difficulty.prior_column": "rate"}):
        simulate(method("joint", changes), SMALL, SHORT, 0)
    with pytest.raises(ConfigError, match="no column 'subject'"):
        simulate(method("joint", {"difficulty.source": "column:subject"}), SMALL, SHORT, 0)


def recorded_run(folder, population, training, seed):
    """A simulated run in the form of a real one's folder."""
    run = simulate(method("grpo", {}), population, training, seed, folder / "trace.jsonl")
    prompts = round(population.test / population.tiers)
    for step, scores in ((0, run["before"]), (training.steps, run["after"])):
        pairs = zip(scores["tier_mean@8"], scores["tier_pass@8"], strict=True)
        by_level = {
            str(t): {"mean@8": m, "pass@8": p, "prompts": prompts} for t, (m, p) in enumerate(pairs)
        }
        line = {"step": step, "mean@8": scores["mean@8"], "by_level": by_level}
        append_jsonl(folder / "evals.jsonl", line)
    return run


def test_a_recorded_run_reads_as_it_was(tmp_path):
    run = recorded_run(tmp_path, SMALL, SHORT, 0)
    trace = read_trace(tmp_path / "trace.jsonl")
    np.testing.assert_allclose(trace.column("reward"), run["reward"], atol=1e-4)
    np.testing.assert_allclose(trace.column("mixed_fraction"), run["mixed"], atol=1e-4)


def test_calibration_recovers_the_speed_of_learning(tmp_path):
    training = Training(steps=40, prompts=16)
    runs = [tmp_path / str(seed) for seed in (10, 11, 12, 13)]
    for run in runs:
        recorded_run(run, SMALL, training, int(run.name))
    target = recorded(runs)
    assert (target.train, target.test) == (SMALL.train, SMALL.test)
    assert target.shares == pytest.approx(SMALL.shares)
    assert target.rates == pytest.approx(SMALL.rates, abs=0.04)  # of the held-out
    wrong = replace(SMALL, train=99, test=99, shares=(0.9, 0.1), rates=(0.9, 0.8), speed=0.001)
    said = []
    found = calibrate(target, wrong, fit=("speed",), rounds=6, seeds=4, say=said.append)
    assert 0.7 < found.population.speed / SMALL.speed < 1.4
    assert said
    untrained = calibrate(target, wrong, rounds=0, seeds=2)
    assert found.error < 0.06 < untrained.error
    (statistics,) = found.simulated
    left = statistics - target.runs[0].statistics(target.shares)
    assert 0.3 * found.error < np.sqrt((left**2).mean()) < 3 * found.error


def test_recorded_runs_are_kept_and_runs_of_one_configuration_pooled(tmp_path):
    runs = [tmp_path / str(seed) for seed in (0, 1)]
    means = [recorded_run(run, SMALL, SHORT, int(run.name))["after"]["tier_mean@8"] for run in runs]
    target = recorded(runs)
    assert [r.seeds for r in target.runs] == [2]
    assert target.runs[0].mean == pytest.approx(np.mean(means, axis=0))
    file = tmp_path / "recorded.json"
    file.write_text(json.dumps(target.to_dict()))
    assert recorded([file]) == target
    file.write_text("{}")
    with pytest.raises(DataError, match="holds no recorded runs"):
        recorded([file])


def test_scores_without_a_trace_count_as_far_as_they_go():
    grpo, training = method("grpo", {}), Training(steps=40, prompts=16, lr=2.0)
    after = simulate(grpo, SMALL, training, 11)["after"]
    mean, passed = tuple(after["tier_mean@8"]), tuple(after["tier_pass@8"])
    known = Runs(config=grpo, training=training, seeds=1, mean=mean, passed=passed)
    statistics = known.statistics(SMALL.shares)
    np.testing.assert_allclose(statistics, [*mean, np.mean(mean), *passed, np.mean(passed)])
    data = {"shares": SMALL.shares, "rates": SMALL.rates, "train": SMALL.train, "test": SMALL.test}
    found = calibrate(Recorded(**data, runs=(known,)), SMALL, rounds=0, seeds=4)
    assert 0 < found.error < 0.2
    with pytest.raises(DataError, match="2 tiers"):
        Recorded(**data, runs=(replace(known, mean=(0.5,)),))


def test_the_search_begins_in_the_middle_and_stays_within_the_bounds():
    names = tuple(FITTED)
    for place in (0.0, 0.5, 1.0):
        found = vars(_at(SMALL, names, np.full(len(names), place)))
        for name, (low, high, logarithmic) in FITTED.items():
            expected = low * (high / low) ** place if logarithmic else low + place * (high - low)
            assert found[name] == pytest.approx(expected, rel=0.01), name


def test_calibration_needs_evaluations(tmp_path):
    simulate(method("grpo", {}), SMALL, SHORT, 0, tmp_path / "trace.jsonl")
    with pytest.raises(DataError, match="no evaluation after"):
        recorded([tmp_path])


def test_the_default_population_is_the_one_that_was_validated():
    """Its numbers in docs/results are of the defaults."""
    file = ROOT / "docs" / "results" / "simulator" / "results.json"
    assert json.loads(json.dumps(vars(Population()))) == json.loads(file.read_text())["population"]


def test_a_grid_makes_rows_of_settings_and_tables_of_training():
    grid = {"rollout.power": [1.0, 2.0], "lr": [0.5, 1.0]}
    blocks = variants({"grpo": {}, "rollout": {}}, SHORT, grid)
    assert [block.training.lr for block in blocks] == [0.5, 1.0]
    assert [v.name for v in blocks[0].variants] == [
        "grpo",
        "rollout power=1.0",
        "rollout power=2.0",
    ]
    assert blocks[1].variants[2].config.rollout.power == 2.0
    (block,) = variants({"grpo": {}, "rollout": {}}, SHORT, {"difficulty.k": [4], "prompt.k": [4]})
    assert block.variants[1].name == "rollout difficulty.k=4 prompt.k=4"


def test_flags_are_those_of_training():
    preset, changes = from_flags(["--gdro_preset", "rollout", "--gdro-rollout_power=3"])
    assert (preset, changes) == ("rollout", {"rollout.power": 3})
    assert method("rollout", changes).rollout.power == 3.0
    assert method("rollout", {}) == ControllerConfig.preset("rollout")
    with pytest.raises(ConfigError, match="did you mean gdro_rollout_power"):
        from_flags(["--gdro_rollout_powr", "3"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": (0.5, 0.4)}, "sum to 1"),
        ({"rates": (0.5,)}, "one entry per share"),
        ({"near": 1.1}, "<= 1"),
    ],
)
def test_a_population_is_checked(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **change)


def test_the_command_writes_its_tables(tmp_path, capsys):
    study = tmp_path / "study.yaml"
    population = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(SMALL).items()}
    values = {"methods": ["grpo"], "steps": 4, "prompts": 12, "seeds": 3, "population": population}
    study.write_text(json.dumps(values))
    flags = ["--methods", "grpo,replay", "--parallel", "1", "--out", str(tmp_path / "out")]
    assert main(["simulate", str(study), *flags]) == 0
    block = json.loads((tmp_path / "out" / "results.json").read_text())["blocks"][0]
    assert block["equal_rollouts"]
    assert block["seeds"] == [0, 1, 2]
    assert block["methods"]["replay"]["difference"]["pass@8"]["pairs"] == 3
    assert "| replay |" in (tmp_path / "out" / "results.md").read_text()
    assert "simulated, not trained" in capsys.readouterr().out


def test_the_command_calibrates(tmp_path, capsys):
    recorded_run(tmp_path / "run", SMALL, SHORT, 0)
    out, flags = tmp_path / "out", ["--rounds", "0", "--parallel", "1"]
    assert main(["simulate", "--calibrate", str(tmp_path / "run"), "--out", str(out), *flags]) == 0
    file = str(out / "recorded.json")
    assert main(["simulate", "--calibrate", file, "--out", str(tmp_path / "again"), *flags]) == 0
    first, again = ((tmp_path / f / "population.json").read_text() for f in ("out", "again"))
    assert first == again
    assert json.loads(first)["train"] == SMALL.train
    assert "missed by" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "grpo,nothing"], "preset must be one of"),
        (["--methods", "grpo,grpo"], "must be distinct"),
        (["--seeds", "0"], "--seeds must be >= 1"),
        (["--equal", "tokens"], "training.equal must be one of"),
        (["--grid", "rollout.powr=1"], "did you mean rollout.power"),
        (["--prompts", "5000"], "training.prompts must be <="),
        (["--population", "nowhere.json"], "cannot be read"),
        (["--speed", "3"], "no flag of this command"),
    ],
)
def test_a_mistake_is_named(flags, message, capsys):
    assert main(["simulate", "--parallel", "1", *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
