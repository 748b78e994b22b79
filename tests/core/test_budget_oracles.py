"""Exact integer budgets against every small case, a MILP solver, and their own invariants."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from gdro.core.budget import best_totals, concave, draw, draw_totals, separable

RNG = np.random.default_rng


def boxes(size, most):
    """All bounds 1 <= lo <= hi <= most of `size` items, and every budget between their sums."""
    pairs = [(lo, hi) for lo in range(1, most + 1) for hi in range(lo, most + 1)]
    for chosen in itertools.combinations_with_replacement(pairs, size):
        lo, hi = np.array(chosen).T
        for budget in range(lo.sum(), hi.sum() + 1):
            yield lo, hi, budget


def every(lo, hi, budget):
    """All counts within the bounds that meet the budget, one a row."""
    grid = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(lo, hi, strict=True)), indexing="ij")
    n = np.stack([g.ravel() for g in grid], axis=1)
    return n[n.sum(axis=1) == budget]


def test_items_on_all_small_cases():
    for size in (1, 2, 3):
        costs = [np.array(a) for a in itertools.product([0.0, 1.0, 3.0], repeat=size)]
        gain = RNG(size).integers(-2, 3, (size, 3)).astype(float)
        gain = -np.sort(-gain, axis=1)
        worth = np.concatenate([np.zeros((size, 1)), gain.cumsum(axis=1)], axis=1)
        for lo, hi, budget in boxes(size, 4 if size < 3 else 3):
            choices = every(lo, hi, budget)
            for a in costs:
                n = separable(a, lo, hi, budget, RNG(0))
                assert n.sum() == budget
                assert np.all((lo <= n) & (n <= hi))
                assert (a / n).sum() == pytest.approx((a / choices).sum(axis=1).min(), rel=1e-12)
            n = concave(gain, 1, lo, hi, budget, RNG(0))
            assert n.sum() == budget
            assert np.all((lo <= n) & (n <= hi))
            items = np.arange(size)
            assert worth[items, n - 1].sum() == worth[items, choices - 1].sum(axis=1).max()


def value_of(count, value, first, total):
    """Summed value of the classes' totals, interpolated between arms; totals one a row."""
    arms = first + np.arange(value.shape[1])
    held = np.flatnonzero(count)
    return sum(np.interp(total[..., b] / count[b], arms, value[b]) for b in held)


def test_classes_on_all_small_cases():
    """Also those where some class must be split: every sum of totals is a budget."""
    rng, split = RNG(0), 0
    for size, arms in itertools.product((1, 2, 3), (1, 2, 3)):
        for count in itertools.product(range(5), repeat=size):
            count = np.array(count)
            value = rng.integers(0, 3, (size, arms)).astype(float)
            low, high = 2 * count, (2 + arms - 1) * count
            for budget in range(low.sum(), high.sum() + 1):
                total = best_totals(count, value, 2, budget, rng)
                assert total.sum() == budget
                assert np.all((low <= total) & (total <= high))
                best = np.max(value_of(count, value, 2, every(low, high, budget)))
                assert value_of(count, value, 2, total) == pytest.approx(best, abs=1e-9)
                split += np.any(total % np.maximum(count, 1))
    assert split > 100


