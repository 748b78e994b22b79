"""`gdro simulate`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from gdro.core.errors import ConfigError
from gdro.core.files import write_json, write_text
from gdro.lab.compare.table import console_tables, markdown
from gdro.lab.settings import from_flags, path_of, plain, value_of
from gdro.lab.simulate.calibrate import calibrate
from gdro.lab.simulate.population import Population
from gdro.lab.simulate.recorded import recorded
from gdro.lab.simulate.run import Training
from gdro.lab.simulate.study import TRAINING, by_path, many, processes, results, variants
from gdro.terminal import terminal

DESCRIPTION = """\
Simulate RL training: softmax policies that share skills, no network, under the real controller.
A run takes a fraction of a second. How well it ranks methods as real training does is measured
(docs/results/simulator.md): use it to choose what to train, and train that.

  gdro simulate                                     grpo, prompt, rollout, joint; 16 seeds
  gdro simulate --methods grpo,rollout --grid rollout.power=1,2,3
  gdro simulate STUDY.yaml                          the same from a file
  gdro simulate --calibrate RUN RUN --out FOLDER    fit the population to recorded runs, or to
                                                    what was read off them (recorded.json)
  gdro simulate --population FOLDER/population.json and use it

A study file holds methods (a list of presets, or a mapping such as
hard3: {preset: rollout, rollout.power: 3}), seeds, grid, population and the fields of training
(steps, prompts, n_mean, lr, scale_rewards, loss, equal). Differences are to the first method,
paired by seed; the grid's settings of the controller leave it as it is. Flags --gdro_... change
every method that does not say otherwise.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; 0."""
    parser = argparse.ArgumentParser(
        prog="gdro simulate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--methods", help="presets, the baseline first (default: grpo,prompt,rollout,joint)")
    add("--seeds", type=int, help="number of seeds (default: 16)")
    add("--grid", action="append", default=[], metavar="NAME=A,B", help="settings to scan")
    for name in TRAINING:
        add(f"--{name}", help=Training.__dataclass_fields__[name].metadata["help"])
    add("--population", type=Path, help="file of a population (default: as fitted, see the docs)")
    add("--calibrate", nargs="+", type=Path, metavar="RUN", help="run folders to fit to")
    add("--rounds", type=int, help="of the fit; 0: only measure (default: 5)")
    add("--parallel", type=int, default=2, help="processes (default: 2)")
    add("--out", type=Path, help="folder for results.json and results.md, or population.json")
    study: dict[str, Any] = {}
    words = list(arguments)
    if words and not words[0].startswith("-"):
        study = _file(Path(words.pop(0)))
    known, flags = parser.parse_known_args(words)
    preset, changes = from_flags(flags)
    if preset is not None:
        raise ConfigError("--gdro_preset is no flag of this command; name presets with --methods")
    if known.out and known.out.exists() and not known.out.is_dir():
        raise ConfigError(f"--out must be a folder, {known.out} is a file")
    unknown = set(study) - {"methods", "seeds", "grid", "population", *TRAINING}
    if unknown:
        raise ConfigError(f"{sorted(unknown)[0]} is unknown in a study file")
    population = _population(
        _file(known.population)
        if known.population
        else _mapping(study.get("population", {}), "population")
    )
    console = terminal()
    if known.calibrate:
        others = {**vars(known), **study, **changes}
        for name in others.keys() - {"population", "calibrate", "rounds", "parallel", "out"}:
            if others[name]:
                raise ConfigError(f"--calibrate: {name} is that of the runs")
        return _calibrate(known, population, console)
    if known.rounds is not None:
        raise ConfigError("--rounds is of --calibrate")

    given = {name: study[name] for name in TRAINING if name in study}
    given |= {n: getattr(known, n) for n in TRAINING if getattr(known, n) is not None}
    given = {name: plain(value) for name, value in given.items()}
    count = study.get("seeds", 16) if known.seeds is None else known.seeds
    if type(count) is not int or count < 1:
        raise ConfigError(f"seeds must be a number of seeds, an integer >= 1, got {count!r}")
    grid = _lists(study.get("grid", {})) | _named(_grid(known.grid), "--grid")
    for name in grid:
        if name in given or name in changes:
            raise ConfigError(f"grid: {name} is given too")
    methods = {
        name: {k: v for k, v in changes.items() if k not in _paths(own)} | own
        for name, own in _methods(known.methods, study.get("methods")).items()
    }
    seeds, blocks = range(count), variants(methods, Training(**given), grid)
    with processes(known.parallel) as pool:
        runs = many(blocks, population, seeds, pool)
    found = [results(b, r, seeds) for b, r in zip(blocks, runs, strict=True)]
    for block in found:
        for table in console_tables(block):
            console.print(table)
    console.print(
        "simulated, not trained: it ranks methods about as training does, and how well is in "
        "docs/results/simulator.md"
    )
    if known.out:
        write_json(known.out / "results.json", {"population": asdict(population), "blocks": found})
        write_text(known.out / "results.md", "\n".join(map(markdown, found)))
    return 0


def _calibrate(known: argparse.Namespace, start: Population, console: Console) -> int:
    if known.out is None:
        raise ConfigError("--calibrate needs --out, a folder for population.json")
    target, rounds = recorded(known.calibrate), 5 if known.rounds is None else known.rounds
    with processes(known.parallel) as pool:
        found = calibrate(target, start, rounds=rounds, pool=pool, say=console.print)
    write_json(known.out / "recorded.json", target.to_dict())
    write_json(known.out / "population.json", asdict(found.population))
    console.print(f"{known.out}/population.json: missed by {found.error:.4f} (rms, fresh seeds)")
    return 0


def _methods(flag: str | None, said: Any) -> dict[str, dict[str, Any]]:
    """Changes of each method by name."""
    methods = ["grpo", "prompt", "rollout", "joint"] if said is None else said
    methods = methods if flag is None else flag.split(",")
    if isinstance(methods, list):
        if len(set(map(str, methods))) < len(methods):
            raise ConfigError(f"methods must be distinct, got {methods}")
        return {str(name): {} for name in methods}
    found = {}
    for name, own in _mapping(methods, "methods").items():
        own = _mapping({"preset": own} if isinstance(own, str) else own or {}, f"methods.{name}")
        if "gdro_preset" in own:  # as a study of `gdro compare` spells it
            if "preset" in own:
                raise ConfigError(f"methods.{name}: preset stands twice")
            own["preset"] = own.pop("gdro_preset")
        if not isinstance(preset := own.get("preset", name), str):
            raise ConfigError(f"methods.{name}: preset must be a name, got {preset!r}")
        found[str(name)] = own
    return found


def _paths(own: dict[str, Any]) -> set[str]:
    return {path_of(name) for name in own if name != "preset"}


def _lists(grid: Any) -> dict[str, list[Any]]:
    for name, values in _mapping(grid, "grid").items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"grid.{name} must be a list of values, got {values!r}")
    return _named(grid, "grid")


def _named(grid: dict[str, Any], where: str) -> dict[str, Any]:
    """Fields of training by name, settings of the controller by path."""
    outer = {name: values for name, values in grid.items() if name in TRAINING}
    return outer | by_path({n: v for n, v in grid.items() if n not in TRAINING}, where)


def _mapping(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a mapping, got {values!r}")
    return dict(values)


def _population(values: dict[str, Any]) -> Population:
    known = Population.__dataclass_fields__
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"population.{unknown[0]} is unknown; known are {', '.join(known)}")
    return Population(**values)


def _grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    grid = {}
    for text in texts:
        name, _, values = text.partition("=")
        words = [word for word in values.split(",") if word]
        if not name or not words or name in grid:
            raise ConfigError(f"--grid must be NAME=A,B, each name once, got {text!r}")
        grid[name] = [value_of(word) for word in words]
    return grid


def _file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must be a mapping, got {type(found).__name__}")
    return found
