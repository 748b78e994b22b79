"""The simulator: exact budgets, the real controller, known parameters found."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gdro.cli import main
from gdro.core.config import ControllerConfig
from gdro.core.errors import ConfigError, DataError
from gdro.core.presets import PRESETS
from gdro.core.trace import read_trace
from gdro.lab.folder import append_jsonl
from gdro.lab.settings import from_flags, method
from gdro.lab.simulate import (
    Population,
    Recorded,
    Runs,
    Training,
    calibrate,
    many,
    recorded,
    results,
    simulate,
    variants,
)
from gdro.lab.simulate.calibrate import FITTED, _at

SMALL = Population(
    shares=(0.5, 0.5), rates=(0.5, 0.05), families=2, facts=8, choices=4, train=48, test=40,
    speed=0.3, spread=0.5, slip=0.05, near=0.4, novelty=2.0, gain=0.3, drift=0.04,
)  # fmt: skip
SHORT = Training(steps=8, prompts=12)


def without_time(run):
    return {name: value for name, value in run.items() if name not in ("seconds", "processor")}


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


@pytest.mark.parametrize(
    "change",
    [{"prompt.eta": 3.0}, {"prompt.beta": 0.5}, {"rollout.bandit_eta": 3.0},
     {"rollout.bandit_beta": 0.5}, {"rollout.price_alpha": 0.5}],
)  # fmt: skip
def test_on_policy_no_rate_of_the_papers_preset_acts(change):
    """Its surrogate is zero there (method D6); only what tells prompts apart is left."""
    training = replace(SHORT, steps=40)
    plain, changed = (simulate(method("paper", c), SMALL, training, 0) for c in ({}, change))
    assert without_time(plain) == without_time(changed)
    bins = simulate(method("paper", {"difficulty.bins": 3}), SMALL, training, 0)
    assert without_time(plain) != without_time(bins)


def test_weights_change_what_is_learnt_and_nothing_else():
    changes = ({}, {"prompt.weigh": "gdro"})
    runs = [simulate(method("grpo", c), SMALL, SHORT, 0) for c in changes]
    assert runs[0]["rollouts"] == runs[1]["rollouts"]
    assert runs[0]["reward"][0] == runs[1]["reward"][0]  # before any update
    assert runs[0]["after"] != runs[1]["after"]


def test_a_constant_for_the_steps_tokens_changes_the_scale_of_steps_alone():
    """Which the first update of Adam does not see, and later ones do."""
    for steps, same in ((1, True), (8, False)):
        after = [
            simulate(method("grpo", {}), SMALL, replace(SHORT, steps=steps, loss=loss), 0)["after"]
            for loss in ("dapo", "dr_grpo")
        ]
        assert (after[0]["mean@8"] == pytest.approx(after[1]["mean@8"], abs=1e-6)) is same


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


def test_the_scores_of_others_count_as_differences_from_the_configuration_of_most_runs():
    training = Training(steps=4, prompts=12)

    def error(shift, other_shift):
        runs = []
        for name, seeds, by in (("grpo", 3, shift), ("rollout", 2, other_shift)):
            config = method(name, {})
            after = [simulate(config, SMALL, training, seed)["after"] for seed in range(1, 3)]
            mean, passed = (
                tuple(np.mean([a[f"tier_{m}@8"] for a in after], 0) + by) for m in ("mean", "pass")
            )
            runs.append(
                Runs(config=config, training=training, seeds=seeds, mean=mean, passed=passed)
            )
        target = Recorded(
            shares=SMALL.shares, rates=SMALL.rates, train=SMALL.train, test=SMALL.test,
            runs=tuple(runs),
        )  # fmt: skip
        return calibrate(target, SMALL, rounds=0, seeds=1).error

    assert error(0, 0) == pytest.approx(0, abs=1e-9)
    assert error(0.1, 0.1) == pytest.approx(0.1 / np.sqrt(2))  # of the first alone
    assert error(0, 0.1) == pytest.approx(0.1 / np.sqrt(2))
    assert error(0.1, 0) == pytest.approx(0.1)


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
    assert method("rollout", {"rollout.n_max": None}, 5.5).rollout.n_max == 16
    with pytest.raises(ConfigError, match="must be within rollout.n_min .. rollout.n_max = 2 .. 3"):
        method("rollout", {"rollout.n_max": 3})
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


def test_the_command_writes_its_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
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
    said = capsys.readouterr().out
    assert "simulated, not trained" in said
    assert "…" not in said  # no table is cut in a pipe


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
        (["--seeds", "0"], "seeds must be a number of seeds, an integer >= 1, got 0"),
        (["--gdro_preset", "joint"], "--gdro_preset is no flag of this command"),
        (["--calibrate", "x", "--gdro_rollout_power", "3"], "rollout.power is that of the runs"),
        (["--calibrate", "x", "--nonsense", "3"], "no flag of this command"),
        (["--calibrate", "x", "--methods", "grpo"], "methods is that of the runs"),
        (["--calibrate", "x", "--lr", "2"], "lr is that of the runs"),
        (["--rounds", "3"], "--rounds is of --calibrate"),
        (["--lr", "2", "--grid", "lr=1,2"], "grid: lr is given too"),
        (["--grid", "rollout.power=2,2"], "power must have distinct values"),
        (
            ["--grid", "rollout.power=1", "--grid", "gdro_rollout_power=2"],
            "--grid: rollout.power stands twice",
        ),
        (
            ["--grid", "rollout.power=1", "--gdro_rollout_power", "2"],
            "grid: rollout.power is given too",
        ),
        (["--out", __file__], "--out must be a folder"),
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


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("seeds: [0, 1]", "seeds must be a number of seeds"),
        ("seeds: '4'", "seeds must be a number of seeds"),
        ("methods: {hard3: nothing}", "preset must be one of"),
        ("methods: {a: {preset: [1]}}", "methods.a: preset must be a name, got [1]"),
        ("methods: [grpo, grpo]", "methods must be distinct"),
        ("methods: []", "at least one method"),
        ("methods: {a: {preset: grpo, gdro_preset: joint}}", "methods.a: preset stands twice"),
        ("grid: {difficulty.edges: [[0.3], [0.3]]}", "difficulty.edges must have distinct values"),
        (
            "{grid: {rollout.power: [1]}, methods: {grpo: , mopps: {rollout.power: 2}}}",
            "methods.mopps: rollout.power is in the grid too",
        ),
        ("methods: grpo,rollout", "methods must be a mapping"),
        ("grid: {rollout.power: 3}", "grid.rollout.power must be a list"),
        ("grid: [1]", "grid must be a mapping"),
        ("population: mine.json", "population must be a mapping"),
        ("sedes: 4", "sedes is unknown in a study file"),
    ],
)
def test_a_mistake_of_a_study_file_is_named(study, message, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(study)
    assert main(["simulate", str(tmp_path / "study.yaml"), "--parallel", "1"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_method_overrules_a_flag_however_either_is_spelt(tmp_path):
    study = {
        "methods": {
            "grpo": None,
            "a": {"gdro_preset": "rollout", "gdro_rollout_power": 3},
            "b": "rollout",
        },
        "steps": 2,
        "prompts": 12,
        "seeds": 1,
        "lr": "5e-1",
        "population": {n: list(v) if isinstance(v, tuple) else v for n, v in vars(SMALL).items()},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    flags = ["--gdro_rollout_power", "1", "--parallel", "1"]
    out = tmp_path / "out"
    assert main(["simulate", str(tmp_path / "study.yaml"), *flags, "--out", str(out)]) == 0
    rows = json.loads((out / "results.json").read_text())["blocks"][0]["methods"]
    assert [rows[name]["values"] for name in "ab"] == [{"rollout.power": 3}, {"rollout.power": 1}]
    assert "Curriculum" not in (out / "results.md").read_text()


def test_equal_compute_is_what_a_comparison_calls_so():
    """A step that generates in rounds ends a little beyond the budget."""
    blocks = variants({"grpo": {}, "dapo": {}}, replace(SHORT, steps=150))
    runs = many(blocks, SMALL, [0])
    block = results(blocks[0], runs[0], [0])
    spent = {name: found["rollouts"][0] for name, found in block["methods"].items()}
    assert 0 < spent["dapo"] / spent["grpo"] - 1 < 0.01
    assert block["equal_rollouts"]
    runs[0][1][0]["rollouts"] *= 2
    assert not results(blocks[0], runs[0], [0])["equal_rollouts"]


def test_runs_with_another_loss_are_another_configuration(tmp_path):
    for name, recipe in {
        "a": {},
        "b": {"loss_type": "dr_grpo"},
        "c": {"loss_type": "bnpo"},
    }.items():
        recorded_run(tmp_path / name, SMALL, replace(SHORT, scale_rewards=name == "a"), 0)
        text = json.dumps({"learning_rate": 1e-3} | recipe)
        (tmp_path / name / "recipe.yaml").write_text(text)
    one, two = recorded([tmp_path / "a", tmp_path / "b"]).runs
    assert (one.training.loss, one.training.scale_rewards) == ("dapo", True)
    assert (two.training.loss, two.training.scale_rewards) == ("dr_grpo", False)
    with pytest.raises(DataError, match="loss_type must be dapo or dr_grpo, got bnpo"):
        recorded([tmp_path / "c"])
    (tmp_path / "c" / "recipe.yaml").write_text("dataset_name: arithmetic\n")
    with pytest.raises(DataError, match="c/recipe.yaml: does not say the learning_rate"):
        recorded([tmp_path / "c"])
