"""The paper's bandit over numbers of rollouts, and its shadow price."""

import itertools

import numpy as np
import pytest
from tests.core.allocate.batches import (
    RNG,
    config,
    feedback,
    make_batch,
    setting,
)

from gdro.core.allocate.exp3p import Exp3P
from gdro.core.allocate.price import AdditivePrice, LogPrice


def bandit(num_bins=3, n_mean=4.0, **fields):
    chosen = config(**{"allocator": "exp3p", "utility": "variance", **fields})
    return Exp3P(setting(chosen, num_bins, n_mean))


@pytest.mark.parametrize("utility", ["surrogate", "variance", "signal"])
@pytest.mark.parametrize("choice", ["argmax", "sample"])
def test_price_and_scores_move_although_every_allocation_is_exact(utility, choice):
    """Released code: with realised = n_mean, neither the price nor an arm was ever updated."""
    allocator, rng = bandit(utility=utility, choice=choice), RNG(0)
    bins = np.repeat([0, 1, 2], 8)
    batch = make_batch(np.full(24, 0.3), bins, num_bins=3)
    start, prices = allocator.metrics()["alloc/price"], []
    for _ in range(10):
        n = allocator.allocate(batch, rng)
        assert n.sum() == 96
        loss = rng.normal(size=24)
        allocator.observe(feedback(bins, n, rng.binomial(n, 0.3), loss_P=loss,
                                   propensity_P=allocator.propensity_P))  # fmt: skip
        prices.append(allocator.metrics()["alloc/price"])
    assert len({start, *prices}) > 2
    assert allocator.metrics()["alloc/arms_visited"] > 0


@pytest.mark.parametrize("start", [-12.0, 3.0])
def test_price_converges_to_the_multiplier(start):
    """J(n) = -v/n: the running averages of demand and log price against the discrete KKT system."""
    v, count, arms = np.array([0.02, 0.1, 0.25]), np.array([10, 6, 4]), np.arange(2, 13)
    allocator = bandit(bandit_beta=1e-12)
    allocator.load_state_dict({"mean_BK": -v[:, None] / arms, "price": start, "demand": 4.0})
    seen = feedback(np.repeat([0, 1, 2], count), np.full(20, 4))
    prices, demands = [], []
    for t in range(4000):
        allocator.observe(seen)
        if t >= 2000:
            prices.append(allocator.metrics()["alloc/price"])
            demands.append(allocator.metrics()["alloc/demand"])
    assert np.mean(demands) == pytest.approx(4, abs=0.02)
    # Bin b buys the step n -> n + 1 at prices below v / (n (n + 1)).
    steps = v[:, None] / (arms[:-1] * arms[1:])
    order = np.argsort(-steps, axis=None)
    bought = np.cumsum(np.repeat(count, arms.size - 1)[order])
    multiplier = steps.ravel()[order][np.searchsorted(bought, 20 * 4 - 20 * 2)]
    assert np.exp(np.mean(np.log(prices))) == pytest.approx(multiplier, rel=0.1)


def test_prices_step_as_written():
    log_price, additive = LogPrice(0.05, 4), AdditivePrice(0.05, 4)
    assert log_price.value == pytest.approx(0.25 / 16)  # Eq. 31 at v = 1/4
    for price in (log_price, additive):
        price.move(6)
    assert log_price.value == pytest.approx(0.25 / 16 * np.exp(0.05 / 2))
    assert additive.value == pytest.approx(0.1)
    additive.move(0)
    assert additive.value == pytest.approx(-0.1)


def test_ties_do_not_depend_on_the_order_of_the_bins():
    """Released code: with equal scores the answer was whatever bin the program saw first."""
    variance = np.array([0.02, 0.09, 0.25])
    found = []
    for order in itertools.permutations(range(3)):
        # Bin i of this run is bin order[i] of the first; nothing is learnt yet, all arms tie.
        batch = make_batch(np.full(30, 0.5), np.repeat([0, 1, 2], 10), num_bins=3,
                           variance_B=variance[list(order)])  # fmt: skip
        allocator = bandit(choice="argmax", bandit_gamma=1.0)
        n = allocator.allocate(batch, RNG(len(found)))
        totals = np.bincount(batch.bin_P, n)
        found.append(totals[np.argsort(order)].tolist())
    assert all(totals == found[0] for totals in found)
    assert found[0] == sorted(found[0])
    law = 120 * np.sqrt(variance) / np.sqrt(variance).sum()
    np.testing.assert_allclose(found[0], law, atol=10)  # the tie breaker is VarProxy


