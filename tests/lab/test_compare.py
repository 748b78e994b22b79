"""Comparisons: what is run with what, and what is made of it."""

import io
import json
import subprocess
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gdro.core.errors import ConfigError, DataError
from gdro.core.files import write_json
from gdro.lab.compare import plan as lab
from gdro.lab.compare.analyse import analyse
from gdro.lab.compare.command import write_results
from gdro.lab.compare.gather import FILES, last_step, read_raw
from gdro.lab.compare.plan import SuitePlan, compare
from gdro.lab.compare.study import parse_grid, study_of
from gdro.lab.compare.table import console_tables
from gdro.lab.evaluator import UNSAID, evaluate_base
from gdro.lab.folder import RunFolder, append_jsonl
from gdro.lab.processes import Job, RunError, run_jobs
from gdro.lab.recipe import read_settings, resolve

FLAGS = [
    "--max_steps=4", "--train_prompts=8", "--eval_prompts=12", "--eval_k=4",
    "--save_strategy=no", "--per_device_train_batch_size=32",
]  # fmt: skip


def make_study(flags=FLAGS, **changes):
    given = {"methods": ["grpo", "joint"], "seeds": [0, 1], "grid": {"learning_rate": [1e-5, 3e-3]}}
    return study_of("study", given | changes, flags)


@pytest.fixture
def here(monkeypatch):
    """Runs in this process, noted; a process each would take most of a minute."""
    from gdro.lab.run import train

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes have
    ran = []

    def run_here(jobs, **_):
        for job in jobs:
            if not job.folder.finished:
                ran.append((job.name, job.settings))
                train(resolve(job.settings), resume=True, console=Console(quiet=True))

    monkeypatch.setattr(lab, "run_jobs", run_here)
    yield ran
    torch.set_num_threads(threads)


