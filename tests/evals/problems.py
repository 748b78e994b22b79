"""Where the problems of the tests are."""

import json
import os
from pathlib import Path

DATA = Path(os.environ.get("GDRO_SHARED_DATA") or Path(__file__).parents[2].parent / "shared/data")
FILES = {
    "math500": "math500.jsonl", "aime24": "aime24.jsonl", "amc23": "amc23.jsonl",
    "minerva": "minerva_math.jsonl", "olympiadbench": "olympiadbench.jsonl",
    "gsm8k": "gsm8k_test.jsonl",
}  # fmt: skip


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
