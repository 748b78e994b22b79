"""The hooks on a stand-in for verl's trainer: what they leave on disk."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gdro.core.resolve import resolved
from gdro.trainers.verl.border import Settings
from gdro.trainers.verl.driver import Driver
from gdro.trainers.verl.trainer import STATE_FILE, GDROMixin


class Plain:
    """Saves its model where `models` says, and keeps the newest alone."""

    config: Any
    global_steps = 0
    models: Path

    def __init__(self, config: Any) -> None:
        self.config = config

    def _save_checkpoint(self) -> None:
        for old in self.models.glob("global_step_*/actor"):
            old.rmdir()
        (self.models / f"global_step_{self.global_steps}" / "actor").mkdir(parents=True)


class Ours(GDROMixin, Plain):
    mode = "sync"

    def __init__(self, folder: Path) -> None:
        Plain.__init__(self, OmegaConf.create({"trainer": {"default_local_dir": str(folder)}}))
        settings = Settings(controller=resolved("grpo", {}, 4), method="grpo", seed=0,
                            correct="score", trace=str(folder / "trace.jsonl"))  # fmt: skip
        self.driver = Driver(settings, n_mean=4, std_scaled=True)
        self.driver.controller.bind(["a", "b"])


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
