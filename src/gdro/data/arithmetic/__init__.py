"""The built-in arithmetic suite: seven families, verifiable, with a heavy tail, and its base model.

See `families` for what the problems look like, `splits` for how they are divided and `base` for the
model they come with.
"""

from pathlib import Path

from gdro.data.arithmetic.families import FAMILIES, LEVELS
from gdro.data.arithmetic.splits import DEFAULT_SIZES, generate, load

MAX_COMPLETION_TOKENS = 11
"""Tokens of the longest answer and its end mark."""

__all__ = [
    "DEFAULT_SIZES",
    "FAMILIES",
    "LEVELS",
    "MAX_COMPLETION_TOKENS",
    "base_path",
    "generate",
    "load",
    "warm_start",
]


def base_path() -> Path:
    """Folder of the shipped base model, for ``AutoModelForCausalLM.from_pretrained``."""
    return Path(__file__).parent / "model"


def warm_start(out: Path, seed: int = 0) -> None:
    """Trains the base model anew; see `gdro.data.arithmetic.base.warm_start`."""
    from gdro.data.arithmetic import base

    base.warm_start(out, seed)
