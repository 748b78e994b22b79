"""What the scripts read of docs/results."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1] / "docs" / "results"


def measured(name: str) -> Any:
    """A file of docs/results; None if there is none."""
    path = HERE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def suites_of(*names: str) -> dict[str, dict[str, Any]]:
    """The suites of studies, those that have run."""
    found = {}
    for name in names:
        if results := measured(f"{name}/results"):
            found |= results["suites"]
    return found
