"""What is seen of an evaluation on the terminal."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from gdro.evals.plan import Plan, default_folder
from gdro.evals.store import Store

LINES = 10
"""Lines of a benchmark's progress where the output is not a terminal."""
ALL, MOST = 104, 80
"""Columns of a terminal that shows all, 8 more for each pass@j, and that shows the lengths."""
CHARACTERS = 3.5
"""Of a token, roughly, where there is no tokenizer."""


class Meter:
    """A bar for each benchmark: completions done, their rate and the time that remains."""

    def __init__(self, planned: Plan, done: Iterable[tuple[str, str, int, int]], console: Console):
        self._console = console
        each = planned.sampling.k * len(planned.options.seeds)
        self._total = {p.name: each * len(p.id_N) for p in planned.problems}
        self._done = Counter(key[0] for key in done)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, name: str, count: int) -> None:
        """Counts completions that came."""
        before, total = self._done[name], self._total[name]
        self._done[name] += count
        if name not in self._task:
            self._task[name] = self._bar.add_task(name, total=total, completed=before, rate="")
        self._bar.update(self._task[name], advance=count)
        speed = self._bar.tasks[self._task[name]].speed
        rate = f"{speed:.3g}/s" if speed else ""
        self._bar.update(self._task[name], rate=rate)
        now = self._done[name]
        if not self._console.is_terminal and now * LINES // total > before * LINES // total:
            left = self._bar.tasks[self._task[name]].time_remaining
            more = "" if left is None else f", {left:.0f} s left"
            self._console.print(f"{name} {now}/{total}  {rate}{more}", highlight=False)


def templates(planned: Plan) -> str:
    """Which template each benchmark is put by, in words."""
    names: dict[str, list[str]] = {}
    for p in planned.problems:
        kind = p.benchmark.template or ""
        names.setdefault(kind, []).append(p.name)
    said = [f"{kind} ({', '.join(of)})" if len(names) > 1 else kind for kind, of in names.items()]
    return f"template {'; '.join(said)}"


def dry_run(planned: Plan, out: Path | None, console: Console) -> None:
    """Prints what would be sampled into which folder, and how many tokens that may take.

    Raises:
        ConfigError: if the folder holds another evaluation.
    """
    store = Store(out or default_folder(planned.settings))
    store.check(planned.settings)
    found = len(store.samples())
    times = planned.sampling.k * len(planned.options.seeds)
    table = _table(f"{planned.options.model}, {planned.options.engine}")
    for name in ("problems", "completions", "prompt\ntokens", "new\ntokens <="):
        table.add_column(name, justify="right", no_wrap=True)
    total = [0, 0, 0, 0]
    for p in planned.problems:
        count = len(p.id_N)
        row = [count, times * count, times * _prompt_tokens(planned, p.prompt_N)]
        row.append(times * count * p.benchmark.max_tokens)
        total = [a + b for a, b in zip(total, row, strict=True)]
        table.add_row(p.name, *(f"{value:,}" for value in row))
    if len(planned.problems) > 1:
        table.add_section()
        table.add_row("together", *(f"{value:,}" for value in total))
    console.print(table)
    console.print(templates(planned), markup=False, highlight=False)
    sampling = {n: planned.settings[n] for n in ("k", "seeds", "temperature", "top_p", "top_k")}
    console.print(", ".join(f"{name} {value}" for name, value in sampling.items()))
    if planned.tokenizer is None:
        console.print(f"prompt tokens are estimated, at {CHARACTERS} characters each")
    if found:
        console.print(f"{found:,} of the completions are in {store.path} already", markup=False)


def _prompt_tokens(planned: Plan, prompts: list[Any]) -> int:
    if planned.tokenizer is None:
        texts = [p if isinstance(p, str) else "".join(m["content"] for m in p) for p in prompts]
        return int(sum(map(len, texts)) / CHARACTERS)
    from gdro.evals.sampling import prompt_ids

    given = dict(planned.options.chat_template_kwargs)
    return sum(map(len, prompt_ids(planned.tokenizer, prompts, given)))


