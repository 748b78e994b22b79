"""Intervals: that they cover what they say, and do not degenerate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gdro.core.errors import DataError
from gdro.core.passk import bootstrap_mean, pass_at_k, wilson, wilson_of_means
from gdro.evals.compare import mcnemar, paired
from gdro.evals.score import combine, interval

K = 8
RATES = {
    "alike": lambda rng, n: np.full(n, 0.3),
    "spread": lambda rng, n: rng.beta(1, 2, n),
    "solved or not": lambda rng, n: rng.beta(0.15, 0.6, n),
    "hard": lambda rng, n: rng.beta(0.3, 5, n),
    "nearly all hopeless": lambda rng, n: np.where(rng.random(n) < 0.1, 0.5, 0.0),
}
MEANS = {"alike": 0.3, "spread": 1 / 3, "solved or not": 0.2, "hard": 0.3 / 5.3,
         "nearly all hopeless": 0.05}  # fmt: skip


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("n", [30, 40])
def test_the_interval_of_few_problems_covers_mean_at_k(kind, n):
    """Over problems and samples, both drawn anew: AIME is a draw of thirty problems."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1500):
        value = rng.binomial(K, RATES[kind](rng, n)) / K
        low, high = wilson_of_means(value, K)
        inside += low <= MEANS[kind] <= high
    assert inside / 1500 > 0.92  # of 0.95: with a heavy tail thirty are few


def test_the_bootstrap_of_few_rare_successes_does_not_cover():
    """Why there is another: the percentile bootstrap where one problem in ten is solved."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        value = rng.binomial(K, RATES["nearly all hopeless"](rng, 30)) / K
        low, high = bootstrap_mean(value, rng, resamples=300)
        inside += low <= 0.05 <= high
    assert inside / 200 < 0.93


def test_nothing_solved_is_not_certain_to_be_zero():
    none, every = np.zeros((1, 30)), np.ones((1, 30))
    for value, ends in ((none, (0, stats.norm.ppf(0.975) ** 2 / (30 + 3.8415))), (every, None)):
        found = interval(value, K)
        assert found["method"] == "wilson"
        assert found["interval"] == pytest.approx(ends or [1 - e for e in (0.1135, 0)], abs=1e-3)
    assert interval(np.zeros((1, 5000)), K)["interval"][1] > 5e-4
    assert wilson_of_means([0.25] * 30, K) == pytest.approx(wilson(7.5, 30))


@given(st.lists(st.booleans(), min_size=1, max_size=99))
def test_for_zeros_and_ones_it_is_wilsons(outcomes):
    expected = wilson(sum(outcomes), len(outcomes))
    assert wilson_of_means(np.array(outcomes, float)) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(0, K), min_size=1, max_size=60))
def test_an_interval_holds_its_mean_within_0_and_1(counts):
    value = np.array(counts) / K
    low, high = wilson_of_means(value, K)
    assert 0 <= low <= value.mean() + 1e-12
    assert value.mean() - 1e-12 <= high <= 1


@pytest.mark.parametrize("value", [[], [0.2, 1.1], [-0.1], [float("nan")]])
def test_what_is_no_rate_is_refused(value):
    with pytest.raises(DataError, match="values in"):
        wilson_of_means(value)


def test_many_problems_are_bootstrapped_and_seeds_with_them():
    rng = np.random.default_rng(0)
    rates = rng.beta(1, 2, 400)
    value = rng.binomial(K, rates, (3, 400)) / K
    one, three = interval(value[:1], K), interval(value, K)
    assert one["method"] == three["method"] == "bootstrap"
    error = value[0].std() / 20
    assert one["interval"][0] == pytest.approx(value[0].mean() - 1.96 * error, abs=0.2 * error)
    apart = [value[:1] + offset for offset in (0.0, 0.1, 0.2)]  # seeds that disagree
    wide = bootstrap_mean(np.vstack(apart), np.random.default_rng(0))
    assert wide[1] - wide[0] > 2 * (three["interval"][1] - three["interval"][0])
    alone = np.random.default_rng(0), np.random.default_rng(0)
    assert bootstrap_mean(value[:1], alone[0]) == bootstrap_mean(value[0], alone[1])


def test_a_sum_of_scores_has_the_interval_of_independent_parts():
    part = {"value": 0.4, "interval": [0.3, 0.6], "method": "wilson"}
    assert combine([(1.0, part)])["interval"] == pytest.approx([0.3, 0.6])
    both = combine([(0.5, part), (0.5, part)])
    assert both["interval"] == pytest.approx([0.4 - 0.1 / 2**0.5, 0.4 + 0.2 / 2**0.5])


@pytest.mark.parametrize("n", [30, 60])
@pytest.mark.parametrize("gain", [0.0, 0.2])
def test_the_interval_of_a_paired_difference_covers(n, gain):
    rng = np.random.default_rng(1)
    inside = {"mean": 0, "pass": 0}
    grid = stats.beta.ppf((np.arange(4000) + 0.5) / 4000, 0.4, 0.8)
    truth = np.mean((1 - grid) ** K - ((1 - grid) * (1 - gain)) ** K)
    for _ in range(400):
        p = rng.beta(0.4, 0.8, n)
        q = p + gain * (1 - p)
        a, b = rng.binomial(K, p), rng.binomial(K, q)
        line = paired(a[None] / K, b[None] / K, K)
        assert line["method"] == "newcombe"
        inside["mean"] += line["interval"][0] <= gain * 2 / 3 <= line["interval"][1]
        passed = [pass_at_k(K, c, K)[None] for c in (a, b)]
        line = paired(*passed, 1)
        inside["pass"] += line["interval"][0] <= truth <= line["interval"][1]
    assert min(inside.values()) / 400 > 0.92


def test_two_that_agree_everywhere_are_not_proven_equal():
    for rate in (0.0, 0.5, 1.0):
        value = (np.arange(30) < 30 * rate).astype(float)[None]
        line = paired(value, value, 1)
        assert line["difference"] == 0
        assert line["interval"][0] < -0.02
        assert line["interval"][1] > 0.02


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 0), (1, 9), (12, 12), (40, 21)])
def test_mcnemar_is_the_binomial_test_of_those_that_differ(only_a, only_b):
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    found = mcnemar(only_a, only_b)
    assert found == {"only_a": only_a, "only_b": only_b, "p": pytest.approx(expected)}
