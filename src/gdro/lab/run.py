"""One run: a recipe in, a run folder with a trained model and its evaluations out."""

import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from rich.console import Console
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import SaveStrategy

from gdro.core.errors import ConfigError
from gdro.core.trace import read_trace
from gdro.lab.evaluator import Evaluator
from gdro.lab.folder import RunFolder
from gdro.lab.inputs import (
    Data,
    Reward,
    init_kwargs,
    load_data,
    marker_of,
    model_source,
    reward_functions,
)
from gdro.lab.progress import ProgressLine, Recorder, Speed
from gdro.lab.recipe import Recipe
from gdro.lab.trackers import TensorBoard, check_trackers

if TYPE_CHECKING:
    from datasets import Dataset

PACKAGES = ("gdro", "torch", "transformers", "trl", "accelerate", "datasets", "numpy")


def train(recipe: Recipe, *, resume: bool = False, console: Console | None = None) -> Path:
    """Trains as a recipe says.

    Args:
        recipe: What `gdro.lab.recipe.resolve` returned.
        resume: Continue the run in the recipe's `output_dir`, to the result it would have had
            without the interruption; a finished run is left as it is.
        console: Where progress is shown.

    Returns:
        The run folder.

    Raises:
        GdroError: if the configuration, the data or the folder cannot be used.
    """
    main = recipe.training.process_index == 0
    console = console or Console(quiet=not main)
    folder = RunFolder(recipe.output_dir)
    # All before the folder is claimed: a wrong name leaves nothing behind.
    check_trackers(recipe.training.report_to)
    model_source(recipe)
    rewards = reward_functions(recipe)
    marker = marker_of(recipe, rewards)
    data = load_data(recipe)
    claim: list[Any] = [None, False]
    if main:
        claim = [folder.open(recipe.settings, resume), folder.finished]
    checkpoint, finished = broadcast_object_list(claim)
    if finished:
        console.print(f"{folder.path}: finished already")
        return folder.path
    try:
        if main:
            started = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            folder.update(**started | folder.about | _about(recipe))
            console.print(data.table, markup=False, highlight=False)
        _train(recipe, folder, data, rewards, marker, checkpoint, console)
    except BaseException as error:  # also an interrupt: the folder must not claim to be running
        if main:
            stopped = isinstance(error, KeyboardInterrupt)
            what = "interrupted" if stopped else str(error) or type(error).__name__
            if checkpoint is None and not stopped and not folder.trace.exists():
                folder.abandon()
            else:
                folder.update(state="failed", error=what)
        raise
    finally:
        folder.release()
    return folder.path


def _train(
    recipe: Recipe,
    folder: RunFolder,
    data: Data,
    rewards: dict[str, Reward],
    marker: Reward,
    checkpoint: Path | None,
    console: Console,
) -> None:
    try:
        trainer = _trainer(recipe, data.train, rewards)
    except OSError as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(
            f"model_name_or_path {recipe.model.model_name_or_path}: {reason}"
        ) from None
    evaluator = Evaluator(recipe, folder, trainer, data.test, marker, console)
    if recipe.run.eval_before:
        evaluator.base()
    progress = ProgressLine(console)
    trainer.add_callback(progress)
    trainer.add_callback(Recorder(recipe, folder, trainer))
    trainer.add_callback(_Stop(trainer, recipe.run.max_rollouts))
    board = TensorBoard(trainer, folder, recipe.run.heatmap_every, console)
    # Before the trackers, which are opened and closed at both ends of the training.
    trainer.callback_handler.callbacks[:0] = [Speed(trainer), board, evaluator]
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except _NothingLeftToTrain:
        console.print("training had ended already")
    finally:
        progress.stop()
    if recipe.run.eval_after:
        evaluator.evaluate(trainer.state.global_step)
    trainer.save_model(str(folder.model))
    if trainer.accelerator.is_main_process:
        trainer.processing_class.save_pretrained(folder.model)
        seconds = 0.0
        if folder.trace.exists():
            seconds = float(np.nansum(read_trace(folder.trace).column("time.step")))
        folder.update(state="finished", error=None, spent=trainer.spent, train_seconds=seconds,
                      steps=trainer.state.global_step)  # fmt: skip


class _NothingLeftToTrain(Exception):
    """The checkpoint is that of the last step."""


class _Stop(TrainerCallback):
    """Stops at `max_rollouts`; and does not begin where training had ended."""

    def __init__(self, trainer: Any, max_rollouts: int | None) -> None:
        self._trainer, self._max_rollouts = trainer, max_rollouts

    def _spent(self) -> bool:
        """Whether the rollouts are spent, and all that train have trained."""
        limit, trainer = self._max_rollouts, self._trainer
        return limit is not None and trainer.spent["rollouts"] >= limit and trainer._window is None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """transformers takes one step too many when it resumes at the last, but for an epoch's end.

        At this point model, optimizer and controller have been loaded.
        """
        if state.global_step >= state.max_steps or self._spent():
            raise _NothingLeftToTrain

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """As transformers does at max_steps, with a last checkpoint."""
        if self._spent():
            control.should_training_stop = True
            control.should_save |= args.save_strategy == SaveStrategy.STEPS


def _trainer(recipe: Recipe, dataset: "Dataset", rewards: dict[str, Reward]) -> Any:
    from trl import get_peft_config, get_quantization_config  # type: ignore[attr-defined]

    from gdro.trainers.trl import GDROTrainer

    args, model = recipe.training, recipe.model
    args.disable_tqdm = True
    args.run_name = args.run_name or recipe.output_dir.name  # what trackers call it
    # As TRL's own script does: what the model is loaded with comes from ModelConfig.
    args.model_init_kwargs = init_kwargs(recipe)
    quantization = get_quantization_config(model)
    if quantization is not None:
        args.model_init_kwargs["quantization_config"] = quantization
    correct: Any = recipe.run.correct_func
    if correct is not None:  # one of reward_funcs by its name, so that it is not called twice
        correct = rewards[correct].__name__ if correct in rewards else marker_of(recipe, rewards)
    trainer = GDROTrainer(
        model=model_source(recipe),
        reward_funcs=list(rewards.values()),
        args=args,
        train_dataset=dataset,
        peft_config=get_peft_config(model),
        correct_func=correct,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _about(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.output_dir.name,
        "recipe": recipe.name,
        "method": recipe.training.gdro_preset,
        "model": recipe.model.model_name_or_path,
        "dataset": recipe.run.dataset_name,
        "seed": recipe.training.seed,
        "max_steps": recipe.training.max_steps if recipe.training.max_steps > 0 else None,
        "state": "running",
        "error": None,
        "device": str(recipe.training.device),
        "threads": torch.get_num_threads(),
        "versions": {name: v for name in PACKAGES if (v := _version(name))},
        "python": platform.python_version(),
        "controller": recipe.training.controller_config.to_dict(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree
        return None
