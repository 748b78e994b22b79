"""The trace: what is written is read back, whatever happened to the file in between."""

import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from small_run import make, run

from gdro import ControllerConfig
from gdro.core import trace as trace_module
from gdro.core.errors import DataError
from gdro.core.trace import TraceWriter, header_of, keep_aside, read_trace

HEADER = {
    "boundaries": [0, 0.5, 1],
    "bin_names": ["hard", "easy"],
    "config": {"difficulty": {"source": "online"}},
    "n_mean": 4,
    "method": "joint",
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "trace.jsonl"


def write(path, steps, **more):
    with TraceWriter(path, HEADER) as trace:
        for step in steps:
            trace.append({"step": step, "prompts_B": [step, 1], **more})


def test_what_is_written_is_read_back(path):
    with TraceWriter(path, HEADER) as trace:
        trace.append(
            {
                "step": np.int64(0),
                "prompts_B": np.array([3, 1]),
                "weight_B": np.array([1.25, np.nan]),
                "reward": np.float64(0.5),
                "price": None,
                "tokens": 1_234_567.0,
                "entropy": float("inf"),
                "time": {"plan": np.float32(0.25)},
            }
        )
    trace = read_trace(path)
    assert trace.header == {"schema": "gdro-trace", "version": 1, **HEADER}
    assert trace.records == [
        {
            "step": 0,
            "prompts_B": [3, 1],
            "weight_B": [1.25, None],
            "reward": 0.5,
            "price": None,
            "tokens": 1_234_567,
            "entropy": None,
            "time": {"plan": 0.25},
        }
    ]
    assert b"NaN" not in path.read_bytes()
    assert trace.torn == 0
    np.testing.assert_array_equal(trace.per_bin("weight_B"), [[1.25, np.nan]])
    np.testing.assert_array_equal(trace.per_bin("score_B"), [[np.nan, np.nan]])
    np.testing.assert_array_equal(trace.column("time.plan"), [0.25])
    np.testing.assert_array_equal(trace.column("time.step"), [np.nan])
    np.testing.assert_array_equal(trace.column("price"), [np.nan])


def test_every_cut_of_the_file_is_readable_and_can_be_continued(path):
    write(path, range(3))
    whole = path.read_bytes()
    ends = [i + 1 for i, c in enumerate(whole) if c == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        done = sum(cut >= end - 1 for end in ends[1:])  # a line without its newline is whole
        if cut >= ends[0] - 1:
            trace = read_trace(path)
            assert [r["step"] for r in trace.records] == list(range(done))
            assert trace.torn == (cut not in ends and cut + 1 not in ends)
        else:
            with pytest.raises(DataError):
                read_trace(path)
        if cut in {0, 1, ends[0] - 1, ends[0], ends[1] - 1, ends[1] + 7, len(whole) - 1}:
            write(path, range(done, 3))
            assert path.read_bytes() == whole


WRITE_ON = """
import sys
from gdro.core.trace import TraceWriter

with TraceWriter(sys.argv[1], {"boundaries": None, "bin_names": ["a"], "config": {}}) as trace:
    for step in range(int(sys.argv[2]), 10**9):
        trace.append({"step": step, "score_B": [step / 7], "long": 1 / 3})
        print(step, flush=True)
"""


def test_a_killed_run_has_every_step_that_it_said(path):
    """SIGKILL of a process that writes, twice, the second going on where the first ended."""
    first = 0
    for seen in (20, 3):
        words = [sys.executable, "-c", WRITE_ON, str(path), str(first)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(seen):
                writer.stdout.readline()
            writer.kill()
            said = writer.stdout.read().split()  # up to the moment of its death
        assert writer.returncode == -signal.SIGKILL
        found = read_trace(path)
        assert found.steps.tolist() == list(range(len(found.records)))
        last = int(said[-1]) if said else first + seen - 1
        assert found.steps[-1] >= last
        np.testing.assert_allclose(found.per_bin("score_B")[:, 0], found.steps / 7, rtol=1e-4)
        first = len(found.records)


def test_a_resumed_run_drops_the_steps_that_it_repeats(path):
    write(path, range(5))
    with TraceWriter(path, HEADER) as trace:
        with pytest.raises(DataError, match=r"step 3 is recorded already; .*truncate_after"):
            trace.append({"step": 3})
        assert trace.truncate_after(9) == 0
        assert trace.truncate_after(3) == 2
        trace.append({"step": 3, "reward": 1.0})
    assert [r["step"] for r in read_trace(path).records] == [0, 1, 2, 3]
    assert read_trace(path).records[3] == {"step": 3, "reward": 1}
    assert [f.name for f in path.parent.iterdir()] == ["trace.jsonl"]


def test_a_failed_truncation_leaves_the_old_trace(path, monkeypatch):
    write(path, range(3))
    before = path.read_bytes()
    with TraceWriter(path, HEADER) as trace:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
            with pytest.raises(OSError, match="disk"):
                trace.truncate_after(1)
        assert path.read_bytes() == before
        trace.append({"step": 3})
    assert len(read_trace(path).records) == 4


def test_a_failed_append_leaves_no_half_line(path, monkeypatch):
    with TraceWriter(path, HEADER) as trace:
        trace.append({"step": 0})
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space")))
            with pytest.raises(OSError, match="no space"):
                trace.append({"step": 1})
        assert path.read_bytes() == before
        trace.append({"step": 1})
    assert len(read_trace(path).records) == 2


def test_late_steps_are_read_in_order(path):
    write(path, [1, 0, 3, 2])
    assert read_trace(path).steps.tolist() == [0, 1, 2, 3]


def test_a_step_of_ten_bins_is_small(path):
    rng = np.random.default_rng(0)
    header = HEADER | {"boundaries": None, "bin_names": [str(i) for i in range(10)]}
    record = {
        f"{n}_B": rng.random(10)
        for n in (
            "prompts",
            "rollouts",
            "weight",
            "q",
            "score",
            "correct",
            "variance",
            "unparsed",
            "timeout",
            "population",
        )
    }
    record |= {
        n: rng.random()
        for n in (
            "unseen_prompts",
            "unseen_rollouts",
            "unseen_correct",
            "budget",
            "price",
            "entropy",
            "effective_support",
            "lead_lag",
            "wse",
            "wse_uniform",
            "varproxy",
            "varproxy_uniform",
            "mixed_fraction",
            "mixed_weight",
            "rollout_lead_lag",
            "reward",
            "rollouts",
            "trained",
            "tokens",
            "unparsed",
            "timeout",
        )
    }
    phases = ("plan", "generation", "reward", "update", "hook", "observe", "step")
    record |= {"step": 99_999, "time": {n: rng.random() for n in phases}}
    assert all(f"`{key}`" in trace_module.__doc__ for key in (*record, *phases))
    with TraceWriter(path, header) as trace:
        trace.append(record)
    assert len(path.read_bytes().splitlines()[1]) < 2000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no trace here"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"PK\x03\x04 something", "not a gdro trace"),
        (b'{"loss": 1}\n{"loss": 2}\n', "not a gdro trace"),
        (b"[1, 2]\n", "not a gdro trace"),
        (b'{"schema": "gdro-trace", "version": 2}\n', "version 2; this gdro reads version 1"),
        (b'{"schema": "gdro-trace", "version": 1}\n', "bin_names must be"),
        (
            b'{"schema": "gdro-trace", "version": 1, "bin_names": ["a"], "boundaries": [0]}\n',
            "boundaries must be 2 ascending numbers",
        ),
        (
            b'{"schema": "gdro-trace", "version": 1, "bin_names": ["a"], "config": [1]}\n',
            "config must be a mapping of mappings",
        ),
    ],
)
def test_foreign_files_are_named(path, content, message):
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_trace(path)
    assert str(path) in str(error.value)
    if content and content.strip():
        with pytest.raises(DataError):
            TraceWriter(path, HEADER)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 3: is not JSON"),
        ('{"step": 1, "reward": NaN}', "line 3: is not JSON"),
        ('{"step": 0}', "line 3: step 0 is on line 2 too"),
        ('{"reward": 1}', "line 3: step must be an integer >= 0, got None"),
        ('{"step": true}', "line 3: step must be"),
        ('{"step": 1, "q_B": [1]}', "line 3: q_B must be 2 numbers or nulls"),
        ('{"step": 1, "q_B": [1, "x"]}', "line 3: q_B must be 2 numbers or nulls"),
        ('{"step": 1, "reward": "x"}', "line 3: reward must be a number or null"),
        ('{"step": 1, "reward": 1e999}', "line 3: reward must be a number or null"),
        ('{"step": 1, "time": [1]}', "line 3: time must be seconds by phase"),
    ],
)
def test_a_broken_line_is_named(path, line, message):
    write(path, [0])
    with open(path, "a") as file:
        file.write(f'{line}\n{{"step": 2}}\n')
    with pytest.raises(DataError, match=message):
        read_trace(path)


