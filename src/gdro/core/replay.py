"""A memory of rare successes: a group that is all wrong trains on an earlier right rollout.

Beyond the paper. Where a prompt is hardly ever solved, its groups are all wrong, and without a
gradient, until one day a rollout is right: that one is kept, and when a later group of the prompt
has none of its own, it takes the place of one of its rollouts. Nothing more is generated, and the
classifier, the adversaries and the ledger see what was generated.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdro.core.config import ReplayConfig
from gdro.core.types import IntArray

IntArray32 = NDArray[np.int32]


class Success(NamedTuple):
    """A right rollout.

    Attributes:
        tokens: Ids of its completion.
        rewards: What each reward function gave it.
        step: Of the plan that it was generated for.
    """

    tokens: tuple[int, ...]
    rewards: tuple[float, ...]
    step: int


class Successes:
    """The newest right rollout of each prompt, of at most `replay.capacity` prompts."""

    def __init__(self, config: ReplayConfig) -> None:
        self._config = config
        # oldest first; token ids as int32: a tuple of Python's integers takes nine times the room
        self._kept: dict[int, tuple[IntArray32, tuple[float, ...], int]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def recalled(
        self, rows_P: IntArray, slot_R: IntArray, correct_R: np.ndarray, step: int
    ) -> dict[int, Success]:
        """Which rollouts give their place to a success, and to which.

        The last of every group of at least two that is all wrong and whose prompt has a success of
        at most `replay.max_age` steps ago.

        Args:
            rows_P: Row of each slot's prompt.
            slot_R: Slot of each rollout.
            correct_R: Whether it is right.
            step: Of the plan.

        Returns:
            By position of the rollout.
        """
        n_P = np.bincount(slot_R, minlength=len(rows_P))
        right_P = np.bincount(slot_R, correct_R, len(rows_P))
        last_P = np.zeros(len(rows_P), np.int64)
        last_P[slot_R] = np.arange(len(slot_R))  # the last assignment stays
        found = {}
        for slot in np.flatnonzero((n_P > 1) & (right_P == 0)).tolist():
            kept = self._kept.get(int(rows_P[slot]))
            oldest = step - (self._config.max_age or step)
            if kept is not None and kept[2] >= oldest:
                found[int(last_P[slot])] = Success(tuple(kept[0].tolist()), *kept[1:])
        return found

    def wanted(self, slot_R: IntArray, correct_R: np.ndarray) -> dict[int, int]:
        """The last right rollout of each slot that has any: its position -> the slot."""
        right = np.flatnonzero(correct_R)
        newest = dict(zip(slot_R[right].tolist(), right.tolist(), strict=True))
        return {position: slot for slot, position in newest.items()}

    def keep(self, row: int, success: Success) -> None:
        """Takes the place of the prompt's earlier one; beyond capacity the oldest is forgotten.

        One that comes late, of an earlier step than the one kept, is left out.
        """
        kept = self._kept.get(row)
        if kept is not None and kept[2] > success.step:
            return
        tokens = np.fromiter(success.tokens, np.int32, len(success.tokens))
        self._kept.pop(row, None)
        self._kept[row] = tokens, success.rewards, success.step
        if len(self._kept) > self._config.capacity:
            del self._kept[next(iter(self._kept))]

    def state_dict(self) -> dict[str, Any]:
        tokens, rewards, steps = (
            zip(*self._kept.values(), strict=True) if self._kept else ((), (), ())
        )
        functions = len(rewards[0]) if rewards else 0
        return {
            "rows": np.fromiter(self._kept, np.int64, len(self._kept)),
            "steps": np.array(steps, np.int64),
            "lengths": np.array([len(ids) for ids in tokens], np.int64),
            "tokens": np.concatenate([np.zeros(0, np.int32), *tokens]),
            "rewards": np.array(rewards, np.float64).reshape(len(rewards), functions),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        ends = np.cumsum(state["lengths"])[:-1]
        tokens = [part.copy() for part in np.split(state["tokens"].astype(np.int32), ends)]
        rewards = [tuple(x) for x in state["rewards"].tolist()]
        rows, steps = state["rows"].tolist(), state["steps"].tolist()
        self._kept = {row: (tokens[i], rewards[i], steps[i]) for i, row in enumerate(rows)}
