"""Bootstraps and crossings, against the loop and by hand."""

import numpy as np
import pytest

from gdro.lab.stats import bootstrap_means, first_reach, reach_of_mean


def test_the_bootstrap_is_the_normal_interval_and_the_loop():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 2))
    low, high = bootstrap_means(values)
    half = 1.96 * values.std(axis=0) / 20
    assert low == pytest.approx(values.mean(axis=0) - half, abs=0.05 * half.max())
    assert high == pytest.approx(values.mean(axis=0) + half, abs=0.05 * half.max())
    few = values[:7]
    means = [few[rng.integers(7, size=7)].mean(axis=0) for _ in range(20_000)]
    ends = np.quantile(means, (0.025, 0.975), axis=0)
    assert np.array(bootstrap_means(few)) == pytest.approx(ends, abs=0.03)


def test_where_a_curve_first_reaches_its_target():
    x = np.array([0.0, 10, 20, 30])
    y = np.array([[0.1, 0.3, 0.2, 0.5], [0.1, 0.1, 0.1, 0.1], [0.4, 0.1, 0.1, 0.1]])
    assert first_reach(x, y, np.array([0.2, 0.2, 0.2])) == pytest.approx([5.0, np.inf, 0.0])
    assert first_reach(x, y[:1], np.array([0.4])) == pytest.approx([20 + 10 * 2 / 3])


def test_the_interval_of_a_crossing_comes_from_resampled_seeds():
    """Lines through the origin: the mean line of a resample crosses at 1 / its mean slope."""
    slopes = np.array([0.8, 1.0, 1.3, 0.9])
    x = np.linspace(0, 2, 5)
    point, low, high = reach_of_mean(x, slopes[:, None] * x, np.ones(4))
    assert point == pytest.approx(1 / slopes.mean())
    rng = np.random.default_rng(1)
    drawn = [1 / slopes[rng.integers(4, size=4)].mean() for _ in range(20_000)]
    assert (low, high) == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.02)
    assert reach_of_mean(x, 0 * slopes[:, None] * x, np.ones(4)) == (np.inf, np.inf, np.inf)
