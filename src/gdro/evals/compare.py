"""Two evaluations of the same problems, paired."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gdro.core.errors import DataError
from gdro.core.passk import bootstrap_mean, pass_at_k, wilson_of_means
from gdro.evals.score import RARE, SMALL

Line = dict[str, Any]


def read_summary(path: str | Path) -> dict[str, Any]:
    """A summary, from its file or the folder of an evaluation.

    Raises:
        DataError: if there is none.
    """
    path = Path(path).expanduser()
    file = path / "summary.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not {"scores", "problems", "benchmarks", "k", "seeds"} <= found.keys():
            raise ValueError("it lacks scores")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{file} is no summary of an evaluation ({error})") from None
    return found


def compare(path_a: str | Path, path_b: str | Path) -> dict[str, Any]:
    """Differences B - A of mean@k, pass@k and maj@k, each benchmark and pooled.

    Intervals (95%) come from the paired bootstrap over problems; where there are few of them, or
    few that differ, from Newcombe's square-and-add (1998, method 10) of the two Wilson intervals
    with the correlation of the pairs. McNemar's exact test is on which problems were solved by any
    of their completions.

    Raises:
        DataError: if k, the seeds' number, or the problems of a benchmark differ.
    """
    a, b = read_summary(path_a), read_summary(path_b)
    if a["k"] != b["k"] or len(a["seeds"]) != len(b["seeds"]):
        raise DataError(
            f"{path_a} has {len(a['seeds'])} seeds of k = {a['k']}, {path_b} {len(b['seeds'])} of "
            f"k = {b['k']}: nothing is paired"
        )
    if a["problems"].keys() != b["problems"].keys():
        raise DataError(f"{path_a} is of {', '.join(a['problems'])}, {path_b} of "
                        f"{', '.join(b['problems'])}")  # fmt: skip
    for name, of_a in a["problems"].items():
        of_b = b["problems"][name]
        if differ := sorted(set(of_a["id"]) ^ set(of_b["id"])):
            raise DataError(f"{name}: the two are of other problems, {len(differ)} are in one only "
                            f"(such as {', '.join(differ[:3])})")  # fmt: skip
    k = a["k"]
    found = {n: _benchmark(a["problems"][n], b["problems"][n], k) for n in a["problems"]}
    weight = {name: len(a["problems"][name]["id"]) for name in found}
    return {
        "a": str(path_a),
        "b": str(path_b),
        "k": k,
        "settings_that_differ": _differences(a, b),
        "benchmarks": found,
        "together": {"pooled": _pooled(found, weight)} if len(found) > 1 else {},
    }


def _benchmark(a: Mapping[str, Any], b: Mapping[str, Any], k: int) -> dict[str, Line]:
    place = {id_: n for n, id_ in enumerate(b["id"])}  # the files need not be in one order
    order = [place[id_] for id_ in a["id"]]
    correct_a, correct_b = np.array(a["correct"]), np.array(b["correct"])[:, order]
    voted_a, voted_b = np.array(a["majority"]), np.array(b["majority"])[:, order]
    trials = k * len(correct_a)
    lines = {
        f"mean@{k}": paired(correct_a / k, correct_b / k, trials),
        f"pass@{k}": paired(pass_at_k(k, correct_a, k), pass_at_k(k, correct_b, k), len(correct_a)),
        f"maj@{k}": paired(voted_a, voted_b, len(correct_a)),
    }
    solved_a, solved_b = correct_a.any(axis=0), correct_b.any(axis=0)
    only_a, only_b = int(np.sum(solved_a & ~solved_b)), int(np.sum(solved_b & ~solved_a))
    return lines | {"solved": mcnemar(only_a, only_b)}


def paired(a_SN: np.ndarray, b_SN: np.ndarray, trials: int) -> Line:
    """Difference of two means over the same problems.

    Args:
        a_SN: Values in [0, 1] of each seed and problem; the seeds of the two are not paired, so
            they are averaged first.
        b_SN: As well.
        trials: Independent 0/1 outcomes behind a problem's average.
    """
    a_N, b_N = a_SN.mean(axis=0), b_SN.mean(axis=0)
    a, b, d_N = float(a_N.mean()), float(b_N.mean()), b_N - a_N
    line: Line = {"a": a, "b": b, "difference": b - a}
    if len(d_N) >= SMALL and np.count_nonzero(d_N) >= RARE:
        ends = bootstrap_mean(d_N, np.random.default_rng(0))
        return line | {"interval": list(ends), "method": "bootstrap"}
    (low_a, high_a), (low_b, high_b) = (wilson_of_means(x, trials) for x in (a_N, b_N))
    # Newcombe's continuity correction: pairs that are all alike are no proof that others will be.
    common = float(np.mean((a_N - a) * (b_N - b)))
    common = max(common - 1 / (2 * len(d_N)), 0.0) if common > 0 else common
    spread = float(a_N.std() * b_N.std())
    shared = common / spread if spread > 0 else 0.0
    low = b - a - _square_and_add(b - low_b, high_a - a, shared)
    high = b - a + _square_and_add(high_b - b, a - low_a, shared)
    return line | {"interval": [max(low, -1.0), min(high, 1.0)], "method": "newcombe"}


def _square_and_add(x: float, y: float, correlation: float) -> float:
    return max(x * x + y * y - 2 * correlation * x * y, 0.0) ** 0.5


def mcnemar(only_a: int, only_b: int) -> Line:
    """McNemar's exact test: of problems that one of the two solved, does either have more?

    Args:
        only_a: Problems that A alone solved.
        only_b: Problems that B alone solved.
    """
    from scipy.special import bdtr

    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
    return {"only_a": only_a, "only_b": only_b, "p": p}


def _pooled(found: Mapping[str, Mapping[str, Line]], weight: Mapping[str, int]) -> dict[str, Line]:
    """Over all problems; benchmarks are independent, so that squares of distances add up."""
    share = {name: count / sum(weight.values()) for name, count in weight.items()}
    lines: dict[str, Line] = {}
    for metric in next(iter(found.values())):
        if metric == "solved":
            continue
        parts = [(share[name], lines_[metric]) for name, lines_ in found.items()]
        line = {key: sum(w * part[key] for w, part in parts) for key in ("a", "b", "difference")}
        reach = [
            sum((w * (p["interval"][end] - p["difference"])) ** 2 for w, p in parts) ** 0.5
            for end in (0, 1)
        ]
        middle = line["difference"]
        lines[metric] = {
            **line, "interval": [middle - reach[0], middle + reach[1]], "method": "recovered",
        }  # fmt: skip
    solved = [lines_["solved"] for lines_ in found.values()]
    counts = (sum(line[name] for line in solved) for name in ("only_a", "only_b"))
    return lines | {"solved": mcnemar(*counts)}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """What was set otherwise, apart from what is meant to be: the model."""
    names = ("engine", "temperature", "top_p", "top_k", "seeds", "protocol", "limit", "engine_args",
             "chat_template_kwargs")  # fmt: skip
    found = {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}
    for benchmark, of_a in a["benchmarks"].items():
        of_b = b["benchmarks"][benchmark]
        for name in ("template", "max_tokens", "policy", "tolerances", "content"):
            if of_a.get(name) != of_b.get(name):
                found[f"{benchmark}.{name}"] = (of_a.get(name), of_b.get(name))
    return found
