"""Exact integer budgets, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.budget import best_totals, check_feasible, concave, draw_totals, separable
from gdro.core.errors import BudgetError

RNG = np.random.default_rng


@st.composite
def boxes(draw, most_items=4, most=6):
    """Bounds of a few items and a budget between their sums."""
    size = draw(st.integers(1, most_items))
    lo = [draw(st.integers(1, most)) for _ in range(size)]
    hi = [draw(st.integers(low, most)) for low in lo]
    return np.array(lo), np.array(hi), draw(st.integers(sum(lo), sum(hi)))


def every(lo, hi, budget):
    """All counts within the bounds that meet the budget."""
    ranges = [range(a, b + 1) for a, b in zip(lo, hi, strict=True)]
    return [np.array(n) for n in itertools.product(*ranges) if sum(n) == budget]


@settings(max_examples=300, deadline=None)
@given(boxes(), st.data())
def test_separable_is_the_integer_optimum(box, data):
    lo, hi, budget = box
    a = np.array([data.draw(st.sampled_from([0.0, 1e-9, 0.1, 0.25, 1.0, 3.0])) for _ in lo])
    n = separable(a, lo, hi, budget, RNG(0))
    assert n.sum() == budget
    assert np.all((lo <= n) & (n <= hi))
    least = min((a / m).sum() for m in every(lo, hi, budget))
    assert (a / n).sum() == pytest.approx(least, rel=1e-9)


@settings(max_examples=300, deadline=None)
@given(boxes(), st.integers(0, 2**32 - 1))
def test_concave_is_the_integer_optimum(box, seed):
    lo, hi, budget = box
    marginal = -np.sort(-RNG(seed).integers(-3, 4, (lo.size, 5)), axis=1).astype(float)
    gain = np.concatenate([np.zeros((lo.size, 1)), marginal.cumsum(axis=1)], axis=1)
    n = concave(marginal, 1, lo, hi, budget, RNG(0))
    assert n.sum() == budget
    assert np.all((lo <= n) & (n <= hi))

    def worth(m):
        return gain[np.arange(lo.size), m - 1].sum()

    assert worth(n) == max(map(worth, every(lo, hi, budget)))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_any_feasible_budget_is_met_and_order_does_not_matter(size, seed, where):
    rng = RNG(seed)
    a = rng.choice([0, 1e-200, 0.1, 0.2, 0.3, 1e100], size)  # many ties, a huge range
    lo = rng.integers(1, 4, size)
    hi = lo + rng.integers(0, 20, size)
    budget = int(lo.sum() + where * (hi - lo).sum())
    key = rng.permutation(size).astype(float)
    n = separable(a, lo, hi, budget, RNG(1), key)
    assert n.sum() == budget
    assert np.all((lo <= n) & (n <= hi))
    order = rng.permutation(size)
    again = separable(a[order], lo[order], hi[order], budget, RNG(2), key[order])
    np.testing.assert_array_equal(again, n[order])
    marginal = -1 / np.arange(1.0, 24) - -1 / np.arange(2.0, 25)
    both = [
        concave(x[:, None] * -marginal, 1, low, high, budget, RNG(3), k)
        for x, low, high, k in ((a, lo, hi, key), (a[order], lo[order], hi[order], key[order]))
    ]
    assert both[0].sum() == budget
    np.testing.assert_array_equal(both[1], both[0][order])


def test_separable_at_scale_agrees_with_the_marginal_table():
    rng = RNG(0)
    a, lo, hi = rng.beta(0.3, 1, 2000), np.full(2000, 2), np.full(2000, 24)
    step = np.arange(2, 24)
    for budget in (4000, 4001, 9000, 16_000, 40_000, 47_999, 48_000):
        table = concave(a[:, None] / (step * (step + 1)), 2, lo, hi, budget, rng)
        np.testing.assert_array_equal(separable(a, lo, hi, budget, rng), table)


def test_ties_go_to_the_greatest_key_then_by_lot():
    lo, hi, a = np.full(4, 2), np.full(4, 9), np.array([0.1 + 0.2, 0.3, 0.3, 0.1])
    key = np.array([0.0, 2.0, 1.0, 9.0])
    # .1 + .2 is not .3 in binary, and is meant to be.
    assert separable(a, lo, hi, 9, RNG(0), key).tolist() == [2, 3, 2, 2]
    assert separable(a, lo, hi, 10, RNG(0), key).tolist() == [2, 3, 3, 2]
    drawn = sum(separable(np.ones(4), lo, hi, 9, RNG(seed)) - 2 for seed in range(400))
    assert np.all(np.abs(drawn - 100) < 40)


def test_items_without_cost_share_the_rest_evenly():
    n = separable(np.array([1.0, 0, 0, 0]), np.full(4, 1), np.array([3, 9, 9, 2]), 14, RNG(0))
    assert n.tolist() in ([3, 5, 4, 2], [3, 4, 5, 2])
    assert separable(np.zeros(3), np.ones(3, int), np.full(3, 9), 12, RNG(0)).tolist() == [4] * 3


def test_infeasible_names_items_bounds_and_budget():
    lo, hi = np.full(5, 2), np.full(5, 12)
    for budget in (9, 61):
        with pytest.raises(BudgetError, match=rf"5 items .* 2\.\.12 .* 10\.\.60.* {budget}"):
            check_feasible(lo, hi, budget)
        with pytest.raises(BudgetError):
            separable(np.ones(5), lo, hi, budget, RNG(0))
        with pytest.raises(BudgetError):
            concave(np.ones((5, 12)), 1, lo, hi, budget, RNG(0))
        with pytest.raises(BudgetError):
            best_totals(np.array([2, 3]), np.zeros((2, 11)), 2, budget, RNG(0))
        with pytest.raises(BudgetError):
            draw_totals(np.array([2, 3]), np.zeros((2, 11)), 2, budget, RNG(0))
    with pytest.raises(BudgetError):
        check_feasible(np.array([3, 1]), np.array([2, 5]), 5)


def worth(count, value, first, total):
    """Summed value of the classes' totals, interpolated between arms."""
    arms = first + np.arange(value.shape[1])
    return sum(np.interp(t / c, arms, v) for c, v, t in zip(count, value, total, strict=True) if c)


