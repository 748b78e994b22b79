"""`gdro report --watch`: the page about runs, made anew while they go on."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from gdro.core.errors import ConfigError, DataError
from gdro.core.files import write_text
from gdro.lab.folder import LOCK, RunFolder
from gdro.lab.runs import is_run

SECONDS = 10.0
"""Between two looks at the runs, and two reloads of an open page."""

AWAITED = "waiting for it to begin"
UNKNOWN = "watched until ctrl-C (without run.json nothing says when it ends)"
_GOING = (AWAITED, UNKNOWN, "running")


def watch(
    runs: Sequence[Path],
    out: Path,
    console: Console,
    seconds: float = SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Writes the page whenever a run has got further, until none goes on.

    While a run goes on the open page reloads itself; the last page stands still. A run that is not
    there yet is waited for.

    Args:
        runs: Run folders.
        out: The page; replaced whole or not at all.
        console: Where it is said how the runs stand.
        seconds: Between two looks.
        sleep: Called with `seconds` in between.

    Raises:
        ConfigError: if `seconds` is not positive, or a folder holds something else than a run.
        DataError: if a run that has ended cannot be read.
        UnsupportedError: if the packages of the page are not installed.
    """
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"--every must be > 0 seconds, got {seconds:g}")
    try:
        _follow(runs, out, console, seconds, sleep)
    except KeyboardInterrupt:
        if out.exists():  # an open page has nothing more to wait for
            write_text(out, out.read_text(encoding="utf-8").replace(_tag(seconds), "", 1))
        raise


def _follow(
    runs: Sequence[Path],
    out: Path,
    console: Console,
    seconds: float,
    sleep: Callable[[float], None],
) -> None:
    def say(words: str) -> None:
        console.print(words, markup=False, highlight=False)

    said, shown, trouble = [], {}, ""
    while True:
        states = [_state(run) for run in runs]
        if states != said:
            said = states
            for run, state in zip(runs, states, strict=True):
                say(f"{run}: {state}")
        going = not set(_GOING).isdisjoint(states)
        there = _content(runs)  # before it is read: what comes after is shown the next time
        if not going:
            _build(list(runs), out, None)
            say(f"{out}")
            return
        if there and there != shown:
            try:
                _build([run for run in runs if run in there], out, seconds)
            except DataError as error:  # a first line that is being written; or damage
                if str(error) != trouble:
                    trouble = str(error)
                    say(f"{trouble}; looking again in {seconds:g} s")
            else:
                if not shown:
                    say(f"{out}: made anew as the run goes on; leave it open")
                shown = there
        sleep(seconds)


def _state(run: Path) -> str:
    """How a run stands; what is no run is refused."""
    if not run.exists():
        return AWAITED
    if not run.is_dir():
        raise ConfigError(f"{run}: is a file, not the folder of a run")
    names = {path.name for path in run.iterdir() if path.suffix != ".tmp"} - {LOCK}
    if not names:
        return AWAITED
    folder = RunFolder(run)
    if not folder.recipe.exists():
        if not is_run(names):
            raise ConfigError(f"{run}: holds no run")
        if not folder.run.exists():
            return UNKNOWN
    return folder.state


def _content(runs: Sequence[Path]) -> dict[Path, list[tuple[str, int, int]]]:
    """Size and time of the files that the page is made of, of the runs that have any."""
    found: dict[Path, list[tuple[str, int, int]]] = {}
    for run in runs:
        folder = RunFolder(run)
        for file in (folder.trace, folder.evals):
            if file.exists() and (stat := file.stat()).st_size:
                found.setdefault(run, []).append((file.name, stat.st_size, stat.st_mtime_ns))
    return found


def _build(runs: list[Path], out: Path, reload: float | None) -> None:
    """Writes the page; with `reload`, an open one loads itself again after so many seconds."""
    from gdro.report import build_report

    if reload is None:
        build_report(runs, out)
        return
    with TemporaryDirectory() as spare:
        page = build_report(runs, Path(spare) / out.name, files=False).read_text(encoding="utf-8")
    head, mark, rest = page.partition("<head>")
    assert mark, "the page has no head"
    write_text(out, head + mark + _tag(reload) + rest)


def _tag(seconds: float) -> str:
    return f'\n<meta http-equiv="refresh" content="{max(1, round(seconds))}">'