def test_a_comparison(tmp_path, here, monkeypatch):
    console = Console(width=140, record=True, file=io.StringIO())
    flags = (*FLAGS, "--eval_every=2")
    study = make_study(flags, contrasts={"gain": {"joint": 1, "grpo": -1}})
    compare(study, tmp_path, console=console)
    tuning = [(name, s) for name, s in here if "/grid/" in name]
    tests = [(name, s) for name, s in here if "/runs/" in name]
    assert len(tuning) == len(tests) == 4
    # The tested split is not looked at while tuning; every method gets the same grid.
    assert {s["dataset_test_split"] for _, s in tuning} == {"validation"}
    assert {s.get("dataset_test_split") for _, s in tests} == {"test"}
    results = write_results(tmp_path / "results", console)
    block = results["suites"]["arithmetic"]
    for method in ("grpo", "joint"):
        points = [s["learning_rate"] for _, s in tuning if s["gdro_preset"] == method]
        assert points == [1e-5, 3e-3]
        found = block["methods"][method]
        best = max(found["tuning"], key=lambda row: (row["pass@4"], row["mean@4"]))
        assert found["values"] == best["values"]
        used = {s["learning_rate"] for _, s in tests if s["gdro_preset"] == method}
        assert used == {best["values"]["learning_rate"]}
        assert found["rollouts"] == found["trained"] == [4 * 32] * 2
        assert found["trained_tokens"] == found["tokens"]
        assert found["curve"]["rollouts"] == [0, 64, 128]
    assert block["equal_rollouts"]
    scores = {m: block["methods"][m]["pass@4"] for m in ("joint", "grpo")}
    gap = sum(a - b for a, b in zip(scores["joint"], scores["grpo"], strict=True)) / 2
    for found in (block["methods"]["joint"], block["contrasts"]["gain"]):
        assert found["difference"]["pass@4"]["mean"] == pytest.approx(gap)
    # All that is said comes from the three raw files; the same runs give the same bytes.
    folder, copy = tmp_path / "results", tmp_path / "copy"
    copy.mkdir()
    for name in FILES:
        (copy / name).write_bytes((folder / name).read_bytes())
    write_results(copy, console)
    for name in ("results.json", "results.md", "gains.svg", "gains.png", "curves.svg"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes(), name
    page = (folder / "results.md").read_text()
    for words in ("| base |", "paired over 2 seeds", "by family", "### Contrasts"):
        assert words in page
    # The base was evaluated once, and every run took it over.
    runs = (tmp_path / "arithmetic" / "runs").glob("*/evals.jsonl")
    assert len({path.open().readline() for path in runs}) == 1

    # What is finished is not run again, although the best point is not the first.
    here.clear()
    monkeypatch.setattr(lab, "best_points", lambda rows: {"grpo": 1, "joint": 1})
    other = tmp_path / "other"
    compare(study, other, console=console)
    here.clear()
    more = make_study(flags, seeds=[0, 1, 2])
    compare(more, other, console=console)
    assert [name[-10:] for name, _ in here] == ["grpo-seed2", "oint-seed2"]
    with pytest.raises(ConfigError, match="holds a run with max_steps = 4, got 5"):
        compare(make_study((*flags, "--max_steps", "5")), other, console=console)
    block["equal_rollouts"] = False
    block["methods"]["joint"]["rollouts"] = [8 * 32] * 2
    for table in console_tables(block):
        console.print(table)
    assert "NOT EQUAL COMPUTE: rollouts of grpo times joint 2.00x" in console.export_text()
    raw = read_raw(folder)
    of = {("grpo", False): (150, 0.4), ("grpo", True): (200, 0.5),
          ("joint", False): (100, 0.2), ("joint", True): (300, 0.6)}  # fmt: skip
    for row in raw.runs:
        if row["phase"] == "test":
            row["tokens"], row["pass"] = of[row["method"], row["last"]]
        if row["method"] == "joint" and row["phase"] == "test" and row["last"]:
            row["rollouts"] = 129
    block = analyse(raw)["suites"]["arithmetic"]
    assert block["equal_rollouts"]
    found = block["methods"]["joint"]["at_tokens"]["pass@4"]
    assert found["mean"] == pytest.approx(0.4 - 0.5)  # half way between 100 and 300 tokens
    assert found["relative"]["mean"] == pytest.approx(-0.2)
    about = json.loads((folder / FILES[2]).read_text())
    write_json(folder / FILES[2], {k: v for k, v in about.items() if k != "methods"})
    with pytest.raises(DataError, match=r"study\.json: lacks methods"):
        read_raw(folder)
    write_json(folder / FILES[2], about)
    raw.runs[:] = [row for row in raw.runs if row["phase"] != "base"]
    with pytest.raises(DataError, match="lacks the base model of arithmetic"):
        analyse(raw)
    (folder / FILES[0]).unlink()
    with pytest.raises(DataError, match=r"no runs\.parquet"):
        read_raw(folder)


def test_a_mistake_shows_before_anything_runs(tmp_path, here):
    quiet = Console(quiet=True)

    def run(flags=FLAGS, **changes):
        compare(make_study(flags, **changes), tmp_path, console=quiet)

    with pytest.raises(ConfigError, match="learning_rat is unknown"):
        run(grid=parse_grid(["learning_rat=1,2"]))
    with pytest.raises(ConfigError, match="tuning would look at the tested prompts"):
        run(grid_split="test")
    with pytest.raises(ConfigError, match="judged with max_new_tokens = 20, the suite says 12"):
        run(methods={"grpo": {}, "long": {"gdro_preset": "grpo", "max_completion_length": 20}})
    for setting, said in (
        ({"verify_tolerance": 0.5}, "verify_tolerance = 0.5, the suite says 0.0"),
        ({"correct_func": "numeric"}, "correct_func = .*numeric.*, the suite says"),
        ({"gdro_replay_successes": True, "gdro_select_policy": "dapo"}, "replay.successes must be"),
        ({"gdro_rollout_allocator": "fixed", "gdro_rollout_quotas": [1, 2]}, "rollout.quotas must"),
        ({"dataset_train_split": "test"}, "would train on the prompts that it is judged by"),
    ):
        with pytest.raises(ConfigError, match=said):
            run(methods={"grpo": {}, "other": {"gdro_preset": "grpo"} | setting})
    with pytest.raises(ConfigError, match="a comparison needs eval_after"):
        run((*FLAGS, "--eval_after=false"))
    assert here == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "seeds must be a list of distinct"),
        ({"sedes": [1]}, "sedes is unknown in a study; did you mean seeds"),
        ({"methods": ["grpo", "jiont"]}, "jiont is no preset; did you mean joint"),
        ({"methods": {"../x": "grpo"}}, "must be of letters"),
        ({"suites": {"results": {}}}, "cannot be called results"),
        ({"settings": {"seed": 3}}, "seed is set by the comparison; use seeds"),
        ({"flags": ("--learning_rate=1",)}, "is in the grid too"),
        ({"grid": {"dataset_test_split": ["test"]}}, "judges all its runs alike"),
        (
            {"methods": {"grpo": {"grid": {"num_generations": [2, 4]}}, "joint": None}},
            "same number of points to tune over, got grpo 4, joint 2",
        ),
        ({"contrasts": {"c": {"grpo": 1}}}, "weights must sum to 0"),
        ({"contrasts": ["a"]}, "contrasts must be a mapping"),
        ({"methods": [{"grpo": {}}]}, "methods must be a list of distinct"),
        ({"seeds": [[0]]}, "seeds must be a list of distinct"),
        ({"grid_dataset": ["a"]}, "grid_dataset must be a name"),
        ({"suites": {"a": {"learning_rate": 1}}}, "suites.a: learning_rate is in the grid too"),
        ({"suites": {"a": {"gdro": {"preset": "joint"}}}}, "suites.a: gdro_preset is set by"),
        ({"contrasts": {"c": {"gpro": 1}}}, "gpro is no method; did you mean grpo"),
        ({"grid": {"learning_rate": ["1e-4", 0.0001]}}, "must be a list of distinct"),
        ({"grid": {"gdro_difficulty_edges": ["[0.3]", "[0.3]"]}}, "must be a list of distinct"),
        ({"methods": {"grpo": {"gdro_preset": "gpro"}}}, "gpro is no preset; did you mean grpo"),
        ({"methods": {"a": {"gdro_preset": ["grpo"]}}}, r"gdro_preset \['grpo'\] is no preset"),
        ({"grid_seeds": [1, 9]}, "share 1: a run that was chosen by would be tested"),
        (
            {"settings": {"gdro_rollout_allocator": "hard_first"}},
            "gdro_rollout_allocator=hard_first of all methods would change grpo, whose preset",
        ),
    ],
)
def test_studies_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_study(**changes)


