"""Prompts as verl reads them: a parquet file of chat prompts with their gold answers."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdro.core.files import write_bytes

if TYPE_CHECKING:
    from datasets import Dataset

KEPT = ("level", "subject", "family")
"""Columns that go along in `extra_info`, where a data set has them."""


def verl_rows(data: "Dataset", split: str) -> list[dict[str, Any]]:
    """Rows in verl's layout.

    Args:
        data: As `gdro.data.load_prompts` gives it.
        split: What the rows are called in `extra_info.split`.

    Returns:
        `data_source`, `prompt` (messages), `ability`, `reward_model` (the gold as `ground_truth`)
        and `extra_info`, whose `index` is the row's number: with source and split it is the name by
        which gdro knows the prompt again.
    """
    kept = [name for name in KEPT if name in data.column_names]
    return [
        {
            "data_source": row["source"],
            "prompt": row["prompt"]
            if isinstance(row["prompt"], list)
            else [{"role": "user", "content": row["prompt"]}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": row["answer"]},
            "extra_info": {"index": i, "split": split, "id": row["id"]}
            | {name: row[name] for name in kept},
        }
        for i, row in enumerate(data.to_list())
    ]


def write_verl(data: "Dataset", path: Path, split: str) -> None:
    """Writes the rows, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(verl_rows(data, split)), buffer)
    write_bytes(path, buffer.getvalue())
