"""The results of a comparison, on the screen and in Markdown, from one list of cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

Cells = list[list[str]]


def scores(results: dict[str, Any]) -> Cells:
    """Base and methods: the scores, and the paired difference to the first method."""
    mean, passed, worst = _metrics(results)
    baseline = results["baseline"]
    head = ["method", mean, passed, "worst family"]
    head += [f"{mean} - {baseline}", f"{passed} - {baseline}"]
    rows = [head, ["base", *(_score([results["base"][m]]) for m in _metrics(results)), "", ""]]
    for name, found in results["methods"].items():
        differences = ["", ""]
        if name != baseline:
            differences = [_difference(found["difference"][m]) for m in (mean, passed)]
        rows.append([name, *(_score(found[m]) for m in (mean, passed, worst)), *differences])
    return rows


def cost(results: dict[str, Any]) -> Cells:
    """What each method was run with, and what a run of it spent."""
    rows = [["method", "values", "rollouts", "of them trained", "tokens", "seconds"]]
    for name, found in results["methods"].items():
        values = " ".join(f"{key}={value}" for key, value in found["values"].items())
        spent = [_range(found[m]) for m in ("rollouts", "trained", "tokens")]
        rows.append([name, values, *spent, f"{np.mean(found['seconds']):.0f}"])
    return rows


def curriculum(results: dict[str, Any]) -> Cells:
    """The curriculum at four stages of training, each a quarter of the steps."""
    rows = [["method", "lead–lag", "hard budget", "hard prompts"]]
    for name, found in results["methods"].items():
        numbers = found["curriculum"]
        shares = [_stages(numbers[key], ".0%") for key in ("hard_budget", "hard_prompts")]
        rows.append([name, _stages(numbers["lead_lag"], "+.2f"), *shares])
    return rows


def _metrics(results: dict[str, Any]) -> tuple[str, str, str]:
    k = results["k"]
    return f"mean@{k}", f"pass@{k}", f"worst_family_mean@{k}"


def tuning(results: dict[str, Any]) -> Cells:
    """What the grid gave; empty without one."""
    k = results["k"]
    rows = [["method", "values", f"mean@{k}", f"pass@{k}"]]
    for name, found in results["methods"].items():
        for point in found["tuning"]:
            values = " ".join(f"{key}={value}" for key, value in point["values"].items())
            chosen = " *" if point["values"] == found["values"] else ""
            rows.append([name, values + chosen, _score([point[f"mean@{k}"]]),
                         _score([point[f"pass@{k}"]])])  # fmt: skip
    return rows if len(rows) > 1 else []


def _parts(results: dict[str, Any]) -> list[tuple[str, str, Cells]]:
    """Title, note and cells of each table."""
    seeds = len(results["seeds"])
    equal = "equal rollouts" if results["equal_rollouts"] else _unequal(results)
    interval = f"paired over {seeds} seeds, with the 95% t interval"
    if seeds == 1:
        interval = "of one seed: no interval"
    lead = (
        "four stages, each a quarter of the steps; lead–lag below 0: the weights lead to harder "
        "bins; hard: the unsolved third, pass@k below 1/3, its share of rollouts and of prompts"
    )
    title = f"{results['recipe']}, {results['split']} split"
    parts = [
        (title, f"differences {interval}", scores(results)),
        ("Cost of a run", equal, cost(results)),
        ("Curriculum", lead, curriculum(results)),
    ]
    if cells := tuning(results):
        parts.append(("Tuning", "* is the value used", cells))
    return parts


def _unequal(results: dict[str, Any]) -> str:
    """Who spent other than the baseline, and how much."""
    baseline = results["baseline"]
    spent = {name: np.mean(found["rollouts"]) for name, found in results["methods"].items()}
    ratios = {name: s / spent[baseline] for name, s in spent.items()}
    others = ", ".join(f"{name} {r:.2f}x" for name, r in ratios.items() if round(r, 2) != 1)
    return f"NOT EQUAL COMPUTE: rollouts of {baseline} times {others or 'about 1, by seed'}"


def console_tables(results: dict[str, Any]) -> list[Table]:
    """For rich."""
    tables = []
    for title, note, (head, *rows) in _parts(results):
        # Columns that say nothing (the values, without a grid) cost width.
        shown = [i for i in range(len(head)) if any(row[i] for row in rows)]
        table = Table(title=title, caption=note, title_justify="left", caption_justify="left")
        for i in shown:
            table.add_column(head[i], justify="left" if i == 0 else "right")
        for row in rows:
            table.add_row(*(row[i] for i in shown))
        tables.append(table)
    return tables


def markdown(results: dict[str, Any]) -> str:
    """results.md."""
    lines = []
    for title, note, (head, *rows) in _parts(results):
        lines += [f"## {title}", "", f"{note[0].upper()}{note[1:]}.", ""]
        lines += [_line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
    versions = ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    lines += [f"Seeds {', '.join(map(str, results['seeds']))}; {versions}.", ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _score(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.3f}" if known else "–"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _difference(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['mean']:+.3f}"
    return f"{found['mean']:+.3f} ± {found['high'] - found['mean']:.3f}"


def _stages(values: Sequence[float | None], form: str) -> str:
    return "  ".join("–" if v is None else format(v, form) for v in values)
