"""Comparisons: what is run with what, and what is made of it."""

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from gdro.core.errors import ConfigError, DataError
from gdro.lab import compare as lab
from gdro.lab.compare import Study, compare, parse_grid
from gdro.lab.evaluator import evaluate_base
from gdro.lab.folder import RunFolder, append_jsonl
from gdro.lab.processes import Job, RunError, _steps_done, run_jobs
from gdro.lab.progress import ProgressLine
from gdro.lab.recipe import read_settings, resolve
from gdro.lab.table import console_tables

FLAGS = [
    "--max_steps=4", "--train_prompts=8", "--eval_prompts=12", "--eval_k=4",
    "--save_strategy=no", "--per_device_train_batch_size=32",
]  # fmt: skip


def make_study(out: Path, **changes) -> Study:
    given = {
        "recipe": "arithmetic", "settings": read_settings("arithmetic"), "flags": tuple(FLAGS),
        "methods": ("grpo", "joint"), "seeds": (0, 1),
        "grid": {"learning_rate": ("1e-5", "3e-3")}, "out": out,
    }  # fmt: skip
    return Study(**given | changes)


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


def test_a_comparison(tmp_path, here):
    console = Console(width=100, record=True)
    study = make_study(tmp_path)
    results = compare(study, console)
    tuning = [(name, s) for name, s in here if name.startswith("grid/")]
    tests = [(name, s) for name, s in here if name.startswith("runs/")]
    assert len(tuning) == len(tests) == 4
    # The tested split is not looked at while tuning; every method gets the same grid.
    assert {s["dataset_test_split"] for _, s in tuning} == {"validation"}
    assert {s.get("dataset_test_split") for _, s in tests} == {"test"}
    for method in study.methods:
        points = [s["learning_rate"] for _, s in tuning if s["gdro_preset"] == method]
        assert points == ["1e-5", "3e-3"]
        found = results["methods"][method]
        best = max(found["tuning"], key=lambda row: (row["pass@4"], row["mean@4"]))
        assert found["values"] == best["values"]
        used = {s["learning_rate"] for _, s in tests if s["gdro_preset"] == method}
        assert used == {best["values"]["learning_rate"]}
        assert found["rollouts"] == [4 * 32] * 2
    assert results["equal_rollouts"]
    difference = results["methods"]["joint"]["difference"]["pass@4"]
    pairs = [results["methods"][m]["pass@4"] for m in ("joint", "grpo")]
    assert difference["mean"] == pytest.approx(sum(a - b for a, b in zip(*pairs, strict=True)) / 2)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    page = (tmp_path / "results.md").read_text()
    assert "| base |" in page
    assert "paired over 2 seeds" in page
    assert page.count("\n## ") == 3
    # The base was evaluated once, and every run took it over.
    starts = {(tmp_path / run / "evals.jsonl").open().readline() for run in results["runs"]}
    assert len(starts) == 1

    here.clear()
    again = compare(replace(study, seeds=(0, 1, 2)), console)
    assert [name for name, _ in here] == ["runs/grpo-seed2", "runs/joint-seed2"]
    assert again["methods"]["grpo"]["pass@4"][:2] == results["methods"]["grpo"]["pass@4"]
    with pytest.raises(ConfigError, match="holds a run with max_steps = 4, got 5"):
        compare(replace(study, flags=(*FLAGS, "--max_steps", "5")), console)
    results["equal_rollouts"] = False
    results["methods"]["joint"]["rollouts"] = [8 * 32] * 2
    for table in console_tables(results):
        console.print(table)
    assert "NOT EQUAL COMPUTE: rollouts of grpo times joint 2.00x" in console.export_text()


