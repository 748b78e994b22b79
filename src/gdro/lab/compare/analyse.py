"""From raw tables to results: every number that is said of a comparison."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from gdro.core.config import ControllerConfig
from gdro.core.errors import DataError
from gdro.core.passk import pass_at_k
from gdro.core.seeds import on_common_knots, paired_difference, t_interval
from gdro.core.types import FloatArray
from gdro.lab.compare.gather import CURRICULUM, SPENT, Raw, Row, metric_names
from gdro.lab.settings import PATHS, plain
from gdro.lab.stats import bootstrap_means, reach_of_mean

EQUAL = 0.01
"""Rollouts that differ by at most this part are equal compute: a step's overshoot at a budget."""


def best_points(rows: Sequence[Row]) -> dict[str, int]:
    """Each method's best point by pass@k, mean@k breaking ties, then the first."""
    tried = {row["method"]: points_tried(rows, row["method"]) for row in rows}
    return {
        method: max(points, key=lambda i: (points[i]["pass"], points[i]["mean"], -i))
        for method, points in tried.items()
    }


def points_tried(rows: Sequence[Row], method: str) -> dict[int, Row]:
    """Values, mean and pass of each point of a method: means over the tuning seeds' last steps."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        if row["method"] == method and row["phase"] == "tuning" and row["last"]:
            found.setdefault(row["point"], []).append(row)
    return {
        i: {"values": json.loads(same[0]["values"])}
        | {m: float(np.mean([row[m] for row in same])) for m in ("mean", "pass")}
        for i, same in sorted(found.items())
    }


def analyse(raw: Raw) -> dict[str, Any]:
    """The results of a study.

    Returns:
        What results.json holds: `study`, `baseline`, `seeds`, `methods` (their settings), and for
        each of `suites` what `gdro.lab.compare.table` shows.

    Raises:
        DataError: if the tables lack a run, or runs of a suite saw other prompts.
    """
    study = raw.study
    return {
        "study": study["name"],
        "baseline": next(iter(study["methods"])),
        "seeds": study["seeds"],
        "methods": {name: m["settings"] for name, m in study["methods"].items()},
        "suites": {name: _suite(raw, name) for name in study["suites"]},
        "versions": study["versions"],
    }


def equal_rollouts(methods: dict[str, Any], baseline: str) -> bool:
    """Whether every run spent the baseline's mean rollouts, but for `EQUAL` of them."""
    mean = np.mean(methods[baseline]["rollouts"])
    spent = np.concatenate([found["rollouts"] for found in methods.values()])
    return bool(np.all(np.abs(spent - mean) <= EQUAL * mean))


def add_differences(methods: dict[str, Any], baseline: str, metrics: Sequence[str]) -> None:
    """Gives each method `difference`, paired to the baseline, and relative to the latter's mean."""
    first = methods[baseline]
    for found in methods.values():
        found["difference"] = {
            m: _relative(vars(paired_difference(found[m], first[m])), first[m])
            for m in metrics
            if None not in (*found[m], *first[m])
        }


def _relative(difference: Row, baseline: Sequence[float]) -> Row:
    """Adds `relative`: the difference and its interval, divided by the baseline's mean."""
    base, ends = float(np.mean(baseline)), ("mean", "low", "high")
    if base > 0:
        found = {e: None if difference[e] is None else difference[e] / base for e in ends}
        return difference | {"relative": found}
    return difference


