"""`gdro runs`: the runs below a folder, how far each has come, and whether it goes on."""

import argparse
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdro.core.errors import DataError
from gdro.lab.folder import LOCK, RunFolder, last_line

NAMED = 10
"""Folders without a run that are named; of more, the number is said."""

STYLES = {"running": "green", "finished": "", "killed": "red", "failed": "red"}
"""Of a state on a terminal; the rest are yellow."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run as its folder shows it.

    Attributes:
        path: The folder.
        state: As `RunFolder.state`; `?` of a trainer that ran without `gdro train`, which leaves a
            trace only.
        method: What run.json calls it, or the trace.
        steps: Optimizer steps done (of a bare trace, its records).
        planned: Steps planned, if the folder says so.
        passed: The last pass@k.
        k: Its k.
        written: When the folder's files were last written, seconds since the epoch.
        error: What a failed run died of.
    """

    path: Path
    state: str
    method: str
    steps: int
    planned: int | None
    passed: float | None
    k: int
    written: float
    error: str | None


def look(path: Path) -> Seen:
    """Reads of a run what it takes to list it: a few lines, however long the run.

    Raises:
        DataError: if a file is not what its name says.
        OSError: if one cannot be read.
    """
    folder = RunFolder(path)
    about, evaluated = folder.about, last_line(folder.evals)
    if folder.run.exists() and "state" not in about:
        raise DataError(f"{folder.run}: is not of a run of gdro (no state)")
    bare = not folder.run.exists() and not folder.recipe.exists()
    steps = last_line(folder.trace).get("step", -1) + 1 if bare else folder.steps
    k = int(evaluated.get("k") or 8)
    error = about.get("error") if about.get("state") == "failed" else None
    files = [f for f in (folder.run, folder.recipe, folder.trace, folder.evals) if f.exists()]
    return Seen(
        path=path,
        state="?" if bare else folder.state,
        method=str(about.get("method") or (bare and _traced(folder.trace)) or "?"),
        steps=max(int(about.get("steps") or 0), steps),
        planned=about.get("max_steps"),
        passed=evaluated.get(f"pass@{k}"),
        k=k,
        written=max(f.stat().st_mtime for f in files),
        error=error,
    )


def _traced(trace: Path) -> Any:
    """The method by a trace's first line; None while that is being written."""
    with open(trace, "rb") as file:
        first = file.readline()
    if not first.endswith(b"\n"):
        return None
    header = json.loads(first)
    if not isinstance(header, dict):
        raise DataError(f"{trace}: its first line is not a mapping in JSON")
    return header.get("method")


def find(root: Path) -> tuple[list[Path], list[Path]]:
    """The runs at or below a folder, and its folders in which there is none, both sorted.

    Folders inside of a run are not looked into, nor hidden ones; a link is taken for a run if it
    leads to one, and not followed further.
    """
    runs = sorted(_below(root))
    if root in runs:
        return runs, []
    children = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]
    with_runs = {run.relative_to(root).parts[0] for run in runs}
    return runs, sorted(child for child in children if child.name not in with_runs)


def _below(root: Path) -> Iterator[Path]:
    for name, inner, files in os.walk(root):
        here = Path(name)
        if is_run(files):
            inner.clear()
            yield here
            continue
        inner[:] = [child for child in inner if not child.startswith(".")]
        for child in inner:
            link = here / child
            if link.is_symlink() and is_run(p.name for p in link.iterdir()):
                yield link


def is_run(names: Iterable[str]) -> bool:
    """Whether these are the files of a run; one that has just begun holds a recipe and the lock."""
    here = set(names)
    return bool(here & {"run.json", "trace.jsonl"}) or {"recipe.yaml", LOCK} <= here


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="gdro runs", description="List the runs of a folder.")
    parser.add_argument("folder", nargs="?", default=Path("runs"), type=Path, help="[runs]")
    root = parser.parse_args(arguments).folder
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    paths, foreign = find(root)
    seen, broken = [], []
    for path in paths:
        try:
            seen.append(look(path))
        except (OSError, ValueError, TypeError) as error:  # a DataError is a ValueError
            broken.append(f"{_name(path, root)}: {error}")
    console = Console(soft_wrap=True, highlight=False)
    if seen:
        console.print(table(sorted(seen, key=lambda run: run.written), root))
    elif not broken:
        console.print(f"{root}: no runs", markup=False)
    for run in seen:
        if run.error and run.state == "failed":
            said = " ".join(run.error.split())[:200]
            console.print(f"failed: {_name(run.path, root)}: {said}", markup=False)
    for words in broken:
        console.print(f"broken: {words}", markup=False)
    if foreign:
        more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
        names = ", ".join(path.name for path in foreign[:NAMED])
        console.print(f"no run in: {names}{more}", markup=False)
    return 0


def table(runs: Sequence[Seen], root: Path) -> Table:
    """One line a run."""
    ks = {run.k for run in runs}
    k = ks.pop() if len(ks) == 1 else None
    shown = Table(box=None, pad_edge=False)
    for name in ("run", "state", "method", "steps", f"pass@{k or 'k'}", "last written"):
        right = name == "steps" or name.startswith("pass@")
        shown.add_column(name, justify="right" if right else "left", no_wrap=name != "run",
                         overflow="fold")  # fmt: skip
    for run in runs:
        score = "-" if run.passed is None else f"{run.passed:.3f}"
        score += "" if k or run.passed is None else f" (k={run.k})"
        style = STYLES.get(run.state, "yellow")
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.written))
        steps = f"{run.steps}/{run.planned}" if run.planned else str(run.steps)
        cells = (run.method, steps, score, when)
        shown.add_row(Text(_name(run.path, root)), Text(run.state, style), *map(Text, cells))
    return shown


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path != root else path.resolve().name