@pytest.mark.parametrize("seed", range(8))
def test_items_against_a_milp_solver(seed):
    rng = RNG(seed)
    size, most = 40, 16
    lo, hi = rng.integers(1, 5, size), rng.integers(5, most + 1, size)
    a = rng.beta(0.3, 1, size)
    step = np.arange(1, most)
    budget = int(rng.integers(lo.sum(), hi.sum()))
    for cost in (a[:, None] / (step * (step + 1)), -np.sort(-rng.normal(size=(size, 15)), axis=1)):
        rest = budget - lo.sum()
        usable = (step >= lo[:, None]) & (step < hi[:, None])
        found = milp(
            -cost.ravel(),
            integrality=np.ones(cost.size),
            bounds=Bounds(0, usable.ravel().astype(float)),
            constraints=LinearConstraint(np.ones((1, cost.size)), rest, rest),
        )
        n = concave(cost, 1, lo, hi, budget, rng)
        taken = usable & (step < n[:, None])
        assert cost[taken].sum() == pytest.approx(-found.fun, rel=1e-9)
        if cost[0, 0] == a[0] / 2:
            m = separable(a, lo, hi, budget, rng)
            assert (a / m).sum() == pytest.approx((a / lo).sum() + found.fun, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_classes_against_a_milp_solver(seed):
    """Items y of class b at arm j; the binaries u name the two neighbouring arms in use."""
    rng = RNG(seed)
    size, arms, first = 6, 7, 2
    count, value = rng.integers(1, 40, size), rng.normal(size=(size, arms))
    budget = int(first * count.sum() + rng.integers(1, (arms - 1) * count.sum()))
    cells, segments = size * arms, size * (arms - 1)
    of_class = np.kron(np.eye(size), np.ones(arms))
    of_segment = np.kron(np.eye(size), np.ones(arms - 1))
    touch = np.zeros((cells, segments))
    for b, j, end in itertools.product(range(size), range(arms - 1), (0, 1)):
        touch[b * arms + j + end, b * (arms - 1) + j] = count[b]
    none = np.zeros((size, segments))
    arm = np.tile(first + np.arange(arms), size)
    found = milp(
        -np.r_[(value / count[:, None]).ravel(), np.zeros(segments)],
        integrality=np.ones(cells + segments),
        bounds=Bounds(0, np.r_[np.repeat(count, arms), np.ones(segments)]),
        constraints=[
            LinearConstraint(np.c_[of_class, none], count, count),
            LinearConstraint(np.c_[np.zeros((size, cells)), of_segment], 1, 1),
            LinearConstraint(np.c_[np.eye(cells), -touch], -np.inf, 0),
            LinearConstraint(np.r_[arm, np.zeros(segments)][None], budget, budget),
        ],
        options={"mip_rel_gap": 0},
    )
    total = best_totals(count, value, first, budget, rng)
    assert total.sum() == budget
    assert value_of(count, value, first, total) == pytest.approx(-found.fun, rel=1e-7)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 3))
def test_no_exchange_of_one_unit_helps(size, seed, where, spread):
    rng = RNG(seed)
    a = np.exp(spread * rng.normal(size=size)) * rng.choice([1, 1, 1, 0], size)
    lo = rng.integers(1, 4, size)
    hi = lo + rng.integers(0, 30, size)
    budget = int(lo.sum() + where * (hi - lo).sum())
    n = separable(a, lo, hi, budget, rng)
    assert n.sum() == budget
    assert np.all((lo <= n) & (n <= hi))
    gain = np.max((a / (n * (n + 1)))[n < hi], initial=0)
    loss = np.min((a / (np.maximum(n - 1, 1) * n))[n > lo], initial=np.inf)
    assert gain <= loss * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_permuting_items_permutes_the_answer_up_to_the_lots(size, seed, where):
    """Equal costs with keys in common: what is left to the lot keeps cost and keys."""
    rng = RNG(seed)
    a, key = rng.choice([0.0, 0.5, 0.5, 1.0], size), rng.integers(0, 2, size).astype(float)
    lo, hi = np.full(size, 2), np.full(size, 7)
    budget = int(lo.sum() + where * (hi - lo).sum())
    order = rng.permutation(size)
    marginal = a[:, None] / (np.arange(1, 8) * np.arange(2, 9))

    def alike(n, m):
        assert sorted(zip(a, key, n, strict=True)) == sorted(
            zip(a[order], key[order], m, strict=True)
        )

    alike(separable(a, lo, hi, budget, RNG(0), key),
          separable(a[order], lo, hi, budget, RNG(1), key[order]))  # fmt: skip
    alike(concave(marginal, 1, lo, hi, budget, RNG(0), key),
          concave(marginal[order], 1, lo, hi, budget, RNG(1), key[order]))  # fmt: skip


