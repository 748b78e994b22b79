"""Raw results of one comparison from several: more seeds or methods, run elsewhere or later.

A run is what its settings are, so those are compared, not what the studies are called.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gdro.core.errors import ConfigError, DataError
from gdro.lab.compare.gather import Raw, Row
from gdro.lab.compare.study import JUDGE, check_seeds, check_trials
from gdro.lab.recipe import default_settings
from gdro.lab.settings import plain

SCORES = ("mean", "pass", "rollouts", "tokens")
"""Of a run that stands in two tables, these must be the same in both."""

_JUDGED = (*JUDGE, "dataset_", "eval_", "correct_func", "prompt_template", "chat_template_kwargs",
           "model_name_or_path", "model_revision", "max_steps", "max_rollouts")  # fmt: skip
"""Beginnings of settings that runs of a suite share, or they are not one comparison."""


def merge(
    raws: Sequence[Raw],
    methods: Sequence[str] | None = None,
    contrasts: Mapping[str, dict[str, float]] | None = None,
) -> Raw:
    """One comparison of all the runs.

    Args:
        raws: Raw results; the first names the study, its baseline and its suites.
        methods: Which to keep, the baseline first; None keeps all.
        contrasts: Of the kept methods; None keeps those of the tables.

    Returns:
        The methods of all, with the seeds that every one of them has.

    Raises:
        ConfigError: if `methods` names one that is nowhere, methods were tuned by unequal trials,
            or a seed was tuned with and tested.
        DataError: if suites are judged otherwise, a method has other settings or was tested at
            another point of its grid, tuning looked at other prompts, a run that is in two tables
            has other scores, or no seed is common to all.
    """
    first = raws[0].study
    found: dict[str, dict[str, Any]] = {}
    for raw in raws:
        _check_suites(first, raw.study)
        for name, method in _methods(first, raw.study).items():
            if _plain(found.setdefault(name, method)["settings"]) != _plain(method["settings"]):
                raise DataError(
                    f"{raw.study['name']}: {name} has the settings {method['settings']}, elsewhere "
                    f"{found[name]['settings']}: these are two methods"
                )
    names = list(found) if methods is None else list(methods)
    if unknown := [name for name in names if name not in found]:
        raise ConfigError(f"methods: {unknown[0]} is in no table; there are {', '.join(found)}")
    runs = _renumbered(_rows(raws, names))
    _check_points(runs)
    seeds = _common_seeds(runs, names)
    tuning = _tuning(raws, runs, names)
    if tuning:
        check_seeds(seeds, tuning["grid_seeds"])
    kept = [row for row in runs if row["method"] is None or row["phase"] != "test"
            or row["seed"] in seeds]  # fmt: skip
    if contrasts is None:
        contrasts = {
            name: weights
            for raw in raws
            for name, weights in raw.study["contrasts"].items()
            if set(weights) <= set(names)
        }
    study = (
        first
        | tuning
        | {
            "methods": {name: found[name] for name in names},
            "seeds": seeds,
            "contrasts": dict(contrasts),
            "versions": _versions(raws),
        }
    )
    return Raw(runs=kept, prompts=_prompts(raws, names, seeds), study=study)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """As a study file may write them: 8e-4 is a text in YAML, 8.0e-4 a number."""
    return {name: plain(value) for name, value in settings.items()}


def _check_suites(first: dict[str, Any], other: dict[str, Any]) -> None:
    if set(first["suites"]) != set(other["suites"]):
        raise DataError(
            f"{other['name']} has the suites {', '.join(other['suites'])}, {first['name']} has "
            f"{', '.join(first['suites'])}"
        )
    for suite in first["suites"]:
        one, two = (_judged(s["suites"][suite]["settings"]) for s in (first, other))
        for key in {**one, **two}:
            if one.get(key) != two.get(key):
                raise DataError(
                    f"{suite}: {key} is {one.get(key)} in {first['name']} and {two.get(key)} in "
                    f"{other['name']}: these runs are not judged alike"
                )


def _judged(settings: dict[str, Any]) -> dict[str, Any]:
    """What decides how the runs of a suite are judged, and how long they train."""
    own = default_settings() | _plain(settings)
    right = own["correct_func"] or own["reward_funcs"]
    own["correct_func"] = [right] if isinstance(right, str) else right
    own["eval_max_tokens"] = own["eval_max_tokens"] or own.get("max_completion_length")
    return {name: value for name, value in own.items() if name.startswith(_JUDGED)}


def _tuning(raws: Sequence[Raw], rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """What study.json says of how all methods were tuned; nothing where none was."""
    tuned = [row for row in rows if row["phase"] == "tuning"]
    if not tuned:
        return {}
    for suite in {row["suite"] for row in tuned}:
        points = {(row["method"], row["point"]) for row in tuned if row["suite"] == suite}
        check_trials({name: sum(method == name for method, _ in points) for name in names})
    keys = ("grid_split", "grid_dataset")
    looked_at: dict[str, Any] = {}
    for raw in raws:
        if any(row["phase"] == "tuning" and row["method"] in names for row in raw.runs):
            own = {key: raw.study[key] for key in keys}
            if looked_at and own != looked_at:
                raise DataError(
                    f"{raw.study['name']}: tuning looked at {own}, elsewhere at {looked_at}: these "
                    "methods were not tuned alike"
                )
            looked_at = own
    return looked_at | {"grid_seeds": sorted({row["seed"] for row in tuned})}


def _methods(first: dict[str, Any], other: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The methods of a study, their settings as changes of the first study's suites."""
    found = {}
    for name, method in other["methods"].items():
        changes = []
        for suite, values in first["suites"].items():
            common = _plain(values["settings"])
            own = other["suites"][suite]["settings"] | method["settings"]
            if dropped := common.keys() - own.keys():
                raise DataError(f"{other['name']}: {name} has no {sorted(dropped)[0]}")
            usual = default_settings() | common
            changes.append({
                k: v for k, v in own.items()
                if k == "gdro_preset" or (usual.get(k) != plain(v) and k not in method["grid"])
            })  # fmt: skip
        if any(_plain(change) != _plain(changes[0]) for change in changes):
            raise DataError(f"{other['name']}: {name} has other settings by suite")
        found[name] = method | {"settings": changes[0]}
    return found