def test_the_recipe_of_a_run_does_not_make_all_methods_that_run(tmp_path):
    """It names every setting of the controller, the method's among them."""
    folder = RunFolder(tmp_path / "run")
    folder.open(resolve(read_settings("arithmetic")).settings, resume=False)
    folder.release()
    with pytest.raises(ConfigError, match=r"suites.run: gdro_\w+=\w+ of all methods would change"):
        make_study(recipe=str(folder.path), methods=["grpo", "replay"], suites={"run": {}})
    bins = make_study(settings={"gdro_difficulty_k": 1}, methods=["grpo", "prompt"])
    assert bins.suites[0].settings["gdro_difficulty_k"] == 1  # which prompt's preset says too
    with pytest.raises(ConfigError, match=r"gdro_difficulty_k=8 .* whose preset prompt has 1"):
        make_study(settings={"gdro_difficulty_k": 8}, methods=["grpo", "prompt"])
    settings = {"gdro_rollout_n_max": 6, "gdro_rollout_allocator": "uniform"}
    own = {"gdro_preset": "rollout", "gdro_rollout_allocator": "neyman"}
    shared = make_study(settings=settings, methods={"grpo": {}, "own": own})
    assert shared.suites[0].settings["gdro_rollout_n_max"] == 6


def test_each_method_has_a_knob_of_its_own(tmp_path):
    methods = {
        "grpo": {"grid": {"num_generations": [2, 4]}},
        "p": {"gdro": {"preset": "rollout"}, "grid": {"gdro_rollout_power": [1, 3]}},
    }
    suites = {"arithmetic": {}, "hard": {"dataset_name": "arithmetic/hard"}}
    study = make_study(methods=methods, suites=suites)
    assert [len(method.points()) for method in study.methods] == [4, 4]
    plan = SuitePlan(study, study.suites[1], tmp_path)
    job = plan.tuning()[-1].job
    assert job.settings["dataset_name"] == "arithmetic/hard"
    assert job.settings["gdro_rollout_power"] == 3
    assert job.name == "hard/grid/p-learning_rate=0.003-gdro_rollout_power=3-seed1000"


