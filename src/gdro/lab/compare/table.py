"""The results of a comparison, on the screen and in Markdown, from one list of cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

Cells = list[list[str]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A table; a `wide` one is for pages only."""

    title: str
    note: str
    cells: Cells
    wide: bool = False


def scores(results: dict[str, Any]) -> Cells:
    """Base and methods: the scores."""
    names = _metrics(results)
    rows = [["method", *names[:2], "worst family"]]
    rows.append(["base", *(_score([results["base"][m]]) for m in names)])
    for name, found in results["methods"].items():
        rows.append([name, *(_score(found[m]) for m in names)])
    return rows


def gains(results: dict[str, Any]) -> Cells:
    """What each method adds to the baseline, score by score."""
    rows = [["score", "method", "difference", "relative", "over prompts"]]
    mean, passed, worst = _metrics(results)
    for m, label in ((passed, passed), (mean, mean), (worst, "worst family")):
        for name, found in results["methods"].items():
            if name != results["baseline"] and m in found["difference"]:
                rows.append([label, name, *_gain(found["difference"][m])])
    return rows if len(rows) > 1 else []


def contrasts(results: dict[str, Any]) -> Cells:
    """Weighted sums of methods."""
    mean, passed, worst = _metrics(results)
    rows = [["score", "contrast", "value", "relative"]]
    for m, label in ((passed, passed), (mean, mean), (worst, "worst family")):
        for name, found in results.get("contrasts", {}).items():
            if m in found["difference"]:
                rows.append([label, name, *_gain(found["difference"][m])[:2]])
    return rows if len(rows) > 1 else []


def reached(results: dict[str, Any]) -> Cells:
    """The rollouts at which each method reaches what the baseline ends with."""
    rows = [["method", "rollouts needed"]]
    for name, found in results["methods"].items():
        if share := found.get("reaches"):
            ends = "" if len(results["seeds"]) == 1 else (
                f" [{_share(share['low'])}, {_share(share['high'])}]" * (share["low"] is not None)
            )  # fmt: skip
            rows.append([name, _share(share["share"]) + ends])
    return rows if len(rows) > 1 else []


def at_tokens(results: dict[str, Any]) -> Cells:
    """What each method adds where it has generated as many tokens as the baseline."""
    mean, passed, _ = _metrics(results)
    rows = [["score", "method", "difference", "relative"]]
    for m in (passed, mean):
        for name, found in results["methods"].items():
            if "at_tokens" in found:
                rows.append([m, name, *_gain(found["at_tokens"][m])[:2]])
    return rows if len(rows) > 1 else []


def cost(results: dict[str, Any]) -> Cells:
    """What each method was run with, and what a run of it spent."""
    head = ["method", "values", "steps", "rollouts", "screened", "trained", "tokens generated"]
    rows = [[*head, "of baseline's", "tokens trained", "seconds"]]
    base = np.mean(results["methods"][results["baseline"]]["tokens"])
    for name, found in results["methods"].items():
        screened = [r - t for r, t in zip(found["rollouts"], found["trained"], strict=True)]
        trained_tokens = found.get("trained_tokens", [None])
        rows.append([
            name, _values(found["values"]), _range(found["steps"]), _range(found["rollouts"]),
            _range(screened), _range(found["trained"]), _range(found["tokens"]),
            f"{np.mean(found['tokens']) / base:.3f}",
            "" if None in trained_tokens else _range(trained_tokens),
            f"{np.min(found['seconds']):.0f}",
        ])  # fmt: skip
    return rows


def curriculum(results: dict[str, Any]) -> Cells:
    """The curriculum at four stages of training, each a quarter of the steps; empty if unknown."""
    head = ["method", "bins of", "lead–lag", "support", "mixed groups", "hard budget"]
    rows = [[*head, "hard prompts"]]
    shares = ("mixed_groups", "hard_budget", "hard_prompts")
    for name, found in results["methods"].items():
        numbers = found["curriculum"]
        if any(x is not None for stages in numbers.values() for x in stages):
            rows.append([
                name, found["bins"], _stages(numbers["lead_lag"], "+.2f"),
                _stages(numbers["effective_support"], ".1f"),
                *(_stages(numbers[key], ".0%") for key in shares),
            ])  # fmt: skip
    return rows if len(rows) > 1 else []


