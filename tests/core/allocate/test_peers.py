"""Knapsack against enumeration; Reinforce-Ada's rules case by case."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.allocate.base import Allocator
from gdro.core.allocate.knapsack import Knapsack
from gdro.core.allocate.reinforce_ada import ReinforceAda
from gdro.core.config import ControllerConfig
from gdro.core.policy import Batch, Feedback, Setting
from gdro.core.weigh.adversary import Adversary

RNG = np.random.default_rng


def make(kind: type[Allocator], **rollout: Any) -> Allocator:
    config = ControllerConfig.from_dict({"rollout": rollout})
    adversary = Adversary(config.prompt, 10)
    return kind(Setting(config=config, num_bins=10, n_mean=4, std_scaled=True, adversary=adversary))


def make_batch(p_P: Any, lo: int, hi: int, budget: int) -> Batch:
    p_P = np.asarray(p_P, float)
    return Batch(
        bin_P=np.zeros(p_P.size, int), p_P=p_P, a_P=8 * p_P, b_P=8 * (1 - p_P),
        weight_P=np.ones(p_P.size), variance_B=np.ones(10), lo_P=np.full(p_P.size, lo),
        hi_P=np.full(p_P.size, hi), budget=budget,
    )  # fmt: skip


def groups(n_P: Any, correct_P: Any) -> Feedback:
    n_P = np.asarray(n_P)
    return Feedback(
        row_P=np.arange(n_P.size),
        bin_P=np.zeros(n_P.size, int),
        n_P=n_P,
        correct_P=np.asarray(correct_P),
    )


# -- knapsack ---------------------------------------------------------------------------------


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=4), st.integers(2, 3),
       st.integers(0, 5), st.floats(0, 1))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_knapsack_is_the_best_of_all_allocations(
    rates: list[float], lo: int, more: int, where: float
) -> None:
    size, hi = len(rates), lo + more
    budget = size * lo + round(where * size * more)
    n_P = make(Knapsack).allocate(make_batch(rates, lo, hi, budget), RNG(0))
    p_P = np.array(rates)

    def value(n_P: Any) -> float:
        n_P = np.asarray(n_P)
        return float(np.sum((1 - p_P**n_P - (1 - p_P) ** n_P) * p_P * (1 - p_P) ** 2))

    every = itertools.product(range(lo, hi + 1), repeat=size)
    best = max(value(counts) for counts in every if sum(counts) == budget)
    assert value(n_P) == pytest.approx(best, abs=1e-12)


def test_knapsack_prefers_hard_prompts_that_can_be_solved() -> None:
    n_P = make(Knapsack).allocate(make_batch([0.001, 0.2, 0.5, 0.999], 2, 12, 24), RNG(0))
    assert n_P[1] > n_P[2] > n_P[0] == n_P[3] == 2


# -- reinforce_ada ----------------------------------------------------------------------------


def more(allocator: Allocator, came: Feedback, train_P: np.ndarray) -> np.ndarray:
    """What it asks for, whatever was known of the prompts before."""
    rates = np.full(len(train_P), 0.5)
    return allocator.more(make_batch(rates, 2, 12, int(train_P.sum())), came, train_P, RNG(0))


@pytest.mark.parametrize("budget", [12, 14])
def test_reinforce_ada_starts_even(budget: int) -> None:
    n_P = make(ReinforceAda).allocate(make_batch([0.1, 0.5, 0.9], 2, 12, budget), RNG(0))
    assert n_P.sum() == budget
    assert np.ptp(n_P) <= 1


def test_a_prompt_leaves_when_it_has_half_of_each_or_one_right() -> None:
    """Against the sentence, for every count of right ones and every size of what trains."""
    balanced, positive = make(ReinforceAda, exit="balanced"), make(ReinforceAda, exit="positive")
    for train in (2, 3, 4, 5, 8):
        for n in (0, train - 1, train, 2 * train, 3 * train):
            correct_P = np.arange(n + 1)
            came, train_P = groups(np.full(n + 1, n), correct_P), np.full(n + 1, train)
            half = [min(c, n - c) >= train // 2 for c in correct_P]
            np.testing.assert_array_equal(more(balanced, came, train_P), train * ~np.array(half))
            one = correct_P >= 1
            np.testing.assert_array_equal(more(positive, came, train_P), train * ~one)


def test_what_trains_is_as_balanced_as_what_came_allows() -> None:
    """Every count of right and wrong ones, every size that fits."""
    allocator: Any = make(ReinforceAda)
    for right, wrong in itertools.product(range(9), range(9)):
        correct_G = RNG(right).permutation(np.r_[np.ones(right), np.zeros(wrong)])
        for size in range(2, right + wrong + 1):
            picked = allocator.pick(correct_G, size, RNG(size))
            assert len(set(picked)) == len(picked) == size
            assert np.all(np.diff(picked) > 0)
            found = int(correct_G[picked].sum())
            possible = [r for r in range(right + 1) if 0 <= size - r <= wrong]
            nearest = min(abs(2 * r - size) for r in possible)
            assert abs(2 * found - size) == nearest


def test_what_trains_is_drawn_by_lot() -> None:
    allocator: Any = make(ReinforceAda)
    correct_G = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0.0])
    drawn = [allocator.pick(correct_G, 4, RNG(seed)) for seed in range(1500)]
    share_G = np.bincount(np.concatenate(drawn), minlength=9) / 1500
    np.testing.assert_allclose(share_G, [2 / 3] * 3 + [1 / 3] * 6, atol=0.06)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5])
def test_rounds_find_a_signal_where_one_round_would_not(p: float) -> None:
    """Share of mixed groups among those that train: 1 - p^N - (1 - p)^N over N that the rule buys.

    One round of four has 1 - p^4 - (1 - p)^4; four rounds have, with `balanced`, what sixteen have:
    a prompt stays until it has two of each or the rounds are spent, and one of each is mixed.
    """
    allocator: Any = make(ReinforceAda, max_rounds=4)
    rng, size = RNG(0), 4000
    train_P, n_P, correct_P = np.full(size, 4), np.full(size, 4), rng.binomial(4, p, size)
    for _ in range(allocator.rounds - 1):
        more_P = more(allocator, groups(n_P, correct_P), train_P)
        n_P, correct_P = n_P + more_P, correct_P + rng.binomial(more_P, p)
    mixed = np.mean((correct_P > 0) & (correct_P < n_P))
    assert mixed == pytest.approx(1 - p**16 - (1 - p) ** 16, abs=0.03)
    assert mixed > 1 - p**4 - (1 - p) ** 4 + 0.05