@st.composite
def classes(draw):
    """Item counts of a few classes, a first arm, a number of arms, and a feasible budget."""
    count = np.array(draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)))
    first, arms = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    low = int(first * count.sum())
    return count, first, arms, draw(st.integers(low, low + int((arms - 1) * count.sum())))


def totals(count, first, arms, budget):
    return every(first * count, (first + arms - 1) * count, budget)


@settings(max_examples=300, deadline=None)
@given(classes(), st.integers(0, 2**32 - 1))
def test_best_totals_is_the_optimum_and_its_second_table_decides_ties(problem, seed):
    count, first, arms, budget = problem
    rng = RNG(seed)
    value = rng.integers(0, 3, (count.size, arms)).astype(float)  # many ties, not concave
    tie = rng.normal(size=(count.size, arms))
    total = best_totals(count, value, first, budget, rng, tie)
    assert total.sum() == budget
    assert np.all((first * count <= total) & (total <= (first + arms - 1) * count))
    split = [c and t % c != 0 for c, t in zip(count, total, strict=True)]
    assert sum(split) <= 1
    all_totals = totals(count, first, arms, budget)
    values = np.array([worth(count, value, first, t) for t in all_totals])
    assert worth(count, value, first, total) == pytest.approx(values.max(), abs=1e-9)
    optima = [t for t, v in zip(all_totals, values, strict=True) if v > values.max() - 1e-9]
    best_tie = max(worth(count, tie, first, t) for t in optima)
    assert worth(count, tie, first, total) == pytest.approx(best_tie, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_permuting_the_classes_permutes_the_totals(size, seed):
    rng = RNG(seed)
    count, value = rng.integers(1, 30, size), rng.normal(size=(size, 6))
    budget = int(count.sum() * 2 + rng.integers(0, count.sum() * 5))
    order = rng.permutation(size)
    total = best_totals(count, value, 2, budget, RNG(0))
    np.testing.assert_array_equal(
        best_totals(count[order], value[order], 2, budget, RNG(1)), total[order]
    )
    # All tied: the second table alone decides, whatever the order (but for lots at its own ties).
    tie = -count[:, None] * rng.random((size, 1)) / np.arange(2, 8)
    none = np.zeros_like(value)
    total = best_totals(count, none, 2, budget, RNG(0), tie)
    again = best_totals(count[order], none, 2, budget, RNG(1), tie[order])
    expected = worth(count, tie, 2, total)
    assert worth(count[order], tie[order], 2, again) == pytest.approx(expected, rel=1e-4)


def test_budget_is_met_where_one_count_per_class_cannot():
    for count, first, budget in (([4, 6], 2, 27), ([3, 5], 2, 23), ([1, 7, 7], 2, 46)):
        count = np.array(count)
        value = RNG(0).normal(size=(count.size, 11))
        assert best_totals(count, value, first, budget, RNG(0)).sum() == budget
        assert draw_totals(count, value, first, budget, RNG(0))[0].sum() == budget


def joint_distribution(count, log_weight, first, budget):
    """Probability of each joint choice: whole arms, but the last class takes the rest."""
    arms = log_weight.shape[1]
    found = {}
    for choice in itertools.product(range(arms), repeat=count.size - 1):
        x = budget - first * count.sum() - count[:-1] @ np.array(choice, dtype=int)
        if 0 <= x <= (arms - 1) * count[-1]:
            log_p = sum(w[j] for w, j in zip(log_weight, choice, strict=False))
            log_p += np.interp(x / count[-1], np.arange(arms), log_weight[-1])
            found[(*(c * (first + j) for c, j in zip(count, choice, strict=False)),
                   int(first * count[-1] + x))] = log_p  # fmt: skip
    log_p = np.array(list(found.values()))
    p = np.exp(log_p - log_p.max())
    return dict(zip(found, p / p.sum(), strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 1e4]))
