"""Seeded prompts for training, validation and test, without overlap at any size and seed."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate, cycle
from typing import TYPE_CHECKING

from gdro.core.errors import DataError
from gdro.data.arithmetic.families import FAMILIES, LEVELS, Problem, believe_right, hashed

if TYPE_CHECKING:
    from datasets import Dataset

DEFAULT_SIZES = {"train": 960, "validation": 256, "test": 512}
"""Prompts of a split unless asked otherwise; 150 steps of 64 visit each of 960 ten times."""

LEVEL_SHARES = (0.30, 0.10, 0.10, 0.18, 0.32)
"""Share of each level within a family: half are within reach of the base model, half are its tail,
and the last level is one that tuned GRPO has hardly begun on at the demo's budget (chosen so that
the bounds of ``benchmarks/headroom.py`` hold)."""

# Hundredths of the hash range.
_BUCKETS = {"warm_start": range(40), "train": range(40, 65)}
_BUCKETS |= {"validation": range(65, 75), "test": range(75, 100)}

_GOLDEN_RATIO = (5**0.5 - 1) / 2
"""The step that spreads a Kronecker sequence most evenly."""


def split_of(prompt: str) -> str:
    """The one split that a prompt belongs to, by its hash: no seed or size can make two overlap."""
    bucket = hashed("split", prompt) % 100
    return next(name for name, buckets in _BUCKETS.items() if bucket in buckets)


def problems(split: str, seed: int = 0) -> Iterator[Problem]:
    """An endless seeded stream of a split's problems; one may come twice.

    Families take turns and levels follow a Kronecker sequence within each, so that every stretch
    of the stream has nearly the stated mix: two splits differ in their problems, not by luck in
    how hard they are.
    """
    rng = random.Random(f"{split}-{seed}")
    bounds = list(accumulate(LEVEL_SHARES))
    positions = {family: rng.random() for family in FAMILIES}
    for family in cycle(FAMILIES):
        positions[family] = (positions[family] + _GOLDEN_RATIO) % 1
        level = 1 + min(bisect(bounds, positions[family] * bounds[-1]), LEVELS - 1)
        problem = FAMILIES[family](rng, level)
        while split_of(problem.prompt) != split:
            problem = FAMILIES[family](rng, level)
        yield problem


def generate(split: str, num_prompts: int | None = None, seed: int = 0) -> list[dict]:
    """Distinct prompts of a split.

    Args:
        split: ``train``, ``validation`` or ``test``.
        num_prompts: how many; None is the split's default size, `DEFAULT_SIZES`.
        seed: of the draw; the default data sets are those of seed 0.

    Returns:
        Rows of ``id`` (``arithmetic-`` and 16 hex digits of the prompt's hash), ``prompt``,
        ``answer`` (every step, to be reproduced exactly), ``family`` and ``level`` (1 = easiest).

    Raises:
        DataError: if ``split`` or ``num_prompts`` is out of range.
    """
    if split not in DEFAULT_SIZES:
        raise DataError(f"split must be one of {', '.join(DEFAULT_SIZES)}, got {split!r}")
    num_prompts = DEFAULT_SIZES[split] if num_prompts is None else num_prompts
    if num_prompts < 1:
        raise DataError(f"num_prompts must be >= 1, got {num_prompts}")
    rows: dict[str, dict] = {}
    for problem in problems(split, seed):
        if problem.prompt not in rows:
            rows[problem.prompt] = {
                "id": f"arithmetic-{hashed('id', problem.prompt):016x}",
                "prompt": problem.prompt,
                "answer": problem.work(believe_right),
                "family": problem.family,
                "level": problem.level,
            }
        if len(rows) == num_prompts:
            break
    return list(rows.values())


def load(split: str, num_prompts: int | None = None, seed: int = 0) -> Dataset:
    """`generate` as a `datasets.Dataset`."""
    from datasets import Dataset

    return Dataset.from_list(generate(split, num_prompts, seed))