def test_budget_is_exact_where_one_count_per_bin_cannot_meet_it():
    for sizes, budget in (([4, 6], 41), ([3, 5], 23)):
        bins = np.repeat([0, 1], sizes)
        for choice in ("argmax", "sample"):
            batch = make_batch(np.full(bins.size, 0.4), bins, num_bins=2, budget=budget)
            n = bandit(2, choice=choice).allocate(batch, RNG(0))
            assert n.sum() == budget
            assert all(np.ptp(n[bins == b]) <= 1 for b in (0, 1))


def test_unseen_prompts_get_the_mean_although_it_is_no_integer():
    bins = np.repeat([-1, 0, 1], 10)
    batch = make_batch(np.full(30, 0.5), bins, num_bins=2, mean=4.5)
    n = bandit(2, 4.5).allocate(batch, RNG(0))
    assert n.sum() == 135
    assert np.bincount(n[:10], minlength=6)[4:].tolist() == [5, 5]


def test_split_bins_credit_both_arms_by_their_share():
    allocator = bandit(1, utility="surrogate", bandit_beta=0.4)
    batch = make_batch(np.full(4, 0.5), np.zeros(4, int), num_bins=1, budget=11)
    n = allocator.allocate(batch, RNG(0))
    assert sorted(n) == [2, 3, 3, 3]
    for loss in (-1.0, -2.0):
        allocator.observe(feedback(np.zeros(4, int), n, loss_P=np.full(4, loss)))
    mean = allocator.state_dict()["mean_BK"][0]
    # First value, then rates .4 * 1/4 and .4 * 3/4.
    np.testing.assert_allclose(mean[:2], [1.1, 1.3])
    assert np.isnan(mean[2:]).all()


def test_importance_weights_give_rare_arms_the_same_memory():
    """Over many draws of an arm with propensity 1/5, the expected rate is beta."""
    for propensity, rate in ((1.0, 0.1), (0.2, 0.5), (0.01, 1.0)):
        allocator = bandit(1, utility="surrogate", bandit_beta=0.1)
        allocator.observe(feedback([0], [5], loss_P=np.zeros(1)))
        p = np.array([propensity])
        allocator.observe(feedback([0], [5], loss_P=-np.ones(1), propensity_P=p))
        assert allocator.state_dict()["mean_BK"][0, 3] == pytest.approx(rate)


def test_propensity_is_the_expected_share_over_many_draws():
    allocator, rng = bandit(2, choice="sample"), RNG(0)
    batch = make_batch(np.full(5, 0.5), [0, 0, 1, 1, 1], num_bins=2, budget=21)
    seen: dict[tuple[int, int], float] = {}
    stated = {}
    draws = 2000
    for _ in range(draws):
        n = allocator.allocate(batch, rng)
        assert allocator.propensity_P is not None
        for b, size in ((0, 2), (1, 3)):
            for i in np.flatnonzero(batch.bin_P == b):
                seen[b, int(n[i])] = seen.get((b, int(n[i])), 0) + 1 / size / draws
                stated[b, int(n[i])] = allocator.propensity_P[i]
    for arm, share in seen.items():
        assert share == pytest.approx(stated[arm], abs=0.04)


def test_unvisited_arms_take_their_neighbours_utility_and_unvisited_bins_the_others():
    allocator = bandit(3, utility="surrogate", n_max=6)
    allocator.observe(feedback([0, 0, 1], [3, 5, 2], loss_P=-np.array([1.0, 3.0, 10.0])))
    filled = allocator._utility_BK()
    np.testing.assert_allclose(filled[0], [1, 1, 2, 3, 3])
    np.testing.assert_allclose(filled[1], 10)
    np.testing.assert_allclose(filled[2], (filled[0] + filled[1]) / 2)


def test_utilities_are_unbiased():
    rng, p, size = RNG(0), 0.3, 200_000
    bins, n = np.zeros(size, int), np.full(size, 5)
    for utility, expected in (("variance", -0.21 / 5), ("signal", 1 - 0.3**5 - 0.7**5)):
        allocator = bandit(1, utility=utility)
        allocator.observe(feedback(bins, n, rng.binomial(5, p, size)))
        assert allocator.state_dict()["mean_BK"][0, 3] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("utility", "groups", "expected"),
    [
        # (n, correct, loss) of groups that had one arm; the fewest and the most rollouts count too
        ("variance", [(2, 1, 0.0), (2, 0, 0.0)], -0.25 / 2),
        ("variance", [(12, 3, 0.0)], -(3 / 12) * (9 / 12) / 11),
        ("signal", [(4, 4, 0.0)], 0.0),
        ("signal", [(4, 0, 0.0)], 0.0),
        ("signal", [(4, 3, 0.0), (4, 1, 0.0), (4, 4, 0.0)], 2 / 3),
        ("surrogate", [(12, 3, 0.5), (12, 0, -0.25)], -0.125),
    ],
)
def test_an_arm_starts_at_the_mean_utility_of_its_groups(utility, groups, expected):
    allocator = bandit(2, utility=utility)
    n, correct, loss = map(np.array, zip(*groups, strict=True))
    allocator.observe(feedback(np.ones(n.size, int), n, correct, loss_P=loss))
    mean_BK = allocator.state_dict()["mean_BK"]
    assert mean_BK[1, n[0] - 2] == pytest.approx(expected)
    assert np.isnan(mean_BK).sum() == mean_BK.size - 1
    assert allocator.metrics()["alloc/arms_visited"] == 1 / mean_BK.size


