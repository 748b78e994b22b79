"""A pool of processes that run math-verify and can be killed, and the thread-safe handle on it.

They are plain subprocesses on pipes, not a `multiprocessing.Pool`: those re-import the user's main
script, may not be started from the daemonic workers of a data loader, and cannot be killed.
"""

import atexit
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import wait

from gdro.core.errors import ConfigError, UnsupportedError
from gdro.rewards.symbolic import Question
from gdro.rewards.verdict import Verdict

ROW_SECONDS = 2.0
"""An alarm within the worker ends the row after so much processor time."""

GRACE_SECONDS = 8.0
"""So much later, by the clock, the worker is killed: its alarm did not get through to it."""

START_SECONDS = 120.0
MEMORY_BYTES = 3 << 30

BATCH = 64
"""Rows that a worker is given at a time, at most."""

TRIES = 3
"""A row during which so many processes died by themselves is a timeout."""

WORTH_A_START = 24
"""Waiting rows for which another process is started: it takes a second, a row some 5 ms."""

WORKERS = "GDRO_VERIFY_WORKERS"
MAX_WORKERS = 256
_CHILD = "from gdro.rewards.symbolic import main; main()"
_BATCH_CHARS = 32_000  # fits into the pipe whole, so that no send can block


def default_workers() -> int:
    """Worker processes of this process.

    The environment variable `GDRO_VERIFY_WORKERS` says how many; without it there are as many as
    this process has CPUs, shared among the processes of this machine that a launcher announced
    (`LOCAL_WORLD_SIZE`), at least 1 and at most 4.

    Raises:
        ConfigError: if `GDRO_VERIFY_WORKERS` is no integer in 1 .. 256.
    """
    given = os.environ.get(WORKERS)
    if given is None:
        ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
        cpus = len(os.sched_getaffinity(0)) // (int(ranks) if ranks.isdecimal() else 1)
        return max(1, min(4, cpus))
    if not (given.isdecimal() and 1 <= int(given) <= MAX_WORKERS):
        raise ConfigError(f"{WORKERS} must be an integer in 1 .. {MAX_WORKERS}, got {given!r}")
    return int(given)


