"""Verdicts of the rollouts, counted by the bin of their prompt."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gdro.core.trace import read_trace
from gdro.core.types import Plan
from gdro.rewards.verdict import Verdict
from gdro.trainers.trl.verdicts import UNKNOWN, by_bin

from .conftest import make_trainer

PLAN = Plan(
    step=0,
    prompt_P=["a", "b", "c"],
    bin_P=np.array([2, -1, 0]),
    n_P=np.array([3, 2, 1]),
    weight_P=np.ones(3),
    adversary_P=np.ones(3),
    train_P=np.array([3, 2, 1]),
)


def codes(*names: str | None) -> torch.Tensor:
    known = list(Verdict)
    return torch.tensor([UNKNOWN if n is None else known.index(Verdict(n)) for n in names])


def test_verdicts_are_counted_by_bin() -> None:
    said = codes("timeout", "unparsed", "timeout", "unparsed", "right", "wrong")
    assert by_bin(said, PLAN, 4) == {
        "unparsed": 2, "unparsed_B": [0, 0, 1, 0], "timeout": 2, "timeout_B": [0, 0, 2, 0],
    }  # fmt: skip


def test_what_nobody_said_is_not_in_the_trace(model: str, tmp_path: Path) -> None:
    assert by_bin(codes(*[None] * 6), PLAN, 4) == {}
    make_trainer(model, tmp_path, max_steps=1).train()
    assert "unparsed_B" not in read_trace(tmp_path / "trace.jsonl").records[0]


def test_the_verdicts_of_what_says_correct_are_counted(model: str, tmp_path: Path) -> None:
    """Two functions that log verdicts; and one that logs too few, which are not to be trusted."""

    def shape(completions: list[str], log_extra: Any, **_: Any) -> list[float]:
        log_extra("verdict/shape", ["timeout"] * len(completions))
        return [0.5] * len(completions)

    def mark(completions: list[str], log_extra: Any, **_: Any) -> list[float]:
        log_extra("verdict/mark", ["right", "unparsed"] * (len(completions) // 2))
        return [float(i % 2 == 0) for i in range(len(completions))]

    def short(completions: list[str], log_extra: Any, **_: Any) -> list[float]:
        log_extra("verdict/short", ["timeout"])
        return [float(i % 2 == 0) for i in range(len(completions))]

    for correct, expected in ((mark, (8, 0)), (short, (None, None))):
        folder = tmp_path / correct.__name__
        trainer = make_trainer(
            model, folder, rewards=[shape, correct], correct_func=correct.__name__, max_steps=2
        )
        trainer.train()
        for record in read_trace(folder / "trace.jsonl").records:
            assert (record.get("unparsed"), record.get("timeout")) == expected
