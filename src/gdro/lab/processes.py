"""Runs as processes of their own, a few at a time, each with its threads pinned."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gdro.core.errors import GdroError
from gdro.core.files import write_text
from gdro.lab.folder import RunFolder

POLL_SECONDS = 0.5
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class RunError(GdroError, RuntimeError):
    """A run of a comparison failed; the message holds its last words."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is to be.

    Attributes:
        name: What it is called on the screen.
        settings: Its flat settings, `output_dir` among them.
    """

    name: str
    settings: dict[str, Any]

    @property
    def folder(self) -> RunFolder:
        """Where it runs."""
        return RunFolder(self.settings["output_dir"])


@dataclass
class _Process:
    job: Job
    popen: subprocess.Popen[bytes]
    log: Path
    task: Any
    device: str | None


def run_jobs(
    jobs: Sequence[Job],
    *,
    parallel: int,
    threads: int,
    console: Console,
    devices: Sequence[str] = (),
) -> None:
    """Runs every job that has not finished, resuming those that were stopped.

    Args:
        jobs: The runs.
        parallel: Runs at a time.
        threads: Threads of a run.
        console: Where progress is shown.
        devices: What CUDA_VISIBLE_DEVICES may be, each for one run at a time (one that is named
            twice, for two); as many as `parallel` at least. None: the environment's.

    Raises:
        RunError: if one fails; the others are stopped, and go on at the next call.
    """
    free: list[str | None] = [*devices] or [None] * parallel
    assert len(free) >= parallel, (devices, parallel)
    waiting = [job for job in jobs if not job.folder.finished]
    if len(waiting) < len(jobs):
        console.print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already")
    running: list[_Process] = []
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24),
               MofNCompleteColumn(), TimeElapsedColumn())  # fmt: skip
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            while waiting or running:
                while waiting and len(running) < parallel:
                    job = waiting.pop(0)
                    task = progress.add_task(job.name, total=None)
                    running.append(_start(job, task, threads, free.pop(0)))
                time.sleep(POLL_SECONDS)
                for process in list(running):
                    about = process.job.folder.about
                    done = process.job.folder.steps
                    progress.update(process.task, completed=done, total=about.get("max_steps"))
                    if process.popen.poll() is not None:
                        running.remove(process)
                        free.append(process.device)
                        _check(process)
                        seconds = process.job.folder.about["train_seconds"]
                        console.print(f"{process.job.name}: trained in {seconds:.0f} s")
    finally:
        for process in running:
            process.popen.terminate()
        for process in running:
            process.popen.wait()


def _start(job: Job, task: Any, threads: int, device: str | None) -> _Process:
    folder = job.folder.path
    recipe = folder.parent / f"{folder.name}.yaml"
    write_text(recipe, yaml.safe_dump(job.settings, sort_keys=False))
    log = folder.parent / f"{folder.name}.log"
    command = [sys.executable, "-m", "gdro.cli", "train", str(recipe)]
    command += ["--resume", "--no-page"]
    pinned: dict[str, str] = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if device is not None:
        pinned["CUDA_VISIBLE_DEVICES"] = device
    with open(log, "ab") as file:
        popen = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=os.environ | pinned,
        )  # fmt: skip
    return _Process(job=job, popen=popen, log=log, task=task, device=device)


def _check(process: _Process) -> None:
    if process.popen.returncode == 0 and process.job.folder.finished:
        return
    lines = process.log.read_text(errors="replace").split("\n")
    words = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    raise RunError(f"{process.job.name} failed: {words.removeprefix('gdro: ')} (see {process.log})")
