"""Allocators: exact budgets, closed forms, the faults of the released code (method section 8)."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln
from tests.core.allocate.batches import (
    NAMES,
    RNG,
    config,
    feedback,
    make_allocator,
    make_batch,
    setting,
)

from gdro.core.allocate.signal import Signal, signal_marginals
from gdro.core.errors import BudgetError, ConfigError, DataError
from gdro.core.theory import price_form
from gdro.core.variance import advantage_variance


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(NAMES), st.integers(1, 60), st.integers(0, 2**32 - 1), st.floats(0, 1),
    st.sampled_from(["argmax", "sample"]), st.sampled_from(["reward", "score"]),
    st.sampled_from([4, 4.5]),
)  # fmt: skip
def test_every_allocator_meets_any_feasible_budget_within_the_bounds(
    name, size, seed, where, choice, proxy, mean
):
    rng = RNG(seed)
    p = rng.choice([0.0, 0.5, 1.0, rng.random()], size)
    bins = rng.integers(-1, 10, size)
    batch = make_batch(p, bins, mean=mean)
    low, high = int(batch.lo_P.sum()), int(batch.hi_P.sum())
    budget = int(low + where * (high - low))
    batch = make_batch(p, bins, mean=mean, budget=budget)
    allocator = make_allocator(config(allocator=name, choice=choice, proxy=proxy), 10, mean, True)
    for _ in range(2):
        n = allocator.allocate(batch, rng)
        assert n.dtype == np.int64
        assert n.sum() == budget
        assert np.all((batch.lo_P <= n) & (n <= batch.hi_P))
        correct = rng.binomial(n, p)
        loss = rng.normal(size=size)
        allocator.observe(feedback(bins, n, correct, loss_P=loss,
                                   propensity_P=allocator.propensity_P))  # fmt: skip
    with pytest.raises(BudgetError, match=f"budget is {high + 1}"):
        allocator.allocate(make_batch(p, bins, mean=mean, budget=high + 1), rng)


@pytest.mark.parametrize("name", NAMES)
def test_one_arm_leaves_no_choice(name):
    batch = make_batch([0.1, 0.9, 0.5], n_min=4, n_max=4)
    allocator = make_allocator(config(allocator=name, n_min=4, n_max=4), 10, 4, True)
    assert allocator.allocate(batch, RNG(0)).tolist() == [4, 4, 4]


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_allocation(name):
    batch = make_batch(RNG(1).random(50), budget=203)
    a, b = (make_allocator(config(allocator=name), 10, 4, True).allocate(batch, RNG(5))
            for _ in range(2))  # fmt: skip
    np.testing.assert_array_equal(a, b)


def test_uniform_counts_differ_by_at_most_one_and_the_extra_is_drawn():
    batch = make_batch(np.linspace(0, 1, 10), budget=43)
    allocator = make_allocator(config(allocator="uniform"), 10, 4.3, True)
    drawn = [allocator.allocate(batch, RNG(seed)) for seed in range(300)]
    assert set(np.concatenate(drawn)) == {4, 5}
    assert np.all(np.abs(np.mean(drawn, axis=0) - 4.3) < 0.12)


def test_hard_first_is_the_power_law_in_the_continuous_limit():
    p = RNG(0).random(50)
    for power in (0.0, 1.0, 2.0):
        batch = make_batch(p, n_max=100_000, budget=1_000_000)
        n = make_allocator(config(power=power), 10, 4, True).allocate(batch, RNG(0))
        share = (1 - p) ** power
        inner = (n > 2) & (n < 100_000)
        scale = n[inner].sum() / share[inner].sum()
        np.testing.assert_allclose(n[inner], scale * share[inner], atol=1.01)
    assert np.all(np.diff(n[np.argsort(p)]) <= 0)


def test_neyman_is_the_square_root_law_with_weights():
    p, w = RNG(0).uniform(0.05, 0.95, 40), RNG(1).uniform(0.2, 5, 40)
    batch = make_batch(p, n_max=100_000, budget=400_000, weight_P=w)
    n = make_allocator(config(allocator="neyman", n_max=4096), 10, 4, False).allocate(batch, RNG(0))
    law = w * np.sqrt(p * (1 - p))
    np.testing.assert_allclose(n, 400_000 * law / law.sum(), atol=1.01)  # Eq. 30, D18


def test_neyman_takes_the_variance_that_belongs_to_the_estimator():
    p, bins = np.array([0.02, 0.5, 0.3, 0.3]), np.array([0, 1, 2, -1])
    variance = np.linspace(0.3, 3, 10)
    batch = make_batch(p, bins, n_max=100_000, budget=100_004, variance_B=variance)

    def ratio(std_scaled, **fields):
        allocator = make_allocator(config(allocator="neyman", **fields), 10, 4, std_scaled)
        n = allocator.allocate(batch, RNG(0))
        assert n[3] == 4
        return (n[1] / n[0]) ** 2

    unscaled = 0.25 / (0.02 * 0.98)
    assert ratio(False) == pytest.approx(unscaled, rel=1e-2)
    assert ratio(True, aggregation="neutral") == pytest.approx(unscaled, rel=1e-2)
    scaled = advantage_variance(4, p)
    assert ratio(True) == pytest.approx(scaled[1] / scaled[0], rel=1e-2)
    assert ratio(True, proxy="score") == pytest.approx(variance[1] / variance[0], rel=1e-2)


@pytest.mark.parametrize(
    ("fields", "p", "batch"),
    [
        # w^2 p (1 - p) is .16 for every prompt
        ({"allocator": "neyman"}, [0.5, 0.2, 0.9], {"weight_P": np.array([0.8, 1.0, 4 / 3])}),
        ({"allocator": "hard_first", "power": 0.0}, [0.5, 0.2, 0.9], {}),
        ({"allocator": "signal"}, [0.5, 0.2, 0.9], {"a_P": np.ones(3), "b_P": np.ones(3)}),
    ],
)
def test_among_equals_the_most_uncertain_prompt_comes_first(fields, p, batch):
    allocator = make_allocator(config(**fields), 10, 4, False)
    for budget, expected in ((7, [3, 2, 2]), (8, [3, 3, 2]), (10, [4, 3, 3]), (11, [4, 4, 3])):
        n = allocator.allocate(make_batch(p, budget=budget, **batch), RNG(0))
        assert n.tolist() == expected


def test_price_form_is_the_square_root_law_at_its_multiplier():
    share, v = np.array([0.5, 0.3, 0.2]), np.array([0.01, 0.2, 0.25])
    price = (share @ np.sqrt(v) / 4) ** 2
    n = price_form(v, price)
    assert share @ n == pytest.approx(4)
    np.testing.assert_allclose(n, 4 * np.sqrt(v) / (share @ np.sqrt(v)))


def test_signal_is_the_closed_form_under_the_posterior():
    a, b = np.array([0.3, 2.0, 1e-4, 1e6]), np.array([5.0, 2.0, 3.0, 3e6])
    signal = np.cumsum(signal_marginals(a, b, 24), axis=1)
    for n in range(2, 25):
        right, wrong = betaln(a + n, b) - betaln(a, b), betaln(a, b + n) - betaln(a, b)
        np.testing.assert_allclose(signal[:, n - 2], 1 - np.exp(right) - np.exp(wrong), atol=1e-9)
        assert signal[3, n - 2] == pytest.approx(1 - 0.25**n - 0.75**n, abs=1e-5)
    assert np.all(np.diff(signal_marginals(a, b, 24), axis=1) <= 0)


def test_signal_maximises_the_expected_number_of_mixed_groups():
    batch = make_batch([0.02, 0.3, 0.5, 0.99], n_max=7, budget=15)
    n = Signal(setting(config())).allocate(batch, RNG(0))
    gain = np.cumsum(signal_marginals(batch.a_P, batch.b_P, 7), axis=1)

    def worth(m):
        return sum(gain[i, k - 2] for i, k in enumerate(m))

    every = [m for m in itertools.product(range(2, 8), repeat=4) if sum(m) == 15]
    assert worth(n) == pytest.approx(max(map(worth, every)))


@pytest.mark.parametrize("name", NAMES)
def test_resumed_equals_uninterrupted(name):
    rng = RNG(0)
    batch = make_batch(rng.random(40))
    first, second = (make_allocator(config(allocator=name), 10, 4, True) for _ in range(2))

    def step(allocator, seed):
        n = allocator.allocate(batch, RNG(seed))
        correct = RNG(seed).binomial(n, batch.p_P)
        allocator.observe(feedback(batch.bin_P, n, correct, propensity_P=allocator.propensity_P))
        return n

    for seed in range(5):
        step(first, seed)
    second.load_state_dict(first.state_dict())
    for seed in range(5, 10):
        np.testing.assert_array_equal(step(first, seed), step(second, seed))
    assert first.metrics() == second.metrics()
    if name == "exp3p":
        with pytest.raises(DataError, match="table"):
            make_allocator(config(allocator=name), 3, 4, True).load_state_dict(first.state_dict())


def test_fixed_quotas_are_met_in_proportion_and_named_when_they_do_not_fit():
    p = np.linspace(0.05, 0.95, 40)
    batch = make_batch(p, n_min=1, n_max=40)
    quotas = tuple(float(q) for q in range(10, 0, -1))
    n = make_allocator(config(allocator="fixed", quotas=quotas), 10, 4, True).allocate(
        batch, RNG(0)
    )
    want = np.array(quotas)[batch.bin_P]
    assert np.abs(n - want * batch.budget / want.sum()).max() <= 1
    default = make_allocator(config(allocator="fixed"), 10, 4, True).allocate(batch, RNG(0))
    assert default.tolist() == n.tolist()
    with pytest.raises(ConfigError, match=r"rollout\.quotas must have one number .* 10 bins"):
        make_allocator(config(allocator="fixed", quotas=(1.0, 2.0)), 10, 4, True)
