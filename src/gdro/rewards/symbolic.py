r"""One pair read and compared, and the loop of the worker process that runs it.

Only this module loads sympy, and only in the worker process; `worker` is the other end of the pipe.
"""

import contextlib
import logging
import resource
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

CPU_GRACE_SECONDS = 10
"""Processor time after the alarm; longer than the parent waits before it kills."""


class Question(NamedTuple):
    """What crosses the pipe to the worker.

    Attributes:
        gold: tidy LaTeX.
        answer: tidy LaTeX.
        tolerance: relative difference up to which numbers agree; 0 is strict.
        seconds: of processor time after which the alarm ends it; set by the pool.
    """

    gold: str
    answer: str
    tolerance: float = 0.0
    seconds: float = 0.0


class _Alarm(BaseException):
    """The row's time is over. No `Exception`: sympy swallows those."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise _Alarm

    previous = signal.signal(signal.SIGPROF, ring)
    # Of processor time: no verdict depends on what else the machine does. It rings again in case
    # that something swallowed the first one.
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.25)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def compare(question: Question) -> str:
    """A verdict by its name: right or wrong.

    Raises:
        Exception: of many kinds, if either side cannot be read (see `reading.read`).
    """
    from gdro.rewards.equality import Same
    from gdro.rewards.reading import is_complex, read

    real = not (is_complex(question.gold) or is_complex(question.answer))
    gold, answer = read(question.gold, real=real), read(question.answer, real=real)
    same = Same(gold.decimal or answer.decimal, question.tolerance, question.gold)
    return "right" if same(gold.value, answer.value) else "wrong"


def serve(pipe: Connection, memory_bytes: int) -> None:
    """Answers batches of questions, row by row, until the other end closes.

    An answer is the name of a verdict. After a row that ran out of memory the process ends: what
    filled it may still be held by a cache.
    """
    _limit(resource.RLIMIT_AS, memory_bytes)
    # Worker and trainer share a terminal: ctrl-C is the trainer's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    compare(Question("x", "2x-x"))  # loads the grammar before the first row is timed
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send("ready")
        while True:
            for fields in pipe.recv():
                verdict, spent = _answer(Question(*fields))
                pipe.send(verdict)
                if spent:
                    return


def _answer(question: Question) -> tuple[str, bool]:
    """A verdict, and whether this process should end."""
    # Should the parent be gone and the alarm not get through, the kernel ends it.
    _limit(resource.RLIMIT_CPU, int(time.process_time() + question.seconds) + CPU_GRACE_SECONDS)
    try:
        with _time_limit(question.seconds):
            return compare(question), False
    except _Alarm:
        return "timeout", False
    except MemoryError:
        return "timeout", True  # the memory limit is a limit like the time's
    except Exception:  # noqa: BLE001
        # Whatever antlr, latex2sympy or sympy raise on malformed LaTeX, it was not read.
        return "unparsed", False


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (soft, hard))


def main() -> None:
    """Entry of the process; its arguments are the pipe's descriptor and the bytes of memory."""
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
