"""pass@k against enumeration, integration and simulation."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from gdro.core import passk
from gdro.core.errors import DataError


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_unbiased_is_the_share_of_subsets_with_a_success(n):
    for k in range(1, n + 1):
        for c in range(n + 1):
            rollouts = [1] * c + [0] * (n - c)
            subsets = list(itertools.combinations(rollouts, k))
            expected = sum(any(s) for s in subsets) / len(subsets)
            assert passk.pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-14)


def test_unbiased_is_unbiased_and_vectorised():
    n, k, p = 10, 4, 0.2
    c = np.arange(n + 1)
    expectation = stats.binom.pmf(c, n, p) @ passk.pass_at_k(n, c, k)
    assert expectation == pytest.approx(1 - (1 - p) ** k, abs=1e-12)
    assert passk.pass_at_k(np.full((2, 3), 8), np.zeros((2, 3)), 8).shape == (2, 3)


def test_too_few_rollouts_and_impossible_counts_are_errors():
    with pytest.raises(DataError, match="at least 8"):
        passk.pass_at_k([8, 7], [0, 0], 8)
    with pytest.raises(DataError, match="between 0"):
        passk.pass_at_k(8, 9, 8)
    with pytest.raises(DataError, match="at least 1"):
        passk.mean_at_k(0, 0)
    assert passk.mean_at_k([4, 8], [1, 8]).tolist() == [0.25, 1.0]


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.6), (2.5, 17.25), (1, 1), (30.2, 0.4)])
@pytest.mark.parametrize("k", [1, 8, 37])
def test_posterior_mean_is_the_integral(a, b, k):
    # in u = F(p), the integrand is bounded even where the density is not
    expected, _ = integrate.quad(
        lambda u: 1 - (1 - stats.beta.ppf(u, a, b)) ** k, 0, 1, limit=200, epsabs=1e-10
    )
    assert passk.posterior_pass_at_k(a, b, k) == pytest.approx(expected, abs=1e-7)


def test_posterior_mean_keeps_precision_where_success_is_rare():
    assert passk.posterior_pass_at_k(1e-14, 100.0, 1) == pytest.approx(1e-16, rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0.3, 5.0), (4.0, 4.0), (9.0, 3.0)])
def test_credible_interval_holds_its_mass(a, b):
    rng = np.random.default_rng(0)
    draws = 1 - (1 - rng.beta(a, b, 200_000)) ** 8
    low, high = passk.posterior_pass_at_k_interval(a, b, 8, 0.8)
    assert np.mean(draws < low) == pytest.approx(0.1, abs=0.01)
    assert np.mean(draws > high) == pytest.approx(0.1, abs=0.01)


def test_wilson_solves_its_equation_and_stays_inside():
    c, n, z = np.array([0, 1, 7, 10]), 10, stats.norm.ppf(0.975)
    for end in passk.wilson(c, n):
        inner = (end > 0) & (end < 1)
        score = (c / n - end) ** 2 - z**2 * end * (1 - end) / n
        assert np.allclose(score[inner], 0, atol=1e-12)
        assert np.all((end >= 0) & (end <= 1))


def test_bootstrap_resamples_prompts_and_repeats_by_seed():
    value = np.random.default_rng(0).normal(0.5, 0.2, 400)
    low, high = passk.bootstrap_mean(value, np.random.default_rng(1))
    error = value.std() / 20
    assert low == pytest.approx(value.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(value.mean() + 1.96 * error, abs=0.2 * error)
    assert (low, high) == passk.bootstrap_mean(value, np.random.default_rng(1))
    with pytest.raises(DataError):
        passk.bootstrap_mean([], np.random.default_rng(0))
