"""What is compared, and how: from a YAML file, or from what the command line gave instead of one.

    recipe: arithmetic                      # of every suite that names no other
    settings: {max_steps: 150}              # of every run
    suites: {arithmetic: {}, hard: {dataset_name: arithmetic/hard}}
    methods:                                # the first is the baseline
      grpo: {}
      hard3: {gdro_preset: rollout, gdro_rollout_power: 3}
    seeds: [0, 1, 2]
    grid: {learning_rate: [4e-4, 8e-4]}

docs/comparison.md has all keys.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gdro.core.config import ControllerConfig
from gdro.core.errors import ConfigError
from gdro.core.presets import PRESETS
from gdro.lab.recipe import (
    DEFAULT_RECIPE,
    did_you_mean,
    flat_settings,
    read_flags,
    read_mapping,
    read_settings,
    recipe_name,
)
from gdro.lab.settings import PATHS, plain, preset_paths

Point = dict[str, Any]
"""A point of a grid: values by setting."""

KEYS = ("recipe", "settings", "suites", "methods", "seeds", "grid", "grid_seeds", "grid_split",
        "grid_dataset", "contrasts")  # fmt: skip

GIVEN = {"seed": "seeds", "output_dir": "--out", "eval_base": "--out"}
"""Settings that a comparison gives its runs, and what says so."""

JUDGE = ("verify_policy", "verify_tolerance", "allow_bad_golds", "drop_cjk", "max_prompt_tokens",
         "dataset_layout", "prompt_column", "answer_column", "id_column")  # fmt: skip
"""Settings of a run that decide which answers are right, and which prompts are there."""

TUNING_SEED = 1000
"""Of tuning runs; no study tests so many seeds."""

RESULTS = "results"
"""Folder of the raw tables and all that is made of them, beside the folders of the suites."""

_SWITCHES = {"prompt.weigh", "rollout.allocator", "select.policy", "replay.successes"}
"""What a preset says of itself also where it leaves them as they are."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What is trained and tested on.

    Attributes:
        name: Names a folder.
        recipe: Name of the recipe.
        settings: Flat settings of every run on it, the recipe's among them.
    """

    name: str
    recipe: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One of those compared.

    Attributes:
        name: Names folders.
        settings: Its flat settings, `gdro_preset` among them.
        grid: Its points: the study's grid times its own.
    """

    name: str
    settings: dict[str, Any]
    grid: dict[str, list[Any]]

    def points(self) -> list[Point]:
        """Every point of the grid; one empty point without a grid."""
        products = itertools.product(*self.grid.values())
        return [dict(zip(self.grid, values, strict=True)) for values in products]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, and how.

    Attributes:
        name: Of the study.
        suites: Each is a comparison of its own.
        methods: The first is what the others are compared to.
        seeds: Training seeds of the tested runs.
        grid_seeds: Training seeds of the tuning runs; none is tested.
        grid_split: Split that tuning looks at.
        grid_dataset: Data set of that split; None is the test split's.
        contrasts: Weights by method, summing to 0, by the name of what they are the weights of.
    """

    name: str
    suites: tuple[Suite, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    grid_seeds: tuple[int, ...] = (TUNING_SEED,)
    grid_split: str = "validation"
    grid_dataset: str | None = None
    contrasts: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def tuned(self) -> bool:
        """Whether there is anything to choose from."""
        return len(self.methods[0].points()) > 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for study.json."""
        values = asdict(self)
        for key in ("suites", "methods"):
            values[key] = {one.pop("name"): one for one in values[key]}
        return values


def read_study(path: Path, flags: Sequence[str] = ()) -> Study:
    """Reads a study from a YAML file.

    Args:
        path: The file; its name is the study's.
        flags: Further settings of all runs, as command-line flags.

    Raises:
        ConfigError: naming the key that is unknown or wrong.
    """
    return study_of(path.stem, read_mapping(path), flags)


