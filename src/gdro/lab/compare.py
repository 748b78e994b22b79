"""Methods side by side at equal compute.

Every method gets the same tuning grid, judged on one split; its best value by pass@k is then used
for all seeds, and the other split is looked at once. Nothing of a run depends on which other runs
there are, so a comparison can be stopped, continued and extended.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gdro.core.errors import ConfigError, DataError
from gdro.core.trace import read_trace
from gdro.lab.folder import RunFolder, read_jsonl, write_json, write_text
from gdro.lab.processes import Job, run_jobs
from gdro.lab.recipe import _Parser, resolve
from gdro.lab.stats import paired_difference
from gdro.lab.table import console_tables, markdown

Point = dict[str, Any]
"""A point of the grid: values by setting."""

OURS = {"seed": "--seeds", "gdro_preset": "--methods", "output_dir": "--out", "eval_base": "--out"}
"""Settings that the comparison gives its runs."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, and how.

    Attributes:
        recipe: Name of the recipe.
        settings: Its flat settings.
        flags: Flags for every run; what the study sets wins over them.
        methods: Presets; the first is what the others are compared to.
        seeds: Training seeds of the tested runs.
        grid: Values to tune over, by setting; empty is no tuning.
        grid_seeds: Training seeds of the tuning runs.
        grid_split: Split that tuning looks at.
        grid_dataset: Data set of that split; None is the test split's.
        parallel: Runs at a time.
        threads: Threads of a run.
        out: Folder.
    """

    recipe: str
    settings: dict[str, Any]
    flags: tuple[str, ...] = ()
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    grid: dict[str, tuple[str, ...]]
    grid_seeds: tuple[int, ...] = (0,)
    grid_split: str = "validation"
    grid_dataset: str | None = None
    parallel: int = 2
    threads: int = 1
    out: Path

    def __post_init__(self) -> None:
        for name in ("methods", "seeds", "grid_seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"--{name.replace('_', '-')} must be distinct, got {values}")
        for name in ("parallel", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be >= 1, got {getattr(self, name)}")
        for flag in self.flags:
            name = flag.lstrip("-").partition("=")[0].replace("-", "_")
            if flag.startswith("--") and name in OURS:
                raise ConfigError(f"{flag}: a comparison sets it; use {OURS[name]}")
            if flag.startswith("--") and name in self.grid:
                raise ConfigError(f"{flag}: is in the grid too")
        for name in self.grid:
            if name in OURS or name.startswith(("dataset_test_", "eval_")):
                raise ConfigError(f"--grid {name}: a comparison judges all its runs alike")

    def points(self) -> list[Point]:
        """Every point of the grid; one empty point without a grid."""
        products = itertools.product(*self.grid.values())
        return [dict(zip(self.grid, values, strict=True)) for values in products]


def parse_grid(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`["learning_rate=1e-4,2e-4"]` -> `{"learning_rate": ("1e-4", "2e-4")}`."""
    grid = {}
    for text in texts:
        name, _, values = text.partition("=")
        words = tuple(word for word in values.split(",") if word)
        if not name or not words or len(set(words)) < len(words) or name in grid:
            raise ConfigError(f"--grid must be NAME=A,B with distinct values, got {text!r}")
        grid[name.replace("-", "_")] = words
    return grid


def compare(study: Study, console: Console | None = None) -> dict[str, Any]:
    """Runs a comparison, or what is left of it, and writes results.json and results.md.

    Returns:
        The results, as in results.json.

    Raises:
        GdroError: if a setting is wrong (before anything runs), or a run fails.
    """
    console = console or Console()
    plan = _Plan(study, console)
    tuning = plan.tuning()
    plan.check_settings(plan.tests(dict.fromkeys(study.methods, study.points()[0])).values())
    plan.check_settings(tuning.values())
    base = plan.base_evaluation()
    plan.run(tuning.values())
    best, scores = plan.choose(tuning)
    tests = plan.tests(best)
    plan.run(tests.values())

    results = _results(study, tests, best, scores, base)
    write_json(study.out / "results.json", results)
    write_text(study.out / "results.md", markdown(results))
    for table in console_tables(results):
        console.print(table)
    return results


