"""What is seen of a run while it goes: one line on the screen, and its files."""

import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from gdro.lab.folder import RunFolder, append_jsonl
from gdro.lab.recipe import Recipe

LINES = 10
"""Lines of a whole run where the output is not a terminal."""

_SHOWN = (
    ("reward {:.3f}", ("reward",)),
    ("n {:.0f} ({:.0f}-{:.0f})", ("n_mean", "alloc/n_min", "alloc/n_max")),
    ("price {:.3g}", ("alloc/price",)),
)


class ProgressLine(TrainerCallback):
    """Shows step, reward, mean and range of n, price, rollouts a second and the time left."""

    def __init__(self, trainer: Any, console: Console) -> None:
        self._trainer, self._console = trainer, console
        self._logs: dict[str, Any] = {}
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task: Any = None
        self._began, self._rollouts, self._step = 0.0, 0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the line."""
        self._began, self._rollouts = time.perf_counter(), self._trainer.spent["rollouts"]
        self._step = state.global_step
        if self._console.is_terminal:
            self._task = self._bar.add_task("", total=state.max_steps, completed=state.global_step)
            self._bar.start()

    def _rate(self) -> float:
        seconds = time.perf_counter() - self._began
        return (self._trainer.spent["rollouts"] - self._rollouts) / max(seconds, 1e-9)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Takes the latest numbers, and shows them."""
        if not logs or "reward" not in logs:  # the summary at the end is no step
            return
        self._logs = {"n_mean": args.num_generations} | logs
        done, total = state.global_step, state.max_steps
        if self._task is not None:
            self._bar.update(self._task, completed=done, description=self._text())
        elif done * LINES // total > self._step * LINES // total:
            self._console.print(f"step {done}/{total} {self._text()}")
        self._step = done

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends the line; it stays on the screen."""
        self.stop()

    def stop(self) -> None:
        """Gives the terminal back; harmless when it was never taken."""
        if self._task is not None:
            self._bar.stop()

    def _text(self) -> str:
        parts = [
            text.format(*(self._logs[key] for key in keys))
            for text, keys in _SHOWN
            if all(isinstance(self._logs.get(key), int | float) for key in keys)
        ]
        return "  ".join([*parts, f"{self._rate():.0f} rollouts/s"])


class Recorder(TrainerCallback):
    """Writes metrics.jsonl and samples/."""

    def __init__(self, recipe: Recipe, folder: RunFolder, trainer: Any) -> None:
        self._folder, self._trainer = folder, trainer
        self._samples = recipe.run.samples_per_step
        self._last: list[Any] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keeps what the trainer logs."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            append_jsonl(self._folder.metrics, {"step": state.global_step} | logs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keeps a few completions, spread over the prompts of the batch."""
        logs = self._trainer._logs
        completions = list(logs["completion"])
        # Several optimizer steps may share one generation: its samples are kept once.
        if not (state.is_world_process_zero and self._samples) or completions == self._last:
            return
        self._last = completions
        rows = []
        for i in np.unique(np.linspace(0, len(completions) - 1, self._samples).astype(int)):
            rewards = {name: values[i] for name, values in logs["rewards"].items()}
            row = {"prompt": logs["prompt"][i], "completion": completions[i], "rewards": rewards}
            rows.append(row | {"advantage": logs["advantages"][i]})
        self._folder.add_samples(state.global_step, rows)
