"""A process that runs math-verify and can be killed, and the thread-safe handle on it.

It is a plain subprocess on a pipe, not a `multiprocessing.Process`: those re-import the user's main
script, and may not be started from the daemonic workers of a data loader.
"""

import atexit
import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from gdro.core.errors import UnsupportedError
from gdro.rewards.symbolic import Question
from gdro.rewards.verdict import Verdict

ROW_SECONDS = 2.0
"""An alarm within the worker ends the row after this."""

GRACE_SECONDS = 3.0
"""So much later the worker is killed: its alarm did not get through to it."""

START_SECONDS = 120.0
TRIES = 3
_CHILD = "from gdro.rewards.symbolic import main; main()"
MEMORY_BYTES = 3 << 30


class Worker:
    """Compares pairs in another process, one at a time, each within a deadline.

    A row whose deadline passes is `Verdict.timeout`, and the next row finds a new process. A row
    during which the process dies by itself (out of memory, killed from outside) is tried
    again, twice.

    Args:
        row_seconds: > 0, the alarm within the worker.
        grace_seconds: > 0, how much later it is killed.
        memory_bytes: its limit on address space.
    """

    def __init__(self, *, row_seconds: float = ROW_SECONDS, grace_seconds: float = GRACE_SECONDS,
                 memory_bytes: int = MEMORY_BYTES) -> None:  # fmt: skip
        self.row_seconds = row_seconds
        self.grace_seconds = grace_seconds
        self.memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None before the first comparison and after a kill."""
        return self._process.pid if self._process else None

    def compare(self, gold: str, answer: str, *, exact: bool) -> Verdict:
        """Puts one pair of tidy LaTeX to math-verify.

        Raises:
            UnsupportedError: if math-verify is not installed.
            RuntimeError: if the process does not start.
        """
        question = Question(gold, answer, exact, self.row_seconds)
        with self._lock:
            for _ in range(TRIES):
                try:
                    pipe = self._pipe or self._start()
                    pipe.send(tuple(question))
                    if pipe.poll(self.row_seconds + self.grace_seconds):
                        return Verdict(pipe.recv())
                except (EOFError, OSError):  # it died by itself
                    self._stop()
                    continue
                self._stop()
                return Verdict.timeout
            return Verdict.timeout

    def close(self) -> None:
        """Ends the process; a later comparison starts another."""
        with self._lock:
            self._stop()

    def _start(self) -> Connection:
        if importlib.util.find_spec("math_verify") is None:
            raise UnsupportedError(
                "answers that are no plain numbers need math-verify: pip install math-verify"
            )
        ours, theirs = Pipe()
        # It must find the same gdro and math-verify as this process, however those were put there.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(theirs.fileno()), str(self.memory_bytes)],
            env=os.environ | {"PYTHONPATH": path},
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        self._pipe = ours
        try:
            ready = ours.poll(START_SECONDS) and ours.recv()
        except (EOFError, OSError):  # it is ending
            ready = False
            if self._process.wait() < 0:  # killed, by no fault of its own
                raise
        if not ready:
            code = self._process.poll()
            self._stop()
            raise RuntimeError(
                f"the verifier's worker did not start within {START_SECONDS:g} s "
                f"(exit code {code}); its own error is on stderr"
            )
        return ours

    def _stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        if self._pipe:
            with contextlib.suppress(OSError):
                self._pipe.close()
        self._process = self._pipe = None


_shared = Worker()


def shared() -> Worker:
    """This process's worker."""
    return _shared


def _forget() -> None:
    """A forked child must not talk into its parent's pipe, nor wait for a lock nobody holds."""
    global _shared
    _shared = Worker()


os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _shared.close())