def test_propensities_are_the_exact_expected_shares(seed, scale):
    rng = RNG(seed)
    count = np.sort(rng.integers(1, 5, rng.integers(1, 5)))
    count[-1] += 1  # one largest class
    arms, first = int(rng.integers(1, 5)), 2
    log_weight = scale * rng.normal(size=(count.size, arms))
    budget = int(first * count.sum() + rng.integers(0, (arms - 1) * count.sum() + 1))
    total, propensity = draw_totals(count, log_weight, first, budget, rng)
    exact = joint_distribution(count, log_weight, first, budget)
    assert exact[tuple(total.tolist())] > 0
    expected = np.zeros_like(propensity)
    for choice, p in exact.items():
        for b, (c, t) in enumerate(zip(count, choice, strict=True)):
            j, over = divmod(t - first * c, c)
            expected[b, j] += p * (1 - over / c)
            if over:
                expected[b, j + 1] += p * over / c
    np.testing.assert_allclose(propensity, expected, atol=1e-9)


def test_draws_follow_the_distribution_given_the_budget():
    count, log_weight = np.array([2, 3, 4]), np.array([[0, 1.0, -1], [0.5, 0, 0.5], [0, -1.0, 1]])
    exact = joint_distribution(count, log_weight, 2, 27)
    rng, draws = RNG(0), 3000
    found = dict.fromkeys(exact, 0)
    for _ in range(draws):
        found[tuple(draw_totals(count, log_weight, 2, 27, rng)[0].tolist())] += 1
    chi2 = sum((found[k] - draws * p) ** 2 / (draws * p) for k, p in exact.items())
    assert chi2 < len(exact) + 5 * np.sqrt(2 * len(exact))