def _suite(raw: Raw, suite: str) -> dict[str, Any]:
    study, seeds = raw.study, raw.study["seeds"]
    names, baseline = list(study["methods"]), next(iter(study["methods"]))
    rows = [row for row in raw.runs if row["suite"] == suite]
    base = next((row for row in rows if row["phase"] == "base"), None)
    if base is None:
        raise DataError(f"runs.parquet lacks the base model of {suite}")
    k = base["k"]
    named = metric_names(k)
    methods: dict[str, dict[str, Any]] = {}
    for name in names:
        lines = [_last(rows, suite, name, seed) for seed in seeds]
        used, values = lines[0]["point"], json.loads(lines[0]["values"])
        methods[name] = {
            "values": values,
            "tuning": [  # the one that is used as it is spelt there: studies say 8e-4 or 0.0008
                {"values": values if i == used else p["values"]}
                | {named[m]: p[m] for m in ("mean", "pass")}
                for i, p in points_tried(rows, name).items()
            ],
            **{named[m]: [line[m] for line in lines] for m in named},
            **{m: [line[m] for line in lines] for m in (*SPENT, "seconds")},
            "steps": [line["step"] for line in lines],
            "bins": _bins(
                study["suites"][suite]["settings"] | study["methods"][name]["settings"] | values
            ),
            "curriculum": {m: _stages([line[m] for line in lines]) for m in CURRICULUM},
        }
    add_differences(methods, baseline, list(named.values()))
    _add_prompts(raw, suite, methods, k)
    if any(row["phase"] == "test" and not row["last"] for row in rows):
        _add_curves(rows, base, seeds, methods)
        _add_at_tokens(rows, base, seeds, methods)
    return {
        "recipe": suite,
        "split": base["split"],
        "k": k,
        "prompts": base["prompts"],
        "seeds": seeds,
        "baseline": baseline,
        "equal_rollouts": equal_rollouts(methods, baseline),
        "base": {named[m]: base[m] for m in named},
        "methods": methods,
        "contrasts": {
            name: _contrast(weights, methods, baseline, list(named.values()))
            for name, weights in study["contrasts"].items()
        },
        "versions": study["versions"],
    }


def _last(rows: list[Row], suite: str, method: str, seed: int) -> Row:
    for row in rows:
        if (
            row["phase"] == "test"
            and row["last"]
            and (row["method"], row["seed"]) == (method, seed)
        ):
            return row
    raise DataError(f"runs.parquet lacks the last step of {suite}, {method}, seed {seed}")


def _contrast(
    weights: dict[str, float], methods: dict[str, Any], baseline: str, metrics: list[str]
) -> dict[str, Any]:
    """A weighted sum of methods, paired over seeds."""
    found = {}
    for m in metrics:
        if all(None not in methods[name][m] for name in (*weights, baseline)):
            sums = sum(w * np.asarray(methods[name][m]) for name, w in weights.items())
            found[m] = _relative(vars(t_interval(np.asarray(sums))), methods[baseline][m])
    return {"weights": weights, "difference": found}


def _bins(settings: dict[str, Any]) -> str:
    """What a method's bins are of: pass@k, any of n right, a column, or chance."""
    values = vars(ControllerConfig.preset(settings["gdro_preset"]).difficulty)
    own = {PATHS[name]: plain(value) for name, value in settings.items() if name in PATHS}
    values = values | {path.removeprefix("difficulty."): value for path, value in own.items()}
    if values["source"] != "online":
        return str(values["source"])
    return "any of n" if values["estimator"] == "any" else f"pass@{values['k']}"


def _stages(values: list[list[float | None] | None]) -> list[float | None]:
    """Curriculum numbers averaged over seeds, one for each of four stages."""
    stages = [[v[i] for v in values if v] for i in range(4)]
    known = [[v for v in stage if v is not None] for stage in stages]
    return [float(np.mean(stage)) if stage else None for stage in known]


