"""Writes verl's hydra group `gdro` from the settings: `python scripts/verl_config.py`."""

from pathlib import Path

from gdro.core.config import ControllerConfig
from gdro.core.presets import DEFAULT, PRESETS

PATH = Path(__file__).parent.parent / "src/gdro/trainers/verl/config/gdro/default.yaml"

HEAD = f"""\
# @package _global_
# GDRO on verl: hydra.searchpath=[pkg://gdro.trainers.verl.config] +gdro=default
# Written by scripts/verl_config.py; what each setting means is in docs/configuration.md.
# null is the preset's value.

trainer:
  v1:
    # or gdro_colocate_async, gdro_separate_async
    trainer_mode: gdro_sync
gdro:
  # {", ".join(PRESETS)}
  preset: {DEFAULT}
  # of the controller's generator
  seed: 0
  # what says correct: score, or a name among what the reward function returns beside it
  correct: score
  # default: trace.jsonl in trainer.default_local_dir
  trace: null
"""


def text() -> str:
    """The file's text."""
    lines, room = [HEAD], ""
    for path, _, _ in ControllerConfig.fields():
        here, name = path.split(".")
        if here != room:
            lines.append(f"  {here}:\n")
            room = here
        lines.append(f"    {name}: null\n")
    return "".join(lines)


if __name__ == "__main__":
    PATH.write_text(text())
