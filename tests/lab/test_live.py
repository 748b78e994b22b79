"""What is seen of a run while it trains: the progress line, and what trackers get."""

import io
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from transformers import TrainerCallback

from gdro.core.errors import ConfigError
from gdro.core.trace import TraceWriter
from gdro.lab import trackers
from gdro.lab.folder import RunFolder, read_jsonl
from gdro.lab.progress import SPEED, ProgressLine, Speed
from gdro.lab.recipe import read_settings, resolve
from gdro.lab.run import train
from gdro.lab.trackers import TensorBoard, check_trackers

TINY = [
    "--max_steps=4", "--train_prompts=16", "--eval_prompts=4", "--eval_every=3", "--save_steps=2",
    "--per_device_train_batch_size=32", "--learning_rate=1e-3",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_line_says_what_is_known_a_tenth_of_the_run_at_a_time():
    console = Console(record=True, width=80, file=io.StringIO())
    line = ProgressLine(console)
    args, state = SimpleNamespace(num_generations=4), SimpleNamespace(global_step=0, max_steps=100)
    line.on_train_begin(args, state, None)
    for state.global_step in range(7, 100, 7):
        line.on_log(args, state, None, logs={"reward": 0.5})
    assert (said := console.export_text()).count("/100") == 9
    assert "reward 0.500\n" in said

    line.on_log(args, state, None, logs={"eval_test/mean@4": 0.25, "eval_test/pass@4": 0.75})
    logs = {"reward": 0.5, "alloc/n_min": 2.0, "alloc/n_max": 12.0, "alloc/price": None}
    state.global_step = 100
    line.on_log(args, state, None, logs=logs | {SPEED: 1234.4})
    line.on_log(args, state, None, logs={"train_runtime": 1.0})
    said = console.export_text()
    assert said == "step 100/100 reward 0.500  pass@4 0.750  n 4 (2-12)  1,234 tokens/s\n"


def test_speed_is_of_training_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    trainer = SimpleNamespace(spent={"tokens": 1000})  # of before a resumption
    speed, logs = Speed(trainer), {"reward": 1.0}
    speed.on_train_begin(None, None, None)
    for _ in range(2):
        speed.on_step_begin(None, None, None)
        now[0] += 2
        trainer.spent["tokens"] += 60
        speed.on_step_end(None, None, None)
        speed.on_log(None, None, None, logs=logs)
        assert logs[SPEED] == 30
        now[0] += 100  # an evaluation
    summary = {"train_runtime": 1.0}
    speed.on_log(None, None, None, logs=summary)
    assert SPEED not in summary


class Noted(TrainerCallback):
    """A tracker that is there: what it was told, and when."""

    told: list[tuple[str, int, dict[str, float]]]

    def on_train_begin(self, args, state, control, **kwargs):
        Noted.told = [("begin", state.global_step, {"name": args.run_name})]

    def on_log(self, args, state, control, logs=None, **kwargs):
        Noted.told.append(("log", state.global_step, dict(logs)))

    def on_train_end(self, args, state, control, **kwargs):
        Noted.told.append(("end", state.global_step, {}))


def test_trackers_get_the_scores_of_every_evaluation_between_their_beginning_and_their_end(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(trackers.INTEGRATION_TO_CALLBACK, "noted", Noted)
    monkeypatch.setattr(trackers, "get_available_reporting_integrations", lambda: ["noted"])
    recipe = resolve(
        read_settings("arithmetic"), [*TINY, "--report_to=noted", f"--output_dir={tmp_path}/run"]
    )
    folder = train(recipe, console=Console(quiet=True))
    assert Noted.told[0] == ("begin", 0, {"name": "run"})
    assert Noted.told[-1] == ("end", 4, {})
    middle = Noted.told[1:-1]
    assert {kind for kind, _, _ in middle} == {"log"}
    scores = [(step, logs) for _, step, logs in middle if "eval_test/pass@8" in logs]
    assert scores == [
        (line["step"], {f"eval_test/{name}@8": line[f"{name}@8"] for name in ("mean", "pass")})
        for line in read_jsonl(folder / "evals.jsonl")
    ]
    assert [step for step, _ in scores] == [0, 3, 4]
    steps = [(step, logs) for _, step, logs in middle if "reward" in logs]
    assert [step for step, _ in steps] == [1, 2, 3, 4]
    for (step, logs), row in zip(steps, read_jsonl(folder / "metrics.jsonl"), strict=True):
        assert {"step": step} | logs == row
        assert {"reward", SPEED, "alloc/n_min", "alloc/n_max", "gdro/entropy"} <= set(logs)


def test_unknown_and_missing_trackers_are_named_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "get_available_reporting_integrations", lambda: ["wandb"])
    check_trackers(["wandb"])
    check_trackers([])
    for name, words in (("tensorbord", "is unknown; did you mean tensorboard"),
                        ("tensorboard", "is not installed")):  # fmt: skip
        flags = [f"--report_to={name}", f"--output_dir={tmp_path}/run"]
        recipe = resolve(read_settings("arithmetic"), flags)
        with pytest.raises(ConfigError, match=f"report_to: {name} {words}"):
            train(recipe)
    assert not any(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="heatmap_every must be >= 0, got -1"):
        resolve(read_settings("arithmetic"), ["--heatmap_every=-1"])


def board_of(path, console):
    """TensorBoard's callback on a run of three steps, and the pictures that it gives away."""
    header = {"boundaries": [0, 0.5, 1], "bin_names": ["0-.5", ".5-1"], "config": {}}
    with TraceWriter(path / "trace.jsonl", header) as writer:
        writer.append({"step": 0, "prompts_B": [0, 0]})  # all unseen
        writer.append({"step": 1, "prompts_B": [3, 1], "weight_B": [1.5, 0.5],
                       "rollouts_B": [12, 4], "correct_B": [0.25, 1]})  # fmt: skip
        writer.append({"step": 2, "prompts_B": [0, 4], "weight_B": [None, 1],
                       "rollouts_B": [0, 16], "correct_B": [None, 0.75]})  # fmt: skip
    trainer = SimpleNamespace(callback_handler=SimpleNamespace(callbacks=[]))
    board, drawn = TensorBoard(trainer, RunFolder(path), 1, console), []
    board._board = SimpleNamespace(  # type: ignore[assignment]
        tb_writer=SimpleNamespace(add_figure=lambda *given: drawn.append(given))
    )
    return board, drawn


def test_heat_maps_show_share_weight_and_mean_correct(tmp_path):
    pytest.importorskip("matplotlib", reason="heat maps are drawn with it")
    board, drawn = board_of(tmp_path, Console(quiet=True))
    for _ in range(2):  # a step is drawn once
        board.on_step_end(None, SimpleNamespace(global_step=3), None)
    [(tag, figure, step)] = drawn
    assert (tag, step) == ("curriculum", 3)
    panels = {a.get_title(loc="left"): a.images[0].get_array().filled(-1).tolist()
              for a in figure.axes if a.images}  # fmt: skip
    assert panels == {  # hardest bin first, that is on top; -1 is no prompt there
        "Share of prompts": [[-1, 0.75, 0], [-1, 0.25, 1]],
        "Weight": [[-1, 1.5, -1], [-1, 0.5, 1]],
        "Share of correct rollouts": [[-1, 0.25, -1], [-1, 1, 0.75]],
    }


def test_no_heat_maps_before_any_prompt_has_a_bin(tmp_path):
    board, drawn = board_of(tmp_path, Console(quiet=True))
    lines = (tmp_path / "trace.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "trace.jsonl").write_text("".join(lines[:2]))
    board.on_step_end(None, SimpleNamespace(global_step=1), None)
    assert drawn == []


def test_without_matplotlib_a_run_goes_on_and_says_once_what_is_missing(tmp_path, monkeypatch):
    console = Console(record=True, file=io.StringIO(), width=200)
    board, drawn = board_of(tmp_path, console)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for step in (1, 2):
        board.on_step_end(None, SimpleNamespace(global_step=step), None)
    said = console.export_text()
    assert said.count("no heat maps for TensorBoard: a figure needs matplotlib") == 1
    assert "gdro[report]" in said
    assert drawn == []


RUN = """
import os, signal, sys
from rich.console import Console
from gdro.lab.progress import Recorder
from gdro.lab.recipe import read_settings, resolve
from gdro.lab.run import train

at, *flags = sys.argv[1:]
step = Recorder.on_log

def killed(self, args, state, *more, **kwargs):
    step(self, args, state, *more, **kwargs)
    if state.global_step == int(at):
        os.kill(os.getpid(), signal.SIGKILL)

Recorder.on_log = killed
train(resolve(read_settings("arithmetic"), flags), resume=True, console=Console(quiet=True))
"""


def test_tensorboard_has_each_step_once_over_a_kill_and_heat_maps(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = [*TINY, "--report_to=tensorboard", "--heatmap_every=3", "--output_dir=run"]
    for kill_at, code in ((3, -signal.SIGKILL), (0, 0)):  # checkpoints are at 2 and 4
        words = [sys.executable, "-c", RUN, str(kill_at), *flags]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    read = EventAccumulator(str(tmp_path / "run/tensorboard"))
    read.Reload()
    rows = read_jsonl(tmp_path / "run/metrics.jsonl")
    for name in ("reward", "gdro/entropy", "alloc/n_max"):
        found = [(e.step, e.value) for e in read.Scalars(f"train/{name}")]
        assert found == [(r["step"], pytest.approx(r[name])) for r in rows]
    scores = [(e.step, e.value) for e in read.Scalars("eval/test/pass@8")]
    lines = read_jsonl(tmp_path / "run/evals.jsonl")
    assert scores == [(line["step"], pytest.approx(line["pass@8"])) for line in lines]
    images = read.Images(trackers.TAG)
    assert [image.step for image in images] == [3, 4]
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in images)
