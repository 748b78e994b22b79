"""The fitted prior against its definition, visit by visit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.passk import posterior_pass_at_k
from gdro.core.prior import FittedPrior, FixedPrior, LevelPriors

batches = st.lists(
    st.lists(st.tuples(st.integers(1, 12), st.floats(0, 1)), min_size=1, max_size=30).map(
        lambda visits: np.array([(n, round(n * share)) for n, share in visits]).T
    ),
    min_size=1,
    max_size=6,
)


def slow_fit(a, b, seen, start=16.0):
    """Beta with the first two moments of the visits, old ones weighing half after 4096."""
    moments = [(start, start * a / (a + b)), (start, start * a * (a + 1) / (a + b) / (a + b + 1))]
    for n_P, correct_P in seen:
        kept = 0.5 ** (len(n_P) / 4096)
        rates = [c / n for n, c in zip(n_P, correct_P, strict=True)]
        pairs = [c * (c - 1) / (n * (n - 1)) for n, c in zip(n_P, correct_P, strict=True) if n > 1]
        moments = [
            (kept * weight + len(new), kept * total + sum(new))
            for (weight, total), new in zip(moments, (rates, pairs), strict=True)
        ]
    mean, square = (total / weight for weight, total in moments)
    mean = min(max(mean, 0.005), 0.995)
    variance = square - mean**2
    strength = mean * (1 - mean) / variance - 1 if variance > 0 else np.inf
    strength = min(max(strength, 0.2), 16.0)
    return strength * mean, strength * (1 - mean)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.3, 0.6), (2.0, 0.5), (1.0, 9.0)])
def test_a_fit_starts_at_the_prior_it_is_given(a, b):
    prior = FittedPrior(a, b)
    assert (prior.a, prior.b) == pytest.approx((a, b))


@settings(deadline=None, max_examples=60)
@given(batches, st.sampled_from([(1.0, 1.0), (0.3, 0.6), (2.0, 0.5)]))
def test_a_fit_has_the_moments_of_the_visits(seen, start):
    prior = FittedPrior(*start)
    for n_P, correct_P in seen:
        prior.observe(n_P, correct_P)
    assert (prior.a, prior.b) == pytest.approx(slow_fit(*start, seen), rel=1e-6)
    again = FittedPrior(5.0, 5.0)
    again.load_state_dict(prior.state_dict())
    assert (again.a, again.b) == (prior.a, prior.b)


def test_old_visits_weigh_half_after_4096():
    solved = np.full(4096, 4), np.full(4096, 4)
    failed = np.full(4096, 4), np.zeros(4096, int)
    prior = FittedPrior(1.0, 1.0)
    seen = []
    for batch in (solved, failed, failed, solved):
        prior.observe(*batch)
        seen.append(batch)
        assert (prior.a, prior.b) == pytest.approx(slow_fit(1.0, 1.0, seen))


@pytest.mark.parametrize(
    ("n", "correct", "mean", "strength"),
    [
        (4, [0], 0.005, 16.0),  # none is ever right: no prior is that sure of itself
        (4, [4], 0.995, None),
        (4, [0, 4], 0.5, 0.2),  # all or nothing
        (4, [2], 0.5, 16.0),  # all alike
    ],
)
def test_a_fit_stays_within_its_bounds(n, correct, mean, strength):
    prior = FittedPrior(1.0, 1.0)
    for _ in range(20):
        prior.observe(np.full(4000, n), np.tile(correct, 4000 // len(correct)))
    assert prior.a / (prior.a + prior.b) == pytest.approx(mean, abs=1e-3)
    if strength is not None:
        assert prior.a + prior.b == pytest.approx(strength, rel=1e-6)


def test_a_fixed_prior_learns_nothing():
    prior = FixedPrior(0.3, 0.6)
    prior.observe(np.array([4, 4]), np.array([4, 0]))
    prior.load_state_dict(prior.state_dict())
    assert (prior.a, prior.b) == (0.3, 0.6)


def test_each_level_is_fitted_to_its_own_visits_and_known_after_sixteen():
    rng = np.random.default_rng(0)
    levels = LevelPriors(3, 1.0, 1.0)
    seen: dict[int, list] = {0: [], 1: [], 2: []}
    for _ in range(5):
        level_P, n_P = np.array([0, 0, 0, 1, 1, 1, 1, -1, -1]), rng.integers(1, 9, 9)
        correct_P = rng.binomial(n_P, 0.3)
        levels.observe(level_P, n_P, correct_P)
        for level in (0, 1):
            seen[level].append((n_P[level_P == level], correct_P[level_P == level]))
    a, b, known = levels.lookup(np.array([1, 0, 2, -1]))
    assert known.tolist() == [True, False, False, False]  # 20 visits, 15, none; no level
    for at, level in enumerate((1, 0, 2)):
        assert (a[at], b[at]) == pytest.approx(slow_fit(1.0, 1.0, seen[level], start=2.0))
    known, estimate = levels.estimates(8)
    assert known.tolist() == [False, True, False]
    assert estimate[[1, 0, 2]] == pytest.approx(posterior_pass_at_k(a[:3], b[:3], 8))
    levels.observe(np.array([0]), np.array([4]), np.array([1]))
    assert levels.estimates(8)[0].tolist() == [True, True, False]
    again = LevelPriors(3, 1.0, 1.0)
    again.load_state_dict(levels.state_dict())
    for priors in (levels, again):
        assert priors.lookup(np.array([0, 1, 2]))[2].tolist() == [True, True, False]
    assert again.lookup(np.array([0]))[0] == levels.lookup(np.array([0]))[0]


def test_levels_are_fitted_as_populations_of_their_own_to_the_bit():
    rng, size = np.random.default_rng(1), 30
    levels, alone = LevelPriors(size, 0.7, 1.3), [FittedPrior(0.7, 1.3, 2.0) for _ in range(size)]
    for _ in range(20):
        level_P, n_P = rng.integers(-1, size, 400), rng.integers(1, 13, 400)
        correct_P = rng.binomial(n_P, 0.4)
        levels.observe(level_P, n_P, correct_P)
        for level, prior in enumerate(alone):
            prior.observe(n_P[level_P == level], correct_P[level_P == level])
    again = LevelPriors(size, 0.7, 1.3)
    again.load_state_dict(levels.state_dict())
    for found in (levels, again):
        a, b, known = found.lookup(np.arange(size))
        assert known.all()
        assert a.tolist() == [prior.a for prior in alone]
        assert b.tolist() == [prior.b for prior in alone]


def test_levels_come_in_without_a_visit():
    levels = LevelPriors(0, 0.7, 1.3)
    levels.load_state_dict({"sums": np.array([]), "visits": np.zeros(0, np.int64)})  # as saved once
    levels.grow(1)
    levels.observe(np.zeros(16, int), np.full(16, 4), np.full(16, 1))
    before = levels.lookup(np.array([0]))
    levels.grow(3)
    a, b, known = levels.lookup(np.arange(3))
    assert (a[0], b[0], known[0]) == tuple(x[0] for x in before)
    assert (a[1:], b[1:]) == (pytest.approx([0.7, 0.7]), pytest.approx([1.3, 1.3]))
    assert known.tolist() == [True, False, False]
