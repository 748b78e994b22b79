r"""Math-verify on one pair, and the loop of the worker process that runs it.

Only this module loads sympy, and only in the worker process; `worker` is the other end of the pipe.
"""

import contextlib
import logging
import resource
import signal
import sys
from collections.abc import Iterator
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

DIGITS = 5e-6
"""Relative difference up to which two irrational numbers are one, where math-verify says so."""


class Question(NamedTuple):
    """What crosses the pipe to the worker.

    Attributes:
        gold: tidy LaTeX.
        answer: tidy LaTeX.
        exact: the gold is an integer: decimals in the answer are taken at their word.
        seconds: after which the alarm ends it.
    """

    gold: str
    answer: str
    exact: bool
    seconds: float


class _Alarm(BaseException):
    """The row's time is over. No `Exception`: sympy swallows those."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise _Alarm

    previous = signal.signal(signal.SIGALRM, ring)
    # It rings again in case that something swallowed the first one.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.25)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@lru_cache(maxsize=8192)
def parse(latex: str) -> Any:
    r"""Sympy's object for tidy LaTeX, or None where math-verify finds none.

    It is wrapped in ``\boxed{}``: parsed bare, a fifth of MATH's golds lose a part.
    """
    from math_verify import LatexExtractionConfig
    from math_verify.parser import NormalizationConfig
    from math_verify.parser import parse as math_verify_parse

    # Units are split off before, by `spelling`; math-verify would take the m of 5m for one.
    normal = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all"
    )
    config = LatexExtractionConfig(boxed_match_priority=0, normalization_config=normal)
    found = math_verify_parse(
        rf"\boxed{{{latex}}}", (config,), fallback_mode="no_fallback",
        extraction_mode="first_match", parsing_timeout=None, raise_on_error=True,  # type: ignore[arg-type]
    )  # fmt: skip
    return found[0] if found else None


def compare(question: Question) -> str:
    """A verdict by its name: right, wrong, or unparsed where either side cannot be read."""
    from math_verify import verify as math_verify_verify

    gold = parse(question.gold)
    answer = parse(question.answer)
    if gold is None or answer is None:
        return "unparsed"
    if question.exact:
        answer = _decimals_exact(answer)
    same = any(
        math_verify_verify(
            g, a, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True
        )
        for g, a in _forms(gold, answer)
    )
    return "right" if same and not _far_apart(gold, answer) else "wrong"


def _forms(gold: Any, answer: Any) -> Iterator[tuple[Any, Any]]:
    """The pair as read, and as math-verify finds it equal where it otherwise would not."""
    import sympy
    from sympy.functions.elementary.hyperbolic import HyperbolicFunction

    yield gold, answer
    if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
        return
    if gold.has(HyperbolicFunction) or answer.has(HyperbolicFunction):
        yield gold.rewrite(sympy.exp), answer.rewrite(sympy.exp)
    if gold.is_Symbol and not answer.is_Symbol:  # compared as strings, but 2x - x is x
        yield gold, sympy.simplify(answer)


def _decimals_exact(answer: Any) -> Any:
    import sympy

    if isinstance(answer, sympy.Basic) and answer.has(sympy.Float):
        return sympy.nsimplify(answer, rational=True)
    return answer


def _far_apart(gold: Any, answer: Any) -> bool:
    """Whether two numbers differ that math-verify rounded to the same, as it does any tiny two."""
    import sympy

    if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
        return False
    if not (gold.is_number and answer.is_number and gold.is_finite and answer.is_finite):
        return False
    # A percentage may stand for the number itself or for its hundredth: math-verify chose.
    if gold.has(sympy.UnevaluatedExpr) or answer.has(sympy.UnevaluatedExpr):
        return False
    difference = abs(sympy.N(gold - answer, 30, maxn=200))
    return bool(difference > DIGITS * abs(sympy.N(gold, 30, maxn=200)))


def serve(pipe: Connection, memory_bytes: int) -> None:
    """Answers questions until the other end closes. Each answer is the name of a verdict."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # Worker and trainer share a terminal: ctrl-C is the trainer's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    compare(Question("x", "2x-x", False, 0))  # loads the grammar before the first row is timed
    pipe.send("ready")
    while True:
        try:
            question = Question(*pipe.recv())
        except EOFError:
            return
        try:
            with _time_limit(question.seconds):
                verdict = compare(question)
        except _Alarm:
            verdict = "timeout"
        except MemoryError:
            verdict = "timeout"  # the memory limit is a limit like the time's
        except Exception:  # noqa: BLE001
            # Whatever antlr, latex2sympy or sympy raise on malformed LaTeX, it was not read.
            verdict = "unparsed"
        pipe.send(verdict)


def main() -> None:
    """Entry of the process; its arguments are the pipe's descriptor and the bytes of memory."""
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
