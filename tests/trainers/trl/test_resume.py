"""A run that was cut and resumed is the uninterrupted run, bit for bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from gdro.core.checkpoint import load, save
from gdro.core.errors import CheckpointError
from gdro.core.trace import read_trace
from gdro.trainers.trl.trainer import STATE_FILE
from gdro.trainers.trl.window import Window

from .conftest import make_trainer, same_weights, weights

# 16 prompts, 4 a step: an epoch is 4 steps, so a cut at 7 lies in epoch 1 and one at 8 at its end.
STEPS = 11
METHODS: dict[str, dict[str, Any]] = {
    "weighed": {},
    "joint": {"gdro_preset": "joint"},
    "sample": {"gdro_prompt_realisation": "sample", "gdro_rollout_allocator": "uniform"},
    "paper": {"gdro_preset": "paper", "beta": 0.01},
    "replay": {"gdro_replay_successes": True},
    "exp3p": {"gdro_rollout_allocator": "exp3p"},
    "window": {"gdro_difficulty_memory": "window", "gdro_rollout_aggregation": "neutral"},
    "column": {"gdro_difficulty_source": "column:level", "gdro_prompt_realisation": "mass"},
    # two updates on each generation batch: a cut at 7 lies between them
    "reused": {"num_iterations": 2},
    "split": {"steps_per_generation": 2, "per_device_train_batch_size": 8},
    "accumulated": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 8},
}


def decisions(folder: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in record.items() if key != "time"}
        for record in read_trace(folder / "trace.jsonl").records
    ]


@pytest.mark.filterwarnings("ignore:prompt.signal=surrogate")
@pytest.mark.parametrize("cut", [1, 7, 8])
@pytest.mark.parametrize("method", METHODS)
def test_resumed_equals_uninterrupted(model: str, tmp_path: Path, method: str, cut: int) -> None:
    changes = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": cut} | METHODS[method]
    whole = make_trainer(model, tmp_path / "run", **changes)
    whole.train()
    expected = decisions(tmp_path / "run")
    resumed = make_trainer(model, tmp_path / "run", **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{cut}"))
    assert same_weights(weights(whole), weights(resumed))
    assert decisions(tmp_path / "run") == expected
    assert resumed.spent == whole.spent
    assert len({json.dumps(record["rollouts_B"]) for record in expected}) > 1


def test_a_checkpoint_of_another_configuration_is_refused(model: str, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2}
    make_trainer(model, tmp_path / "run", **saving).train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    other = make_trainer(model, tmp_path / "run", gdro_rollout_power=1.0, **saving)
    with pytest.raises(CheckpointError, match="configuration"):
        other.train(resume_from_checkpoint=str(checkpoint))
    between = make_trainer(
        model, tmp_path / "between", num_iterations=2, **(saving | {"save_steps": 1})
    )
    between.train()
    file = tmp_path / "between" / "checkpoint-1" / "gdro_window_0.pt"
    file.write_bytes(b"")
    torch.save(torch.load(checkpoint / "optimizer.pt") | {"num_processes": 2}, file)
    again = make_trainer(model, tmp_path / "between", num_iterations=2, **saving)
    with pytest.raises(CheckpointError, match="by 2 processes; resume it with as many, not 1"):
        again.train(resume_from_checkpoint=str(file.parent))
    for changes in (
        {"num_iterations": 2}, {"steps_per_generation": 2, "per_device_train_batch_size": 8},
    ):  # fmt: skip
        other = make_trainer(model, tmp_path / "run", **saving, **changes)
        with pytest.raises(CheckpointError, match=r"steps_per_generation = 1, here it is 2"):
            other.train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "gdro_controller.npz").unlink()
    same = make_trainer(model, tmp_path / "run", **saving)
    with pytest.raises(CheckpointError, match="is missing"):
        same.train(resume_from_checkpoint=str(checkpoint))


def test_an_old_checkpoint_has_no_window_length(model: str, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer = make_trainer(model, tmp_path, **saving)
    trainer.train()
    path, mark = tmp_path / "checkpoint-2" / STATE_FILE, trainer.controller.fingerprint
    state = load(path, fingerprint=mark)
    del state["window_length"]
    save(path, state, fingerprint=mark)
    make_trainer(model, tmp_path, **saving).train(resume_from_checkpoint=str(path.parent))
    assert read_trace(tmp_path / "trace.jsonl").steps.tolist() == [0, 1, 2]


def test_a_window_is_loaded_to_the_device_of_its_process(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been saved on another; no second device is here, so the call is looked at."""
    trainer = make_trainer(
        model, tmp_path, num_iterations=2, save_strategy="steps", save_steps=1, max_steps=1
    )
    trainer.train()
    given, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: given.append(k) or load(*a, **k))
    Window.load(tmp_path / "checkpoint-1" / "gdro_window_0.pt", 1, torch.device("cpu"))
    assert given == [{"map_location": torch.device("cpu"), "weights_only": True}]


def test_a_new_run_in_an_old_folder_keeps_the_old_trace(model: str, tmp_path: Path) -> None:
    make_trainer(model, tmp_path / "run").train()
    old = (tmp_path / "run" / "trace.jsonl").read_bytes()
    again = make_trainer(model, tmp_path / "run", seed=3)
    with pytest.warns(UserWarning, match="earlier run"):
        again.train()
    assert (tmp_path / "run" / "trace.1.jsonl").read_bytes() == old
    assert len(read_trace(tmp_path / "run" / "trace.jsonl").records) == 3
    shutil.rmtree(tmp_path / "run")