def study_of(name: str, values: Mapping[str, Any], flags: Sequence[str] = ()) -> Study:
    """A study from the keys of its file.

    Args:
        name: Of the study.
        values: As in the file.
        flags: Further settings of all runs, as command-line flags.

    Raises:
        ConfigError: naming the key that is unknown or wrong.
    """
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"{key} is unknown in a study{did_you_mean(key, KEYS)}")
    given = {key: value for key, value in values.items() if value is not None}
    recipe = str(given.get("recipe", DEFAULT_RECIPE))
    settings = _settings(given.get("settings"), "settings") | read_flags(flags)
    suites = _mapping(given.get("suites", {recipe_name(recipe): {}}), "suites")
    methods = given.get("methods")
    if isinstance(methods, list):
        methods = {str(method): {} for method in _distinct(methods, "methods")}
    grid = _grid(given.get("grid"), "grid")
    study = Study(
        name=_safe(name, "the study's name"),
        suites=tuple(_suite(n, own, recipe, settings) for n, own in suites.items()),
        methods=tuple(_method(n, v, grid) for n, v in _mapping(methods, "methods").items()),
        seeds=_seeds(given.get("seeds"), "seeds"),
        grid_seeds=_seeds(given.get("grid_seeds", [TUNING_SEED]), "grid_seeds"),
        grid_split=str(given.get("grid_split", "validation")),
        grid_dataset=_text(given.get("grid_dataset"), "grid_dataset"),
        contrasts={
            str(n): _mapping(weights, f"contrasts.{n}")
            for n, weights in _mapping(given.get("contrasts", {}), "contrasts", empty=True).items()
        },
    )
    _check_alike(study, settings, suites)
    _check_presets(study)
    check_trials({method.name: len(method.points()) for method in study.methods})
    if study.tuned:
        check_seeds(study.seeds, study.grid_seeds)
    _check_contrasts(study)
    return study


def parse_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """`["learning_rate=1e-4,2e-4"]` -> `{"learning_rate": ["1e-4", "2e-4"]}`."""
    grid = {}
    for text in texts:
        name, _, values = text.partition("=")
        words = [word for word in values.split(",") if word]
        if not name or not words or len(set(words)) < len(words) or name in grid:
            raise ConfigError(f"--grid must be NAME=A,B with distinct values, got {text!r}")
        grid[name.replace("-", "_")] = words
    return grid


def _suite(name: str, values: Any, recipe: str, settings: dict[str, Any]) -> Suite:
    own = _settings(values, f"suites.{name}")
    source = str(own.pop("recipe", recipe))
    if _safe(name, "the name of a suite") == RESULTS:
        raise ConfigError(f"a suite cannot be called {RESULTS}: that is the folder of the results")
    merged = {k: v for k, v in read_settings(source).items() if k != "output_dir"}
    return Suite(name=name, recipe=source, settings=merged | settings | own)


def _method(name: str, values: Any, grid: dict[str, list[Any]]) -> Method:
    where = f"methods.{name}"
    _safe(name, "the name of a method")
    settings = _settings({"gdro_preset": values} if isinstance(values, str) else values, where)
    own = _grid(settings.pop("grid", None), f"{where}.grid")
    if twice := sorted(own.keys() & grid.keys()):
        raise ConfigError(f"{where}.grid: {twice[0]} is in the study's grid too")
    if "gdro_preset" not in settings:
        if name not in PRESETS:
            hint = did_you_mean(name, PRESETS)
            raise ConfigError(f"{where} needs gdro_preset: {name} is no preset{hint}")
        settings = {"gdro_preset": name} | settings
    return Method(name=name, settings=settings, grid=grid | own)


def _settings(values: Any, where: str) -> dict[str, Any]:
    flat = flat_settings({} if values is None else _mapping(values, where, empty=True), where)
    return {str(key): value for key, value in flat.items()}


def _mapping(values: Any, where: str, *, empty: bool = False) -> dict[str, Any]:
    if not isinstance(values, Mapping) or not (values or empty):
        raise ConfigError(f"{where} must be a mapping{'' if empty else ' of at least one'}, "
                          f"got {values!r}")  # fmt: skip
    return {str(key): value for key, value in values.items()}


def _text(value: Any, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where} must be a name, got {value!r}")
    return value


def _distinct(values: Any, where: str) -> list[Any]:
    simple = isinstance(values, list | tuple) and all(
        isinstance(value, str | int | float) for value in values
    )
    if not simple or not values or len({repr(plain(value)) for value in values}) < len(values):
        raise ConfigError(f"{where} must be a list of distinct values, got {values!r}")
    return list(values)


