"""From samples to scores: what `gdro eval` reports, made from the folder alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from gdro.core.errors import DataError
from gdro.core.passk import bootstrap_mean, pass_at_k, wilson_of_means
from gdro.evals.benchmarks import mark
from gdro.evals.engines.base import Sample
from gdro.evals.majority import answers, group, majority
from gdro.evals.store import Store
from gdro.rewards import check_golds

SMALL, RARE = 100, 10
"""The bootstrap needs so many problems, and so many of them solved and unsolved; else Wilson."""

PACKAGES = ("gdro", "numpy", "torch", "transformers", "vllm", "math-verify", "sympy",
            "latex2sympy2-extended")  # fmt: skip

Score = dict[str, Any]
"""`value`, `interval` (95%) and the `method` of the interval."""


def versions() -> dict[str, str]:
    """Of the packages that can change a score, those that are there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def score(store: Store) -> dict[str, Any]:
    """Verifies the samples of a folder, and writes summary.json and verdicts.jsonl.gz.

    Returns:
        The summary.

    Raises:
        DataError: if samples are missing, damaged or of problems that were not asked.
    """
    settings, samples = store.settings, store.samples()
    by_name: dict[str, list[dict[str, Any]]] = {name: [] for name in settings["benchmarks"]}
    for row in store.problems():
        by_name[row["benchmark"]].append(row)
    expected = {
        (name, row["id"], seed, number)
        for name, rows in by_name.items()
        for row in rows
        for seed in settings["seeds"]
        for number in range(settings["k"])
    }
    if missing := expected - samples.keys():
        raise DataError(
            f"{store.path}: {len(missing)} of {len(expected)} samples are missing; the command "
            "that began it samples them"
        )
    if stray := samples.keys() - expected:
        raise DataError(
            f"{store.path}: {len(stray)} samples are of nothing that was asked, as {min(stray)}"
        )
    scored = {n: _benchmark(n, settings, rows, samples) for n, rows in by_name.items()}
    summary = {
        **settings,
        "scored_with": versions(),
        "scores": {name: found["scores"] for name, found in scored.items()},
        "together": together({name: found["scores"] for name, found in scored.items()}),
        "problems": {name: found["problems"] for name, found in scored.items()},
    }
    store.write_scores(summary, (line for found in scored.values() for line in found["lines"]))
    return summary


def _benchmark(
    name: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]],
    samples: Mapping[Any, Sample],
) -> dict[str, Any]:  # fmt: skip
    """Scores, results by problem and verdict lines of one benchmark."""
    about, k, seeds = settings["benchmarks"][name], settings["k"], settings["seeds"]
    drawn = [samples[name, row["id"], seed, j] for seed in seeds for row in rows for j in range(k)]
    gold_R = [row["answer"] for _ in seeds for row in rows for _ in range(k)]
    text_R = [sample.text for sample in drawn]
    shape = (len(seeds), len(rows), k)
    answer_R = answers(text_R, about["policy"])
    answer_GK = [answer_R[i : i + k] for i in range(0, len(answer_R), k)]
    golds = [row["answer"] for row in rows]
    bad = [] if about["policy"] == "exact" else [rows[i]["id"] for i in check_golds(golds)]
    groups: np.ndarray | None = None
    scores: dict[str, Any] = {}
    problems: dict[str, Any] = {}
    verdicts: dict[float, list[str]] = {}
    for tolerance in about["tolerances"]:
        verdicts[tolerance] = _marked(gold_R, text_R, about["policy"], tolerance, verdicts)
        if groups is None:
            judged = zip(answer_R, verdicts[tolerance], strict=True)
            unread = {a for a, v in judged if a is not None and v not in ("right", "wrong")}
            groups = group(answer_GK, about["policy"], unread)
        right = np.array([v == "right" for v in verdicts[tolerance]]).reshape(-1, k)
        voted_SN = majority(groups, right).reshape(shape[:2])
        found = {
            **scores_of(right.reshape(shape).sum(axis=2), k, voted_SN),
            "verdicts": dict(sorted(Counter(map(str, verdicts[tolerance])).items())),
        }
        if not scores:
            lengths = [s.tokens for s in drawn if s.tokens is not None]
            scores = found | {
                "problems": len(rows),
                "tokens": _lengths(lengths) if len(lengths) == len(drawn) else None,
                "truncated": sum(s.truncated for s in drawn) / len(drawn),
                "alike": _alike(text_R, shape),
                "bad_golds": bad,
                "by": _by(rows, right.reshape(shape).mean(axis=(0, 2))),
            }
            problems = {
                "id": [row["id"] for row in rows],
                "correct": right.reshape(shape).sum(axis=2).tolist(),
                "majority": voted_SN.tolist(),
            }
        else:
            scores[f"tolerance {tolerance:g}"] = found
    first, *others = verdicts
    lines = _lines(drawn, answer_R, verdicts[first], {t: verdicts[t] for t in others})
    return {"scores": scores, "problems": problems, "lines": lines}