def scores(summary: Mapping[str, Any], console: Console) -> None:
    """Prints the table of a summary; a narrow terminal gets the chief columns."""
    k, first = summary["k"], next(iter(summary["scores"].values()))
    between = [name for name in first if name.startswith("pass@")][1:-1]
    narrow = console.width < ALL + 8 * len(between)
    metrics = [f"mean@{k}", *([] if narrow else between), f"pass@{k}", f"maj@{k}"]
    more = ["tokens", "cut off", "no verdict", "problems"]
    more = more[: 4 if not narrow else 2 if console.width >= MOST else 0]
    table = _table(f"{summary['model']}, 95% intervals")
    for name in (*metrics, *more):
        table.add_column(name, justify="right", no_wrap=True)

    def add(name: str, found: Mapping[str, Any], *others: str) -> None:
        digits = dict.fromkeys((f"mean@{k}", f"pass@{k}"), 2 if narrow else 3)
        cells = [_shown(found[metric], digits.get(metric, 0)) for metric in metrics]
        table.add_row(name, *cells, *others[: len(more)])

    for name, found in summary["scores"].items():
        tokens = f"{found['tokens']['mean']:,.0f}" if found["tokens"] else "?"
        lost = f"{found['truncated']:.1%}"
        add(name, found, tokens, lost, _undecided(found), f"{found['problems']:,}")
        for other in (key for key in found if key.startswith("tolerance ")):
            tolerance = other.removeprefix("tolerance ")
            add(f"  to {tolerance}", found[other], "", "", _undecided(found[other]))
    table.add_section()
    for name, found in summary["together"].items():
        add(name, found)
    console.print(table)
    for name, found in summary["scores"].items():
        if found["alike"]:
            said = f"{name}: the completions of each problem are one text: nothing was sampled"
            console.print(said, markup=False, highlight=False)
        if bad := found["bad_golds"]:
            shown = ", ".join(bad[:5]) + ", ..." * (len(bad) > 5)
            console.print(f"{name}: no answer can meet the golds of {len(bad)}: {shown}",
                          markup=False, highlight=False)  # fmt: skip


def _table(title: str) -> Table:
    table = Table(title=Text(title), title_style="bold", title_justify="left",
                  box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False,
                  collapse_padding=True)  # fmt: skip
    table.add_column("", no_wrap=True)
    return table


def _undecided(found: Mapping[str, Any]) -> str:
    """Share of completions that were neither right nor wrong."""
    counts = found["verdicts"]
    lost = sum(count for verdict, count in counts.items() if verdict not in ("right", "wrong"))
    return f"{lost / sum(counts.values()):.1%}"


def _shown(score: Mapping[str, Any], digits: int) -> str:
    """The value, and its interval to so many digits."""
    value = f"{score['value']:.3f}"
    low, high = score["interval"]
    return f"{value} [{low:.{digits}f}, {high:.{digits}f}]" if digits else value


def comparison(found: Mapping[str, Any], console: Console) -> None:
    """Prints what `gdro eval compare` found."""
    table = _table(f"A: {found['a']}\nB: {found['b']}")
    for name in ("A", "B", "B - A, 95% interval"):
        table.add_column(name, justify="right", no_wrap=True)
    places = {**found["benchmarks"], **found["together"]}
    for place, lines in places.items():
        table.add_section()
        for name, line in lines.items():
            if name == "solved":
                continue
            low, high = line["interval"]
            table.add_row(
                f"{place} {name}",
                f"{line['a']:.3f}",
                f"{line['b']:.3f}",
                f"{line['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
            )
    console.print(table)
    for place, lines in places.items():
        solved = lines["solved"]
        said = f"{solved['only_a']} solved by A only, {solved['only_b']} by B only"
        said = f"{place}: {said}, McNemar p {solved['p']:.3g}"
        console.print(said, markup=False, highlight=False)
    for name, (a, b) in found["settings_that_differ"].items():
        console.print(f"differs: {name}: A {a}, B {b}", markup=False, highlight=False)
