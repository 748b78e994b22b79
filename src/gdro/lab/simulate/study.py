"""Many simulated runs: methods by settings by seeds, in parallel, as tables."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from gdro.core.config import ControllerConfig
from gdro.core.errors import ConfigError
from gdro.lab.compare.analyse import add_differences, equal_rollouts
from gdro.lab.compare.gather import CURRICULUM
from gdro.lab.processes import THREAD_VARIABLES
from gdro.lab.settings import method, path_of
from gdro.lab.simulate.population import Population
from gdro.lab.simulate.run import K, Training, simulate

METRICS = (f"mean@{K}", f"pass@{K}", f"worst_family_mean@{K}")
TRAINING = tuple(f.name for f in fields(Training))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of a table.

    Attributes:
        name: What it is called.
        config: The method.
        values: What it changes of its preset.
    """

    name: str
    config: ControllerConfig
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Variants that are compared, the first being the baseline, under one training setting."""

    training: Training
    variants: tuple[Variant, ...]
    values: dict[str, Any]


def variants(
    methods: Mapping[str, Mapping[str, Any]],
    training: Training,
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> list[Block]:
    """Every method at every point of a grid.

    Args:
        methods: Changes of each by path, `preset` among them where the name is none; the first is
            the baseline, which the grid's controller settings leave alone.
        training: What all have in common.
        grid: Values by controller path or field of `Training`; each point of the latter is a block.

    Raises:
        ConfigError: if there is no method, a setting is unknown, out of its bounds, in the grid and
            a method too, or twice in either.
    """
    if not methods:
        raise ConfigError("a simulation needs at least one method")
    grid = dict(grid or {})
    outer = {name: v for name, v in grid.items() if name in TRAINING}
    inner = by_path({name: v for name, v in grid.items() if name not in TRAINING}, "grid")
    for name, values in grid.items():
        if len(set(map(repr, values))) < len(values):
            raise ConfigError(f"grid: {name} must have distinct values, got {values}")
    changed = {
        name: by_path({k: v for k, v in own.items() if k != "preset"}, f"methods.{name}")
        for name, own in methods.items()
    }
    for name, own in list(changed.items())[1:]:
        if twice := sorted(own.keys() & inner.keys()):
            raise ConfigError(f"methods.{name}: {twice[0]} is in the grid too")
    last = [path.rpartition(".")[2] for path in inner]
    label = {p: name if last.count(name) == 1 else p for p, name in zip(inner, last, strict=True)}
    blocks = []
    for point in _points(outer):
        now = replace(training, **point)
        rows = []
        for i, (name, own) in enumerate(changed.items()):
            for values in _points(inner) if i else [{}]:
                words = [f"{label[path]}={value}" for path, value in values.items()]
                config = method(methods[name].get("preset", name), own | values, now.n_mean)
                rows.append(
                    Variant(name=" ".join([name, *words]), config=config, values=own | values)
                )
        blocks.append(Block(training=now, variants=tuple(rows), values=point))
    return blocks


def by_path(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Controller settings by path.

    Raises:
        ConfigError: if one is unknown, or given by two names.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if path_of(name) in found:
            raise ConfigError(f"{where}: {path_of(name)} stands twice")
        found[path_of(name)] = value
    return found


def _points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@contextmanager
def processes(parallel: int) -> Iterator[Executor | None]:
    """A pool of processes with one thread each; None for 1."""
    if parallel < 1:
        raise ConfigError(f"--parallel must be >= 1, got {parallel}")
    if parallel == 1:
        yield None
        return
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read as a process starts
    try:
        with ProcessPoolExecutor(parallel, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def many(
    blocks: Sequence[Block],
    population: Population,
    seeds: Sequence[int],
    pool: Executor | None = None,
) -> list[list[list[dict[str, Any]]]]:
    """The runs of every block, variant and seed."""
    rows = [(block, variant) for block in blocks for variant in block.variants]
    # Seed by seed: the next run finds its world made.
    jobs = [(v.config, population, block.training, seed) for seed in seeds for block, v in rows]
    run_all: Any = map if pool is None else partial(pool.map, chunksize=4)
    runs = list(run_all(_one, jobs))
    by_row = iter([runs[i :: len(rows)] for i in range(len(rows))])
    return [[next(by_row) for _ in block.variants] for block in blocks]


def _one(job: tuple[ControllerConfig, Population, Training, int]) -> dict[str, Any]:
    return simulate(*job)


def results(block: Block, runs: list[list[dict[str, Any]]], seeds: Sequence[int]) -> dict[str, Any]:
    """A block's runs in the form of `gdro compare`'s results.json, for its tables."""
    from gdro import __version__

    methods: dict[str, dict[str, Any]] = {}
    for variant, found in zip(block.variants, runs, strict=True):
        methods[variant.name] = {
            "values": variant.values,
            "tuning": [],
            **{m: [run["after"][m] for run in found] for m in METRICS},
            **{m: [run[m] for run in found] for m in ("rollouts", "trained", "tokens", "steps")},
            "seconds": [run["seconds"] for run in found],
            "curriculum": {name: [] for name in CURRICULUM},
        }
    add_differences(methods, block.variants[0].name, METRICS)
    words = ", ".join(f"{name} {value}" for name, value in block.values.items())
    return {
        "recipe": f"simulated{', ' * bool(words)}{words}",
        "split": "held-out",
        "k": K,
        "seeds": list(seeds),
        "baseline": block.variants[0].name,
        "equal_rollouts": equal_rollouts(methods, block.variants[0].name),
        "base": {m: float(np.mean([run["before"][m] for run in runs[0]])) for m in METRICS},
        "methods": methods,
        "versions": {"gdro": __version__, "numpy": np.__version__},
    }