def _add_prompts(raw: Raw, suite: str, methods: dict[str, Any], k: int) -> None:
    """Adds to differences their bootstrap interval over prompts, and `families`."""
    from pyarrow.compute import field

    seeds, ids, family_N = raw.study["seeds"], None, []
    table = raw.prompts.filter(field("suite") == suite)
    scores: dict[str, dict[str, FloatArray]] = {}
    for name, found in methods.items():
        mine = table.filter(field("method") == name)
        right = []
        for seed, step in zip(seeds, found["steps"], strict=True):
            rows = mine.filter((field("seed") == seed) & (field("step") == step))
            if ids is None:
                ids, family_N = rows["id"].to_pylist(), rows["family"].to_pylist()
            if not ids or rows["id"].to_pylist() != ids:
                raise DataError(
                    f"prompts.parquet: {suite}, {name}, seed {seed} has other prompts than the rest"
                )
            right.append(rows["correct"].to_numpy())
        right_SN = np.array(right)
        scores[name] = {f"mean@{k}": right_SN / k, f"pass@{k}": pass_at_k(k, right_SN, k)}
    first, metrics = next(iter(scores.values())), (f"mean@{k}", f"pass@{k}")
    columns = [(scores[n][m] - first[m]).mean(axis=0) for n in methods for m in metrics]
    ends = iter(np.transpose(bootstrap_means(np.stack(columns, axis=1))).tolist())
    families = sorted({family for family in family_N if family is not None})
    rows = {f: np.flatnonzero([family == f for family in family_N]) for f in families}
    for name, found in methods.items():
        for m in metrics:
            found["difference"][m]["prompts"] = next(ends)
        found["families"] = {
            f: {m: _family(scores[name][m][:, r], first[m][:, r]) for m in metrics}
            for f, r in rows.items()
        }


def _family(scores_SN: FloatArray, first_SN: FloatArray) -> Row:
    score_S = scores_SN.mean(axis=1)
    gap = vars(paired_difference(score_S.tolist(), first_SN.mean(axis=1).tolist()))
    return {"score": float(score_S.mean())} | gap


def _add_curves(rows: list[Row], base: Row, seeds: list[int], methods: dict[str, Any]) -> None:
    """Adds `curve`, pass@k against rollouts, and where it reaches the baseline's final pass@k."""
    curves = {
        name: on_common_knots([_course(rows, base, name, s, "rollouts", "pass") for s in seeds])
        for name in methods
    }
    first = next(iter(methods))
    target_S, whole = curves[first][1][:, -1], float(np.mean(methods[first]["rollouts"]))
    for name, (x_G, y_SG) in curves.items():
        found = [t_interval(y_S) for y_S in y_SG.T]
        methods[name]["curve"] = {"rollouts": x_G.tolist()} | {
            end: [getattr(one, end) for one in found] for end in ("mean", "low", "high")
        }
        point, low, high = (v / whole for v in reach_of_mean(x_G, y_SG, target_S))
        single = len(seeds) == 1
        methods[name]["reaches"] = {
            "share": _finite(point),
            "low": None if single else _finite(low),
            "high": None if single else _finite(high),
        }


def _add_at_tokens(rows: list[Row], base: Row, seeds: list[int], methods: dict[str, Any]) -> None:
    """Adds `at_tokens`: the scores less the baseline's where a run has generated as many tokens."""
    names = metric_names(base["k"])
    first, *others = methods
    for name in others:
        found = methods[name]["at_tokens"] = {}
        for m in ("pass", "mean"):
            scores = [
                float(np.interp(tokens, *_course(rows, base, name, seed, "tokens", m)))
                for seed, tokens in zip(seeds, methods[first]["tokens"], strict=True)
            ]
            usual = methods[first][names[m]]
            found[names[m]] = _relative(vars(paired_difference(scores, usual)), usual)


def _course(
    rows: list[Row], base: Row, method: str, seed: int, spent: str, score: str
) -> tuple[list[int], list[float]]:
    """A score of a run by what it had spent; of steps that had spent the same, the last one's."""
    run = [
        row
        for row in rows
        if row["phase"] == "test" and (row["method"], row["seed"]) == (method, seed)
    ]
    run.sort(key=lambda row: row["step"])
    points = {0: base[score]} | {row[spent]: row[score] for row in run}
    return list(points), list(points.values())


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
