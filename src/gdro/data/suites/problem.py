"""A problem of a suite, and the steps that it is worked out in."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

LEVELS = 5

Step = Callable[[Hashable, str, Sequence[str]], str]
"""``step(fact, right, choices) -> word``: what is believed about a fact, given what could be."""


def believe_right(fact: Hashable, right: str, choices: Sequence[str]) -> str:
    """The step that makes no mistake."""
    return right


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A drawn problem.

    Attributes:
        family: its family's name, which no other collection has.
        level: 1 (well known to the base model) to `LEVELS` (hardly).
        prompt: its text, words separated by spaces.
        work: works it out step by step, each fact passing through the given `Step`; with
            `believe_right` the result is the right answer.
        topic: what families that share facts call them; None: its facts are its family's alone.
    """

    family: str
    level: int
    prompt: str
    work: Callable[[Step], str]
    topic: str | None = None


Draw = Callable[[random.Random, int], Problem]
"""``draw(rng, level) -> problem``: what a family is."""


def hashed(*parts: object) -> int:
    """A 64-bit hash of the parts, the same on every machine and Python version."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
