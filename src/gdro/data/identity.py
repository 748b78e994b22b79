"""Prompt ids: from a column, or a hash of the prompt's content."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from gdro.core.errors import DataError


def content_id(prompt: Any) -> str:
    """Stable id of a prompt (text, or chat messages): 16 hex digits of BLAKE2b over its content."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def identify(
    prompts: Sequence[Any], ids: Sequence[Any] | None = None, column: str = "id"
) -> tuple[np.ndarray, np.ndarray]:
    """Gives every row of a data set an id.

    Args:
        prompts: The prompt of each row.
        ids: Given ids (all integers or all strings); None takes a hash of the prompt's content,
            under which equal rows are one prompt.
        column: Name of the id column, for messages.

    Returns:
        The ids, and the rows to keep (ascending): without repeats of one prompt when ids are
        hashed, every row when they are given.

    Raises:
        DataError: if there are no rows, or two rows share a given id.
    """
    if len(prompts) == 0:
        raise DataError("the data set has no rows")
    if ids is None:
        hashes = np.array([content_id(p) for p in prompts])
        _, first = np.unique(hashes, return_index=True)
        keep = np.sort(first)
        return hashes[keep], keep
    kinds = {type(i) for i in ids}
    if not (kinds <= {int, np.int64, np.int32} or kinds == {str}):
        names = sorted(k.__name__ for k in kinds)
        raise DataError(f"column {column!r} must hold integers or strings, got {', '.join(names)}")
    given = np.asarray(ids)
    unique, first, count = np.unique(given, return_index=True, return_counts=True)
    if len(unique) < len(given):
        which = int(np.argmax(count > 1))
        rows = np.flatnonzero(given == unique[which])[:2].tolist()
        raise DataError(
            f"column {column!r}: rows {rows[0]} and {rows[1]} have the same id "
            f"{unique[which].item()!r}"
        )
    return given, np.arange(len(given))
