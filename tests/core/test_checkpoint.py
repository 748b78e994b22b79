"""Checkpoints: bitwise there and back, and any damage shows."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gdro.core import checkpoint
from gdro.core.errors import CheckpointError

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
arrays = hnp.arrays(
    st.sampled_from(["f4", "f8", "i2", "i8", "u1", "?", "c16", "U3"]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
)
states = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.one_of(scalars, arrays),
        lambda x: st.one_of(
            st.lists(x, max_size=3), st.dictionaries(st.text(max_size=5), x, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=4,
)


def bits(value):
    """A form that is equal only for equal types, shapes and bits."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return {k: bits(v) for k, v in value.items()}
    if isinstance(value, list):
        return [bits(v) for v in value]
    return (type(value), value if value == value else "nan", str(value))


@pytest.fixture
def state():
    return {
        "a": {"x": np.arange(50.0), "n": [1, None, 0.1]},
        "rng": np.random.default_rng(3).bit_generator.state,
    }


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(state=states)
def test_round_trip_is_bitwise(tmp_path, state):
    checkpoint.save(tmp_path / "s.npz", state, fingerprint="f")
    assert bits(checkpoint.load(tmp_path / "s.npz", fingerprint="f")) == bits(state)


@pytest.mark.parametrize("kind", ["PCG64", "Philox", "MT19937", "SFC64"])
def test_generators_continue(tmp_path, kind):
    rng = np.random.Generator(getattr(np.random, kind)(7))
    rng.random(5)
    checkpoint.save(tmp_path / "s.npz", {"rng": rng.bit_generator.state}, fingerprint="f")
    expected = rng.random(9)
    other = np.random.Generator(getattr(np.random, kind)(0))
    other.bit_generator.state = checkpoint.load(tmp_path / "s.npz", fingerprint="f")["rng"]
    assert np.array_equal(other.random(9), expected)


def test_is_an_ordinary_npz_without_pickle(tmp_path, state):
    checkpoint.save(tmp_path / "s.npz", state, fingerprint="f")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        assert json.loads(file["header"].tobytes())["schema"] == checkpoint.SCHEMA
        assert np.array_equal(file["0"], state["a"]["x"])


def test_any_flipped_bit_is_found(tmp_path, state):
    path = tmp_path / "s.npz"
    checkpoint.save(path, state, fingerprint="f")
    blob = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(0, len(blob), 7), *range(len(blob) - 120, len(blob))]
    for place in places:
        bad = bytearray(blob)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(path, fingerprint="f")


@pytest.mark.parametrize("keep", [0, 1, 70, 300, -1, -72])
def test_a_truncated_file_is_found(tmp_path, state, keep):
    path = tmp_path / "s.npz"
    checkpoint.save(path, state, fingerprint="f")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated"):
        checkpoint.load(path, fingerprint="f")


def test_other_configuration_and_other_version_are_told_apart(tmp_path, state, monkeypatch):
    path = tmp_path / "s.npz"
    mine, other = (checkpoint.fingerprint({"rollout": {"n_min": n}}) for n in (2, 3))
    checkpoint.save(path, state, fingerprint=mine)
    with pytest.raises(CheckpointError, match=f"another configuration .{mine}, here {other}"):
        checkpoint.load(path, fingerprint=other)
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    with pytest.raises(CheckpointError, match="version gdro-state 1, this is gdro-state 2"):
        checkpoint.load(path, fingerprint=mine)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none.npz", fingerprint=mine)


def test_fingerprint_ignores_order():
    assert checkpoint.fingerprint({"a": 1, "b": 2}) == checkpoint.fingerprint({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ((1, 2), "tuple"),
        (np.float64(1), "float64"),
        (np.array([None]), "ndarray of dtype object"),
        (object(), "object"),
        ({1: 2}, "keys must be strings"),
        ({"__array__": 0}, "dict"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, value, what):
    with pytest.raises(CheckpointError, match=what) as error:
        checkpoint.save(tmp_path / "s.npz", {"deep": [0, value]}, fingerprint="f")
    assert "state.deep[1]" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_mode_that_the_umask_leaves(tmp_path, state, umask, mode):
    before = os.umask(umask)
    try:
        checkpoint.save(tmp_path / "s.npz", state, fingerprint="f")
    finally:
        os.umask(before)
    assert (tmp_path / "s.npz").stat().st_mode & 0o777 == mode


def test_an_interrupted_write_leaves_the_old_file(tmp_path, state, monkeypatch):
    path = tmp_path / "s.npz"
    checkpoint.save(path, state, fingerprint="f")
    before = path.read_bytes()

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {}, fingerprint="f")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
