"""The runs that a study is made of, and the order in which they come about."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from gdro.core.controller import Controller
from gdro.core.errors import ConfigError
from gdro.lab.compare.analyse import best_points
from gdro.lab.compare.gather import gather, run_rows, write_raw
from gdro.lab.compare.study import JUDGE, RESULTS, Method, Point, Study, Suite
from gdro.lab.evaluator import evaluate_base, terms
from gdro.lab.processes import Job, run_jobs
from gdro.lab.recipe import Recipe, resolve


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run, and what it is in the study.

    Attributes:
        suite: Name of the suite.
        method: Name of the method.
        phase: `tuning` or `test`.
        seed: Its training seed.
        point: Which of the method's points.
        values: That point.
        job: Its settings and folder.
    """

    suite: str
    method: str
    phase: str
    seed: int
    point: int
    values: Point
    job: Job

    def recipe(self) -> Recipe:
        """Its settings, checked."""
        try:
            return resolve(self.job.settings, name=self.suite)
        except ConfigError as error:
            raise ConfigError(f"{self.job.name}: {error}") from None


def compare(
    study: Study,
    out: Path,
    *,
    parallel: int = 2,
    threads: int = 1,
    devices: Sequence[str] = (),
    console: Console | None = None,
) -> dict[str, list[Path]]:
    """Runs a study, or what is left of it, and writes its raw tables.

    Args:
        study: What is compared.
        out: Folder of the comparison.
        parallel: Runs at a time.
        threads: Threads of a run.
        devices: As for `run_jobs`.
        console: Where progress is shown.

    Returns:
        The folders of the tested runs, by suite.

    Raises:
        GdroError: if a setting is wrong (before anything runs), or a run fails.
    """
    console = console or Console()
    plans = [SuitePlan(study, suite, out) for suite in study.suites]
    for plan in plans:
        plan.check()
    bases = {plan.suite.name: plan.base(console) for plan in plans}

    def run(runs: list[Run]) -> None:
        for one in runs:
            if one.job.folder.finished:
                one.job.folder.check_same(one.recipe().settings)
        jobs = [one.job for one in runs]
        run_jobs(jobs, parallel=parallel, threads=threads, devices=devices, console=console)

    tuning = [one for plan in plans for one in plan.tuning()]
    run(tuning)
    tests = [one for plan in plans for one in plan.tests(plan.choose(tuning))]
    run(tests)
    write_raw(out / RESULTS, *gather(study, [*tuning, *tests], bases))
    return {s.name: [t.job.folder.path for t in tests if t.suite == s.name] for s in study.suites}


class SuitePlan:
    """The runs of a study on one of its suites."""

    def __init__(self, study: Study, suite: Suite, out: Path) -> None:
        self.study, self.suite = study, suite
        self.folder = out.absolute() / suite.name
        self.common = resolve(suite.settings, name=suite.name)
        split = self.common.run.dataset_test_split
        tested = self.common.run.dataset_test_name or self.common.run.dataset_name
        tuned = study.grid_dataset or tested
        if study.tuned and _same_prompts((tuned, study.grid_split), (tested, split)):
            raise ConfigError(
                f"{suite.name}: tuning would look at the tested prompts: give grid_dataset or "
                "grid_split"
            )
        self.base_file = self.folder / "base" / f"{split}.json"

    def tuning(self) -> list[Run]:
        """Every point of every method; none where there is nothing to choose."""
        if not self.study.tuned:
            return []
        split: Point = {"dataset_test_split": self.study.grid_split, "eval_before": False}
        if self.study.grid_dataset:
            split["dataset_test_name"] = self.study.grid_dataset
        return [
            self._run("tuning", method, seed, i, point, split)
            for method in self.study.methods
            for i, point in enumerate(method.points())
            for seed in self.study.grid_seeds
        ]

    def tests(self, best: dict[str, int]) -> list[Run]:
        """Every seed of every method at its best point."""
        base: Point = {"eval_base": str(self.base_file)}
        return [
            self._run("test", method, seed, best[method.name], method.points()[best[method.name]],
                      base)
            for method in self.study.methods
            for seed in self.study.seeds
        ]  # fmt: skip

    def _run(self, phase: str, method: Method, seed: int, i: int, point: Point, more: Point) -> Run:
        words = [f"{name}={value}" for name, value in point.items()] if phase == "tuning" else []
        name = f"{'-'.join([method.name, *words])}-seed{seed}".replace("/", "%")
        name = f"{self.suite.name}/{'grid' if phase == 'tuning' else 'runs'}/{name}"
        # What the study sets stands above all: no setting can point tuning at the tested prompts.
        settings = self.suite.settings | method.settings | point | more | {"seed": seed}
        settings["output_dir"] = str(self.folder.parent / name)
        return Run(suite=self.suite.name, method=method.name, phase=phase, seed=seed, point=i,
                   values=point, job=Job(name=name, settings=settings))  # fmt: skip

    def choose(self, tuning: Iterable[Run]) -> dict[str, int]:
        """Each method's best point; the first without tuning."""
        rows = [row for run in tuning if run.suite == self.suite.name for row in run_rows(run)]
        return dict.fromkeys((m.name for m in self.study.methods), 0) | best_points(rows)

    def check(self) -> None:
        """Checks every setting: a mistake in the third run must not show after an hour.

        Raises:
            ConfigError: naming the run and the setting.
        """
        for method in self.study.methods:
            self._check_judged(
                self._run("test", method, self.study.seeds[0], i, point, {})
                for i, point in enumerate(method.points())
            )
        first = self.study.grid_seeds[0]
        self._check_judged(run for run in self.tuning() if run.seed == first)

    def _check_judged(self, runs: Iterable[Run]) -> None:
        common = _judged(self.common)
        for run in runs:
            recipe = run.recipe()
            if not recipe.run.eval_after:
                raise ConfigError(f"{run.job.name}: a comparison needs eval_after")
            self._check_method(run, recipe)
            found = _judged(recipe)
            for key, value in common.items():
                prompts = key in ("dataset", "split")  # tuning has others, for all alike
                if found[key] != value and not (prompts and run.phase == "tuning"):
                    raise ConfigError(
                        f"{run.job.name}: would be judged with {key} = {found[key]}, the suite "
                        f"says {value}: a comparison judges all its runs alike"
                    )

    def _check_method(self, run: Run, recipe: Recipe) -> None:
        """What a run finds only as it starts: policies that do not go together, tested prompts."""
        training, data = recipe.training, recipe.run
        tested = (data.dataset_test_name or data.dataset_name, data.dataset_test_split)
        if _same_prompts((data.dataset_name, data.dataset_train_split), tested):
            raise ConfigError(f"{run.job.name}: would train on the prompts that it is judged by")
        try:
            Controller(training.controller_config, n_mean=training.num_generations)
        except ConfigError as error:
            raise ConfigError(f"{run.job.name}: {error}") from None

    def base(self, console: Console) -> Path:
        """The evaluation of the base model, made once for all runs."""
        evaluate_base(self.common, self.base_file, console)
        return self.base_file


def _judged(recipe: Recipe) -> dict[str, Any]:
    """What decides how a run is judged."""
    return terms(recipe) | {name: getattr(recipe.run, name) for name in JUDGE}


def _same_prompts(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two data sets and splits are the same prompts; a file has no splits."""
    files = [Path(name).expanduser() for name, _ in (one, other)]
    if all(file.is_file() for file in files):
        return files[0].samefile(files[1])
    return one == other