def families(results: dict[str, Any], metric: str) -> Cells:
    """A score of each family: the baseline's, and what the others add to it."""
    methods, baseline = results["methods"], results["baseline"]
    names = list(methods[baseline].get("families", {}))
    others = [name for name in methods if name != baseline]
    rows = [["family", baseline, *others]]
    for family in names:
        found = {name: methods[name]["families"][family][metric] for name in methods}
        added = [_difference(found[name]) for name in others]
        rows.append([family, f"{found[baseline]['score']:.3f}", *added])
    return rows if names and others else []


def tuning(results: dict[str, Any]) -> Cells:
    """What the grid gave; empty without one."""
    k = results["k"]
    rows = [["method", "values", f"mean@{k}", f"pass@{k}"]]
    for name, found in results["methods"].items():
        for point in found["tuning"]:
            chosen = " *" if point["values"] == found["values"] else ""
            rows.append([name, _values(point["values"]) + chosen, _score([point[f"mean@{k}"]]),
                         _score([point[f"pass@{k}"]])])  # fmt: skip
    return rows if len(rows) > 1 else []


def _metrics(results: dict[str, Any]) -> tuple[str, str, str]:
    k = results["k"]
    return f"mean@{k}", f"pass@{k}", f"worst_family_mean@{k}"


def parts(results: dict[str, Any]) -> list[Part]:
    """The tables of one suite, those without a row left out."""
    count, baseline = len(results["seeds"]), results["baseline"]
    over = f"{count} seeds" if count > 1 else "one seed"
    interval = f"to {baseline}, paired over {count} seeds, with 95% t intervals"
    if count == 1:
        interval = f"to {baseline}, of one seed: no interval over seeds"
    said = f"differences {interval}; relative: divided by {baseline}'s mean"
    if any("prompts" in d for m in results["methods"].values() for d in m["difference"].values()):
        said += (
            "; over prompts: the difference's 95% bootstrap interval for other prompts and these "
            "seeds, as the others are for other seeds and these prompts"
        )
    said += "; worst family: the lowest within each run"
    equal = "equal rollouts" if results["equal_rollouts"] else _unequal(results)
    lead = (
        "four stages, each a quarter of the steps; lead–lag: the paper's Eq. 32, which takes each "
        "bin of a batch once, so that of even weights it is not 0 but says where most prompts "
        f"are: weights lead where it is below {baseline}'s, of the same bins; support: bins that "
        "the adversary's mixture is spread over; hard: the unsolved third, below 1/3 of what the "
        "bins are of, its share of rollouts and of prompts. Bins of different things do not compare"
    )
    mean, passed, _ = _metrics(results)
    reach = (
        f"rollouts at which the mean {passed} over seeds first reaches {baseline}'s final one, as "
        f"a share of {baseline}'s rollouts (interpolated; 95% bootstrap interval over seeds, too "
        "narrow for fewer than eight)"
    )
    screened = (
        "; screened: generated, not trained on; tokens trained: blank where not recorded; "
        "seconds: of the quickest run"
    )
    found = [
        Part(title=f"{results['recipe']}, {results['split']} split",
             note=f"means over {over}, at the last step", cells=scores(results)),
        Part(title=f"Gains over {baseline}", note=said, cells=gains(results)),
        Part(title="Contrasts", note=_weights(results), cells=contrasts(results)),
        Part(title=f"Rollouts to {baseline}'s {passed}", note=reach, cells=reached(results)),
        Part(title=f"At {baseline}'s tokens",
             note="differences as under gains, each run where it has generated as many tokens as "
             f"{baseline}'s of that seed in all (interpolated; where it generates fewer, at its "
             "end)",
             cells=at_tokens(results)),
        Part(title="Cost of a run", note=equal + screened, cells=cost(results)),
        Part(title="Curriculum", note=lead, cells=curriculum(results)),
        *(
            Part(title=f"{m} by family", note=f"differences {interval}",
                 cells=families(results, m), wide=True)
            for m in (passed, mean)
        ),
        Part(title="Tuning", note="* is the value used: does it stand at an end of its grid?",
             cells=tuning(results)),
    ]  # fmt: skip
    return [part for part in found if part.cells]