def _rows(raws: Sequence[Raw], names: Sequence[str]) -> list[Row]:
    """Rows of all tables, each once."""
    keys = ("suite", "method", "phase", "seed", "step")
    found: dict[tuple[Any, ...], Row] = {}
    for row in (row for raw in raws for row in raw.runs):
        if row["method"] is not None and row["method"] not in names:
            continue
        key = (*(row[name] for name in keys), _point(row))
        same = found.setdefault(key, row)
        for score in SCORES:
            if same[score] != row[score]:
                said = f"{row['method'] or 'the base model'} of {row['suite']}, seed {row['seed']}"
                raise DataError(
                    f"{said}: {score} is {same[score]} in one table and {row[score]} in another"
                )
    return list(found.values())


def _renumbered(rows: Sequence[Row]) -> list[Row]:
    """The same points of a method's grid by the same number, whatever each table called them."""
    numbers: dict[tuple[Any, Any], dict[str, int]] = {}
    found = []
    for row in rows:
        if row["phase"] != "base":
            own = numbers.setdefault((row["suite"], row["method"]), {})
            row = row | {"point": own.setdefault(_point(row), len(own))}
        found.append(row)
    return found


def _check_points(rows: Sequence[Row]) -> None:
    """That a method was tested at one point of its grid."""
    tested: dict[tuple[Any, Any], Row] = {}
    for row in rows:
        if row["phase"] == "test":
            first = tested.setdefault((row["suite"], row["method"]), row)
            if _point(first) != _point(row):
                raise DataError(
                    f"{row['method']} of {row['suite']} was tested at {first['values']} in one "
                    f"table and at {row['values']} in another: these are two methods"
                )


def _point(row: Row) -> str:
    """The values of a grid's point, as one text however they were written."""
    return json.dumps(_plain(json.loads(row["values"])), sort_keys=True)


def _common_seeds(rows: Sequence[Row], names: Sequence[str]) -> list[int]:
    """Seeds that every method has, in the order in which they come."""
    seeds: dict[str, dict[int, None]] = {name: {} for name in names}
    for row in rows:
        if row["phase"] == "test" and row["last"]:
            seeds[row["method"]][row["seed"]] = None
    every = dict.fromkeys(seed for own in seeds.values() for seed in own)
    common = [seed for seed in every if all(seed in own for own in seeds.values())]
    if not common:
        said = ", ".join(f"{name} {list(own)}" for name, own in seeds.items())
        raise DataError(f"no seed is common to all methods: {said}")
    return sorted(common)


def _prompts(raws: Sequence[Raw], names: Sequence[str], seeds: Sequence[int]) -> Any:
    """prompts.parquet of the kept runs, each once."""
    import pyarrow as pa

    taken: set[tuple[Any, ...]] = set()
    tables = []
    for raw in raws:
        columns = (raw.prompts[name].to_pylist() for name in ("suite", "method", "seed"))
        keys = list(zip(*columns, strict=True))
        wanted = {
            key
            for key in set(keys) - taken
            if key[1] is None or (key[1] in names and key[2] in seeds)
        }
        tables.append(raw.prompts.filter(pa.array([key in wanted for key in keys])))
        taken |= set(keys)
    return pa.concat_tables(tables)


def _versions(raws: Sequence[Raw]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for raw in raws:
        for name, versions in raw.study["versions"].items():
            found.setdefault(name, {}).update(dict.fromkeys(versions.split(" and ")))
    return {name: " and ".join(sorted(versions)) for name, versions in found.items()}
