"""What bins and priors come from beside visits: columns, levels, rates, the population."""

import hashlib

import numpy as np
import pytest
from small_classifier import FIXED, visit

from gdro.core.config import DifficultyConfig
from gdro.core.difficulty import Difficulty
from gdro.core.errors import DataError
from gdro.core.passk import posterior_pass_at_k
from gdro.core.prior import FittedPrior


def test_fitted_prior_finds_the_population_and_lets_few_failures_call_it_hard():
    rng = np.random.default_rng(0)
    difficulty = Difficulty(DifficultyConfig())
    for _ in range(60):
        rows = difficulty.rows(rng.integers(0, 2**31, 256))
        difficulty.observe(rows, np.full(256, 4), rng.binomial(4, rng.beta(0.3, 0.6, 256)))
    metrics = difficulty.metrics()
    assert metrics["gdro/prior_a"] == pytest.approx(0.3, abs=0.05)
    assert metrics["gdro/prior_b"] == pytest.approx(0.6, abs=0.1)
    fixed = posterior_pass_at_k(1, 1 + 20, 8)
    a, b = metrics["gdro/prior_a"], metrics["gdro/prior_b"]
    assert posterior_pass_at_k(a, b + 20, 8) < 0.12 < 0.25 < fixed


@pytest.mark.parametrize("correct", [0, 1, 4])
def test_fitted_prior_stays_bounded_in_degenerate_populations(correct):
    difficulty = Difficulty(DifficultyConfig())
    rows = difficulty.rows(range(5000))
    for _ in range(8):
        visit(difficulty, rows, 4, correct)
    metrics = difficulty.metrics()
    a, b = metrics["gdro/prior_a"], metrics["gdro/prior_b"]
    assert min(a, b) > 0
    assert 0.19 < a + b < 16.1
    single = Difficulty(DifficultyConfig())
    visit(single, single.rows(range(100)), 1, 1)  # groups of one say nothing of the spread
    assert np.isfinite(single.success(np.arange(5))).all()


def test_known_rates_place_unseen_prompts_and_yield_to_evidence():
    difficulty = Difficulty(DifficultyConfig(prior_column="rate", **FIXED))
    rows = difficulty.rows(range(4))
    difficulty.set_prior(rows[:3], np.array([0.0, 0.5, 1.0]))
    bins = difficulty.bin_P(rows)
    assert bins[0] < bins[1] <= bins[2]
    assert bins[3] == -1
    a, b = difficulty.posterior(rows)
    assert a == pytest.approx([0.3, 2.3, 4.3, 0.3])
    assert b == pytest.approx([4.6, 2.6, 0.6, 0.6])
    for _ in range(12):
        visit(difficulty, rows, 4, 4)
    assert difficulty.bin_P(rows).tolist() == [9] * 4
    assert difficulty.state_dict()["rate"].itemsize == 4
    late = difficulty.rows([99])
    assert difficulty.posterior(late) == (pytest.approx([0.3]), pytest.approx([0.6]))
    with pytest.raises(DataError, match="prior_column=rate"):
        difficulty.set_prior(rows[:1], np.array([1.5]))


def test_known_rates_do_not_move_prompts_between_static_groups():
    difficulty = Difficulty(DifficultyConfig(source="random", prior_column="rate", **FIXED))
    rows = difficulty.rows(range(20))
    bins = difficulty.bin_P(rows)
    difficulty.set_prior(rows, np.linspace(0, 1, 20))
    np.testing.assert_array_equal(difficulty.bin_P(rows), bins)
    assert np.all(np.diff(difficulty.success(rows)) > 0)


def test_groups_of_a_column_are_sorted_labels():
    difficulty = Difficulty(DifficultyConfig(source="column:family"))
    assert difficulty.num_bins == 0  # not known yet
    rows = difficulty.rows(["x", "y", "z", "w"])
    difficulty.set_groups(rows[:3], ["geometry", "algebra", "geometry"])
    assert difficulty.labels == ["algebra", "geometry"]
    assert difficulty.num_bins == 2
    assert difficulty.bin_P(rows).tolist() == [1, 0, 1, -1]
    assert difficulty.population_B().tolist() == [1, 2]
    visit(difficulty, rows, 4, 0)
    assert difficulty.bin_P(rows).tolist() == [1, 0, 1, -1]  # outcomes move no one
    assert difficulty.evidence(rows)[0].tolist() == [4, 4, 4, 4]
    difficulty.set_groups(rows[3:], ["algebra"])
    assert difficulty.population_B().tolist() == [2, 2]
    with pytest.raises(DataError, match="not among the groups"):
        difficulty.set_groups(rows[3:], ["topology"])
    with pytest.raises(DataError, match="without a value"):
        difficulty.set_groups(rows[3:], [None])


