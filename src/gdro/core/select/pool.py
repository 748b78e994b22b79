"""All prompts of the data set, as selectors see them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gdro.core.difficulty import Difficulty
from gdro.core.errors import DataError
from gdro.core.select.queues import Queues
from gdro.core.types import FloatArray, IntArray, PromptIds

_CHUNK = 1 << 20  # ids that are looked up at once, so that 10^8 need no copies of 10^8


class Pool:
    """The data set: what is known of each prompt, how often it was drawn, and a shuffled order.

    Attributes:
        rows_N: The classifier's row of each prompt, by position in the data set.
        visits_N: How often each was drawn.
        last_N: Number of draws (of any prompt) when each was drawn last; 0 if never.
        draws: Number of draws so far.
    """

    def __init__(self, difficulty: Difficulty, rows_N: np.ndarray) -> None:
        self._difficulty = difficulty
        self.rows_N = rows_N
        self.visits_N: np.ndarray = np.zeros(len(rows_N), np.int32)
        self.last_N: np.ndarray = np.zeros(len(rows_N), np.int64)
        self.draws = 0
        self._order: IntArray = np.zeros(0, np.int64)  # what is left of the epoch
        self._queues: Queues | None = None
        self._place: IntArray | None = None

    @property
    def size(self) -> int:
        """N."""
        return len(self.rows_N)

    @property
    def population_B(self) -> IntArray:
        """Number of prompts in each bin."""
        return self._difficulty.population_B()

    @property
    def success_N(self) -> FloatArray:
        """Posterior mean success rate of each prompt. Looks at all of them."""
        return self._difficulty.success(self.rows_N)

    def posterior(self, chosen: IntArray) -> tuple[FloatArray, FloatArray]:
        """Beta(a, b) of the success rate of each chosen prompt."""
        return self._difficulty.posterior(self.rows_N[chosen])

    def positions(self, rows_P: IntArray) -> IntArray:
        """Positions of those of the classifier's rows that are prompts of the data set."""
        if self._place is None:
            self._place = np.full(int(self.rows_N.max(initial=-1)) + 1, -1)
            self._place[self.rows_N] = np.arange(self.size)
        found = self._place[rows_P[rows_P < len(self._place)]]
        return found[found >= 0]

    def next(
        self, count: int, rng: np.random.Generator, without: IntArray | None = None
    ) -> IntArray:
        """The next prompts in shuffled epochs: each once before any comes again.

        Args:
            count: How many; fewer come only if `without` leaves fewer.
            rng: Shuffles each epoch.
            without: Positions to pass over; they come first in the next call.
        """
        barred = np.zeros(0, np.int64) if without is None else without
        taken, missing = np.zeros(0, np.int64), min(count, self.size - len(np.unique(barred)))
        passed = np.zeros(0, np.int64)  # also what two epochs have in one call
        while len(taken) < missing:
            if not len(self._order):
                self._order = rng.permutation(self.size)
            chunk, self._order = np.split(self._order, [missing - len(taken)])
            fresh = ~np.isin(chunk, np.concatenate([barred, taken]))
            taken = np.concatenate([taken, chunk[fresh]])
            passed = np.concatenate([passed, chunk[~fresh]])
        if passed.size:
            self._order = np.concatenate([passed, self._order])
        return taken

    def queues(self, rng: np.random.Generator) -> Queues:
        """The prompts by class, those drawn before back in their queues; shuffled at first."""
        if self._queues is None:
            self._queues = self._made()
            self._queues.append(rng.permutation(self.size))
        self._queues.bring_back()
        return self._queues

    def _made(self) -> Queues:
        return Queues(
            lambda at: self._difficulty.class_P(self.rows_N[at]),
            lambda at: self.last_N[at],
            len(self.bin_C),
        )

    @property
    def bin_C(self) -> IntArray:
        """Bin of each class of the queues, -1 for classes of prompts that nothing is known of."""
        return self._difficulty.bin_C

    def took(self, chosen: IntArray) -> None:
        """Notes that prompts were drawn."""
        self.visits_N[chosen] += 1
        self.draws += len(chosen)
        self.last_N[chosen] = self.draws

    def state_dict(self) -> dict[str, Any]:
        """By prompt (the classifier's row), so that the data set may come in another order."""
        return {
            "rows": self.rows_N.copy(),
            "visits": self.visits_N.copy(),
            "last": self.last_N.copy(),
            "draws": self.draws,
            "order": self.rows_N[self._order],
            "queues": self._queues
            and self._renamed(self._queues.state_dict(), self.rows_N.__getitem__),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state of the same prompts."""
        here = self.positions(state["rows"])
        self.visits_N[here], self.last_N[here] = state["visits"], state["last"]
        self.draws = int(state["draws"])
        self._order = self.positions(state["order"])
        if state["queues"]:
            self._queues = self._made()
            self._queues.load_state_dict(self._renamed(state["queues"], self.positions))

    @staticmethod
    def _renamed(queues: Mapping[str, IntArray], name: Callable[..., IntArray]) -> dict[str, Any]:
        """A state of the queues with other names for the prompts."""
        return {key: queues[key] if key == "size" else name(queues[key]) for key in queues}


def distinct_rows(difficulty: Difficulty, prompt_ids: PromptIds) -> Any:
    """The classifier's row of each prompt of a data set, int32.

    Raises:
        DataError: if an id stands twice, or cannot be used.
    """
    rows_N = np.empty(len(prompt_ids), np.int32)
    for start in range(0, len(rows_N), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows_N[part] = difficulty.rows(prompt_ids[part])
    named = np.zeros(len(difficulty), bool)
    named[rows_N] = True
    if np.count_nonzero(named) < len(rows_N):
        raise DataError("prompt_ids must be distinct")
    return rows_N


def smallest(key_N: FloatArray, tie_N: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """Positions of the `count` smallest keys; equal ones by smallest `tie_N`, then by lot."""
    if count == 0:
        return np.zeros(0, np.int64)
    bar = np.partition(key_N, count - 1)[count - 1]
    below, at = np.flatnonzero(key_N < bar), np.flatnonzero(key_N == bar)
    order = np.lexsort((rng.random(at.size), tie_N[at]))
    return np.concatenate([below, at[order[: count - below.size]]])
