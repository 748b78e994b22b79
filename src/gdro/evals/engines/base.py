"""What every engine takes and gives."""

import hashlib
from collections.abc import Generator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Protocol

Key = tuple[str, str, int, int]
"""Benchmark, problem id, seed, and which of the k completions."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One completion.

    Attributes:
        benchmark: Name.
        id: Of the problem.
        seed: Of the set of samples it belongs to.
        sample: Which of the k completions of its problem and seed it is, 0 .. k - 1.
        text: What was said.
        tokens: How many tokens it took, the end mark included; None where the server doesn't say.
        truncated: Whether it met the token limit before its end.
    """

    benchmark: str
    id: str
    seed: int
    sample: int
    text: str
    tokens: int | None
    truncated: bool

    @property
    def key(self) -> Key:
        """What tells it from every other."""
        return self.benchmark, self.id, self.seed, self.sample


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        k: Completions of each problem and seed.
        temperature: 0 is greedy.
        top_p: 1 is off.
        top_k: 0 is off; None is off too, and with a server, what the server does.
    """

    k: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """The problems of one benchmark, to be answered k times with one seed.

    Attributes:
        benchmark: Name.
        seed: Of the samples.
        max_tokens: A completion is cut here.
        id_N: Problem ids.
        prompt_N: Prompts: text, or chat messages.
        done: What is there already.
    """

    benchmark: str
    seed: int
    max_tokens: int
    id_N: Sequence[str]
    prompt_N: Sequence[Any]
    done: AbstractSet[Key] = field(default_factory=frozenset)

    def missing(self, k: int) -> list[tuple[int, int]]:
        """Position of the problem and number of the completion, of each that is not done."""
        return [
            (i, j)
            for i, id_ in enumerate(self.id_N)
            for j in range(k)
            if (self.benchmark, id_, self.seed, j) not in self.done
        ]

    def sample(self, position: int, number: int, **said: Any) -> Sample:
        """The completion `number` of the problem at `position`."""
        key = {"benchmark": self.benchmark, "id": self.id_N[position], "seed": self.seed}
        return Sample(**key, sample=number, **said)


class Engine(Protocol):
    """A model that answers."""

    def sample(self, job: Job) -> Generator[list[Sample]]:
        """Draws what the job misses, a list at a time; each list is kept before the next."""
        ...

    def about(self) -> dict[str, Any]:
        """What happened that the summary should tell, such as retries; plain values."""
        ...


def request_seed(key: Key) -> int:
    """A seed for one completion, 31 bits: what it is does not depend on what else is sampled."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "big") >> 1
