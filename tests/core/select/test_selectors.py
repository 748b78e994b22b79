"""Selectors against brute force, closed forms and simulation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import beta

from gdro import Controller
from gdro.core.config import ControllerConfig, DifficultyConfig
from gdro.core.difficulty import Difficulty
from gdro.core.policy import Feedback, Setting
from gdro.core.select.adarft import AdaRFT
from gdro.core.select.greso import Greso
from gdro.core.select.mopps import Mopps
from gdro.core.select.pool import Pool, smallest
from gdro.core.select.sec import Sec
from gdro.core.select.uniform import Uniform
from gdro.core.weigh.adversary import Adversary

RNG = np.random.default_rng


def setting(std_scaled: bool = True, num_bins: int = 4, **select: Any) -> Setting:
    config = ControllerConfig.from_dict({"select": select})
    return Setting(
        config=config, num_bins=num_bins, n_mean=4, std_scaled=std_scaled,
        adversary=Adversary(config.prompt, num_bins),
    )  # fmt: skip


def make_pool(n_N: Any, correct_N: Any, k: int = 1) -> Pool:
    """A data set whose prompts had these outcomes, under the prior Beta(1, 1); four bins."""
    config = DifficultyConfig(memory="all", prior="fixed", bins=4, k=k)
    difficulty = Difficulty(config)
    rows_N = difficulty.rows(np.arange(len(n_N)))
    difficulty.observe(rows_N, np.asarray(n_N), np.asarray(correct_N))
    return Pool(difficulty, rows_N)


def fresh_pool(size: int) -> Pool:
    return make_pool(np.zeros(size, int), np.zeros(size, int))


def groups(n_P: Any, correct_P: Any, bin_P: Any = None, row_P: Any = None) -> Feedback:
    n_P = np.asarray(n_P)
    return Feedback(
        n_P=n_P, correct_P=np.asarray(correct_P),
        bin_P=np.zeros(len(n_P), int) if bin_P is None else np.asarray(bin_P),
        row_P=np.arange(len(n_P)) if row_P is None else np.asarray(row_P),
    )  # fmt: skip


# -- the pool ---------------------------------------------------------------------------------


@given(st.integers(1, 30), st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_every_prompt_comes_once_before_any_comes_again(size: int, counts: list, seed: int) -> None:
    """Also where a step is no divisor of the data set, and takes from two epochs."""
    pool, rng, visits_N = fresh_pool(size), RNG(seed), np.zeros(size, int)
    for count in counts:
        taken = pool.next(count, rng)
        assert len(taken) == len(set(taken)) == min(count, size)
        visits_N[taken] += 1
        assert np.ptp(visits_N) <= 1


def test_prompts_that_are_passed_over_keep_their_turn() -> None:
    for seed in range(20):
        pool, rng = fresh_pool(10), RNG(seed)
        first = pool.next(7, rng, without=np.array([2, 5]))
        assert not np.isin([2, 5], first).any()
        assert sorted([*first, *pool.next(3, rng)]) == list(range(10))
    assert sorted(pool.next(99, rng, without=np.arange(4))) == list(range(4, 10))
    assert pool.next(3, rng, without=np.arange(10)).size == 0


def test_epochs_are_shuffled() -> None:
    place_N = np.mean([np.argsort(fresh_pool(10).next(10, RNG(s))) for s in range(400)], axis=0)
    np.testing.assert_allclose(place_N, 4.5, atol=5 * np.sqrt(8.25 / 400))


@pytest.mark.parametrize("reorder", [False, True])
def test_the_pool_goes_on_from_its_state(reorder: bool) -> None:
    """By prompt: the data set may come in another order."""
    difficulty = Difficulty(DifficultyConfig())
    whole = Pool(difficulty, difficulty.rows([f"p{i}" for i in range(12)]))
    whole.took(whole.next(5, RNG(0)))
    order = RNG(1).permutation(12) if reorder else np.arange(12)
    resumed = Pool(difficulty, whole.rows_N[order])
    resumed.load_state_dict(whole.state_dict())
    np.testing.assert_array_equal(resumed.visits_N, whole.visits_N[order])
    np.testing.assert_array_equal(resumed.last_N, whole.last_N[order])
    np.testing.assert_array_equal(order[resumed.next(7, RNG(2))], whole.next(7, RNG(2)))


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=20),
    st.data(), st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_smallest_is_the_head_of_a_sort(pairs: list, data: Any, seed: int) -> None:
    key_N, tie_N = np.array(pairs, float).T
    count = data.draw(st.integers(0, len(pairs)))
    found = smallest(key_N, tie_N, count, RNG(seed))
    assert len(set(found)) == count
    assert sorted(pairs[i] for i in found) == sorted(pairs)[:count]


def test_what_ties_leave_is_drawn() -> None:
    found = [
        smallest(np.array([1, 0, 1, 1.0]), np.array([0, 9, 0, 9]), 2, RNG(s)) for s in range(300)
    ]
    chosen_N = np.bincount(np.concatenate(found), minlength=4) / 300
    np.testing.assert_allclose(chosen_N, [0.5, 1, 0.5, 0], atol=0.15)


def test_uniform_takes_the_next() -> None:
    pool, same = fresh_pool(9), fresh_pool(9)
    np.testing.assert_array_equal(Uniform(setting()).select(pool, 4, RNG(3)), same.next(4, RNG(3)))


# -- greso ------------------------------------------------------------------------------------


def greso_after(correct: list[list[int]], **fields: Any) -> Greso:
    """After visits of prompts 0, 1, ... with 4 rollouts each, one list of counts a visit."""
    policy = Greso(setting(policy="greso", **fields))
    for visit in correct:
        policy.observe(groups([4] * len(visit), visit))
    return policy


def test_greso_skips_with_probability_one_minus_e_to_the_z() -> None:
    """By simulation: prompt i of a large data set, streaks of 0 to 3 of either kind."""
    visits = [[2, 2, 2, 4, 2, 2, 0], [2, 2, 4, 4, 2, 0, 0], [2, 4, 4, 4, 0, 0, 0]]
    policy = greso_after(visits, greso_explore=0.6, greso_step=1e-9)
    pool, kept_N, trials = fresh_pool(500), np.zeros(500), 1500
    for seed in range(trials):
        pool._order = np.arange(7)  # these seven are offered first, and only once
        kept_N[policy.select(pool, 7, RNG(seed))] += 1
    expected = 0.6 ** np.array([0, 1, 2, 3, 1, 2, 3])
    np.testing.assert_allclose(kept_N[:7] / trials, expected, atol=0.06)


def test_greso_streaks_grow_by_kind_and_end_with_a_gradient() -> None:
    policy = greso_after([[4, 0, 4, 4, 1], [4, 0, 2, 0, 4]])
    assert policy._streak[:5].tolist() == [2, -2, 0, -1, 1]
    policy.observe(groups([2], [1], row_P=[1]))
    assert policy._streak[:5].tolist() == [2, 0, 0, -1, 1], "absent prompts keep theirs"
    policy.observe(Feedback(bin_P=np.zeros(0, int), n_P=np.zeros(0, int),
                            correct_P=np.zeros(0, int), row_P=np.zeros(0, int)))  # fmt: skip
    assert policy._streak[:5].tolist() == [2, 0, 0, -1, 1]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 2, 4])), min_size=1, max_size=9))
def test_greso_counts_every_visit_of_a_prompt_that_stands_twice(visits: list) -> None:
    row_P, correct = np.array(visits).T
    at_once, in_turn = Greso(setting(policy="greso")), Greso(setting(policy="greso"))
    at_once.observe(groups([4] * len(visits), correct, row_P=row_P))
    for row, right in visits:
        in_turn.observe(groups([4], [right], row_P=[row]))
    size = int(row_P.max()) + 1
    assert at_once._streak[:size].tolist() == in_turn._streak[:size].tolist()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_greso_explores_less_where_it_finds_more_than_its_part(
    correct: list, target: float
) -> None:
    policy = greso_after([correct], greso_target=target, greso_step=0.01)
    easy, hard = np.mean(np.equal(correct, 4)), np.mean(np.equal(correct, 0))
    found = [policy.metrics()[f"select/explore_{kind}"] for kind in ("easy", "hard")]
    expected = [0.49 if easy > target / 3 else 0.51, 0.49 if hard > 2 * target / 3 else 0.51]
    np.testing.assert_allclose(found, expected)


def test_greso_exploration_stays_within_its_bounds() -> None:
    low, high = greso_after([[0, 4]] * 200), greso_after([[2, 2]] * 200)
    assert low.metrics()["select/explore_hard"] == 0.05
    assert high.metrics()["select/explore_easy"] == 1.0


def test_greso_never_starves() -> None:
    policy, pool = greso_after([[0] * 20] * 300), fresh_pool(20)
    for count in (1, 7, 20):
        chosen = policy.select(pool, count, RNG(count))
        assert len(set(chosen)) == len(chosen) == count
    assert policy.metrics()["select/skipped"] == 20


def test_greso_goes_on_from_its_state_with_the_data_set_in_another_order() -> None:
    visits = [RNG(s).integers(0, 5, 60).tolist() for s in range(3)]
    policy, pool = greso_after(visits), fresh_pool(60)
    order = RNG(1).permutation(60)
    resumed, other = Greso(setting(policy="greso")), Pool(pool._difficulty, pool.rows_N[order])
    resumed.load_state_dict(policy.state_dict())
    other.load_state_dict(pool.state_dict())
    pool._order, other._order = np.arange(60), np.argsort(order)
    for seed in range(4):  # within an epoch: the next is shuffled by position
        mine = policy.select(pool, 5, RNG(seed))
        np.testing.assert_array_equal(order[resumed.select(other, 5, RNG(seed))], mine)
        for each in (policy, resumed):
            each.observe(groups([4] * 5, [0, 1, 4, 4, 2], row_P=pool.rows_N[mine]))
    assert resumed.metrics() == policy.metrics()


# -- mopps ------------------------------------------------------------------------------------


def test_mopps_draws_with_the_closed_form_probability() -> None:
    """Of three prompts the one whose draw is nearest: one integral over the distance."""
    n, c, target = np.array([6, 6, 2]), np.array([5, 1, 1]), 0.7
    pool, policy = make_pool(n, c), Mopps(setting(policy="mopps", target=target, candidates=3.0))
    posterior = [beta(1 + right, 1 + of - right) for of, right in zip(n, c, strict=True)]
    distance = np.linspace(0, target, 4001)
    within = np.array([b.cdf(target + distance) - b.cdf(target - distance) for b in posterior])
    density = np.gradient(within, distance, axis=1)
    others = np.array([np.prod(1 - np.delete(within, i, axis=0), axis=0) for i in range(3)])
    expected = trapezoid(density * others, distance, axis=1)
    assert expected.sum() == pytest.approx(1, abs=1e-3)
    rng = RNG(0)
    found = np.bincount([policy.select(pool, 1, rng)[0] for _ in range(6000)], minlength=3) / 6000
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(6000))


def test_mopps_looks_at_candidates_and_takes_distinct_ones() -> None:
    size = 40
    pool = make_pool(np.full(size, 1000), np.r_[500, np.zeros(size - 1, int)])
    rng, few = RNG(0), Mopps(setting(policy="mopps", candidates=4.0))
    hits = np.mean([0 in few.select(pool, 2, rng) for _ in range(2000)])
    assert hits == pytest.approx(8 / size, abs=0.04), "8 of 40 are looked at, the near one wins"
    everything = Mopps(setting(policy="mopps", candidates=1e6)).select(pool, size, rng)
    assert sorted(everything) == list(range(size))


# -- sec --------------------------------------------------------------------------------------


@pytest.mark.parametrize("std_scaled", [True, False])
def test_sec_follows_the_mean_size_of_advantages(std_scaled: bool) -> None:
    """Against the advantages themselves, rollout by rollout; -1 is the class of the unseen."""
    policy = Sec(setting(std_scaled=std_scaled, policy="sec", sec_rate=0.3))
    steps = [([4, 2, 6, 4, 5], [1, 2, 3, 0, 2], [0, 0, 2, 3, -1]), ([3, 4], [1, 2], [2, -1])]
    value_C = np.zeros(5)
    for n_P, correct_P, bin_P in steps:
        sizes: dict[int, list[float]] = {}
        for n, right, b in zip(n_P, correct_P, bin_P, strict=True):
            reward = np.r_[np.ones(right), np.zeros(n - right)]
            advantage = reward - reward.mean()
            if std_scaled:
                advantage /= reward.std(ddof=1) or 1.0
            sizes.setdefault(b, []).extend(np.abs(advantage))
        for b, size in sizes.items():
            value_C[b] += 0.3 * (np.mean(size) - value_C[b])
        policy.observe(groups(n_P, correct_P, bin_P))
    np.testing.assert_allclose(policy.state_dict()["value"], value_C)
    assert value_C[1] == 0
    assert value_C[4] > 0


def test_sec_draws_classes_by_softmax() -> None:
    """Four bins and the unseen, of 30 prompts each: room enough for every draw."""
    right = np.repeat([0, 20, 40, 59], 30)
    pool = make_pool(np.r_[np.full(120, 60), np.zeros(30, int)], np.r_[right, np.zeros(30, int)])
    bin_N = pool._difficulty.bin_P(pool.rows_N)
    assert np.bincount(bin_N + 1).tolist() == [30] * 5
    policy = Sec(setting(policy="sec", sec_temperature=0.5))
    value_C = np.array([0.1, 0.6, 0.9, 0.2, 0.4])
    policy.load_state_dict({"value": value_C})
    rng, count_C = RNG(0), np.zeros(5)
    for _ in range(800):
        chosen = policy.select(pool, 7, rng)
        assert len(set(chosen)) == 7
        pool.took(chosen)
        count_C += np.bincount(bin_N[chosen] % 5, minlength=5)  # -1 is the last
    softmax = np.exp(value_C / 0.5) / np.exp(value_C / 0.5).sum()
    np.testing.assert_allclose(count_C / count_C.sum(), softmax, atol=0.01)
    for b in range(-1, 4):
        assert np.ptp(pool.visits_N[bin_N == b]) <= 1, "the least drawn of a class first"


def test_sec_gives_what_a_class_lacks_to_the_others() -> None:
    pool = make_pool(np.full(6, 60), [0, 20, 20, 20, 20, 20])
    policy = Sec(setting(policy="sec", sec_temperature=0.01))
    policy.load_state_dict({"value": np.array([1.0, 0, 0, 0, 0])})
    chosen = policy.select(pool, 4, RNG(0))
    assert 0 in chosen
    assert len(set(chosen)) == 4


# -- adarft -----------------------------------------------------------------------------------


def test_adarft_moves_its_target_as_printed() -> None:
    fields = {"adarft_step": 0.3, "adarft_gain": 2.0, "target": 0.4}
    policy, target = AdaRFT(setting(policy="adarft", **fields)), 0.0
    for n_P, correct_P in (([4, 6], [4, 5]), ([4, 4], [2, 2]), ([4, 12], [0, 1]), ([4], [0])):
        reward = sum(correct_P) / sum(n_P)
        target = min(1.0, max(0.0, target + 0.3 * np.tanh(2.0 * (reward - 0.4))))
        policy.observe(groups(n_P, correct_P))
        assert policy.metrics()["select/target_difficulty"] == pytest.approx(target)
    for _ in range(20):
        policy.observe(groups([4], [4]))
    assert policy.metrics()["select/target_difficulty"] == 1.0
    policy.observe(groups(np.zeros(0, int), np.zeros(0, int)))
    assert policy.state_dict() == {"target": 1.0}


@given(st.floats(0, 1), st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_adarft_takes_the_nearest(target: float, count: int, seed: int) -> None:
    n_N = RNG(seed).integers(0, 9, 30)
    pool = make_pool(n_N, RNG(seed + 1).binomial(n_N, 0.5))
    pool.visits_N[:] = RNG(seed).integers(0, 3, 30)
    policy = AdaRFT(setting(policy="adarft"))
    policy.load_state_dict({"target": target})
    chosen = policy.select(pool, count, RNG(seed))
    assert len(set(chosen)) == count
    distance = np.abs(1 - pool.success_N - target)
    keys = list(zip(distance, pool.visits_N, strict=True))
    assert sorted(keys[i] for i in chosen) == sorted(keys)[:count]


@pytest.mark.parametrize("static", [False, True])
def test_sec_gives_a_small_class_its_size_unless_classes_are_the_datas_own(static: bool) -> None:
    """Even values: bins draw as uniform does; a column's groups all alike, as in the source."""
    source = "column:g" if static else "online"
    values = {"select.policy": "sec", "difficulty.source": source}
    controller = Controller(ControllerConfig.from_dict(values))
    group = [int(i < 20) for i in range(500)]
    controller.bind(list(range(500)), group=group if static else None)
    for _ in range(40):
        controller.select(25)
    visits_N = controller.pool.visits_N
    share = visits_N[:20].sum() / visits_N.sum()
    if static:
        assert share == pytest.approx(0.5, abs=0.02)
    else:
        assert (visits_N == 2).all(), "two epochs"
