"""Prompt ids: from a column, or a hash of the content."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gdro.core.errors import DataError


def content_id(content: Any) -> str:
    """Stable id of a prompt (text, chat messages with or without images) or of a whole row.

    16 hex digits of BLAKE2b over its content, the same in every process.

    Raises:
        DataError: if it holds something whose content cannot be read.
    """
    digest = hashlib.blake2b(digest_size=8)
    _feed(digest, content)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Adds a value with its kind and length, so that no two contents run together."""
    if isinstance(value, Mapping):
        digest.update(b"{%d" % len(value))
        for key in sorted(value):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(b"[%d" % len(value))
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "tobytes"):  # an image, an array
        shape = getattr(value, "size", None), getattr(value, "mode", None)
        _feed(digest, f"{shape}")
        _feed(digest, value.tobytes())
    elif value is None or isinstance(value, str | bytes | bool | int | float):
        data = value if isinstance(value, bytes) else str(value).encode()
        digest.update(b"%s%d:" % (type(value).__name__.encode(), len(data)) + data)
    else:
        raise DataError(
            f"a prompt holds a {type(value).__name__}, whose content cannot be hashed: name a "
            "column of ids (gdro_id_column)"
        )


def identify(
    prompts: Sequence[Any],
    ids: Sequence[Any] | None = None,
    *,
    row: Callable[[int], Any] | None = None,
    column: str = "id",
) -> tuple[np.ndarray, np.ndarray]:
    """Gives every row of a data set an id.

    Args:
        prompts: The prompt of each row.
        ids: Given ids (all integers or all strings); None takes a hash of the content.
        row: Returns a whole row, for hashed ids: rows with the same prompt are the same row only
            if everything else is equal too. None compares prompts alone.
        column: Name of the id column, for messages.

    Returns:
        The ids, and the rows to keep (ascending): without repeats where ids are hashed, every row
        where they are given.

    Raises:
        DataError: if there are no rows, or two rows share a given id.
    """
    if len(prompts) == 0:
        raise DataError("the data set has no rows")
    if ids is None:
        hashes = np.array([content_id(p) for p in prompts])
        _, place, count = np.unique(hashes, return_inverse=True, return_counts=True)
        if row is not None:
            for i in np.flatnonzero(count[place] > 1).tolist():
                hashes[i] = content_id(row(i))
        _, first = np.unique(hashes, return_index=True)
        keep = np.sort(first)
        return hashes[keep], keep
    ids = list(ids)
    kinds = {type(i) for i in ids}
    if not (kinds <= {int, np.int64, np.int32} or kinds == {str}):
        names = sorted(k.__name__ for k in kinds)
        raise DataError(f"column {column!r} must hold integers or strings, got {', '.join(names)}")
    given = np.asarray(ids)
    unique, _, count = np.unique(given, return_index=True, return_counts=True)
    if len(unique) < len(given):
        which = int(np.argmax(count > 1))
        rows = np.flatnonzero(given == unique[which])[:2].tolist()
        raise DataError(
            f"column {column!r}: rows {rows[0]} and {rows[1]} have the same id "
            f"{unique[which].item()!r}"
        )
    return given, np.arange(len(given))