def test_last_the_generator_breaks_ties_and_a_seed_repeats_it():
    lo, hi, count = np.full(5, 2), np.full(5, 6), np.full(3, 4)
    level = np.zeros((5, 6))
    found = [set(), set(), set()]
    for seed in range(60):
        for one, make in zip(found, (
            lambda rng: separable(np.ones(5), lo, hi, 12, rng),
            lambda rng: concave(level, 1, lo, hi, 12, rng),
            lambda rng: best_totals(count, np.zeros((3, 4)), 2, 28, rng),
        ), strict=True):  # fmt: skip
            n = make(RNG(seed))
            np.testing.assert_array_equal(n, make(RNG(seed)))
            one.add(tuple(n.tolist()))
    assert found[0] == found[1] == set(itertools.permutations([2, 2, 2, 3, 3]))
    assert found[2] == set(itertools.permutations([8, 8, 12]))


# --- draws


def joint(count, log_weight, first, budget):
    """Probability of each joint choice: whole arms, but the last class takes the rest."""
    arms, found = log_weight.shape[1], {}
    for choice in itertools.product(range(arms), repeat=count.size - 1):
        x = budget - first * int(count.sum()) - int(count[:-1] @ np.array(choice, dtype=int))
        if 0 <= x <= (arms - 1) * count[-1]:
            log_p = sum(w[j] for w, j in zip(log_weight, choice, strict=False))
            log_p += np.interp(x / count[-1], np.arange(arms), log_weight[-1])
            found[(*choice, x / count[-1])] = log_p
    top = max(found.values())
    whole = sum(np.exp(v - top) for v in found.values())
    return {choice: np.exp(v - top) / whole for choice, v in found.items()}


def test_draws_are_right_for_every_budget_whatever_the_range_of_the_weights():
    """Levels hundreds or thousands apart: what the budget leaves is far beyond the floats' range.

    A class that gives its first arm all its weight takes others where the budget demands them.
    """
    count = np.array([2, 3, 4])
    for scale, steep in itertools.product((0.1, 5.0, 300.0, 5000.0), (0.0, 1.0, -1.0)):
        rng = RNG(7)
        log_weight = scale * (rng.normal(size=(3, 4)) + 2 * steep * np.arange(4))
        for budget in range(18, 46):
            exact = joint(count, log_weight, 2, budget)
            expected = np.zeros((3, 4))
            for choice, p in exact.items():
                for b, j in enumerate(choice):
                    expected[b, int(j)] += p * (1 - j % 1)
                    if j % 1:
                        expected[b, int(j) + 1] += p * (j % 1)
            drawn, propensity = draw_totals(count, log_weight, 2, budget, rng)
            assert drawn.sum() == budget
            np.testing.assert_allclose(propensity, expected, atol=1e-9)
            assert exact[tuple(drawn / count - 2)] > 1e-12


def test_draws_follow_the_joint_distribution():
    count = np.array([2, 3, 4])
    for scale, budget in itertools.product((0.5, 2.0), (22, 27, 33)):
        log_weight = scale * RNG(1).normal(size=(3, 4))
        exact, draws = joint(count, log_weight, 2, budget), 2000
        rng, found = RNG(0), dict.fromkeys(exact, 0)
        for _ in range(draws):
            total = draw_totals(count, log_weight, 2, budget, rng)[0]
            found[tuple(total / count - 2)] += 1
        chi2 = sum((found[k] - draws * p) ** 2 / (draws * p) for k, p in exact.items())
        assert chi2 < len(exact) + 5 * np.sqrt(2 * len(exact))


@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_probabilities_and_logarithms_draw_the_same(scale, monkeypatch):
    """At a size where the two ways part first, if they do."""
    rng = RNG(0)
    count, log_weight = rng.integers(300, 500, 10), scale * rng.normal(size=(10, 23))
    budget = 8 * int(count.sum())
    plain = [draw_totals(count, log_weight, 2, budget, RNG(seed)) for seed in range(3)]
    monkeypatch.setattr(draw, "_FAINT", np.inf)
    for seed, (total, propensity) in enumerate(plain):
        again, log_propensity = draw_totals(count, log_weight, 2, budget, RNG(seed))
        np.testing.assert_array_equal(total, again)
        np.testing.assert_allclose(propensity, log_propensity, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(propensity.sum(axis=1), 1)
