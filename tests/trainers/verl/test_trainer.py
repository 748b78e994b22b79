"""The hooks on a stand-in for verl's trainer: what they log, and leave on disk."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from gdro.core.resolve import resolved
from gdro.trainers.verl.border import Settings
from gdro.trainers.verl.driver import Came, Driver
from gdro.trainers.verl.trainer import STATE_FILE, GDROMixin


class Plain:
    """Saves its model where `models` says, and keeps the newest alone."""

    config: Any
    global_steps = 0
    timing_raw: dict[str, float] = {}
    models: Path

    def __init__(self, config: Any) -> None:
        self.config = config

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        return batch

    def _save_checkpoint(self) -> None:
        for old in self.models.glob("global_step_*/actor"):
            old.rmdir()
        (self.models / f"global_step_{self.global_steps}" / "actor").mkdir(parents=True)


class Ours(GDROMixin, Plain):
    mode = "sync"

    def __init__(self, folder: Path) -> None:
        actor = {"ppo_mini_batch_size": 1, "ppo_epochs": 3}
        rollout = {"calculate_log_probs": False}
        Plain.__init__(self, OmegaConf.create({
            "trainer": {"default_local_dir": str(folder)},
            "actor_rollout_ref": {"actor": actor, "rollout": rollout},
        }))  # fmt: skip
        settings = Settings(controller=resolved("grpo", {}, 4), method="grpo", seed=0,
                            correct="score", trace=str(folder / "trace.jsonl"))  # fmt: skip
        self.driver = Driver(settings, n_mean=4, std_scaled=True)
        self.driver.controller.bind(["a", "b"])
        self._replaced, self._seconds, self._since, self._generated = {}, {"hook": 0.0}, None, 0.0


@pytest.mark.parametrize("here", [True, False])
def test_controllers_go_with_the_models_that_this_process_sees_go(
    tmp_path: Path, here: bool
) -> None:
    """Where models are on another node's disk, none of them can be told to be gone."""
    trainer = Ours(tmp_path / "run")
    trainer.models = tmp_path / ("run" if here else "elsewhere")
    for step in (1, 2, 3):
        trainer.global_steps = step
        trainer._save_checkpoint()
    left = sorted(path.parent.name for path in (tmp_path / "run").glob(f"*/{STATE_FILE}"))
    assert left == [f"global_step_{step}" for step in ((3,) if here else (1, 2, 3))]


def test_updates_are_mini_batches_times_epochs(tmp_path: Path) -> None:
    trainer = Ours(tmp_path)
    trainer.driver.plan(["u", "v"], np.array(["a", "b"]))
    keys, uid_R = [f"{uid}_{i}_0" for uid in "uv" for i in range(4)], [*"uuuuvvvv"]
    zeros = np.zeros(8)
    trainer._came = Came(key_R=keys, uid_R=uid_R, score_R=zeros, correct_R=zeros,
                         tokens_R=np.ones(8, np.int64))  # fmt: skip
    metrics: dict[str, float] = {}
    trainer._compute_advantage(types.SimpleNamespace(keys=keys, tags=[{}] * 8), metrics)
    assert metrics["alloc/updates"] == 3 * 2
