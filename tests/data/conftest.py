"""Files of rows, and the real data where they are."""

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

SHARED = Path(
    os.environ.get("GDRO_SHARED_DATA") or Path(__file__).parents[2].parent / "shared/data"
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], str]:
    """The path of a file of real problems, which are not in the repository."""

    def find(name: str) -> str:
        if not (SHARED / name).exists():
            pytest.skip(
                f"{SHARED / name} is not here; set GDRO_SHARED_DATA to the folder that has it"
            )
        return str(SHARED / name)

    return find


@pytest.fixture(scope="session")
def write() -> Callable[[Path, list[dict]], str]:
    """Writes rows in the format that the name says, and returns the path as text."""
    return _write


def _write(path: Path, rows: list[dict]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.removesuffix(".gz").rsplit(".")[-1].lower()
    plain = path.with_name(path.name.removesuffix(".gz"))
    if kind == "parquet":
        Dataset.from_list(rows).to_parquet(plain)
    elif kind == "csv":
        with plain.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        plain.write_text(lines if kind == "jsonl" else json.dumps(rows))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return str(path)
