"""Reading rows: the layouts of known data sets, local files, folders and the hub."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdro.core.errors import DataError

Row = dict[str, Any]

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")


def after_hashes(solution: str) -> str:
    """GSM8K's final answer: what follows the last ``####``, without thousands commas."""
    _, mark, answer = solution.rpartition("####")
    return answer.strip().replace(",", "") if mark else ""


def boxed_in_solution(solution: str) -> str:
    r"""MATH's final answer: the last ``\boxed{}`` of the worked solution, or ``\boxed 5``."""
    starts = [m.end() for m in re.finditer(r"\\(?:boxed|fbox)\s*\{", solution)]
    if not starts:
        short = re.findall(r"\\boxed\s+(\w)", solution)
        return short[-1] if short else ""
    depth = 1
    for token in re.finditer(r"\\.|[{}]", solution[starts[-1] :], re.DOTALL):
        depth += (token.group() == "{") - (token.group() == "}")
        if depth == 0:
            return solution[starts[-1] : starts[-1] + token.start()].strip()
    return ""


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps what we need.

    Attributes:
        columns: ours -> theirs.
        config: configuration to load from the hub.
        gold: makes the gold answer out of the text of the answer column.
    """

    columns: dict[str, str]
    config: str | None = None
    gold: Callable[[str], str] = str.strip


_MATH = {"prompt": "problem", "answer": "solution", "level": "level", "subject": "type"}
_MATH_500 = {"prompt": "problem", "answer": "answer", "id": "unique_id"}
LAYOUTS = {
    "open-r1/DAPO-Math-17k-Processed": Layout({"prompt": "prompt", "answer": "solution"}, "en"),
    "openai/gsm8k": Layout({"prompt": "question", "answer": "answer"}, "main", after_hashes),
    "DigitalLearningGmbH/MATH-lighteval": Layout(_MATH, gold=boxed_in_solution),
    "EleutherAI/hendrycks_math": Layout(_MATH, gold=boxed_in_solution),
    "HuggingFaceH4/MATH-500": Layout(_MATH_500),
}


def layout_of(spec: str) -> Layout:
    """The layout of a known data set, by its hub id or a folder that ends in it; else ours."""
    return LAYOUTS.get("/".join(Path(spec).parts[-2:]), Layout({}))


def read(spec: str, split: str, config: str | None) -> list[Row]:
    """Rows of a local file, a local folder in hub layout, or a hub data set.

    Raises:
        DataError: if nothing is there, or it cannot be read; the message names it.
    """
    path = Path(spec).expanduser()
    if path.is_file():
        return list(_file(path))
    if path.suffix in (*SUFFIXES, ".gz"):
        raise DataError(f"{spec}: no such file")
    if not path.is_dir() and not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", spec):
        raise DataError(f"{spec}: no such file or folder, and no id of a hub data set")
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        return load_dataset(str(path) if path.is_dir() else spec, config, split=split).to_list()
    except (DatasetNotFoundError, FileNotFoundError, ConnectionError, ValueError) as error:
        where = f"{spec} ({f'configuration {config}, ' if config else ''}split {split})"
        raise DataError(f"{where}: {error}") from error


def _file(path: Path) -> Iterable[Row]:
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in SUFFIXES:
        raise DataError(f"{path}: must end in {', '.join(SUFFIXES)}, each perhaps with .gz")
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise DataError(f"{path}: no whole gzip file: {error}") from error
    if kind == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
        except pyarrow.ArrowException as error:
            raise DataError(f"{path}: {error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from error
    return {".jsonl": _jsonl, ".json": _json, ".csv": _csv}[kind](path, text)


def _jsonl(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _row(path, f"line {number}", _parsed(path, f"line {number}", line))


def _json(path: Path, text: str) -> Iterator[Row]:
    rows = _parsed(path, "the file", text)
    if not isinstance(rows, list):
        raise DataError(f"{path}: must hold a list of objects, got {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        yield _row(path, f"row {number}", row)


def _csv(path: Path, text: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for number, row in enumerate(reader, 1):
        if None in row or None in row.values():
            raise DataError(f"{path} row {number}: must have {len(reader.fieldnames or ())} fields")
        yield row


def _parsed(path: Path, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} {where}: no JSON: {error}") from error


def _row(path: Path, where: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"{path} {where}: must be an object, got {type(row).__name__}")
    return row