def _weights(results: dict[str, Any]) -> str:
    said = [
        f"{name}: {' '.join(f'{w:+g} {method}' for method, w in found['weights'].items())}"
        for name, found in results.get("contrasts", {}).items()
    ]
    return "; ".join([*said, "paired over seeds, with 95% t intervals"])


def _unequal(results: dict[str, Any]) -> str:
    """Who spent other than the baseline, and how much."""
    baseline = results["baseline"]
    spent = {name: np.mean(found["rollouts"]) for name, found in results["methods"].items()}
    ratios = {name: s / spent[baseline] for name, s in spent.items()}
    others = ", ".join(f"{name} {r:.2f}x" for name, r in ratios.items() if round(r, 2) != 1)
    return f"NOT EQUAL COMPUTE: rollouts of {baseline} times {others or 'about 1, by seed'}"


def console_tables(results: dict[str, Any]) -> list[Table]:
    """The tables of one suite, for rich."""
    tables = []
    for part in parts(results):
        head, *rows = part.cells
        if part.wide:
            continue
        # Columns that say nothing (the values, without a grid) cost width.
        shown = _telling(part.cells)
        left = {"method", "score", "contrast", "values"}
        table = Table(
            title=part.title, caption=part.note, title_justify="left", caption_justify="left"
        )
        for i in shown:
            table.add_column(head[i], justify="left" if head[i] in left else "right")
        for row in rows:
            table.add_row(*(row[i] for i in shown))
        tables.append(table)
    return tables


def markdown(results: dict[str, Any]) -> str:
    """The tables of one suite."""
    lines = []
    for i, part in enumerate(parts(results)):
        shown = _telling(part.cells)
        head, *rows = ([row[j] for j in shown] for row in part.cells)
        lines += [f"{'###' if i else '##'} {part.title}", ""]
        lines += [f"{part.note[0].upper()}{part.note[1:]}.", ""]
        lines += markdown_table(head, rows)
    versions = ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    lines += [f"Seeds {', '.join(map(str, results['seeds']))}; {versions}.", ""]
    return "\n".join(lines)


def study_page(results: dict[str, Any], figures: Iterable[str] = ()) -> str:
    """results.md: the methods, the figures, and the tables of every suite.

    Args:
        results: Of a study, as in results.json.
        figures: Names of the figures' files beside it.
    """
    lines = [
        f"# {results['study']}",
        "",
        "Written by `gdro compare` from the tables beside it.",
        "",
    ]
    named = {
        name: _values({k: v for k, v in settings.items() if (k, v) != ("gdro_preset", name)})
        for name, settings in results["methods"].items()
    }
    if any(named.values()):
        rows = [[name, said or "the preset"] for name, said in named.items()]
        lines += markdown_table(["method", "settings"], rows)
    lines += [line for name in figures for line in (f"![{name.partition('.')[0]}]({name})", "")]
    return "\n".join(lines) + "\n" + "\n".join(map(markdown, results["suites"].values()))


def _telling(cells: Cells) -> list[int]:
    """Columns in which a row says something."""
    return [i for i in range(len(cells[0])) if any(row[i] for row in cells[1:])]


def markdown_table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a table, and an empty one after it."""
    lines = ([str(cell).replace("|", "\\|") for cell in row] for row in (head, *rows))
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return [first, f"| {' | '.join(['---'] * len(head))} |", *others, ""]


def _values(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _score(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.3f}" if known else "–"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _share(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.0%}"


def _difference(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['mean']:+.3f}"
    return f"{found['mean']:+.3f} ± {found['high'] - found['mean']:.3f}"


def _gain(found: dict[str, Any]) -> list[str]:
    """Difference, relative gain, and interval over prompts."""
    relative, over = "", ""
    if ratio := found.get("relative"):
        relative = f"{ratio['mean']:+.1%}"
        if ratio["low"] is not None:
            relative += f" [{ratio['low']:+.1%}, {ratio['high']:+.1%}]"
    if ends := found.get("prompts"):
        over = f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"
    return [_difference(found), relative, over]


def _stages(values: Sequence[float | None], form: str) -> str:
    return "  ".join("–" if v is None else format(v, form) for v in values)