def test_numbers_are_sorted_by_value():
    difficulty = Difficulty(DifficultyConfig(source="column:level"))
    difficulty.set_groups(difficulty.rows(range(3)), [10, 9, 2])
    assert difficulty.labels == ["2", "9", "10"]


def test_numbers_among_words_are_sorted_as_text():
    difficulty = Difficulty(DifficultyConfig(source="column:level"))
    difficulty.set_groups(difficulty.rows(range(4)), [10, "nine", 2, "nine"])
    assert difficulty.labels == ["10", "2", "nine"]
    difficulty.set_groups(difficulty.rows([]), [])  # none to add
    assert difficulty.population_B().tolist() == [1, 1, 2]
    assert difficulty.population_B().dtype == np.int64


def test_a_column_of_numbers_that_all_differ_is_no_column_of_groups():
    difficulty = Difficulty(DifficultyConfig(source="column:uid"))
    rows = difficulty.rows(range(32_768))
    with pytest.raises(DataError, match="has 32768 distinct values"):
        difficulty.set_groups(rows, range(32_768))
    fewer = Difficulty(DifficultyConfig(source="column:uid"))
    fewer.set_groups(fewer.rows(range(32_767)), range(32_767))
    assert fewer.bin_P(fewer.rows([32_766])) == 32_766


@pytest.mark.parametrize("source", ["online", "random", "column:family"])
def test_classes_tell_the_bins_of_prompts_with_levels(source):
    """A known level is a bin of unvisited prompts where bins are intervals, and no group."""
    difficulty = Difficulty(DifficultyConfig(source=source, level_column="level"))
    rows = difficulty.rows(range(40))
    if source.startswith("column"):
        difficulty.set_groups(rows[:30], [i % 3 for i in range(30)])
    difficulty.set_levels(rows, [i % 2 for i in range(40)])
    for _ in range(4):
        difficulty.observe(rows[:20], np.full(20, 4), np.full(20, 3))
    bin_C = difficulty.bin_C
    np.testing.assert_array_equal(bin_C[difficulty.class_P(rows)], difficulty.bin_P(rows))
    assert bin_C.max() < difficulty.num_bins


def test_random_bins_depend_on_the_id_alone():
    config = DifficultyConfig(source="random", bins=5)
    first, second = Difficulty(config), Difficulty(config)
    ids = [f"p{i}" for i in range(2000)]
    bins = first.bin_P(first.rows(ids))
    assert np.array_equal(second.bin_P(second.rows(ids[::-1]))[::-1], bins)
    for name, found in zip(ids[:50], bins[:50], strict=True):
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        assert found == int(digest, 16) % 5  # on any machine
    counts = np.bincount(bins, minlength=5)
    assert np.array_equal(counts, first.population_B())
    assert counts.min() > 330
    visit(first, first.rows(ids), 4, 4)
    assert np.array_equal(first.bin_P(first.rows(ids)), bins)