class _Plan:
    """The runs of a study."""

    def __init__(self, study: Study, console: Console) -> None:
        self.study, self.console = study, console
        # Read once, below what the study sets: no flag can point tuning at the tested prompts.
        self.settings = study.settings | _Parser().flags(study.flags)
        self.common = resolve(self.settings, name=study.recipe)
        self.k = self.common.run.eval_k
        split = self.common.run.dataset_test_split
        tested = self.common.run.dataset_test_name or self.common.run.dataset_name
        tuned = study.grid_dataset or tested
        if study.grid and _same_prompts((tuned, study.grid_split), (tested, split)):
            raise ConfigError(
                "tuning would look at the tested prompts: give --grid-dataset / --grid-split"
            )
        self.base_file = (study.out / "base" / f"{split}.json").absolute()

    def _job(self, name: str, values: Point) -> Job:
        settings = self.settings | values
        settings["output_dir"] = str(self.study.out.absolute() / name)
        return Job(name=name, settings=settings)

    def tuning(self) -> dict[tuple[str, int, int], Job]:
        """By method, point of the grid and seed."""
        study, points = self.study, self.study.points()
        if len(points) == 1:
            return {}
        split: Point = {"dataset_test_split": study.grid_split, "eval_before": False}
        if study.grid_dataset:
            split["dataset_test_name"] = study.grid_dataset
        return {
            (method, i, seed): self._job(
                f"grid/{'-'.join([method, *_words(point), f'seed{seed}'])}",
                point | split | {"gdro_preset": method, "seed": seed},
            )
            for method in study.methods
            for i, point in enumerate(points)
            for seed in study.grid_seeds
        }

    def tests(self, best: dict[str, Point]) -> dict[tuple[str, int], Job]:
        """By method and seed."""
        return {
            (method, seed): self._job(
                f"runs/{method}-seed{seed}",
                best[method]
                | {"gdro_preset": method, "seed": seed, "eval_base": str(self.base_file)},
            )
            for method in self.study.methods
            for seed in self.study.seeds
        }

    def check_settings(self, jobs: Iterable[Job]) -> None:
        """Checks the settings of every run: a mistake in the third must not show after an hour."""
        for job in jobs:
            if not resolve(job.settings, name=self.study.recipe).run.eval_after:
                raise ConfigError("a comparison needs eval_after")

    def run(self, jobs: Iterable[Job]) -> None:
        """Runs them, except those that have finished; before it, that those are these."""
        jobs = list(jobs)
        for job in jobs:
            if job.folder.finished:
                job.folder.check_same(resolve(job.settings, name=self.study.recipe).settings)
        study = self.study
        run_jobs(jobs, parallel=study.parallel, threads=study.threads, console=self.console)

    def choose(self, tuning: dict[tuple[str, int, int], Job]) -> tuple[dict[str, Point], Any]:
        """Each method's best point by pass@k, mean@k breaking ties; and all scores."""
        points = self.study.points()
        if not tuning:
            return dict.fromkeys(self.study.methods, points[0]), {}
        scores: dict[str, list[Point]] = {}
        for method in self.study.methods:
            for i, point in enumerate(points):
                lines = [_last(tuning[method, i, s].folder) for s in self.study.grid_seeds]
                found = {m: float(np.mean([x[m] for x in lines])) for m in _metrics(self.k)}
                scores.setdefault(method, []).append({"values": point} | found)
        mean, passed = _metrics(self.k)
        best = {
            method: max(rows, key=lambda r: (r[passed], r[mean]))["values"]
            for method, rows in scores.items()
        }
        return best, scores

    def base_evaluation(self) -> dict[str, Any]:
        """Evaluates the base model once for all runs."""
        from gdro.lab.evaluator import evaluate_base

        return evaluate_base(self.common, self.base_file, self.console).summary()


def _same_prompts(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two data sets and splits are the same prompts; a file has no splits."""
    files = [Path(name).expanduser() for name, _ in (one, other)]
    if all(file.is_file() for file in files):
        return files[0].samefile(files[1])
    return one == other


def _words(point: Point) -> list[str]:
    return [f"{name}={value}" for name, value in point.items()]


def _metrics(k: int) -> tuple[str, str]:
    return f"mean@{k}", f"pass@{k}"


def _last(folder: RunFolder) -> dict[str, Any]:
    """The evaluation of a run's last step."""
    step = folder.about.get("steps")
    for line in read_jsonl(folder.evals):
        if line["step"] == step:
            return line
    raise DataError(f"{folder.evals}: holds no evaluation of the last step, {step}")


def _results(
    study: Study,
    tests: dict[tuple[str, int], Job],
    best: dict[str, Point],
    scores: dict[str, list[Point]],
    base: dict[str, Any],
) -> dict[str, Any]:
    k = base["k"]
    mean, passed = _metrics(k)
    worst = f"worst_family_mean@{k}"
    methods: dict[str, dict[str, Any]] = {}
    for method in study.methods:
        folders = [tests[method, seed].folder for seed in study.seeds]
        lines = [_last(folder) for folder in folders]
        methods[method] = {
            "values": best[method],
            "tuning": scores.get(method, []),
            **{m: [line.get(m) for line in lines] for m in (mean, passed, worst)},
            **{
                m: [f.about["spent"][m] for f in folders] for m in ("rollouts", "trained", "tokens")
            },
            "seconds": [f.about["train_seconds"] for f in folders],
            "curriculum": _curriculum(folders),
        }
    first = methods[study.methods[0]]
    for found in methods.values():
        found["difference"] = {
            m: vars(paired_difference(found[m], first[m])) for m in (mean, passed)
        }
    rollouts = {n for found in methods.values() for n in found["rollouts"]}
    about = next(iter(tests.values())).folder.about
    return {
        "recipe": study.recipe,
        "split": _last(next(iter(tests.values())).folder)["split"],
        "k": k,
        "seeds": list(study.seeds),
        "baseline": study.methods[0],
        "equal_rollouts": len(rollouts) == 1,
        "base": {m: base.get(m) for m in (mean, passed, worst)},
        "methods": methods,
        "runs": [str(job.folder.path.relative_to(study.out.absolute())) for job in tests.values()],
        "versions": about["versions"],
    }


def _curriculum(folders: list[RunFolder]) -> dict[str, list[float | None]]:
    """Curriculum numbers of a method, averaged over its seeds; lists over four stages."""
    from gdro.report import curriculum_numbers

    runs = [curriculum_numbers(read_trace(folder.trace)) for folder in folders]
    return {
        name: [_mean([run[name][i] for run in runs if run[name]]) for i in range(4)]
        for name in ("lead_lag", "hard_prompts", "hard_budget", "hard_rollouts", "hard_weight")
    }


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
