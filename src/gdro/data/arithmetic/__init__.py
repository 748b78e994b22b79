"""The built-in arithmetic suite: seven families, verifiable, with a heavy tail, and its base model.

See `families` for what the problems look like and `gdro.data.suites` for how they are divided and
how their base models are made. The names here without a variant are those of ``arithmetic``.
"""

from functools import partial
from pathlib import Path

from gdro.data.arithmetic.families import FAMILIES, vocabulary
from gdro.data.suites.problem import LEVELS
from gdro.data.suites.suite import DEFAULT_SIZES, Suite

MAX_COMPLETION_TOKENS = 11
"""Tokens of the longest answer and its end mark."""

MIX = (0.30, 0.10, 0.10, 0.18, 0.32)
"""Half are within reach of the base model, half are its tail, and the last level is one that tuned
GRPO has hardly begun on at the demo's budget (chosen so that the bounds of
``benchmarks/headroom.py`` hold)."""

_suite = partial(
    Suite,
    families=FAMILIES,
    vocabulary=tuple(vocabulary()),
    max_completion_tokens=MAX_COMPLETION_TOKENS,
)
SUITES = (
    _suite(name="arithmetic", mix=MIX),
    _suite(name="arithmetic/easy", mix=(0.30, 0.22, 0.20, 0.16, 0.12)),
    _suite(name="arithmetic/hard", mix=(0.15, 0.10, 0.12, 0.20, 0.43)),
    # 150 steps of 64 visit each prompt once.
    _suite(name="arithmetic/once", mix=MIX, train_prompts=9600),
    # Each has a relative that is trained on: columns as in addition, a state as in operators.
    _suite(name="arithmetic/transfer", mix=MIX, held_out=frozenset({"subtraction", "product"})),
    # The rare ones are those that GRPO is worst at, so that difficulty and frequency pull apart.
    _suite(
        name="arithmetic/skewed",
        mix=MIX,
        rare=frozenset({"operators", "product", "base_conversion"}),
    ),
)

generate, load = SUITES[0].generate, SUITES[0].load


def base_path() -> Path:
    """Folder of the shipped base model, for ``AutoModelForCausalLM.from_pretrained``."""
    return Path(__file__).parent / "model"


__all__ = [
    "DEFAULT_SIZES",
    "FAMILIES",
    "LEVELS",
    "MAX_COMPLETION_TOKENS",
    "MIX",
    "SUITES",
    "base_path",
    "generate",
    "load",
]