def test_unseen_prompts_start_from_their_level():
    """D4: once a level has had 16 visits, its unvisited prompts have the bin of its estimate."""
    config = DifficultyConfig(level_column="level")
    difficulty = Difficulty(config)
    ids = [f"{level}{i}" for level in ("hard", "easy", "none") for i in range(40)]
    rows = difficulty.rows(ids)
    levels = [None if i.startswith("none") else i[:4] for i in ids]
    difficulty.set_levels(rows, levels)
    rng = np.random.default_rng(0)
    rate = np.repeat([0.02, 0.7, 0.3], 40)
    first = np.r_[0:15, 40:55, 80:95]
    difficulty.observe(rows[first], np.full(45, 4), rng.binomial(4, rate[first]))
    assert (difficulty.bin_P(rows[20:40]) == -1).all(), "15 visits are not enough"
    more = np.r_[15:16, 55:60, 95:100]
    difficulty.observe(rows[more], np.full(11, 4), rng.binomial(4, rate[more]))
    hard, easy, none = (difficulty.bin_P(rows[k : k + 20]) for k in (20, 60, 100))
    assert (hard == hard[0]).all()
    assert 0 <= hard[0] <= 3
    assert (easy >= 8).all()
    assert (none == -1).all()
    assert difficulty.population_B().sum() == 56, "the unvisited are not counted"
    again = Difficulty(config)
    again.load_state_dict(difficulty.state_dict())
    np.testing.assert_array_equal(again.bin_P(rows), difficulty.bin_P(rows))
    np.testing.assert_array_equal(again.posterior(rows)[0], difficulty.posterior(rows)[0])
    assert again.bin_P(again.rows(["stranger"]))[0] == -1
    level_prior = FittedPrior(1.0, 1.0, start=2.0)
    for seen in (difficulty, again):  # the class of a prompt tells its bin
        everyone = np.arange(len(seen))
        class_P = seen.class_P(everyone)
        np.testing.assert_array_equal(seen.bin_C[class_P], seen.bin_P(everyone))
        assert len(seen.bin_C) == 10 + 1 + 2
        assert np.array_equal(class_P >= 10, seen.evidence(everyone)[0] == 0)
    some = Difficulty(config)
    rows = some.rows(range(4))
    assert some.class_P(rows).tolist() == [10] * 4
    some.set_levels(rows[:2], ["a", "b"])
    some.observe(np.zeros(16, int), np.full(16, 4), np.full(16, 4))
    assert some.bin_P(rows).tolist() == [9, -1, -1, -1], "who is not named has no level"
    level_prior.observe(np.full(16, 4), np.full(16, 4))
    some.observe(rows[:1], np.array([6]), np.array([2]))
    level_prior.observe(np.array([6]), np.array([2]))
    n, c = some.evidence(rows)
    a, b = some.posterior(rows)
    metrics = some.metrics()
    expected = [level_prior.a + c[0], *(metrics["gdro/prior_a"] + c[1:])]
    assert a == pytest.approx(expected)
    expected = [level_prior.b + n[0] - c[0], *(metrics["gdro/prior_b"] + n[1:] - c[1:])]
    assert b == pytest.approx(expected)
    with pytest.raises(DataError, match="holds no level"):
        difficulty.set_levels(rows, [None] * len(rows))


@pytest.mark.parametrize("resume", ["no", "yes", "from an older state"])
def test_levels_named_later_keep_the_numbers_of_the_first(resume):
    config = DifficultyConfig(level_column="level", **FIXED)
    parts, whole = Difficulty(config), Difficulty(config)
    labels, rows = ["m", "z", "m", "a", "z", "b"], parts.rows(range(6))
    parts.set_levels(rows[:3], labels[:3])
    whole.set_levels(whole.rows(range(6)), labels)
    first, second = np.tile([0, 1, 2], 10), np.repeat([3, 5], [16, 3])
    for seen in (parts, whole):
        visit(seen, first, 4, 1)
    if resume != "no":
        state, parts = parts.state_dict(), Difficulty(config)
        if resume != "yes":  # which did not name them
            del state["level_names"]
            parts.set_levels(parts.rows(range(3)), labels[:3])
        parts.load_state_dict(state)
    parts.set_levels(rows[3:], labels[3:])
    for seen in (parts, whole):
        visit(seen, second, 4, 3)
    np.testing.assert_array_equal(parts.posterior(rows), whole.posterior(rows))
    np.testing.assert_array_equal(parts.bin_P(rows), whole.bin_P(rows))


def test_a_column_without_levels_or_with_too_many_is_named():
    difficulty = Difficulty(DifficultyConfig(level_column="uid"))
    rows = difficulty.rows(range(40_000))
    with pytest.raises(DataError, match="level_column=uid has 40000 distinct values.* 32767"):
        difficulty.set_levels(rows, range(40_000))
    with pytest.raises(DataError, match="level_column=uid holds no level"):
        difficulty.set_levels(rows[:2], [None, float("nan")])
    difficulty.set_levels(rows[:3], ["a", float("nan"), None])
    assert difficulty.state_dict()["level"][:3].tolist() == [0, -1, -1]
    assert len(difficulty.bin_C) == 10 + 1 + 1


def test_classes_of_many_levels_beside_many_bins():
    difficulty = Difficulty(DifficultyConfig(level_column="l", bins=1000, delta=0.0004))
    rows = difficulty.rows(range(32_000))
    difficulty.set_levels(rows, [f"{i:05}" for i in range(32_000)])
    np.testing.assert_array_equal(difficulty.class_P(rows), 1001 + np.arange(32_000))
