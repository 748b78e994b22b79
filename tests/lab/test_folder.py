"""The folder of a run: what is taken for its own, and what is left alone."""

from copy import deepcopy
from pathlib import Path

import pytest

from gdro.core.errors import ConfigError
from gdro.lab.folder import RunFolder
from gdro.lab.recipe import read_settings, resolve

RECIPE = {"seed": 1}


def begun(path: Path, **about: object) -> RunFolder:
    """A run that was stopped, or is `finished`."""
    folder = RunFolder(path)
    folder.open(RECIPE, resume=False)
    folder.release()
    folder.update(**{"state": "failed"} | about)
    (path / "model").mkdir()
    return folder


def checkpoint(folder: RunFolder, name: str, state: str | None = "{}") -> Path:
    path = folder.path / name
    path.mkdir()
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


def test_a_finished_run_is_left_as_it_is_although_it_has_no_checkpoint(tmp_path):
    folder = begun(tmp_path / "a", state="finished")
    assert folder.open(RECIPE, resume=True) is None
    assert folder.finished
    assert (folder.path / "model").exists()


def test_an_unfinished_one_without_a_checkpoint_begins_anew(tmp_path):
    folder = begun(tmp_path / "a")
    assert folder.open(RECIPE, resume=True) is None
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "recipe.yaml"]


def test_only_the_halves_of_checkpoints_are_removed(tmp_path, monkeypatch):
    folder = begun(tmp_path / "a")
    first, last = (checkpoint(folder, f"checkpoint-{step}") for step in (4, 10))
    own = [checkpoint(folder, f"checkpoint-{name}", None) for name in ("20-backup", "best")]
    torn = [checkpoint(folder, "checkpoint-30", "{"), checkpoint(folder, "checkpoint-40", None)]
    assert folder.last_checkpoint() == last
    assert all(path.exists() for path in (first, last, *own))
    assert not any(path.exists() for path in torn)

    def unreadable(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    with pytest.raises(OSError, match="Input/output error"):
        folder.last_checkpoint()
    assert last.exists()


def test_a_setting_that_did_not_exist_when_the_run_was_made_is_its_default(tmp_path):
    settings = resolve(read_settings("arithmetic")).settings
    earlier = deepcopy(settings)
    del earlier["verify_tolerance"], earlier["gdro"]["rollout"]["power"]
    folder = RunFolder(tmp_path / "a")
    folder.open(earlier, resume=False)
    folder.check_same(settings)
    with pytest.raises(ConfigError, match=r"holds a run with verify_tolerance = 0.0, got 0.1"):
        folder.check_same(settings | {"verify_tolerance": 0.1})
    settings["gdro"]["rollout"]["power"] = 2.5
    with pytest.raises(ConfigError, match=r"holds a run with gdro.rollout.power = 2.0, got 2.5"):
        folder.check_same(settings)