@pytest.mark.parametrize("text", ["lr", "lr=", "=1", "lr=1,1"])
def test_grids_are_checked(text):
    with pytest.raises(ConfigError, match="--grid must be NAME=A,B"):
        parse_grid([text])


def test_processes(tmp_path):
    """Two at a time, threads pinned; a failure names its run and its last words."""
    good = read_settings("arithmetic") | dict(flag[2:].split("=") for flag in FLAGS)
    good |= {"output_dir": str(tmp_path / "good"), "eval_before": False}
    bad = good | {"output_dir": str(tmp_path / "bad"), "dataset_name": "gone.jsonl"}
    jobs = [Job(name=x["output_dir"][-4:], settings=x) for x in (good, bad)]
    with pytest.raises(RunError, match=r"/bad failed: .*gone\.jsonl.*bad\.log"):
        run_jobs(jobs, parallel=2, threads=1, console=Console(quiet=True))
    run_jobs(jobs[:1], parallel=2, threads=1, console=Console(quiet=True))
    assert jobs[0].folder.about["threads"] == 1
    assert "Traceback" not in (tmp_path / "bad.log").read_text()


def test_each_run_has_a_device(tmp_path, monkeypatch):
    """Three runs, two devices: a run's folder here is written by a shell that tells its device."""
    popen = subprocess.Popen

    def fake(command, **options):
        folder = Path(command[4]).with_suffix("")
        script = 'mkdir -p $0; echo "{\\"state\\": \\"finished\\", \\"train_seconds\\": 0, '
        script += '\\"device\\": \\"$CUDA_VISIBLE_DEVICES\\"}" > $0/run.json'
        return popen(["sh", "-c", script, str(folder)], **options)

    monkeypatch.setattr("gdro.lab.processes.subprocess.Popen", fake)
    jobs = [Job(name=x, settings={"output_dir": str(tmp_path / x)}) for x in "abc"]
    run_jobs(jobs, parallel=2, threads=1, devices=["3", "5"], console=Console(quiet=True))
    assert [job.folder.about["device"] for job in jobs[:2]] == ["3", "5"]
    assert jobs[2].folder.about["device"] in ("3", "5")


def test_a_run_stops_at_its_rollouts_also_when_resumed(tmp_path):
    """Killed after its end: the resumed run takes no further step."""
    from gdro.lab.run import train

    flags = [*FLAGS[:4], "--per_device_train_batch_size=32", "--max_rollouts=50",
             "--no_eval_before", f"--output_dir={tmp_path / 'run'}"]  # fmt: skip
    recipe = resolve(read_settings("arithmetic"), flags)
    folder = RunFolder(train(recipe, console=Console(quiet=True)))
    assert (folder.about["steps"], folder.about["spent"]["rollouts"]) == (2, 64)
    assert last_step(folder) == 2
    spent = folder.about["spent"]
    folder.update(state="failed", spent=None, steps=None)
    train(recipe, resume=True, console=Console(quiet=True))
    assert (folder.about["steps"], folder.about["spent"]) == (2, spent)