def test_an_arm_moves_by_its_share_over_its_mean_propensity():
    allocator = bandit(1, utility="surrogate", bandit_beta=0.1)
    bins, n = np.zeros(4, int), np.array([5, 5, 5, 8])
    allocator.observe(feedback(bins, n, loss_P=np.zeros(4)))
    p = np.array([0.5, 0.5, 0.5, 0.8])
    allocator.observe(feedback(bins, n, loss_P=-np.ones(4), propensity_P=p))
    mean_K = allocator.state_dict()["mean_BK"][0]
    assert mean_K[[3, 6]] == pytest.approx([0.1 * 0.75 / 0.5, 0.1 * 0.25 / 0.8])


def test_arms_are_drawn_by_the_mixture_as_written():
    utility = RNG(0).normal(size=(2, 11))
    for gamma in (0.01, 0.5, 1.0):
        allocator = bandit(2, utility="surrogate", bandit_eta=2.0, bandit_gamma=gamma)
        allocator.load_state_dict({"mean_BK": utility, "price": 0.1, "demand": 4.0})
        weight = np.exp(2.0 * (utility - 0.1 * np.arange(2, 13)))
        softmax = weight / weight.sum(axis=1, keepdims=True)
        found = np.exp(allocator._log_probability_BK())
        np.testing.assert_allclose(found, (1 - gamma) * softmax + gamma / 11)


def test_demand_is_the_mean_of_equally_good_arms():
    n_P, flat = np.array([4, 4, 4]), np.array([0.0, 0.0, 0.0])
    allocator = bandit(2, utility="surrogate", price_alpha=0.5)
    assert allocator.metrics()["alloc/demand"] == 4
    allocator.observe(feedback([0, 1, 1], n_P, loss_P=flat))
    assert allocator.metrics()["alloc/demand"] == pytest.approx(7)  # of 2 .. 12, at price 0
    assert allocator.metrics()["alloc/price"] == pytest.approx(0.5 * (7 - 4))
    arm_K = np.arange(2, 13)
    for scale in (1e-9, 1.0, 1e9):  # equal but for rounding, relative to the utilities
        mean_K = np.where(arm_K >= 11, 1.0 - 1e-14 * (arm_K - 11), 0.5)
        mean_BK = scale * np.tile(mean_K, (2, 1))
        allocator.load_state_dict({"mean_BK": mean_BK, "price": 0.0, "demand": 4.0})
        n_P, loss_P = np.array([12, 12, 12]), np.full(3, -scale)
        allocator.observe(feedback([0, 1, 1], n_P, loss_P=loss_P))
        assert allocator.metrics()["alloc/demand"] == pytest.approx(11.5)


def test_learned_utilities_decide_argmax():
    """A bin whose utility rises with n outbids a level one."""
    allocator = bandit(2, choice="argmax", bandit_eta=50.0, bandit_gamma=0.0)
    rising = np.stack([np.linspace(0, 1, 11), np.zeros(11)])
    allocator.load_state_dict({"mean_BK": rising, "price": -5.0, "demand": 4.0})
    batch = make_batch(np.full(20, 0.5), np.repeat([0, 1], 10), num_bins=2)
    assert np.bincount(batch.bin_P, allocator.allocate(batch, RNG(0))).tolist() == [60, 20]


def test_huge_scores_stay_finite():
    for gamma in (0.0, 0.01, 1.0):
        for choice in ("argmax", "sample"):
            allocator = bandit(2, utility="surrogate", choice=choice, bandit_gamma=gamma,
                               bandit_eta=1000.0)  # fmt: skip
            loss = np.array([1e8, -1e8, 1e8, -1e8])
            allocator.observe(feedback([0, 0, 1, 1], [2, 12, 3, 9], loss_P=loss))
            batch = make_batch(np.full(9, 0.5), [0] * 4 + [1] * 5, num_bins=2)
            n = allocator.allocate(batch, RNG(0))
            assert n.sum() == 36
            assert np.isfinite(allocator.propensity_P).all()


def test_unseen_and_incomplete_groups_teach_nothing():
    allocator = bandit(2)
    before = allocator.state_dict()
    allocator.observe(feedback([-1, 0, 1], [4, 1, 0], [2, 0, 0]))
    after = allocator.state_dict()
    np.testing.assert_array_equal(before.pop("mean_BK"), after.pop("mean_BK"))
    assert before == after
