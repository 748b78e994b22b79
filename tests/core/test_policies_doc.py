"""docs/policies.md: its table is the registry, and its example runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdro.core import registry
from gdro.core.config import ControllerConfig
from gdro.core.controller import Controller

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
FILE, LOOP = re.findall(r"```python\n(.*?)```", PAGE, re.S)
PORTS = {"select": registry.SELECT, "allocate": registry.ALLOCATE, "weigh": registry.WEIGH}
ROOMS = {"select": "select.policy", "allocate": "rollout.allocator", "weigh": "prompt.weigh"}


def table() -> list[tuple[str, str, bool]]:
    """(port, name, compute-neutral) of each row."""
    rows, port = [], ""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[1].startswith("`"):
            port = cells[0] or port
            rows.append((port, cells[1].strip("`"), cells[4] == "yes"))
    return rows


def test_the_table_has_every_policy_and_says_which_are_compute_neutral() -> None:
    named: dict[str, list[str]] = {}
    for port, name, neutral in table():
        named.setdefault(port, []).append(name)
        values = {ROOMS[port]: name}
        if name == "sample":
            values = {"prompt.realisation": "sample"}
        if name == "neyman":
            values["rollout.aggregation"] = "prompt"
        assert Controller(ControllerConfig.from_dict(values)).method.surplus != neutral, name
    assert named == {port: list(names) for port, names in PORTS.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds mine.py, as the page has it, where Python finds it."""
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "mine", None)  # so that what is imported goes again
    monkeypatch.delitem(sys.modules, "mine")
    return tmp_path


def test_the_loop_of_the_example_runs(folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(LOOP, names)
    assert names["plan"].n_P.sum() == 12
    allocator = names["controller"].method.allocator
    assert type(allocator).__name__ == "Mine"


def test_the_example_does_what_it_says(folder: Path) -> None:
    """n proportional to the standard deviation, in the continuous limit."""
    from scipy.stats import beta

    names: dict[str, Any] = {}
    exec(LOOP, names)
    a_P, b_P = np.array([1.0, 5, 40, 3]), np.array([1.0, 5, 60, 30])
    lo_P, hi_P = np.full(4, 2), np.full(4, 10**6)
    batch: Any = type("", (), {"a_P": a_P, "b_P": b_P, "lo_P": lo_P, "hi_P": hi_P, "budget": 10**5})
    n_P = names["controller"].method.allocator.allocate(batch, np.random.default_rng(0))
    deviation = beta(a_P, b_P).std()
    np.testing.assert_allclose(n_P, 1e5 * deviation / deviation.sum(), atol=1.01)


def test_the_command_of_the_example_trains(folder: Path) -> None:
    pytest.importorskip("trl")
    command = re.search(r"    PYTHONPATH=\. gdro (train .*)", PAGE)
    assert command is not None
    short = "--max_steps 1 --train_prompts 8 --per_device_train_batch_size 8 --no-page "
    short += "--gradient_accumulation_steps 1 --num_generations 4 --max_completion_length 4 "
    short += "--eval_before False --eval_after False --output_dir out"
    words = [sys.executable, "-m", "gdro.cli", *command[1].split(), *short.split()]
    paths = os.pathsep.join(path for path in sys.path if path)
    found = subprocess.run(
        words, cwd=folder, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert "allocator: mine:Mine" in (folder / "out" / "recipe.yaml").read_text()
