"""Reading rows: local files, folders, the hub, and data sets in memory."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdro.core.errors import DataError

Row = dict[str, Any]

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")


@dataclass(frozen=True)
class Table:
    """Rows to be read once, and the names of their columns."""

    columns: Sequence[str]
    rows: Iterable[Row]


def read(spec: str, split: str, configs: Sequence[str]) -> Table:
    """Rows of a local file, a local folder in hub layout, or a hub data set.

    Raises:
        DataError: if nothing is there, or it cannot be read; the message names it.
    """
    path = Path(spec).expanduser()
    try:
        is_file, is_dir = path.is_file(), path.is_dir() and spec != ""
    except OSError as error:
        raise DataError(f"{spec:.200}: cannot be read: {error.strerror}") from error
    if is_file:
        return _file(path)
    if not is_dir and path.suffix.lower() in (*SUFFIXES, ".gz"):
        raise DataError(f"{spec}: no such file")
    if not is_dir and not re.fullmatch(r"\w[\w.-]*(?:/\w[\w.-]*)?", spec):
        raise DataError(f"{spec!r}: no such file or folder, and no id of a hub data set")
    parts = [_loaded(spec, path, split, config) for config in configs or (None,)]
    columns = dict.fromkeys(name for part in parts for name in part.column_names)
    return Table(list(columns), (row for part in parts for row in part))


def _loaded(spec: str, path: Path, split: str, config: str | None) -> Any:
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError
    from pyarrow import ArrowException

    where = f"{spec} ({f'configuration {config}, ' if config else ''}split {split})"
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return in_memory(load_from_disk(str(path)), split, where)
        return load_dataset(str(path) if path.is_dir() else spec, config, split=split)
    except DataError:
        raise
    except (DatasetsError, ArrowException, OSError, ValueError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise DataError(f"{where}: {error}{cause}") from error


def in_memory(data: Any, split: str, where: str = "the data set in memory") -> Any:
    """A data set as it is, or that split of a dictionary of them.

    Raises:
        DataError: if it is something else.
    """
    if isinstance(data, Mapping):
        if split not in data:
            raise DataError(f"{where}: no split {split}; there are {', '.join(map(str, data))}")
        data = data[split]
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise DataError(f"{where}: must be a Dataset or a list of dicts, got {type(data).__name__}")
    return data


def table_of(data: Any) -> Table:
    """The table of a `datasets.Dataset`, or of rows.

    Raises:
        DataError: if a row is no dict.
    """
    if getattr(data, "column_names", None) is not None:
        return Table(list(data.column_names), data)
    rows = [_row("the data set in memory", f"row {n}", row) for n, row in enumerate(data, 1)]
    return _table(rows)


def _table(rows: list[Row]) -> Table:
    return Table(list(dict.fromkeys(name for row in rows for name in row)), rows)


def _file(path: Path) -> Table:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = suffixes[-1:] == [".gz"]
    kind = "".join(suffixes[:-1][-1:] if packed else suffixes[-1:])
    if kind not in SUFFIXES:
        raise DataError(f"{path}: must end in {', '.join(SUFFIXES)}, each perhaps with .gz")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if packed:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: no whole gzip file: {error}") from error
    elif data[:2] == b"\x1f\x8b":
        raise DataError(f"{path}: is compressed by gzip; its name must end in .gz")
    if kind == ".parquet":
        return _parquet(path, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} line {line}: not UTF-8: {error}") from error
    if kind == ".csv":
        return _csv(path, text)
    return _table(list((_jsonl if kind == ".jsonl" else _json)(path, text)))


def _parquet(path: Path, data: bytes) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        _twice(path, file.schema_arrow.names)
        found = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: no whole parquet file: {error}") from error
    return Table(
        found.column_names,
        (row for batch in found.to_batches(max_chunksize=1000) for row in batch.to_pylist()),
    )


def _jsonl(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _row(path, f"line {number}", _parsed(path, f"line {number}", line))


def _json(path: Path, text: str) -> Iterator[Row]:
    if not text.strip():
        return
    rows = _parsed(path, "the file", text)
    if not isinstance(rows, list):
        raise DataError(f"{path}: must hold a list of objects, got {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        yield _row(path, f"row {number}", row)


def _csv(path: Path, text: str) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        names = next(reader, [])
        _twice(path, names)
        for fields in reader:
            if len(fields) != len(names) and fields:
                raise DataError(
                    f"{path} row {len(rows) + 1} (line {reader.line_num}): must have {len(names)} "
                    f"fields, got {len(fields)}"
                )
            if fields:
                rows.append(dict(zip(names, fields, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: no CSV: {error}") from error
    return Table(names, rows)


def _twice(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} is there twice")


def _parsed(path: Path, where: str, text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{path} {where}: field {twice!r} is there twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        lines = error.msg == "Extra data" and where == "the file"
        hint = " (lines of JSON belong in a .jsonl)" if lines else ""
        raise DataError(f"{path} {where}: no JSON: {error}{hint}") from error
    except (ValueError, RecursionError) as error:  # huge integers, huge nesting
        raise DataError(f"{path} {where}: no JSON that can be read: {error}") from error


def _row(path: object, where: str, row: Any) -> Row:
    if not isinstance(row, Mapping):
        raise DataError(f"{path} {where}: must be an object, got {type(row).__name__}")
    return dict(row)
