"""Files that are written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file, and its folder where there is none.

    A process that is killed meanwhile leaves the file as it was, and `path`.tmp beside it.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    spare = path.with_name(path.name + ".tmp")
    with open(spare, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(spare, path)


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """As `write_text`, indented by one space."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
