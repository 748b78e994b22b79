"""Exact integer budgets at the size of a training step, against plain dynamic programmes."""

import numpy as np
import pytest

from gdro.core.budget import best_totals, concave, draw_totals, separable

RNG = np.random.default_rng


def pieces(count, value):
    """Value of each class at every total above its lowest, linear between its arms."""
    arms = np.arange(value.shape[1])
    return [np.interp(np.arange(c * arms[-1] + 1) / c, arms, v)
            for c, v in zip(count, value, strict=True)]  # fmt: skip


@pytest.mark.parametrize(("where", "seed"), [(0.2, 0), (0.5, 1), (0.5, 2), (0.75, 3)])
def test_best_totals_of_many_items(where, seed):
    rng, arms, first = RNG(seed), 11, 2
    count = np.array([310, 5, 480, 205])
    value = rng.normal(size=(4, arms))
    above = int(where * (arms - 1) * count.sum())
    total = best_totals(count, value, first, int(first * count.sum()) + above, rng)
    x = total - first * count
    assert x.sum() == above
    worth = pieces(count, value)
    best = np.array([0.0])
    for piece in worth:  # every class may take any total at all
        longer = np.full(min(best.size + piece.size - 1, above + 1), -np.inf)
        for t, so_far in enumerate(best):
            end = min(t + piece.size, longer.size)
            longer[t:end] = np.maximum(longer[t:end], so_far + piece[: end - t])
        best = longer
    assert sum(piece[i] for piece, i in zip(worth, x, strict=True)) == pytest.approx(best[above])


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_propensities_of_many_items(scale):
    """Shares by arm of each class, from the sums over all totals of the others."""
    rng, arms, first = RNG(0), 6, 2
    count = np.array([130, 37, 61])
    log_weight = scale * rng.normal(size=(3, arms))
    above = 400
    budget = int(first * count.sum()) + above
    total, propensity = draw_totals(count, log_weight, first, budget, rng)
    assert total.sum() == budget
    expected, mass = np.zeros((3, arms)), {}
    largest = pieces(count[:1], log_weight[:1])[0]
    for j in range(arms):
        for k in range(arms):
            x = above - 37 * j - 61 * k
            if 0 <= x < largest.size:
                mass[j, k, x] = log_weight[1, j] + log_weight[2, k] + largest[x]
    top = max(mass.values())
    whole = sum(np.exp(m - top) for m in mass.values())
    for (j, k, x), m in mass.items():
        p = np.exp(m - top) / whole
        expected[1, j] += p
        expected[2, k] += p
        arm, over = divmod(x, 130)
        expected[0, arm] += p * (1 - over / 130)
        if over:
            expected[0, arm + 1] += p * over / 130
    np.testing.assert_allclose(propensity, expected, atol=1e-9)
    np.testing.assert_allclose(propensity.sum(axis=1), 1)


@pytest.mark.parametrize("spread", [0.0, 1e-15, 0.5, 1e3])
def test_separable_of_many_items_settles_ties_by_key(spread):
    """Many costs alike, or alike to rounding: as the table of all marginals has it."""
    for seed in range(20):
        rng = RNG(seed)
        size = int(rng.integers(2, 300))
        kinds = np.array([0.25, 0.1, 0.25 * (1 + spread), 0.3])
        a, lo = kinds[rng.integers(0, 4, size)], rng.integers(1, 4, size)
        hi, key = lo + rng.integers(0, 30, size), rng.permutation(size).astype(float)
        budget = int(lo.sum() + rng.random() * (hi - lo).sum())
        step = np.arange(1.0, 34.0)
        table = concave(a[:, None] / (step * (step + 1)), 1, lo, hi, budget, rng, key)
        np.testing.assert_array_equal(separable(a, lo, hi, budget, rng, key), table)