def test_a_bad_record_is_refused_and_nothing_is_written(path):
    with TraceWriter(path, HEADER) as trace:
        before = path.read_bytes()
        for record in (
            {},
            {"step": -1},
            {"step": 0, "q_B": [1.0]},
            {"step": 0, "reward": "high"},
            {"step": 0, "reward": object()},
        ):
            with pytest.raises(DataError):
                trace.append(record)
        assert path.read_bytes() == before


def test_another_configuration_is_refused(path):
    write(path, [0])
    with pytest.raises(DataError, match="another run: n_mean differ"):
        TraceWriter(path, HEADER | {"n_mean": 8})


def test_a_run_of_an_older_header_is_continued(path):
    write(path, [0])
    with TraceWriter(path, HEADER | {"std_scaled": True}) as trace:
        trace.append({"step": 1})
    assert [record["step"] for record in read_trace(path).records] == [0, 1]


def test_boundaries_of_static_groups_are_no_order(path):
    write(path, [0])
    assert read_trace(path).boundaries == (0, 0.5, 1)
    path.unlink()
    config = {"difficulty": {"source": "column:family"}}
    TraceWriter(path, HEADER | {"config": config}).close()
    assert read_trace(path).boundaries is None


def test_earlier_traces_are_kept_aside_under_numbers(path):
    for turn in range(3):
        write(path, [turn])
        with pytest.warns(UserWarning, match=f"kept as trace.{turn + 1}.jsonl"):
            keep_aside(path)
    assert not path.exists()
    kept = [read_trace(path.with_name(f"trace.{n}.jsonl")) for n in (1, 2, 3)]
    assert [trace.records[0]["step"] for trace in kept] == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, [f"{a / 10:g}-{(a + 1) / 10:g}" for a in range(10)]),
        ({"difficulty.bins": 3, "difficulty.edges": [0.2, 0.5]}, ["0-0.2", "0.2-0.5", "0.5-1"]),
        ({"difficulty.source": "column:g"}, ["0", "1", "2", "3", "4"]),
        ({"difficulty.source": "random", "difficulty.bins": 3}, ["0", "1", "2"]),
    ],
)
def test_a_trace_tells_its_bins_and_holds_every_step(
    changes: dict[str, Any], names: list[str], tmp_path: Any
) -> None:
    controller = make(changes)
    steps = run(controller, 4)
    with TraceWriter(tmp_path / "trace.jsonl", header_of(controller)) as writer:
        for _, record in steps:
            writer.append(record.to_dict())
    trace = read_trace(tmp_path / "trace.jsonl")
    assert trace.header["bin_names"] == names
    online = controller.config.difficulty.source == "online"
    assert trace.boundaries == (controller.config.difficulty.boundaries if online else None)
    np.testing.assert_array_equal(
        trace.per_bin("rollouts_B"), [record.values["rollouts_B"] for _, record in steps]
    )
    assert ControllerConfig.from_dict(trace.header["config"]) == controller.config
