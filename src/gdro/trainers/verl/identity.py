"""Who is who in verl's data: a prompt is its (data_source, split, index).

`uid` is new at every fetch, and `index` (of `extra_info`) is 0 where the data give none and unique
in one data set only.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gdro.core.errors import DataError, UnsupportedError

DATA = "the training data"


def prompt_id(source: Any, split: Any, index: Any) -> str:
    """The controller's id of a prompt; what is missing is left empty."""
    return "/".join("" if part is None else str(part) for part in (source, split, index))


def batch_ids(sources: Iterable[Any], infos: Iterable[Any]) -> np.ndarray:
    """Ids of fetched rows, by their `data_source` and `extra_info`; str[P]."""
    pairs = zip(sources, infos, strict=True)
    return np.array([prompt_id(s, info.get("split"), info.get("index")) for s, info in pairs])


def dataset_ids(dataset: Any) -> list[str]:
    """Ids of all rows of verl's data set, N of them.

    Raises:
        DataError: if rows have no index, or two have the same identity; both are named.
        UnsupportedError: if it is no `RLHFDataset`, whose rows are columns.
    """
    size = len(_frame(dataset))
    try:
        index_N = column(dataset, "extra_info.index")
    except DataError:
        raise DataError(
            f"{DATA} have no extra_info.index: without it a prompt cannot be known again; add the "
            "row's number when the parquet file is made"
        ) from None
    if (bad := next((i for i, value in enumerate(index_N) if value is None), None)) is not None:
        raise DataError(f"row {bad} of {DATA} has no extra_info.index")
    source_N, split_N = (
        _or_none(dataset, name, size) for name in ("data_source", "extra_info.split")
    )
    ids = list(map(prompt_id, source_N, split_N, index_N))
    if len(set(ids)) < size:
        first: dict[str, int] = {}
        for row, name in enumerate(ids):
            if first.setdefault(name, row) != row:
                raise DataError(
                    f"rows {first[name]} and {row} of {DATA} are both {name!r} (data_source, "
                    "split, index): they would be taken for one prompt; give each row an "
                    "extra_info.index of its own"
                )
    return ids


def column(dataset: Any, name: str) -> list[Any]:
    """A column of the data set, or a field of one: `level`, `extra_info.level`.

    Raises:
        DataError: if there is none, naming those that are there.
    """
    frame = _frame(dataset)
    room, *fields = name.split(".")
    if room not in frame.column_names:
        raise DataError(
            f"{DATA} have no column {room!r}; they have {', '.join(frame.column_names)}"
        )
    chunks = frame.select_columns([room]).with_format("arrow")[:][room].chunks
    for field in fields:  # before chunks are joined: what else a row says may be long
        names = [f.name for f in chunks[0].type] if str(chunks[0].type).startswith("struct") else []
        if field not in names:
            has = ", ".join(names) or "no fields"
            raise DataError(f"column {room!r} of {DATA} has no field {field!r}; it has {has}")
        chunks = [chunk.field(field) for chunk in chunks]
    return [value for chunk in chunks for value in chunk.to_pylist()]


def columns(dataset: Any, config: Any) -> dict[str, Sequence[Any]]:
    """The columns that the difficulty classifier was told to use, as `Controller.bind` takes them.

    Raises:
        DataError: if one is missing.
    """
    difficulty = config.difficulty
    wanted = {"prior": difficulty.prior_column, "level": difficulty.level_column}
    if difficulty.source.startswith("column:"):
        wanted["group"] = difficulty.source.removeprefix("column:")
    return {key: column(dataset, name) for key, name in wanted.items() if name is not None}


def _or_none(dataset: Any, name: str, size: int) -> list[Any]:
    try:
        return column(dataset, name)
    except DataError:
        return [None] * size


def _frame(dataset: Any) -> Any:
    frame = getattr(dataset, "dataframe", None)
    if frame is None or not hasattr(frame, "column_names"):
        raise UnsupportedError(
            f"the training data set must be verl's RLHFDataset or a subclass, got "
            f"{type(dataset).__name__}: prompts are known by columns of its dataframe"
        )
    return frame
