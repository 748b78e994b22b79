"""Prompt ids to dense rows."""

import json
from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np

from gdro.core.errors import CheckpointError, DataError
from gdro.core.types import IntArray, PromptIds

MAX_ID = 2**31
"""Integer ids lie below."""

_PAGE = 256


def grown(array: np.ndarray, size: int, fill: float = 0) -> np.ndarray:
    """Returns `array` with room for at least `size` rows, at amortised constant cost a row."""
    if size <= len(array):
        return array
    shape = (max(size, len(array) * 3 // 2, 64), *array.shape[1:])
    more = np.zeros(shape, array.dtype)  # memory that is not touched yet costs nothing
    more[: len(array)] = array
    if fill:
        more[len(array) :] = fill
    return more


def normalised(ids: PromptIds) -> IntArray | list[str]:
    """Ids as an int64 array or a list of `str`.

    Raises:
        DataError: for ids of other or of mixed types, and integers out of range.
    """
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        wide: Any = ids
    else:
        values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        kinds = set(map(type, values))
        if all(issubclass(kind, str) for kind in kinds):
            return values  # type: ignore[return-value]
        if bool in kinds or not all(issubclass(kind, int | np.integer) for kind in kinds):
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(
                f"prompt ids must be all integers or all strings, got {names}; convert "
                "them with str(id)"
            )
        wide = values
    try:
        rows = np.asarray(wide, dtype=np.int64)
    except OverflowError:
        rows = np.asarray([MAX_ID])
    if rows.size and (rows.min() < 0 or rows.max() >= MAX_ID):
        raise DataError(
            "integer prompt ids must be >= 0 and < 2**31; use row numbers of the data "
            "set, or strings: str(id)"
        )
    return rows


def owned(ids: PromptIds) -> PromptIds:
    """A copy of ids that can be used; of an array of objects, as the strings or integers it holds.

    Whoever gave them may write to his own, and a checkpoint holds no objects.
    """
    if isinstance(ids, np.ndarray) and ids.dtype.kind == "O":
        return np.asarray(normalised(ids))
    return copy(ids)


def turns(rows_P: IntArray) -> Iterator[np.ndarray | slice]:
    """Entries in parts without a row that stands twice: the first of each row, the second, ..."""
    ordered = np.sort(rows_P)
    other = ordered[1:] != ordered[:-1]
    if other.all():  # mostly, none does
        yield slice(None)
        return
    order, place = np.argsort(rows_P, kind="stable"), np.arange(len(rows_P))
    first = np.r_[True, other]
    turn = np.empty_like(rows_P)
    turn[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    for t in range(int(turn.max()) + 1):
        yield turn == t


class PromptIndex:
    """Gives each prompt id a row, in the order of first sight.

    An integer id is looked up in a table of 4 bytes an id, in pages of 256 that exist once one of
    their ids was seen: row numbers are dense in it, and a few large ids do no harm. A string is
    looked up in a dict. All ids of one index are of one kind.
    """

    def __init__(self) -> None:
        self._size = 0
        self._page: np.ndarray = np.zeros(0, np.int32)  # id // 256 -> page; page 0 stays empty
        self._table: np.ndarray = np.zeros((1, _PAGE), np.int32)  # row + 1; 0 is absent
        self._pages = 1
        self._rows: dict[str, int] = {}

    def __len__(self) -> int:
        return self._size

    def rows(self, ids: PromptIds) -> IntArray:
        """Row of each id; new ids get the next rows.

        Args:
            ids: Prompt ids, all integers in [0, 2**31) or all strings.

        Returns:
            int64, as many as ids.

        Raises:
            DataError: for ids that cannot be used, or of another kind than before.
        """
        known = normalised(ids)
        if len(known) == 0:
            return np.zeros(0, np.int64)
        textual = isinstance(known, list)
        if self._size and textual != bool(self._rows):
            was, now = ("strings", "integers") if self._rows else ("integers", "strings")
            raise DataError(f"prompt ids were {was} so far, now {now}; use one kind throughout")
        if textual:
            rows = self._rows
            found = [rows.setdefault(i, len(rows)) for i in known]
            self._size = len(rows)
            return np.asarray(found, np.int64)
        upper, lower = known // _PAGE, known % _PAGE
        self._page = grown(self._page, int(known.max()) // _PAGE + 1)
        found = self._table[self._page[upper], lower]
        if not found.all():
            self._add(known[found == 0])
            found = self._table[self._page[upper], lower]
        return found.astype(np.int64) - 1

    def _add(self, ids: IntArray) -> None:
        """Gives the next rows to absent integer ids, which may repeat."""
        new, first = np.unique(ids, return_index=True)
        new = new[np.argsort(first)]  # in the order of first sight
        upper = np.unique(new // _PAGE)
        fresh = upper[self._page[upper] == 0]
        self._page[fresh] = self._pages + np.arange(len(fresh))
        self._pages += len(fresh)
        self._table = grown(self._table, self._pages)
        self._table[self._page[new // _PAGE], new % _PAGE] = self._size + 1 + np.arange(len(new))
        self._size += len(new)

    def state_dict(self) -> dict[str, Any]:
        """Ids in the order of their rows: an integer array, or strings as JSON in bytes."""
        if self._rows:
            text = json.dumps(list(self._rows)).encode()  # fixed-width text would be padded
            return {"kind": "string", "ids": np.frombuffer(text, np.uint8).copy()}
        upper = np.flatnonzero(self._page)
        table = self._table[self._page[upper]]
        page, lower = np.nonzero(table)
        ids = (upper[page] * _PAGE + lower)[np.argsort(table[page, lower])]
        return {"kind": "integer", "ids": ids.astype(np.int32)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the place of whatever was indexed before."""
        kind, ids = state["kind"], state["ids"]
        if kind not in ("integer", "string"):
            raise CheckpointError(f"prompt ids of kind {kind!r} are unknown")
        self.__init__()
        self.rows(json.loads(ids.tobytes()) if kind == "string" else ids)
