"""What recorded runs say about a population: read off run folders, kept as one JSON file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdro.core.config import ControllerConfig
from gdro.core.errors import DataError
from gdro.core.trace import Trace, read_trace
from gdro.core.types import FloatArray
from gdro.lab.folder import read_jsonl
from gdro.lab.recipe import read_mapping
from gdro.lab.simulate.run import LOSSES, K, Loss, Training

STAGES = 6
"""Stretches of a trace that its reward and its mixed groups are averaged over."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of one configuration.

    Attributes:
        config: Their method.
        training: Steps, batch and learning rate, relative to that of the first run folder.
        seeds: How many runs the numbers are means of.
        reward: By stage, however many they are; empty where there is no trace.
        mixed: Share of groups with both rewards, by stage; empty where it is not known.
        mean: mean@8 by tier after training.
        passed: pass@8 by tier after training.
    """

    config: ControllerConfig
    training: Training
    seeds: int
    reward: tuple[float, ...] = ()
    mixed: tuple[float, ...] = ()
    mean: tuple[float, ...]
    passed: tuple[float, ...]

    def statistics(self, shares: Sequence[float]) -> FloatArray:
        """Reward and mixed groups by stage, either score by tier and in all."""
        in_all = [float(np.dot(shares, x)) for x in (self.mean, self.passed)]
        return np.array([*self.reward, *self.mixed, *self.mean, in_all[0], *self.passed, in_all[1]])

    def of_run(self, run: dict[str, Any]) -> FloatArray:
        """The same of a simulated run."""
        after = run["after"]
        scores = [after[f"tier_{m}@{K}"] + [after[f"{m}@{K}"]] for m in ("mean", "pass")]
        stages = [
            by_stage(run[name], len(getattr(self, name)))
            for name in ("reward", "mixed")
            if getattr(self, name)
        ]
        return np.concatenate([*stages, *scores])

    def weights(self, shares: Sequence[float]) -> FloatArray:
        """Of the statistics' squares: what is known counts alike, tiers by their share; sum 1."""
        stages = [np.full(n, 1 / n) for n in (len(self.reward), len(self.mixed)) if n]
        weight = np.concatenate([*stages, [*shares, 1, *shares, 1]])
        return weight / weight.sum()


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Runs on one data set.

    Attributes:
        shares: Of each tier among the prompts.
        rates: Success rate of each tier before training.
        train: Prompts that were trained on.
        test: Prompts that were evaluated.
        runs: By configuration.
    """

    shares: tuple[float, ...]
    rates: tuple[float, ...]
    train: int
    test: int
    runs: tuple[Runs, ...]

    def __post_init__(self) -> None:
        if any({len(r.mean), len(r.passed)} != {len(self.shares)} for r in self.runs):
            raise DataError(f"scores must be of the {len(self.shares)} tiers of the data set")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        runs = [
            vars(r) | {"config": r.config.to_dict(), "training": asdict(r.training)}
            for r in self.runs
        ]
        return vars(self) | {"runs": runs}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recorded":
        """What `to_dict` made."""
        runs = []
        for run in values["runs"]:
            config = ControllerConfig.from_dict(run["config"])
            made: dict[str, Any] = {"config": config, "training": Training(**run["training"])}
            runs.append(Runs(**_tuples(run) | made))
        return cls(**_tuples({**values, "runs": runs}))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}


def recorded(sources: Sequence[Path]) -> Recorded:
    """Reads run folders (`trace.jsonl`, `evals.jsonl`), or one file of what was read off them.

    Tiers are the groups of `by_level` in the evaluation before training, or of `by_bin` where the
    data have no levels. The learning rate of the first folder (in its `recipe.yaml`) is what
    `Training.lr` = 1 means.

    Raises:
        DataError: if a folder lacks the trace or the last evaluation, the first one that before
            training, a recipe has no learning rate or a loss that is not simulated, or the runs
            have other tiers.
    """
    if len(sources) == 1 and sources[0].is_file():
        try:
            return Recorded.from_dict(json.loads(sources[0].read_bytes()))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{sources[0]}: holds no recorded runs: {error}") from None
    loaded = [_loaded(Path(source)) for source in sources]
    if not loaded:
        raise DataError("calibration needs at least one run folder")
    first = loaded[0].before
    if first is None:
        raise DataError(f"{sources[0]}: the first run needs an evaluation before training (step 0)")
    if any(set(run.after) != set(first) for run in loaded):
        raise DataError("the runs to calibrate on must be of one data set: their tiers differ")
    size, rates = sum(tier["prompts"] for tier in first.values()), []
    for tier in first.values():  # half a right answer is added, for tiers with none
        samples = tier["prompts"] * K
        rates.append((tier[f"mean@{K}"] * samples + 0.5) / (samples + 1))
    return Recorded(
        shares=tuple(tier["prompts"] / size for tier in first.values()),
        rates=tuple(rates),
        train=int(np.nansum(loaded[0].trace.per_bin("population_B"), 1).max(initial=1)),
        test=round(size),
        runs=tuple(_grouped(loaded, list(first))),
    )


Groups = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Loaded:
    """A run's trace, learning rate and loss, and its scores by tier before (if known) and after."""

    trace: Trace
    rate: float
    scaled: bool
    loss: Loss
    before: Groups | None
    after: Groups