def _marked(
    gold_R: Sequence[str], text_R: Sequence[str], policy: str, tolerance: float,
    strict: Mapping[float, Sequence[str]],
) -> list[str]:  # fmt: skip
    """Verdicts at a tolerance; only what is wrong at a smaller one can differ."""
    if not strict:
        return list(mark(gold_R, text_R, policy, tolerance))
    found = list(strict[max(strict)])
    rows = [i for i, verdict in enumerate(found) if verdict == "wrong"]
    again = mark([gold_R[i] for i in rows], [text_R[i] for i in rows], policy, tolerance)
    for i, verdict in zip(rows, again, strict=True):
        found[i] = verdict
    return found


def scores_of(correct_SN: np.ndarray, k: int, voted_SN: np.ndarray) -> dict[str, Score]:
    """mean@k, unbiased pass@j for the powers of two up to k and for k, and maj@k.

    Args:
        correct_SN: int64, right completions of each seed and problem, of k.
        k: Completions.
        voted_SN: Score of the majority.
    """
    sizes = [2**i for i in range(k.bit_length()) if 2**i < k]
    found = {f"mean@{k}": interval(correct_SN / k, k)}
    for j in [*sizes, k]:
        found[f"pass@{j}"] = interval(pass_at_k(k, correct_SN, j), k // j)
    return found | {f"maj@{k}": interval(voted_SN, 1)}


def interval(value_SN: np.ndarray, trials: int) -> Score:
    """Mean over seeds and problems, with its 95% interval.

    Args:
        value_SN: In [0, 1].
        trials: Independent 0/1 outcomes behind each value.
    """
    count, mean_N = value_SN.shape[1], value_SN.mean(axis=0)
    mean = float(value_SN.mean())
    if count >= SMALL and RARE <= count * mean <= count - RARE:
        ends = bootstrap_mean(value_SN, np.random.default_rng(0))
        return {"value": mean, "interval": list(ends), "method": "bootstrap"}
    ends = wilson_of_means(np.clip(mean_N, 0, 1), trials * len(value_SN))
    return {"value": mean, "interval": list(ends), "method": "wilson"}


def together(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What benchmarks come to together.

    ``aime`` is the mean of AIME 2024 and 2025; ``pooled`` counts each problem alike, ``average``
    each benchmark alike, the two AIMEs as one.
    """
    found = {}
    if {"aime24", "aime25"} <= scores.keys():
        found["aime"] = _combined(scores, {"aime24": 0.5, "aime25": 0.5})
    if len(scores) > 1:
        total = sum(s["problems"] for s in scores.values())
        found["pooled"] = _combined(scores, {n: s["problems"] / total for n, s in scores.items()})
        both = "aime" in found
        share = 1 / (len(scores) - both)
        halved = {n: share / (2 if both and n.startswith("aime") else 1) for n in scores}
        found["average"] = _combined(scores, halved)
    return found


def _combined(scores: Mapping[str, Mapping[str, Any]], weights: Mapping[str, float]) -> Any:
    first = scores[next(iter(weights))]
    names = [name for name, cell in first.items() if isinstance(cell, dict) and "value" in cell]
    return {
        name: combine([(weight, scores[b][name]) for b, weight in weights.items()])
        for name in names
    }


def combine(parts: Sequence[tuple[float, Score]]) -> Score:
    """A weighted sum of independent scores, with the interval that theirs imply.

    Zou and Donner (2008), the method of variance estimates recovery: the distance to an end is the
    root of the weighted sum of squares of the parts' distances, so a part with an asymmetric or
    Wilson interval keeps it.
    """
    value = sum(weight * part["value"] for weight, part in parts)
    squares = [
        sum((weight * (part["interval"][end] - part["value"])) ** 2 for weight, part in parts)
        for end in (0, 1)
    ]
    low, high = value - squares[0] ** 0.5, value + squares[1] ** 0.5
    return {"value": value, "interval": [low, high], "method": "recovered"}


def _by(rows: Sequence[Mapping[str, Any]], rate_N: np.ndarray) -> dict[str, Any]:
    """mean@k by level, subject and family, where problems differ in them."""
    found: dict[str, Any] = {}
    for name in ("level", "subject", "family"):
        labels = [row["groups"].get(name) for row in rows]
        different = sorted({str(label) for label in labels if label is not None})
        if len(different) > 1:
            found[name] = {
                label: {"problems": int(place.sum()), "mean": float(rate_N[place].mean())}
                for label in different
                for place in [np.array([str(x) == label for x in labels])]
            }
    return found


def _alike(text_R: Sequence[str], shape: tuple[int, int, int]) -> bool:
    """Whether nothing was sampled: of every problem, all completions are one text."""
    by_problem = np.array(text_R, dtype=object).reshape(shape).swapaxes(0, 1).reshape(shape[1], -1)
    return by_problem.shape[1] > 1 and all(len(set(texts)) == 1 for texts in by_problem)


def _lengths(tokens: Sequence[int]) -> dict[str, float]:
    return {
        "mean": float(np.mean(tokens)),
        "median": float(np.median(tokens)),
        "max": int(np.max(tokens)),
    }


def _lines(
    drawn: Sequence[Sample], answer_R: Sequence[str | None], verdict_R: Sequence[Any],
    others: Mapping[float, Sequence[Any]],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    for i, sample in enumerate(drawn):
        line = dict(zip(("benchmark", "id", "seed", "sample"), sample.key, strict=True))
        line |= {"answer": answer_R[i], "verdict": str(verdict_R[i])}
        yield line | {f"verdict {t:g}": str(verdict[i]) for t, verdict in others.items()}
