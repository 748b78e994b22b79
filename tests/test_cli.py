"""The command, as a user runs it: real processes, real (tiny) runs, real kills."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gdro import cli
from gdro.cli import main
from gdro.core import trace
from gdro.core.errors import ConfigError
from gdro.core.presets import DEFAULT
from gdro.core.trace import read_trace
from gdro.lab.folder import RunFolder, read_jsonl

# Eight prompts a step of sixteen: the seventh step is in the fourth epoch.
TINY = [
    "--max_steps=7", "--save_steps=2", "--save_total_limit=2", "--train_prompts=16",
    "--eval_prompts=6", "--per_device_train_batch_size=32", "--eval_every=3",
    "--learning_rate=1e-3", "--reward_funcs=marker.exact",
]  # fmt: skip

MARKER = """
import os, signal
from gdro.rewards import exact_reward

calls = 0

def short(completions, **kwargs):
    return [1.0]

def exact(completions, answer, **kwargs):
    global calls
    calls += 1
    if calls == int(os.environ.get("KILL_AT_CALL", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    return exact_reward(completions, answer)
"""


def gdro(*arguments, cwd, kill_at=0):
    return subprocess.run(
        [sys.executable, "-m", "gdro.cli", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "KILL_AT_CALL": str(kill_at)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    (folder / "marker.py").write_text(MARKER)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(home):
    """An uninterrupted run."""
    done = gdro("train", *TINY, "--output_dir", "straight", cwd=home)
    assert done.returncode == 0, done.stderr
    return home / "straight"


def test_help_and_errors_need_no_engine():
    code = (
        "import sys, gdro.cli\n"
        "try: gdro.cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "assert gdro.cli.main(['train', 'nowhere.yaml']) == 2\n"
        "assert not {'torch', 'transformers', 'trl', 'datasets', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--gdro_rollout_n_min" in done.stdout
    assert done.stderr.startswith("gdro: nowhere.yaml: no such recipe file")


def test_a_run_leaves_its_folder(run):
    about = json.loads((run / "run.json").read_text())
    assert (about["state"], about["method"], about["steps"]) == ("finished", DEFAULT, 7)
    assert about["spent"]["rollouts"] == 7 * 32
    assert about["versions"]["trl"]
    evals = read_jsonl(run / "evals.jsonl")
    assert [line["step"] for line in evals] == [0, 3, 6, 7]
    assert [line["rollouts"] for line in evals] == [0, 3 * 32, 6 * 32, 7 * 32]
    assert evals[-1]["tokens"] == about["spent"]["tokens"]
    assert {"mean@8", "pass@8", "by_family", "by_level", "by_bin"} <= set(evals[-1])
    metrics = read_jsonl(run / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(1, 8))
    assert read_trace(run / "trace.jsonl").steps.tolist() == list(range(7))
    header, *records = (run / "trace.jsonl").read_bytes().splitlines()
    assert len(json.loads(header)["bin_names"]) == 10
    assert max(map(len, records)) < 2000
    samples = read_jsonl(run / "samples" / "000000.jsonl")
    assert len(samples) == 7 * 4
    assert samples[0]["rewards"].keys() == {"exact"}
    assert (run / "report.html").stat().st_size > 1000
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(run / "model")
    AutoTokenizer.from_pretrained(run / "model")


def test_killed_three_times_and_resumed_is_the_uninterrupted_run(run, home):
    """Before the first checkpoint, between checkpoints, and in the last evaluation."""
    for kill_at in (3, 7, 5):
        done = gdro("train", *TINY, "--output_dir", "killed", "--resume", cwd=home, kill_at=kill_at)
        assert done.returncode == -9, done.stderr
    done = gdro("train", "killed", "--resume", cwd=home)
    assert done.returncode == 0, done.stderr
    killed = home / "killed"
    name = "model/model.safetensors"
    assert (killed / name).read_bytes() == (run / name).read_bytes()

    def without(path, *keys):
        return [{k: v for k, v in row.items() if k not in keys} for row in read_jsonl(path)]

    for file, keys in (("evals.jsonl", ["seconds"]), ("trace.jsonl", ["time"])):
        assert without(killed / file, *keys) == without(run / file, *keys)
    rewards = [[row["reward"] for row in read_jsonl(x / "metrics.jsonl")] for x in (killed, run)]
    assert rewards[0] == rewards[1]
    samples = [read_jsonl(x / "samples/000000.jsonl") for x in (killed, run)]
    assert samples[0] == samples[1]


def test_a_finished_run_is_not_overwritten(run, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    before = (run / "run.json").read_text()
    assert main(["train", *TINY, "--output_dir", "straight"]) == 2
    assert "holds a finished run: add --resume" in capsys.readouterr().err
    assert main(["train", *TINY, "--output_dir", "straight", "--resume"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert main(["train", *TINY, "--output_dir", "straight", "--resume", "--beta", ".1"]) == 2
    assert "holds a run with beta = None, got 0.1" in capsys.readouterr().err
    assert main(["train", *TINY, "--output_dir", "."]) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err
    assert (run / "run.json").read_text() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gdro_rolout_n_min", "3"], "did you mean gdro_rollout_n_min"),
        (["--gdro_rollout_n_min", "1"], "rollout.n_min must be >= 2, got 1"),
        (["--dataset_name", "gone.jsonl"], "gone.jsonl"),
        (["--dataset_name", "qa.jsonl"], "dataset_test_name is missing"),
        (["--dataset_name", "qa.jsonl", "--dataset_test_name", "qa.jsonl"], "no column prompt"),
        (["--dataset_test_split", "tset"], "split must be one of train, validation, test"),
        (["--model_name_or_path", "./gone"], "model_name_or_path: no such folder, ./gone"),
        (["--reward_funcs", "marker.gone"], "reward_funcs: cannot import 'marker.gone'"),
        (["--reward_funcs", "exact", "math"], "correct_func must name which"),
        (["--reward_funcs", "os.path"], "'os.path' is a module, not a function"),
        (["--resume_from_checkpoint", "x"], "use gdro train RUN --resume"),
        (["--train_prompts", "3"], "a step takes 64 prompts"),
        (
            ["--reward_funcs", "marker.short", "--no_eval_before"],
            "'short' returned 1 rewards, but 256 were expected",
        ),
        (
            [
                "--dataset_name",
                "worked.jsonl",
                "--dataset_test_name",
                "worked.jsonl",
                "--reward_funcs",
                "math",
            ],
            "do not verify against themselves",
        ),
    ],
)
def test_errors_are_told_and_leave_nothing(flags, message, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    (home / "qa.jsonl").write_text('{"q": "1+1", "answer": "2"}\n')
    worked = {"prompt": "1+1", "answer": "One and one make two apples in all. #### 2"}
    (home / "worked.jsonl").write_text(json.dumps(worked) + "\n")
    assert main(["train", "arithmetic", *flags, "--output_dir", "never"]) == 2
    *_, error = capsys.readouterr().err.partition("gdro: ")
    assert message in error
    assert not Path("never").exists()


def test_a_run_is_continued_where_it_is(run, home, monkeypatch, capsys, tmp_path):
    """Moved, and named from elsewhere: the folder given is the run."""
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(home))
    assert main(["train", "moved", "--resume", "--no-page"]) == 0
    assert "moved: finished already" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["moved"]


def test_two_processes_do_not_write_one_folder(tmp_path):
    recipe = {"learning_rate": 1}
    first, second = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a")
    assert first.open(recipe, resume=False) is None
    with pytest.raises(ConfigError, match="is being written by another process"):
        second.open(recipe, resume=True)
    assert first.recipe.exists()
    first.release()
    assert second.open(recipe, resume=True) is None


def test_a_file_with_names_of_its_own(home, monkeypatch):
    """JSONL in, columns renamed, trained and evaluated."""
    from gdro.data import arithmetic

    rows = arithmetic.generate("train", 8)
    lines = [json.dumps({"question": r["prompt"], "gold": r["answer"]}) for r in rows]
    (home / "own.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(home)
    flags = "--dataset_name own.jsonl --dataset_test_name own.jsonl --prompt_column question"
    flags += " --answer_column gold --max_steps 1 --per_device_train_batch_size 32"
    assert main(["train", "arithmetic", *flags.split(), "--output_dir", "own", "--no-page"]) == 0
    assert len(read_jsonl(home / "own/evals.jsonl")) == 2
    (record,) = read_trace(home / "own/trace.jsonl").records
    assert (record["unparsed"], record["timeout_B"]) == (0, [0] * 10)  # by our own function


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    """As with `| head`; the output is larger than a pipe holds."""
    rows = [{"prompt": "x" * 5000 + str(i), "answer": "1"} for i in range(100)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [sys.executable, "-m", "gdro.cli", "data", "show", "a.jsonl", "--rows", "100"]
    done = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stdout is not None
    assert done.stderr is not None
    assert done.stdout.readline() == b"a.jsonl\n"
    done.stdout.close()
    assert done.stderr.read() == b""
    assert done.wait() == 141


def test_a_broken_pipe_of_another_kind_is_told(monkeypatch):
    def broken(_):
        raise BrokenPipeError

    monkeypatch.setitem(cli.COMMANDS, "report", (broken, ""))
    with pytest.raises(BrokenPipeError):
        main(["report", "x"])


def test_a_file_that_cannot_be_written_or_read_is_told(tmp_path, capsys):
    lines = '{"step": 0, "k": 8, "mean@8": 0.5}\n'
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evals.jsonl").write_text(lines)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for out, said in (("folder", "folder: Is a directory"), ("file/a.html", "file: File exists")):
        assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"gdro: {tmp_path}")
        assert error.endswith(f"{said}\n")


def test_an_error_of_the_system_that_is_of_no_file_is_not_hidden(monkeypatch):
    def refused(_):
        raise ConnectionRefusedError

    monkeypatch.setitem(cli.COMMANDS, "report", (refused, ""))
    with pytest.raises(ConnectionRefusedError):
        main(["report", "x"])


@pytest.mark.parametrize(
    ("command", "said"),
    [("train", "with --resume goes on"), ("compare", "goes on where"), ("report", "interrupted\n")],
)
def test_an_interrupted_command_says_how_to_go_on(command, said, monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, command, (interrupted, ""))
    assert main([command]) == 130
    assert said in capsys.readouterr().err


def test_every_number_of_the_trace_is_in_its_documentation(run):
    page = (Path(__file__).parents[1] / "docs" / "runs.md").read_text()
    for record in read_trace(run / "trace.jsonl").records:
        assert {"q_B", "variance_B", "price", "wse_uniform", "lead_lag"} <= set(record)
        for key in (*record, *record["time"]):
            assert f"`{key}`" in page, key
    table = [line for line in trace.__doc__.splitlines() if line.startswith("|")]
    assert "\n".join(table) in page


def test_runs_and_watch_of_what_is_finished(run, tmp_path, capsys):
    (run.parent / "notes").mkdir(exist_ok=True)
    assert main(["runs", str(run.parent)]) == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    passed = read_jsonl(run / "evals.jsonl")[-1]["pass@8"]
    assert said[0] == "run state method steps pass@8 last written"
    assert any(s.startswith(f"straight finished {DEFAULT} 7/7 {passed:.3f} ") for s in said)
    assert "notes" in said[-1]
    assert main(["runs", str(tmp_path / "gone")]) == 2
    out = tmp_path / "a.html"
    assert main(["report", "--watch", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{run}: finished\n{out}\n"
    assert out.exists()
    with pytest.raises(SystemExit):
        main(["report", str(run), "--every", "5"])
    assert "--every goes with --watch" in capsys.readouterr().err


def test_report_and_commands(run, tmp_path, capsys):
    assert main(["report", str(run), "--out", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").exists()
    assert main(["report", str(tmp_path / "gone")]) == 2
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["trian"])
    assert "invalid choice: 'trian'" in capsys.readouterr().err
