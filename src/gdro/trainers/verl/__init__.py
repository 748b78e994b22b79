"""verl's V1 trainers with the controller in their loop: `trainer.v1.trainer_mode=gdro_sync`.

verl loads this module in every process, through its entry-point group `verl.plugins` (or
`VERL_USE_EXTERNAL_MODULES=gdro.trainers.verl`), and importing it registers the trainer modes
`gdro_sync`, `gdro_colocate_async` and `gdro_separate_async`. No file of verl is edited.
`python -m gdro.trainers.verl` says whether that worked.
"""

import sys

from gdro.trainers.verl.border import asks_for_us, check_command

__all__ = ["MODES"]

check_command(sys.orig_argv)
try:
    from gdro.trainers.verl.trainer import MODES
except Exception as error:  # verl only logs this, and at DEBUG
    if asks_for_us(sys.orig_argv):
        print(f"gdro: its trainer modes are not registered with verl: {error}", file=sys.stderr)
    raise
