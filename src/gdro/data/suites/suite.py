"""Seeded prompts for training, validation and test, without overlap at any size and seed."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, cycle
from typing import TYPE_CHECKING

from gdro.core.errors import DataError
from gdro.data.suites.problem import Draw, Problem, believe_right, hashed

if TYPE_CHECKING:
    from datasets import Dataset

DEFAULT_SIZES = {"train": 960, "validation": 256, "test": 512}
"""Prompts of a split unless asked otherwise; 150 steps of 64 visit each of 960 ten times."""

# Hundredths of the hash range.
_BUCKETS = {"warm_start": range(40), "train": range(40, 65)}
_BUCKETS |= {"validation": range(65, 75), "test": range(75, 100)}

COMMON = 6
"""Problems of a family in training for one of a rare family."""

_GOLDEN_RATIO = (5**0.5 - 1) / 2
"""The step that spreads a Kronecker sequence most evenly."""


def split_of(prompt: str) -> str:
    """The one split that a prompt belongs to, by its hash: no seed, size or suite can make two
    overlap."""
    bucket = hashed("split", prompt) % 100
    return next(name for name, buckets in _BUCKETS.items() if bucket in buckets)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Families of problems in a mix of levels.

    Attributes:
        name: what it is called as a data set, ``collection`` or ``collection/variant``.
        families: the draw of each of the collection's families.
        mix: share of each level within a family, the easiest first.
        vocabulary: every word of the collection, in a fixed order; the tokenizer is this list.
        max_completion_tokens: tokens of the longest answer and its end mark.
        held_out: families that are the test's alone; none: every split has all families.
        train_prompts: size of the training split, where it is not the default one.
        rare: families of which training has one problem for `COMMON` of any other; validation and
            test have as many of each.
    """

    name: str
    families: Mapping[str, Draw]
    mix: tuple[float, ...]
    vocabulary: tuple[str, ...]
    max_completion_tokens: int
    held_out: frozenset[str] = frozenset()
    train_prompts: int = DEFAULT_SIZES["train"]
    rare: frozenset[str] = frozenset()

    @property
    def sizes(self) -> dict[str, int]:
        """Prompts of each split unless asked otherwise."""
        return DEFAULT_SIZES | {"train": self.train_prompts}

    @property
    def collection(self) -> str:
        """What the suites that share families, vocabulary and base models are called together."""
        return self.name.partition("/")[0]

    def families_of(self, split: str) -> tuple[str, ...]:
        """The families that a split draws from."""
        if not self.held_out:
            return tuple(self.families)
        return tuple(f for f in self.families if (f in self.held_out) == (split == "test"))

    def _turns(self, split: str) -> Iterator[str]:
        """The families in the order in which they have their turns, over and over."""
        families = self.families_of(split)
        if split != "train" or not self.rare:
            return cycle(families)
        common = [family for family in families if family not in self.rare]
        return cycle([*common * (COMMON - 1), *families])

    def problems(self, split: str, seed: int = 0) -> Iterator[Problem]:
        """An endless seeded stream of a split's problems; one may come twice.

        Families take turns and levels follow a Kronecker sequence within each, so that every
        stretch of the stream has nearly the stated mix: two splits differ in their problems, not
        by luck in how hard they are.
        """
        rng = random.Random(f"{split}-{seed}")
        bounds = list(accumulate(self.mix))
        positions = {family: rng.random() for family in self.families_of(split)}
        for family in self._turns(split):
            positions[family] = (positions[family] + _GOLDEN_RATIO) % 1
            level = 1 + min(bisect(bounds, positions[family] * bounds[-1]), len(bounds) - 1)
            problem = self.families[family](rng, level)
            while split_of(problem.prompt) != split:
                problem = self.families[family](rng, level)
            yield problem

    def generate(self, split: str, num_prompts: int | None = None, seed: int = 0) -> list[dict]:
        """Distinct prompts of a split.

        Args:
            split: ``train``, ``validation`` or ``test``.
            num_prompts: how many; None is the split's default, `sizes`.
            seed: of the draw; the default data sets are those of seed 0.

        Returns:
            Rows of ``id`` (the collection and 16 hex digits of the prompt's hash), ``prompt``,
            ``answer`` (every step, to be reproduced exactly), ``family`` and ``level`` (1 =
            easiest). A prompt has one id in all suites of a collection.

        Raises:
            DataError: if ``split`` or ``num_prompts`` is out of range.
        """
        if split not in DEFAULT_SIZES:
            raise DataError(f"split must be one of {', '.join(DEFAULT_SIZES)}, got {split!r}")
        num_prompts = self.sizes[split] if num_prompts is None else num_prompts
        if num_prompts < 1:
            raise DataError(f"num_prompts must be >= 1, got {num_prompts}")
        rows: dict[str, dict] = {}
        for problem in self.problems(split, seed):
            if problem.prompt not in rows:
                rows[problem.prompt] = {
                    "id": f"{self.collection}-{hashed('id', problem.prompt):016x}",
                    "prompt": problem.prompt,
                    "answer": problem.work(believe_right),
                    "family": problem.family,
                    "level": problem.level,
                }
            if len(rows) == num_prompts:
                break
        return list(rows.values())

    def load(self, split: str, num_prompts: int | None = None, seed: int = 0) -> Dataset:
        """`generate` as a `datasets.Dataset`."""
        from datasets import Dataset

        return Dataset.from_list(self.generate(split, num_prompts, seed))
