"""What is remembered of each prompt's visits (method D1, D2).

A *visit* is one group of rollouts of one prompt: (rollouts, correct). Both memories answer the
same two questions, `counts` and `flags`; they differ in how they forget.
"""

from typing import Any, Protocol

import numpy as np

from gdro.core.errors import DataError
from gdro.core.index import grown
from gdro.core.types import FloatArray, IntArray


class Memory(Protocol):
    """Visits by row. Rows beyond those added to have none."""

    def add(self, rows_P: IntArray, n_P: IntArray, correct_P: IntArray) -> None:
        """Records one visit of each row; the rows are distinct, n_P >= 1."""
        ...

    def counts(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        """(rollouts, correct) remembered, real-valued."""
        ...

    def flags(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        """(visits, visits with any correct rollout) remembered, real-valued."""
        ...

    def grow(self, size: int) -> None:
        """Makes room for `size` rows."""
        ...

    def state_dict(self, size: int) -> dict[str, Any]:
        """The first `size` rows."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the place of whatever was remembered before."""
        ...


class CountMemory:
    """Sums of which a visit keeps `factor`, 1 for plain totals; 8 bytes a prompt.

    Args:
        factor: What a new visit of the same prompt leaves of the old sums, in (0, 1].
        flags: Whether visits and their any-correct flag are summed too (16 bytes a prompt).
    """

    def __init__(self, factor: float, flags: bool) -> None:
        self._factor = np.float32(factor)
        self._sum: np.ndarray = np.zeros((0, 4 if flags else 2), np.float32)

    def add(self, rows_P: IntArray, n_P: IntArray, correct_P: IntArray) -> None:
        sums = self._factor * self._sum.take(rows_P, axis=0)
        sums[:, 0] += n_P
        sums[:, 1] += correct_P
        if sums.shape[1] > 2:
            sums[:, 2] += 1
            sums[:, 3] += correct_P > 0
        self._sum[rows_P] = sums

    def counts(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        found = self._sum.take(rows_P, axis=0).astype(np.float64)
        return found[:, 0], found[:, 1]

    def flags(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        found = self._sum.take(rows_P, axis=0).astype(np.float64)
        return found[:, 2], found[:, 3]

    def grow(self, size: int) -> None:
        self._sum = grown(self._sum, size)

    def state_dict(self, size: int) -> dict[str, Any]:
        return {"sum": self._sum[:size].copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sum = state["sum"].copy()


class WindowMemory:
    """The last `window` visits (H of the paper), 2 bytes a visit.

    The ring is as wide as the longest history so far needs, and 4 bytes a visit from the first
    group of more than 255 rollouts on.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._visits: np.ndarray = np.zeros(0, np.uint32)
        self._ring: np.ndarray = np.zeros((0, 1, 2), np.uint8)  # rows, visits, (rollouts, correct)

    def add(self, rows_P: IntArray, n_P: IntArray, correct_P: IntArray) -> None:
        if n_P.max() > np.iinfo(np.uint16).max:
            raise DataError(
                f"the window memory takes up to 65535 rollouts a visit, got {n_P.max()}"
            )
        if n_P.max() > np.iinfo(self._ring.dtype).max:
            self._ring = self._ring.astype(np.uint16)
        place = self._visits[rows_P] % self._window
        width = self._ring.shape[1]
        if place.max() >= width:  # no row has wrapped yet, so columns may be appended
            wider = min(self._window, 2 * width)
            self._ring = np.pad(self._ring, ((0, 0), (0, wider - width), (0, 0)))
        self._ring[rows_P, place] = np.stack((n_P, correct_P), axis=1)
        self._visits[rows_P] += 1

    def counts(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        total = self._ring[rows_P].sum(axis=1, dtype=np.float64)
        return total[:, 0], total[:, 1]

    def flags(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        total = (self._ring[rows_P] > 0).sum(axis=1, dtype=np.float64)
        return total[:, 0], total[:, 1]

    def grow(self, size: int) -> None:
        self._visits = grown(self._visits, size)
        self._ring = grown(self._ring, len(self._visits))

    def state_dict(self, size: int) -> dict[str, Any]:
        return {"visits": self._visits[:size].copy(), "ring": self._ring[:size].copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._visits, self._ring = state["visits"].copy(), state["ring"].copy()
