"""`gdro runs`: what lies below a folder, and how each run stands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdro.core.errors import DataError
from gdro.core.files import write_json
from gdro.core.trace import TraceWriter
from gdro.lab import folder as module
from gdro.lab.folder import RunFolder, append_jsonl, last_line
from gdro.lab.runs import find, look, main

HOLD = """
import sys, time
from gdro.lab.folder import RunFolder

folder = RunFolder(sys.argv[1])
folder.open({"seed": 1}, resume=False)
folder.update(state="running", method="joint", max_steps=150)
print("held", flush=True)
time.sleep(600)
"""


def make_run(path: Path, **about: object) -> RunFolder:
    folder = RunFolder(path)
    folder.open({"seed": 1}, resume=False)
    folder.release()
    folder.update(**{"state": "finished", "method": "joint", "max_steps": 7} | about)
    return folder


def test_a_run_goes_on_while_its_process_lives_and_is_killed_after(tmp_path, capsys):
    words = [sys.executable, "-c", HOLD, str(tmp_path / "a")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        folder = RunFolder(tmp_path / "a")
        append_jsonl(folder.metrics, {"step": 12})
        for _ in range(2):  # looking changes nothing
            assert look(folder.path).state == folder.state == "running"
        process.kill()
    seen = look(folder.path)
    assert (seen.state, seen.steps, seen.planned, seen.passed) == ("killed", 12, 150, None)
    assert main([str(tmp_path)]) == 0
    assert "killed" in (said := capsys.readouterr().out)
    assert "12/150" in said


def test_a_run_is_claimed_although_somebody_looks_at_it(tmp_path, monkeypatch):
    make_run(tmp_path / "a", state="running")
    looker = open(tmp_path / "a/.lock")  # noqa: SIM115 - closed while the other waits
    module.fcntl.flock(looker, module.fcntl.LOCK_SH)
    monkeypatch.setattr(module.time, "sleep", lambda _: looker.close())
    folder = RunFolder(tmp_path / "a")
    folder.open({"seed": 1}, resume=True)
    assert folder.held
    folder.release()
    assert not folder.held


@pytest.mark.parametrize(
    ("about", "state", "error"),
    [
        ({"state": "finished"}, "finished", None),
        ({"state": "running"}, "killed", None),
        ({"state": "failed", "error": "interrupted"}, "interrupted", "interrupted"),
        ({"state": "failed", "error": "out of memory"}, "failed", "out of memory"),
    ],
)
def test_states_of_runs_that_nobody_writes(tmp_path, about, state, error):
    seen = look(make_run(tmp_path / "a", **about).path)
    assert (seen.state, seen.error) == (state, error)


def test_runs_are_found_at_any_depth_and_the_rest_is_named(tmp_path, capsys):
    deep = make_run(tmp_path / "study/suite/runs/joint-seed0", steps=7)
    append_jsonl(deep.evals, {"step": 0, "k": 8, "pass@8": 0.25})
    append_jsonl(deep.evals, {"step": 7, "k": 8, "pass@8": 0.625})
    make_run(deep.path / "checkpoint-7/inner")  # not looked into
    make_run(tmp_path / "failed", state="failed", error="no [memory]\nat all")
    bare = tmp_path / "own script"
    header = {"bin_names": ["a"], "config": {}, "method": "joint"}  # as on verl
    with TraceWriter(bare / "trace.jsonl", header) as trace:
        trace.append({"step": 0})
        trace.append({"step": 1})
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/.lock").touch()
    (tmp_path / "begun/recipe.yaml").write_text("seed: 1\n")
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans/recipe.yaml").write_text("seed: 1\n")  # the user's own, not a run
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    (tmp_path / ".hidden").mkdir()
    make_run(tmp_path / ".hidden/run")
    elsewhere = make_run(tmp_path.parent / (tmp_path.name + "-elsewhere"))
    (tmp_path / "linked").symlink_to(elsewhere.path)
    (tmp_path / "loop").symlink_to(tmp_path)
    for name, text in (("damaged", "{"), ("list", "[]"), ("foreign", '{"lr": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes/trace.jsonl").write_bytes(b"\x00\xff\n")
    (tmp_path / "headless").mkdir()
    (tmp_path / "headless/trace.jsonl").write_text('[]\n{"step": 0}\n')

    assert main([str(tmp_path)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0]: " ".join(line.split()) for line in lines}
    deepest = "study/suite/runs/joint-seed0"
    assert f"{deepest} finished joint 7/7 0.625" in rows[deepest]
    assert "own script ? joint 2 - " in rows["own script"]
    assert "begun killed ? 0 - " in rows["begun"]
    assert "linked finished" in rows["linked"]
    assert "failed: failed: no [memory] at all" in lines
    broken = [line for line in lines if line.startswith("broken: ")]
    assert len(broken) == 5
    for name, words in (("damaged", "is not JSON"), ("list", "must hold a mapping"),
                        ("foreign", "no state"), ("bytes", "not a mapping"),
                        ("headless", "its first line")):  # fmt: skip
        assert any(line.startswith(f"broken: {name}: ") and words in line for line in broken)
    assert last == "no run in: loop, plans"
    assert not any("inner" in line or "hidden" in line for line in lines)


def test_a_run_itself_an_empty_folder_and_none(tmp_path, capsys, monkeypatch):
    folder = make_run(tmp_path / "a")
    assert find(folder.path) == ([folder.path], [])
    monkeypatch.chdir(folder.path)
    assert main(["."]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("a ")
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/empty: no runs\n"
    with pytest.raises(DataError, match="gone: no such folder"):
        main([str(tmp_path / "gone")])


def test_scores_of_different_k_say_theirs(tmp_path, capsys):
    for k in (4, 8):
        append_jsonl(make_run(tmp_path / f"k{k}").evals, {"step": 0, "k": k, f"pass@{k}": k / 16})
    main([str(tmp_path)])
    said = capsys.readouterr().out
    assert "pass@k" in said
    assert "0.250 (k=4)" in said
    assert "0.500 (k=8)" in said


def test_the_last_line_is_the_last_whole_one(tmp_path):
    path = tmp_path / "a.jsonl"
    assert last_line(path) == {}
    path.write_text('{"a": 1')
    assert last_line(path) == {}
    rows = [{"step": i, "text": "x" * (i * 7919 % 100_000)} for i in range(40)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for torn in ("", "{", '{"step": 99}'):
        path.write_text(text + torn)
        assert last_line(path) == rows[-1]
    write_json(path, [])
    with pytest.raises(DataError, match="its last line is not a mapping"):
        last_line(path)


def test_a_listing_needs_no_engine(tmp_path):
    make_run(tmp_path / "a")
    code = (
        "import sys, gdro.cli\n"
        f"assert gdro.cli.main(['runs', {str(tmp_path)!r}]) == 0\n"
        "assert not {'torch', 'transformers', 'trl', 'datasets', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
