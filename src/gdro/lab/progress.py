"""What is seen of a run while it goes: one line on the screen, and its files."""

import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from transformers import TrainerCallback

from gdro.lab.folder import RunFolder, append_jsonl
from gdro.lab.recipe import Recipe

LINES = 10
"""Lines of a whole run where the output is not a terminal."""

WIDE = 110
"""Columns from which there is room for a bar."""

SPEED = "time/tokens_per_second"
"""Completion tokens over the time of the training steps, evaluations not counted."""

_SHOWN = (
    ("reward {:.3f}", ("reward",)),
    ("{} {:.3f}", ("passed", "pass")),
    ("n {:.0f} ({:.0f}-{:.0f})", ("n_mean", "alloc/n_min", "alloc/n_max")),
    ("price {:.3g}", ("alloc/price",)),
    ("{:,.0f} tokens/s", (SPEED,)),
)


class Speed(TrainerCallback):
    """Adds tokens a second, since this process began to train, to what is logged.

    Stands before all other callbacks: they all get it, and none of their time is in it.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._tokens, self._seconds, self._began = 0, 0.0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Counts from here: a resumed run has spent tokens before."""
        self._tokens = self._trainer.spent["tokens"]

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops the clock."""
        self._seconds += time.perf_counter() - self._began

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Adds the metric to those of a step."""
        if logs and "reward" in logs:
            tokens = self._trainer.spent["tokens"] - self._tokens
            logs[SPEED] = tokens / max(self._seconds, 1e-9)


class ProgressLine(TrainerCallback):
    """Shows step, reward, the last pass@k, mean and range of n, price, speed and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._logs: dict[str, Any] = {}
        self._scores: dict[str, Any] = {}
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            *([BarColumn(bar_width=12)] if console.width >= WIDE else []),
            TextColumn("{task.description}", table_column=Column()),  # wraps, nothing is cut off
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task: Any = None
        self._step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the line."""
        self._step = state.global_step
        if self._console.is_terminal:
            self._task = self._bar.add_task("", total=state.max_steps, completed=state.global_step)
            self._bar.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Takes the latest numbers, and shows them."""
        for name, score in (logs or {}).items():
            if name.startswith("eval_") and (found := name.rpartition("/")[2])[:5] == "pass@":
                self._scores = {"passed": found, "pass": score}
        if not logs or "reward" not in logs:  # scores, or the summary at the end
            return
        self._logs = {"n_mean": args.num_generations} | logs
        done, total = state.global_step, state.max_steps
        if self._task is not None:
            self._bar.update(self._task, completed=done, description=self._text())
        elif done * LINES // total > self._step * LINES // total:
            self._console.print(f"step {done}/{total} {self._text()}", highlight=False)
        self._step = done

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends the line; it stays on the screen."""
        self.stop()

    def stop(self) -> None:
        """Gives the terminal back; harmless when it was never taken."""
        if self._task is not None:
            self._bar.stop()

    def _text(self) -> str:
        known = {k: v for k, v in (self._logs | self._scores).items() if v is not None}
        return "  ".join(
            text.format(*(known[key] for key in keys))
            for text, keys in _SHOWN
            if all(key in known for key in keys)
        )


class Recorder(TrainerCallback):
    """Writes metrics.jsonl and samples/."""

    def __init__(self, recipe: Recipe, folder: RunFolder, trainer: Any) -> None:
        self._folder, self._trainer = folder, trainer
        self._samples = recipe.run.samples_per_step
        self._last: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keeps how many steps there will be, which a number of epochs does not say."""
        if state.is_world_process_zero:
            self._folder.update(max_steps=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keeps what the trainer logs of steps; scores are kept in evals.jsonl."""
        if state.is_world_process_zero and logs and "reward" in logs:
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
