"""Comparisons: what is run with what, and what is made of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gdro.core.errors import ConfigError
from gdro.lab import compare as lab
from gdro.lab.compare import Study, compare, parse_grid
from gdro.lab.processes import Job, RunError, run_jobs
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
                train(resolve(job.settings, job.flags), resume=True, console=Console(quiet=True))

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
    for table in console_tables(results):
        console.print(table)
    assert "ROLLOUTS DIFFER" in console.export_text()


def test_a_mistake_shows_before_anything_runs(tmp_path, here):
    with pytest.raises(ConfigError, match="gdro_preset: invalid choice: 'jiont'"):
        compare(make_study(tmp_path, methods=("grpo", "jiont")), Console(quiet=True))
    with pytest.raises(ConfigError, match="learning_rat is unknown"):
        compare(make_study(tmp_path, grid=parse_grid(["learning_rat=1,2"])), Console(quiet=True))
    with pytest.raises(ConfigError, match="--grid-split must differ"):
        compare(make_study(tmp_path, grid_split="test"), Console(quiet=True))
    assert here == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (1, 1)}, "--seeds must be distinct"),
        ({"parallel": 0}, "--parallel must be >= 1, got 0"),
        ({"flags": ("--seed", "3")}, "use --seeds"),
        ({"flags": ("--learning_rate=1",)}, "is in the grid too"),
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
    good = read_settings("arithmetic") | {
        "output_dir": str(tmp_path / "good"),
        "eval_before": False,
    }
    bad = good | {"output_dir": str(tmp_path / "bad"), "dataset_name": "gone.jsonl"}
    jobs = [Job(name=x["output_dir"][-4:], settings=x, flags=tuple(FLAGS)) for x in (good, bad)]
    with pytest.raises(RunError, match=r"/bad failed: .*gone\.jsonl.*bad\.log"):
        run_jobs(jobs, parallel=2, threads=1, console=Console(quiet=True))
    run_jobs(jobs[:1], parallel=2, threads=1, console=Console(quiet=True))
    assert jobs[0].folder.about["threads"] == 1
    assert "Traceback" not in (tmp_path / "bad.log").read_text()
