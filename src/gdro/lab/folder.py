"""The folder of a run: what is in it, and that a crash leaves nothing half-written.

recipe.yaml     the configuration in force; `gdro train FOLDER --resume` continues from it
run.json        name, method, model, seed, state, versions, rollouts and tokens spent
trace.jsonl     the controller, one line a step (written by the trainer)
metrics.jsonl   what the trainer logs, one line a step
tensorboard/    the same for TensorBoard, with `report_to: tensorboard`
evals.jsonl     one line per evaluation
evals/          the same by prompt
samples/        some completions, one file per stretch of steps
checkpoint-N/   as TRL writes them
model/          the trained model and its tokenizer
report.html     the page
report_files/   its figures as PNG and SVG, and summary.json (`gdro report`)
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from gdro.core.errors import ConfigError, DataError, UnsupportedError
from gdro.core.files import write_json, write_text
from gdro.core.tree import leaves
from gdro.lab.recipe import default_settings, read_mapping

LOCK, CHECKPOINT = ".lock", "checkpoint-"

LOOKED_AT = ("output_dir", "eval_base", "report_to", "heatmap_every")
"""Settings that change nothing of a run's result: they may change when it is continued."""

_TRIES, _PAUSE = 5, 0.02
"""Of taking the lock: whoever looks at it (`RunFolder.held`) has it for a moment."""

SAMPLES_PER_FILE = 100
"""Steps whose samples share a file."""