def test_a_mistake_shows_before_anything_runs(tmp_path, here):
    with pytest.raises(ConfigError, match="gdro_preset: invalid choice: 'jiont'"):
        compare(make_study(tmp_path, methods=("grpo", "jiont")), Console(quiet=True))
    with pytest.raises(ConfigError, match="learning_rat is unknown"):
        compare(make_study(tmp_path, grid=parse_grid(["learning_rat=1,2"])), Console(quiet=True))
    with pytest.raises(ConfigError, match="tuning would look at the tested prompts"):
        compare(make_study(tmp_path, grid_split="test"), Console(quiet=True))
    late = make_study(tmp_path, flags=(*FLAGS, "--eval_after=false"))
    with pytest.raises(ConfigError, match="a comparison needs eval_after"):
        compare(late, Console(quiet=True))
    assert here == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (1, 1)}, "--seeds must be distinct"),
        ({"parallel": 0}, "--parallel must be >= 1, got 0"),
        ({"flags": ("--seed", "3")}, "use --seeds"),
        ({"flags": ("--learning_rate=1",)}, "is in the grid too"),
        ({"grid": {"dataset_test_split": ("test",)}}, "judges all its runs alike"),
    ],
)
def test_studies_are_checked(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        make_study(tmp_path, **changes)


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


def test_no_flag_points_tuning_at_the_tested_prompts(tmp_path):
    flags = (*FLAGS, "--dataset_test_split=test", "--dataset_test_name=arithmetic", "--eval_before")
    plan = lab._Plan(make_study(tmp_path, flags=flags), Console(quiet=True))
    for job in plan.tuning().values():
        found = resolve(job.settings)
        assert found.training.max_steps == 4  # the flags are in the settings
        assert not hasattr(job, "flags")  # and come nowhere above them
        assert (found.run.dataset_test_split, found.run.eval_before) == ("validation", False)


def test_tuning_needs_another_file_than_the_tested_one(tmp_path):
    tested, other, link = (tmp_path / name for name in ("test.jsonl", "other.jsonl", "link.jsonl"))
    for path in (tested, other):
        path.write_text('{"prompt": "1+1=", "answer": "2"}\n')
    link.symlink_to(tested)
    study = make_study(tmp_path / "out", flags=(*FLAGS, f"--dataset_test_name={tested}"))
    for given in (None, str(tested), str(link)):
        with pytest.raises(ConfigError, match="tuning would look at the tested prompts"):
            lab._Plan(replace(study, grid_dataset=given), Console(quiet=True))
    lab._Plan(replace(study, grid_dataset=str(other)), Console(quiet=True))
    lab._Plan(replace(study, grid={}), Console(quiet=True))


def test_the_last_evaluation_is_of_the_last_step(tmp_path):
    folder = RunFolder(tmp_path)
    folder.update(steps=4)
    append_jsonl(folder.evals, {"step": 0})
    with pytest.raises(DataError, match="no evaluation of the last step, 4"):
        lab._last(folder)
    append_jsonl(folder.evals, {"step": 4})
    assert lab._last(folder) == {"step": 4}


def test_a_base_evaluation_is_of_this_model_and_these_prompts(tmp_path):
    path, quiet = tmp_path / "base.json", Console(quiet=True)
    settings = read_settings("arithmetic")
    flags = ("--eval_prompts=4", "--eval_k=2", f"--output_dir={tmp_path}")
    recipe = resolve(settings, flags)
    first = evaluate_base(recipe, path, quiet)
    assert evaluate_base(recipe, path, quiet).to_dict() == first.to_dict()
    (tmp_path / "model").mkdir()
    for flag, name in (("--dataset_test_split=validation", "split"),
                       (f"--model_name_or_path={tmp_path / 'model'}", "model")):  # fmt: skip
        with pytest.raises(DataError, match=f"has {name} = "):
            evaluate_base(resolve(settings, (*flags, flag)), path, quiet)
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | {"id_N": ["a", "b", "c", "d"]}))
    with pytest.raises(DataError, match="is of other prompts"):
        evaluate_base(recipe, path, quiet)


def test_progress_counts_steps_not_lines(tmp_path):
    folder = RunFolder(tmp_path)
    assert _steps_done(folder) == 0
    for step in (5, 10):
        append_jsonl(folder.metrics, {"step": step})
    with open(folder.metrics, "a") as file:
        file.write('{"step": 1')  # being written
    assert _steps_done(folder) == 10

    console = Console(record=True, width=80, file=io.StringIO())
    line = ProgressLine(SimpleNamespace(spent={"rollouts": 0}), console)
    args, state = SimpleNamespace(num_generations=4), SimpleNamespace(global_step=0, max_steps=100)
    line.on_train_begin(args, state, None)
    for state.global_step in range(7, 100, 7):
        line.on_log(args, state, None, logs={"reward": 0.5})
    assert console.export_text().count("/100") == 9
