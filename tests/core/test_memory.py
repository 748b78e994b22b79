"""What is remembered of a prompt, against its definition."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_classifier import one, visit

from gdro.core.config import DifficultyConfig
from gdro.core.difficulty import Difficulty
from gdro.core.errors import DataError


def slow_counts(memory, visits, half_life=3.0, window=4):
    """(rollouts, correct) from a list of visits, by the definition of each memory."""
    if memory == "window":
        visits = visits[-window:]
    n = c = 0.0
    for age, (rollouts, correct) in enumerate(reversed(visits)):
        weight = 2 ** (-age / half_life) if memory == "discounted" else 1.0
        n, c = n + weight * rollouts, c + weight * correct
    return n, c


history = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 300), st.floats(0, 1)).map(
        lambda x: (x[0], x[1], round(x[1] * x[2]))
    ),
    max_size=40,
)


@settings(deadline=None)
@given(history, st.sampled_from(["discounted", "window", "all"]), st.data())
def test_memory_is_its_definition_however_observe_is_called(visits, memory, data):
    config = DifficultyConfig(memory=memory, window=4)
    difficulty = Difficulty(config)
    difficulty.rows(range(6))
    todo = visits
    while todo:  # any split, rows repeated within a call
        cut = data.draw(st.integers(1, len(todo)))
        difficulty.observe(*(np.array(x) for x in zip(*todo[:cut], strict=True)))
        todo = todo[cut:]
    n, c = difficulty.evidence(np.arange(6))
    for row in range(6):
        expected = slow_counts(memory, [v[1:] for v in visits if v[0] == row])
        assert (n[row], c[row]) == pytest.approx(expected, rel=1e-5)


def test_counts_of_all_commute():
    rng = np.random.default_rng(0)
    rows, n = rng.integers(0, 9, 200), rng.integers(1, 9, 200)
    c = rng.binomial(n, 0.4)
    found = []
    for order in (np.arange(200), rng.permutation(200)):
        difficulty = Difficulty(DifficultyConfig(memory="all"))
        difficulty.rows(range(9))
        difficulty.observe(rows[order], n[order], c[order])
        found.append(difficulty.evidence(np.arange(9)))
    assert np.array_equal(found[0], found[1])


def test_a_window_grows_keeps_the_last_visits_and_large_groups():
    difficulty, row = one(memory="window", window=100)
    for i in range(250):
        visit(difficulty, row, 1000 if i == 200 else 2, 1)
    assert difficulty.evidence(row) == (np.array([99 * 2 + 1000.0]), np.array([100.0]))
    with pytest.raises(DataError, match="65535"):
        visit(difficulty, row, 70_000, 0)


def test_a_window_takes_a_byte_a_count_until_a_group_is_larger():
    for n, width in ((255, 1), (256, 2), (65_535, 2)):
        difficulty, row = one(memory="window", window=8)
        for correct in (n, 0, 1):
            visit(difficulty, row, n, correct)
        assert difficulty.evidence(row) == (np.array([3.0 * n]), np.array([n + 1.0]))
        ring = difficulty.state_dict()["memory"]["ring"]
        assert ring.itemsize == width
        assert ring.shape == (1, 4, 2)  # no wider than twice the longest history


@pytest.mark.parametrize("memory", ["discounted", "window", "all"])
def test_what_is_remembered_is_real_valued(memory):
    difficulty, row = one(memory=memory, estimator="any")
    visit(difficulty, row, 4, 3)
    for value in (*difficulty.evidence(row), *difficulty._memory.flags(row)):
        assert value.dtype == np.float64


def test_discounted_memory_is_small():
    difficulty = Difficulty(DifficultyConfig())
    tracemalloc.start()
    rows = difficulty.rows(np.arange(200_000))
    del rows
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held <= 16 * 200_000 + 100_000
    stored = difficulty.state_dict()
    assert stored["memory"]["sum"].nbytes + stored["bin"].nbytes == 10 * 200_000
    flags, _ = one(estimator="any", memory="all")
    assert flags.state_dict()["memory"]["sum"].nbytes == 16


def test_a_step_does_not_cost_more_with_a_larger_data_set():
    def allocated(size):
        difficulty = Difficulty(DifficultyConfig())
        difficulty.rows(np.arange(size))
        rows = np.arange(64)
        difficulty.observe(rows, np.full(64, 4), np.full(64, 1))
        tracemalloc.start()
        difficulty.observe(rows, np.full(64, 4), np.full(64, 1))
        difficulty.population_B()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert allocated(200_000) < 1.5 * allocated(200) + 4096