def append_jsonl(path: Path, value: Mapping[str, Any]) -> None:
    """Adds a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Reads the lines; a torn last one, left by a crash, is dropped.

    Raises:
        DataError: if a line before the last is broken.
    """
    if not path.exists():
        return []
    rows = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise DataError(f"{path}, line {number}: is not JSON") from None
    return rows


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line; empty where there is none. Only the end of the file is read.

    Raises:
        DataError: if it is no mapping in JSON.
    """
    if not path.exists():
        return {}
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail, length = b"", 1 << 14
        while tail.count(b"\n") < 2 and len(tail) < size:
            file.seek(max(size - length, 0))
            tail, length = file.read(min(length, size)), length * 4
    lines = tail.split(b"\n")[:-1]  # what follows the last newline is being written
    if not lines:
        return {}
    try:
        row = json.loads(lines[-1])
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise DataError(f"{path}: its last line is not a mapping in JSON")
    return row


def write_page(runs: Sequence[Path], out: Path) -> str:
    """Writes the page where its packages are installed, and says in words what became of it.

    Its files (`gdro report` writes them too) take as long again.
    """
    from gdro.report import build_report

    try:
        return f", {build_report(list(runs), out, files=False).name}"
    except UnsupportedError as error:  # the runs are no worse for it
        return f" (no page: {error})"


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.run = self.path / "run.json"
        self.trace = self.path / "trace.jsonl"
        self.metrics = self.path / "metrics.jsonl"
        self.evals = self.path / "evals.jsonl"
        self.samples = self.path / "samples"
        self.model = self.path / "model"
        self.report = self.path / "report.html"
        self._held: IO[str] | None = None

    @property
    def about(self) -> dict[str, Any]:
        """What run.json says; empty before the run began.

        Raises:
            DataError: if it is no mapping in JSON.
        """
        if not self.run.exists():
            return {}
        try:
            about = json.loads(self.run.read_bytes())
        except ValueError as error:
            raise DataError(f"{self.run}: is not JSON ({error})") from None
        if not isinstance(about, dict):
            raise DataError(f"{self.run}: must hold a mapping, got {type(about).__name__}")
        return about

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.about.get("state") == "finished"

    @property
    def steps(self) -> int:
        """Steps that the trainer has logged; a line may stand for several."""
        return int(last_line(self.metrics).get("step", 0))

    @property
    def held(self) -> bool:
        """Whether a process writes the folder: it holds the lock, which ends with it."""
        try:
            with open(self.path / LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @property
    def state(self) -> str:
        """running, killed (it says so, but no process writes it), interrupted, failed, finished."""
        about = self.about
        if self.held:
            return "running"
        said = about.get("state", "running")
        if said == "failed" and about.get("error") == "interrupted":
            return "interrupted"
        return "killed" if said == "running" else str(said)

    def update(self, **values: Any) -> None:
        """Changes run.json."""
        write_json(self.run, self.about | values)

    def open(self, recipe: Mapping[str, Any], resume: bool) -> Path | None:
        """Claims the folder for a run of `recipe`.

        Returns:
            The checkpoint to continue from; None is a run from the start, or one that is finished
            and is left as it is.

        Raises:
            ConfigError: if the folder holds a run and `resume` is not given, holds another run, or
                holds something else, or is being written by another process.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"output_dir must be a folder, {self.path} is a file")
        here = {p.name for p in self.path.iterdir()} - {LOCK} if self.path.exists() else set()
        if not here:
            self._lock()
            self._begin(recipe)
            return None
        if not self.recipe.exists():
            raise ConfigError(f"output_dir {self.path} is not empty and holds no run; name another")
        if not resume:
            state = "finished" if self.finished else "unfinished"
            raise ConfigError(
                f"output_dir {self.path} holds a {state} run: add --resume to continue it, or name "
                "another --output_dir"
            )
        self.check_same(recipe)
        self._lock()
        if self.finished:
            return None
        checkpoint = self.last_checkpoint()
        if checkpoint is None:
            self._clear()
            self._begin(recipe)
        else:
            self._rewind(int(checkpoint.name.removeprefix(CHECKPOINT)))
        return checkpoint

    def _lock(self) -> None:
        """Keeps the folder to this process until `release`, or its end, however it ends."""
        self.path.mkdir(parents=True, exist_ok=True)
        held = open(self.path / LOCK, "w")  # noqa: SIM115 - held on purpose
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if left:
                    time.sleep(_PAUSE)
                    continue
                held.close()
                raise ConfigError(f"{self.path} is being written by another process") from None
        self._held = held

    def release(self) -> None:
        """Lets others write the folder."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def abandon(self) -> None:
        """Removes what a run left that failed before its first step: the name is free again."""
        self._clear()
        (self.path / LOCK).unlink()
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _begin(self, recipe: Mapping[str, Any]) -> None:
        head = "# The configuration in force. `gdro train FOLDER --resume` continues the run.\n"
        write_text(self.recipe, head + yaml.safe_dump(dict(recipe), sort_keys=False))

    def check_same(self, recipe: Mapping[str, Any]) -> None:
        """That the folder's run is one of `recipe`; what is `LOOKED_AT` is no part of that.

        A setting that one of the two lacks is what it is by default there: a later gdro may have
        more of them.

        Raises:
            ConfigError: naming the setting that differs.
        """
        if not self.recipe.exists():
            raise ConfigError(f"{self.path} holds a run without its {self.recipe.name}")
        usual = leaves(default_settings())
        stored = usual | leaves(read_mapping(self.recipe))
        given = usual | leaves(recipe)
        for key in {**stored, **given}:
            if key not in LOOKED_AT and stored.get(key) != given.get(key):
                raise ConfigError(
                    f"{self.path} holds a run with {key} = {stored.get(key)}, got "
                    f"{given.get(key)}: a run is continued with the configuration it began with"
                )

    def last_checkpoint(self) -> Path | None:
        """The latest whole checkpoint; halves that a crash left behind are removed."""
        steps = [p.name.removeprefix(CHECKPOINT) for p in self.path.glob(f"{CHECKPOINT}*/")]
        for step in sorted((step for step in steps if step.isdecimal()), key=int, reverse=True):
            path = self.path / f"{CHECKPOINT}{step}"
            try:  # transformers writes this file last
                json.loads((path / "trainer_state.json").read_bytes())
            except (FileNotFoundError, ValueError):
                shutil.rmtree(path)
            else:
                return path
        return None

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _rewind(self, step: int) -> None:
        """Drops what was written after `step`, which the resumed run will write again."""
        for path in (self.metrics, self.evals, *sorted(self.samples.glob("*.jsonl"))):
            if path.exists():
                rows = [row for row in read_jsonl(path) if row["step"] <= step]
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                write_text(path, text)

    def add_samples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Keeps some completions of a step."""
        first = step // SAMPLES_PER_FILE * SAMPLES_PER_FILE
        for row in rows:
            append_jsonl(self.samples / f"{first:06d}.jsonl", {"step": step} | row)