def test_no_flag_points_tuning_at_the_tested_prompts(tmp_path):
    flags = (*FLAGS, "--dataset_test_split=test", "--dataset_test_name=arithmetic", "--eval_before")
    study = make_study([f for f in flags if "dataset_test" in f or f in FLAGS])
    for run in SuitePlan(study, study.suites[0], tmp_path).tuning():
        job, found = run.job, resolve(run.job.settings)
        assert found.training.max_steps == 4  # the flags are in the settings
        assert not hasattr(job, "flags")  # and come nowhere above them
        assert (found.run.dataset_test_split, found.run.eval_before) == ("validation", False)


def test_tuning_needs_another_file_than_the_tested_one(tmp_path):
    tested, other, link = (tmp_path / name for name in ("test.jsonl", "other.jsonl", "link.jsonl"))
    for path in (tested, other):
        path.write_text('{"prompt": "1+1=", "answer": "2"}\n')
    link.symlink_to(tested)
    flags = (*FLAGS, f"--dataset_test_name={tested}")

    def plan(**changes):
        study = make_study(flags, **changes)
        return SuitePlan(study, study.suites[0], tmp_path)

    for given in (None, str(tested), str(link)):
        with pytest.raises(ConfigError, match="tuning would look at the tested prompts"):
            plan(grid_dataset=given)
    plan(grid_dataset=str(other))
    plan(grid={})


def test_the_last_evaluation_is_of_the_last_step(tmp_path):
    folder = RunFolder(tmp_path)
    folder.update(steps=4)
    append_jsonl(folder.evals, {"step": 0})
    with pytest.raises(DataError, match="no evaluation of the last step, 4"):
        last_step(folder)
    append_jsonl(folder.evals, {"step": 4})
    assert last_step(folder) == 4


def test_a_base_evaluation_is_of_this_model_and_these_prompts(tmp_path):
    path, quiet = tmp_path / "base.json", Console(quiet=True)
    settings = read_settings("arithmetic")
    flags = ("--eval_prompts=4", "--eval_k=2", f"--output_dir={tmp_path}")
    recipe = resolve(settings, flags)
    first = evaluate_base(recipe, path, quiet)
    assert evaluate_base(recipe, path, quiet).to_dict() == first.to_dict()
    (tmp_path / "model").mkdir()
    markers = [("--reward_funcs=own.py:right", "correct_func"),
               ("--correct_func=own.py:right", "correct_func"),
               ("--verify_policy=whole", "verify_policy"),
               ("--verify_tolerance=.1", "verify_tolerance"),
               ('--chat_template_kwargs={"a": 1}', "chat_template_kwargs")]  # fmt: skip
    for flag, name in (("--dataset_test_split=validation", "split"), *markers,
                       (f"--model_name_or_path={tmp_path / 'model'}", "model")):  # fmt: skip
        with pytest.raises(DataError, match=f"has {name} = "):
            evaluate_base(resolve(settings, (*flags, flag)), path, quiet)
    plain = json.loads(path.read_text())
    earlier = {k: v for k, v in plain["settings"].items() if k not in UNSAID}
    path.write_text(json.dumps(plain | {"settings": earlier}))
    for flag, _ in markers:  # it does not say who said right
        evaluate_base(resolve(settings, (*flags, flag)), path, quiet)
    path.write_text(json.dumps(plain | {"id_N": ["a", "b", "c", "d"]}))
    with pytest.raises(DataError, match="is of other prompts"):
        evaluate_base(recipe, path, quiet)


def test_steps_are_counted_not_lines(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.steps == 0
    for step in (5, 10):
        append_jsonl(folder.metrics, {"step": step})
    with open(folder.metrics, "a") as file:
        file.write('{"step": 1')  # being written
    assert folder.steps == 10
