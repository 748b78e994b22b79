"""Prompt ids to rows."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdro.core.checkpoint import load, save
from gdro.core.errors import CheckpointError, DataError
from gdro.core.index import PromptIndex

integers = st.lists(st.integers(0, 5000))
texts = st.lists(st.text(max_size=6))


@given(st.one_of(st.lists(integers), st.lists(texts)))
def test_rows_are_dense_in_the_order_of_first_sight(batches):
    index, oracle = PromptIndex(), {}
    for batch in batches:
        expected = [oracle.setdefault(i, len(oracle)) for i in batch]
        assert index.rows(batch).tolist() == expected
    assert len(index) == len(oracle)
    again = PromptIndex()
    again.load_state_dict(index.state_dict())
    assert len(again) == len(index)
    for batch in batches:
        assert again.rows(batch).tolist() == index.rows(batch).tolist()
    assert len(again) == len(index)


def test_arrays_lists_and_numpy_scalars_are_the_same_ids():
    index = PromptIndex()
    rows = index.rows(np.array([7, 3, 7], np.uint8)).tolist()
    assert rows == index.rows([7, 3, 7]).tolist() == index.rows([np.int32(7), 3, 7]).tolist()
    index = PromptIndex()
    assert index.rows(np.array(["b", "a"])).tolist() == index.rows(["b", "a"]).tolist() == [0, 1]


def test_large_and_scattered_ids_take_little():
    index, rng = PromptIndex(), np.random.default_rng(0)
    tracemalloc.start()
    assert index.rows([2**31 - 1, 0]).tolist() == [0, 1]
    ids = rng.integers(0, 2**31, 1000)
    rows = index.rows(ids)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()
    again = PromptIndex()
    again.load_state_dict(index.state_dict())
    assert np.array_equal(again.rows(ids), rows)


@pytest.mark.parametrize("ids", [[-1], [2**31], [2**80], np.array([2**63], np.uint64)])
def test_integers_out_of_range_name_the_cure(ids):
    with pytest.raises(DataError, match="row numbers"):
        PromptIndex().rows(ids)


@pytest.mark.parametrize("ids", [[1, "a"], [True, False], [1.0], [None], np.array([0.5])])
def test_other_and_mixed_kinds_are_refused(ids):
    with pytest.raises(DataError, match="all integers or all strings"):
        PromptIndex().rows(ids)


def test_kinds_do_not_change_midway():
    index = PromptIndex()
    index.rows([])
    index.rows([1])
    with pytest.raises(DataError, match="were integers so far, now strings"):
        index.rows(["1"])
    index = PromptIndex()
    index.rows(["1"])
    with pytest.raises(DataError, match="were strings so far, now integers"):
        index.rows([1])


def test_state_goes_through_a_checkpoint(tmp_path):
    index = PromptIndex()
    index.rows(["naïve", "a\x00b", "", "\n"])
    save(tmp_path / "s.npz", index.state_dict(), fingerprint="f")
    again = PromptIndex()
    again.load_state_dict(load(tmp_path / "s.npz", fingerprint="f"))
    assert again.rows(["\n", "", "a\x00b", "naïve"]).tolist() == [3, 2, 1, 0]
    with pytest.raises(CheckpointError, match="kind"):
        again.load_state_dict({"kind": "float", "ids": np.zeros(0)})
