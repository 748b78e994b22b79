"""`gdro report --watch`: the page of a run that goes on."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from gdro.core.errors import ConfigError, DataError
from gdro.core.trace import TraceWriter
from gdro.lab.folder import RunFolder, append_jsonl
from gdro.lab.watch import watch

HEADER = {
    "boundaries": [0, 0.5, 1],
    "bin_names": ["0-.5", ".5-1"],
    "config": {"difficulty": {"source": "online"}},
    "n_mean": 4,
    "method": "joint",
}
RELOAD = '<meta http-equiv="refresh" content="3">'


def record(step: int) -> dict[str, object]:
    return {"step": step, "prompts_B": [3, 1], "rollouts_B": [12, 4], "weight_B": [1, 1],
            "reward": 0.5, "rollouts": 16, "tokens": 100, "time": {"step": 1.0}}  # fmt: skip


class Story:
    """What happens between the looks: each `sleep` is one act."""

    def __init__(self, *acts: object) -> None:
        self.acts = list(acts)
        self.console = Console(file=io.StringIO(), width=200)

    def __call__(self, seconds: float) -> None:
        assert seconds == 3
        act = self.acts.pop(0)
        assert callable(act)
        act()

    def run(self, runs: list[Path], out: Path) -> str:
        watch(runs, out, self.console, 3, self)
        assert not self.acts
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue()


def test_the_page_follows_a_run_from_before_its_beginning_to_its_end(tmp_path):
    folder, out = RunFolder(tmp_path / "run"), tmp_path / "page.html"
    pages: list[str] = []
    stamps: list[int] = []

    def begin() -> None:
        assert not out.exists()
        folder.open({"seed": 1}, resume=False)
        folder.update(state="running", method="joint")

    def first_line_torn() -> None:
        assert not out.exists()
        folder.evals.write_text('{"step": 0, "k"')

    def evaluated() -> None:
        assert not out.exists()
        folder.evals.unlink()
        append_jsonl(folder.evals, {"step": 0, "k": 8, "mean@8": 0.125, "pass@8": 0.5})

    def step() -> None:
        pages.append(out.read_text())
        with TraceWriter(folder.trace, HEADER) as trace:
            trace.append(record(len(pages) - 1))

    def nothing_new() -> None:
        pages.append(out.read_text())
        stamps.append(out.stat().st_mtime_ns)

    def end() -> None:
        stamps.append(out.stat().st_mtime_ns)
        folder.update(state="finished")
        folder.release()

    acts = (begin, first_line_torn, evaluated, step, step, nothing_new, end)
    said = Story(*acts).run([folder.path], out)
    assert all(RELOAD in page for page in pages)
    assert len(set(pages)) == 3
    assert stamps[0] == stamps[1]  # not made anew without need
    assert RELOAD not in out.read_text()
    lines = [line.removeprefix(f"{folder.path}: ") for line in said.splitlines()]
    assert lines == [
        "waiting for it to begin",
        "running",
        f"{folder.evals}, line 1: is not JSON; looking again in 3 s",
        f"{out}: made anew as the run goes on; leave it open",
        "finished",
        f"{out}",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "page_files", "run"]


def test_several_runs_are_watched_until_the_last_ends(tmp_path):
    folders = [RunFolder(tmp_path / name) for name in "ab"]
    out = tmp_path / "page.html"
    for i, folder in enumerate(folders):
        folder.open({"seed": i}, resume=False)
        folder.update(state="running", method=f"method {i}")
        append_jsonl(folder.evals, {"step": 0, "k": 8, "mean@8": 0.125, "pass@8": 0.5})

    def killed(folder: RunFolder) -> None:
        assert RELOAD in out.read_text()
        folder.release()

    said = Story(*(lambda f=f: killed(f) for f in folders)).run([f.path for f in folders], out)
    assert said.count("killed") == 3  # a; then a and b
    assert "2 runs" in out.read_text()


def test_what_cannot_be_watched_is_refused(tmp_path):
    console, out = Console(file=io.StringIO()), tmp_path / "page.html"
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    for name, words in (("file", "is a file"), ("other", "holds no run")):
        with pytest.raises(ConfigError, match=words):
            watch([tmp_path / name], out, console)
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--every must be > 0 seconds"):
            watch([tmp_path / "run"], out, console, seconds)
    ended = RunFolder(tmp_path / "ended")
    ended.open({"seed": 1}, resume=False)
    ended.release()
    with pytest.raises(DataError, match=r"holds neither trace.jsonl nor evals.jsonl"):
        watch([ended.path], out, console)
    assert not out.exists()


def _listens():
    """A job in the background ignores the signal, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_trace_alone_is_watched_until_ctrl_c(tmp_path):
    """Of a trainer without `gdro train`; as a user does it, in a process of its own."""
    run = tmp_path / "run"
    with TraceWriter(run / "trace.jsonl", HEADER) as trace:
        trace.append(record(0))
    words = [sys.executable, "-m", "gdro.cli", "report", "run", "--watch", "--every", "0.2"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=_listens,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert "watched until ctrl-C" in process.stdout.readline()
        assert "run/report.html: made anew" in process.stdout.readline()
        first = (run / "report.html").stat().st_mtime_ns
        with TraceWriter(run / "trace.jsonl", HEADER) as trace:
            trace.append(record(1))
        while (run / "report.html").stat().st_mtime_ns == first:
            assert process.poll() is None
            time.sleep(0.05)
        assert 'http-equiv="refresh"' in (run / "report.html").read_text()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "gdro: interrupted\n"
    assert process.returncode == 130
    assert 'http-equiv="refresh"' not in (run / "report.html").read_text()
    assert sorted(p.name for p in run.iterdir()) == ["report.html", "trace.jsonl"]