def _loaded(folder: Path) -> _Loaded:
    trace, lines = read_trace(folder / "trace.jsonl"), read_jsonl(folder / "evals.jsonl")
    if not lines or lines[-1]["step"] != len(trace.records):
        raise DataError(f"{folder}: has no evaluation after the last step of its trace")
    if any(f"mean@{K}" not in line for line in (lines[0], lines[-1])):
        raise DataError(f"{folder}: its evaluations are not of k = {K}")
    name = "by_level" if "by_level" in lines[0] else "by_bin"
    if name not in lines[0]:
        raise DataError(f"{folder}: its evaluations have neither by_level nor by_bin")
    before = lines[0][name] if lines[0]["step"] == 0 else None
    recipe = folder / "recipe.yaml"
    settings = read_mapping(recipe) if recipe.exists() else {"learning_rate": 1.0}
    if settings.get("learning_rate") is None:
        raise DataError(f"{recipe}: does not say the learning_rate")
    loss = settings.get("loss_type", "dapo")
    if loss not in LOSSES:
        raise DataError(f"{folder}: loss_type must be {' or '.join(LOSSES)}, got {loss}")
    rate = float(settings["learning_rate"])
    scaled = trace.header.get("std_scaled", True)  # older traces do not say it
    return _Loaded(
        trace=trace, rate=rate, scaled=scaled, loss=loss, before=before, after=lines[-1][name]
    )


def _grouped(loaded: list[_Loaded], tiers: list[str]) -> list[Runs]:
    """Means of the runs of each configuration."""
    groups: dict[str, list[tuple[_Loaded, list[FloatArray]]]] = {}
    for run in loaded:
        scores = [np.array([run.after[t][f"{m}@{K}"] for t in tiers]) for m in ("mean", "pass")]
        columns = [run.trace.column(name) for name in ("reward", "mixed_fraction")]
        if len(columns[0]) < STAGES or not np.isfinite(columns).all():
            raise DataError(f"a trace to calibrate on needs {STAGES} steps with reward and mixed")
        header = run.trace.header
        alike = (header["config"], header["n_mean"], len(columns[0]))
        key = repr((*alike, run.rate, run.scaled, run.loss))
        groups.setdefault(key, []).append((run, [*map(by_stage, columns), *scores]))
    found = []
    for members in groups.values():
        run, n_mean = members[0][0], float(members[0][0].trace.header["n_mean"])
        means = [
            np.mean(column, 0).tolist() for column in zip(*(x for _, x in members), strict=True)
        ]
        reward, mixed, mean, passed = map(tuple, means)
        training = Training(
            steps=len(run.trace.records),
            prompts=round(run.trace.records[0]["budget"] / n_mean),
            n_mean=n_mean,
            lr=run.rate / loaded[0].rate,
            scale_rewards=run.scaled,
            loss=run.loss,
            equal="steps",
        )
        config = ControllerConfig.from_dict(run.trace.header["config"])
        found.append(
            Runs(
                config=config,
                training=training,
                seeds=len(members),
                reward=reward,
                mixed=mixed,
                mean=mean,
                passed=passed,
            )
        )
    return found


def by_stage(steps: Sequence[float] | FloatArray, stages: int = STAGES) -> FloatArray:
    """Means over the stages of a run."""
    return np.array([float(np.mean(part)) for part in np.array_split(steps, stages)])