def _seeds(values: Any, where: str) -> tuple[int, ...]:
    seeds = _distinct(values, where)
    if not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"{where} must be integers >= 0, got {seeds}")
    return tuple(seeds)


def _grid(values: Any, where: str) -> dict[str, list[Any]]:
    grid = _settings(values, where)
    for name, words in grid.items():
        if isinstance(words, list) and not all(isinstance(w, str | int | float) for w in words):
            raise ConfigError(f"{where}.{name} must hold numbers or words, got {words!r}")
        grid[name] = _distinct(words, f"{where}.{name}")
    return grid


def _safe(name: str, what: str) -> str:
    """A name that may name a folder."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{what} must be of letters, digits, _, - and ., got {name!r}")
    return name


def _check_alike(study: Study, settings: dict[str, Any], suites: dict[str, Any]) -> None:
    """That all runs are judged alike, and that nothing is set twice."""
    rooms = {"settings": settings}
    rooms |= {f"suites.{name}": _settings(own, f"suites.{name}") for name, own in suites.items()}
    rooms |= {f"methods.{method.name}": method.settings for method in study.methods}
    grids = {f"methods.{method.name}": method.grid for method in study.methods}
    for room, values in rooms.items():
        for name in values:
            if name in GIVEN or (name == "gdro_preset" and not room.startswith("methods.")):
                said = GIVEN.get(name, "methods")
                raise ConfigError(f"{room}: {name} is set by the comparison; use {said}")
            shared = room == "settings" or room.startswith("suites.")
            if any(name in grid for owner, grid in grids.items() if shared or room == owner):
                raise ConfigError(f"{room}: {name} is in the grid too")
    for room, grid in grids.items():
        for name in (*grid, *rooms[room]):
            judged = name.startswith(("dataset_test_", "eval_"))
            if judged or (name in grid and name in (*GIVEN, "gdro_preset")):
                raise ConfigError(f"{room}: {name}: a comparison judges all its runs alike")


def _check_presets(study: Study) -> None:
    """That what all methods share does not change what the preset of one says it is."""
    for method in study.methods:
        name = str(method.settings["gdro_preset"])
        if name not in PRESETS:
            hint = did_you_mean(name, PRESETS)
            raise ConfigError(f"methods.{method.name}: gdro_preset {name} is no preset{hint}")
        preset, said = ControllerConfig.preset(name), preset_paths(name) | _SWITCHES
        for suite, flag in itertools.product(study.suites, PATHS):
            if flag not in suite.settings or flag in {**method.settings, **method.grid}:
                continue
            value, (room, setting) = plain(suite.settings[flag]), PATHS[flag].split(".")
            meant = getattr(getattr(preset, room), setting)
            if PATHS[flag] in said and value != meant:
                raise ConfigError(
                    f"suites.{suite.name}: {flag}={value} of all methods would change "
                    f"{method.name}, whose preset {name} has {meant}; give it to the methods that "
                    "are to have it"
                )


def check_seeds(tested: Iterable[int], tuned: Iterable[int]) -> None:
    """That no run is tested that was chosen by."""
    if both := sorted(set(tested) & set(tuned)):
        raise ConfigError(
            f"grid_seeds and seeds share {both[0]}: a run that was chosen by would be tested"
        )


def check_trials(trials: Mapping[str, int]) -> None:
    """That every method has as many points to tune over."""
    if len(set(trials.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in trials.items())
        raise ConfigError(f"methods must have the same number of points to tune over, got {counts}")


def _check_contrasts(study: Study) -> None:
    names = [method.name for method in study.methods]
    for contrast, weights in study.contrasts.items():
        for name, weight in weights.items():
            if name not in names:
                hint = did_you_mean(name, names)
                raise ConfigError(f"contrasts.{contrast}: {name} is no method{hint}")
            if type(weight) not in (int, float) or not math.isfinite(weight):
                raise ConfigError(
                    f"contrasts.{contrast}.{name} must be a finite number, got {weight!r}"
                )
        if abs(sum(weights.values())) > 1e-9:
            raise ConfigError(
                f"contrasts.{contrast}: weights must sum to 0, got {sum(weights.values()):g}"
            )