class _Process:
    """One process, and which rows it has yet to answer, in order."""

    def __init__(self, memory_bytes: int) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise UnsupportedError(
                "answers that are no plain numbers need math-verify: pip install math-verify"
            )
        self.pipe, theirs = Pipe()
        # It must find the same gdro and math-verify as this process, however those were put there;
        # -P: and nothing in the current folder that this process would not find there.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        self.popen = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, str(theirs.fileno()), str(memory_bytes)],
            env=os.environ | {"PYTHONPATH": path},
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        self.ready = False
        self.rows: deque[int] = deque()
        self.deadline = time.monotonic() + START_SECONDS

    def give(self, rows: Sequence[int], questions: Sequence[Question]) -> None:
        self.rows.extend(rows)
        with contextlib.suppress(OSError):  # it is dead: receiving will say so
            self.pipe.send([tuple(question) for question in questions])

    def stop(self, patience: float = 0.0) -> int:
        """Ends the process, if it does not end by itself within so many seconds.

        Returns:
            Its exit code; -n if it was killed by signal n.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(patience)
        self.popen.kill()  # nothing happens to one that is dead already
        self.pipe.close()
        return self.popen.wait()


class Pool:
    """Puts questions to persistent worker processes, in batches, from any number of threads.

    Processes start when there is work for them. They answer row by row. A row whose deadline passes
    is `Verdict.timeout`: within the process by an alarm; if that does not get through the process
    is killed, and the rows behind go to another. A row during which a process dies by itself (out
    of memory, killed from outside) is tried again, twice.

    Threads stand in line: one with many rows holds a process for a batch at a time.

    Args:
        workers: processes, >= 1; None is `default_workers()`.
        row_seconds: > 0, the alarm within the process, in processor time.
        grace_seconds: > 0, how much later it is killed, by the clock.
        memory_bytes: the limit on a process' address space.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        row_seconds: float = ROW_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.row_seconds = row_seconds
        self.grace_seconds = grace_seconds
        self.memory_bytes = memory_bytes
        self._workers = workers
        self._all: set[_Process] = set()
        self._idle: list[_Process] = []
        self._line: deque[object] = deque()
        self._free = threading.Condition()

    @property
    def workers(self) -> int:
        """How many processes there may be."""
        if self._workers is None:
            self._workers = default_workers()
        return self._workers

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that have been started and not ended by us."""
        return [process.popen.pid for process in list(self._all)]

    def compare(self, questions: Sequence[Question]) -> list[Verdict]:
        """Verdicts on pairs of tidy LaTeX, in order.

        Args:
            questions: their `seconds` are set here.

        Raises:
            UnsupportedError: if math-verify is not installed.
            RuntimeError: if no process starts.
        """
        return _Call(self, [q._replace(seconds=self.row_seconds) for q in questions]).run()

    def close(self) -> None:
        """Ends the processes; a later comparison starts others."""
        with self._free:
            for process in self._all:
                process.popen.kill()
            for process in self._idle:
                process.stop()
            self._all.difference_update(self._idle)
            self._idle.clear()

    def lease(self, rows: int, *, must: bool) -> _Process | None:
        """A process for so many waiting rows; if there must be one, after standing in line."""
        with self._free:
            if not must:
                start = len(self._all) < self.workers and rows >= WORTH_A_START
                if self._line or not (self._idle or start):
                    return None
            place = object()
            self._line.append(place)
            try:
                self._free.wait_for(
                    lambda: self._line[0] is place and (self._idle or len(self._all) < self.workers)
                )
                while self._idle:
                    process = self._idle.pop()
                    if process.popen.poll() is None:
                        return process
                    process.stop()  # killed from outside while idle: no row's fault
                    self._all.discard(process)
                process = _Process(self.memory_bytes)
                self._all.add(process)
                return process
            finally:
                self._line.remove(place)
                self._free.notify_all()

    def give_back(self, process: _Process) -> None:
        """Takes a process that has answered everything."""
        with self._free:
            self._idle.append(process)
            self._free.notify_all()

    def end(self, process: _Process, patience: float = 0.0) -> int:
        """Ends a leased process, and makes room for another; returns as `_Process.stop`."""
        code = process.stop(patience)
        with self._free:
            self._all.discard(process)
            self._free.notify_all()
        return code


class _Call:
    """The state of one comparison: who is at which rows, and what has been found."""

    def __init__(self, pool: Pool, questions: Sequence[Question]) -> None:
        self.pool = pool
        self.questions = questions
        self.todo = deque(range(len(questions)))
        self.found: dict[int, Verdict] = {}
        self.deaths = Counter[int]()
        self.failed_starts = 0
        self.busy: dict[object, _Process] = {}

    def run(self) -> list[Verdict]:
        try:
            while self.todo or self.busy:
                self.hand_out()
                pause = min(p.deadline for p in self.busy.values()) - time.monotonic()
                for pipe in wait([p.pipe for p in self.busy.values()], max(0.0, pause)):
                    self.hear(self.busy[pipe])
                now = time.monotonic()
                for process in [p for p in self.busy.values() if p.deadline <= now]:
                    self.give_up(process)
        finally:  # an error or an interrupt: what they are at is of no use to anybody
            for process in self.busy.values():
                self.pool.end(process)
        return [self.found[row] for row in range(len(self.questions))]

    def hand_out(self) -> None:
        while self.todo and (process := self.pool.lease(len(self.todo), must=not self.busy)):
            self.busy[process.pipe] = process
            if process.ready:
                self.wind(process)
            rows = self.batch()
            process.give(rows, [self.questions[row] for row in rows])

    def batch(self) -> list[int]:
        """Takes the next rows: fewer towards the end, so that all processes end together."""
        most = min(BATCH, -(-len(self.todo) // (2 * self.pool.workers)))
        rows: list[int] = []
        room = _BATCH_CHARS
        while self.todo and len(rows) < most and room > 0:
            rows.append(self.todo.popleft())
            question = self.questions[rows[-1]]
            room -= len(question.gold) + len(question.answer)
        return rows

    def hear(self, process: _Process) -> None:
        """Receives one answer, or learns that the process is dead."""
        try:
            answer = process.pipe.recv()
        except (EOFError, OSError):
            self.bury(process)
            return
        self.wind(process)
        if process.ready:
            self.found[process.rows.popleft()] = Verdict(answer)
        process.ready = True  # that was its first word
        if not process.rows:
            self.pool.give_back(self.busy.pop(process.pipe))

    def bury(self, process: _Process) -> None:
        del self.busy[process.pipe]
        code = self.pool.end(process, patience=1.0)
        if process.ready:
            row = process.rows[0]
            self.deaths[row] += 1
            if self.deaths[row] == TRIES or code == -signal.SIGXCPU:
                self.found[process.rows.popleft()] = Verdict.timeout
        else:
            self.failed_starts += 1
            if code >= 0 or self.failed_starts == TRIES:  # it was not just killed from outside
                raise _no_start(code)
        self.todo.extendleft(reversed(process.rows))

    def give_up(self, process: _Process) -> None:
        """Ends a process whose time is over; the rows behind go to another."""
        del self.busy[process.pipe]
        self.pool.end(process)
        if not process.ready:
            raise _no_start(None)
        self.found[process.rows.popleft()] = Verdict.timeout
        self.todo.extendleft(reversed(process.rows))

    def wind(self, process: _Process) -> None:
        process.deadline = time.monotonic() + self.pool.row_seconds + self.pool.grace_seconds


def _no_start(code: int | None) -> RuntimeError:
    return RuntimeError(
        f"the verifier's worker did not start within {START_SECONDS:g} s "
        f"(exit code {code}); its own error is on stderr"
    )


_shared = Pool()


def shared() -> Pool:
    """This process's pool."""
    return _shared


def _forget() -> None:
    """A forked child must not talk into its parent's pipes, nor wait for a lock nobody holds.

    Nor may it keep the pipes open: the workers end when their parent's end closes.
    """
    global _shared
    for process in _shared._all:
        process.pipe.close()
    _shared = Pool()


os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _shared.close())
