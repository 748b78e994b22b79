"""The worded suite: short stories of several sentences that ask for a number.

See `families` for what the problems look like. No model comes with it: ``gdro data base --suite
worded`` makes one.
"""

from functools import partial

from gdro.data.suites.suite import Suite
from gdro.data.worded.families import FAMILIES, vocabulary

MAX_COMPLETION_TOKENS = 13
"""Tokens of the longest answer and its end mark."""

MIX = (0.30, 0.10, 0.10, 0.18, 0.32)
"""As in the arithmetic suite."""

_suite = partial(
    Suite,
    families=FAMILIES,
    mix=MIX,
    vocabulary=tuple(vocabulary()),
    max_completion_tokens=MAX_COMPLETION_TOKENS,
)
SUITES = (
    _suite(name="worded"),
    # A budget goes down by the prices that shopping adds up; a journey shares nothing.
    _suite(name="worded/transfer", held_out=frozenset({"budget", "journey"})),
)

__all__ = ["FAMILIES", "MAX_COMPLETION_TOKENS", "MIX", "SUITES"]
