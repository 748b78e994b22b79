"""What trackers get (`report_to`): checked before anything runs, and TensorBoard's heat maps."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    TensorBoardCallback,
    get_available_reporting_integrations,
)

from gdro.core.errors import ConfigError, UnsupportedError
from gdro.lab.folder import RunFolder
from gdro.lab.recipe import did_you_mean
from gdro.report.bins import triptych
from gdro.report.paper import draw
from gdro.report.runs import load_run

TAG = "curriculum"


def check_trackers(names: Sequence[str]) -> None:
    """That every tracker is known and installed.

    Raises:
        ConfigError: naming the first that is not.
    """
    available = get_available_reporting_integrations()
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ConfigError(
                f"report_to: {name} is unknown{did_you_mean(name, INTEGRATION_TO_CALLBACK)}"
            )
        if name not in available:
            raise ConfigError(f"report_to: {name} is not installed (pip install {name})")


class TensorBoard(TrainerCallback):
    """Keeps TensorBoard's files in the run folder, and puts heat maps of the curriculum in.

    Stands before transformers' own callback: it opens the writer, and draws before that closes it.

    Args:
        trainer: The trainer.
        folder: Its run folder; TENSORBOARD_LOGGING_DIR wins.
        every: Steps between two drawings; 0 draws none.
        console: Where it is said that there can be none.
    """

    def __init__(self, trainer: Any, folder: RunFolder, every: int, console: Console) -> None:
        self._folder, self._every, self._console = folder, every, console
        callbacks = trainer.callback_handler.callbacks
        self._board = next((c for c in callbacks if isinstance(c, TensorBoardCallback)), None)
        self._drawn = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Opens the writer; what an earlier process wrote after the checkpoint is void."""
        if self._board is None or not state.is_world_process_zero:
            return
        where = os.environ.get("TENSORBOARD_LOGGING_DIR") or self._folder.path / "tensorboard"
        purge = state.global_step + 1 if state.global_step else None
        self._board.logging_dir = str(Path(where).expanduser())
        writer = self._board._SummaryWriter  # torch's, or tensorboardX's
        self._board.tb_writer = writer(log_dir=self._board.logging_dir, purge_step=purge)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draws every so many steps."""
        if self._every and state.global_step % self._every == 0:
            self._draw(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draws the whole run."""
        self._draw(state.global_step)

    def _draw(self, step: int) -> None:
        writer = self._board.tb_writer if self._board is not None else None
        if writer is None or not self._every or step == self._drawn:
            return
        self._drawn = step
        maps = triptych(load_run(self._folder.path))
        if isinstance(maps, str):  # no prompt has a bin yet
            return
        try:
            canvas = draw(maps)
        except UnsupportedError as error:  # the run is no worse for it
            self._console.print(f"no heat maps for TensorBoard: {error}", markup=False)
            self._every = 0
        else:
            writer.add_figure(TAG, canvas, step)
