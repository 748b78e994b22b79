"""The classifier: memories, estimate, hysteresis, prior, static groups."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.checkpoint import load, save
from gdro.core.config import DifficultyConfig
from gdro.core.difficulty import Difficulty
from gdro.core.errors import CheckpointError, ConfigError, DataError
from gdro.core.passk import posterior_pass_at_k

FIXED = {"prior": "fixed", "prior_a": 0.3, "prior_b": 0.6}


def one(estimates=None, **config):
    """A classifier of one prompt; with `estimates`, its pass@k is read from there."""
    difficulty = Difficulty(DifficultyConfig(**config))
    row = difficulty.rows([0])
    if estimates is not None:
        it = iter(estimates)
        difficulty.pass_at_k = lambda rows: np.full(len(rows), next(it))
    return difficulty, row


def visit(difficulty, rows, n, correct):
    rows = np.atleast_1d(rows)
    difficulty.observe(rows, np.full(len(rows), n), np.full(len(rows), correct))


# --- memories ---


def slow_counts(memory, visits, half_life=3.0, window=4):
    """(rollouts, correct) from a list of visits, by the definition of each memory."""
    if memory == "window":
        visits = visits[-window:]
    n = c = 0.0
    for age, (rollouts, correct) in enumerate(reversed(visits)):
        weight = 2 ** (-age / half_life) if memory == "discounted" else 1.0
        n, c = n + weight * rollouts, c + weight * correct
    return n, c


history = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 300), st.floats(0, 1)).map(
        lambda x: (x[0], x[1], round(x[1] * x[2]))
    ),
    max_size=40,
)


@settings(deadline=None)
@given(history, st.sampled_from(["discounted", "window", "all"]), st.data())
def test_memory_is_its_definition_however_observe_is_called(visits, memory, data):
    config = DifficultyConfig(memory=memory, window=4)
    difficulty = Difficulty(config)
    difficulty.rows(range(6))
    todo = visits
    while todo:  # any split, rows repeated within a call
        cut = data.draw(st.integers(1, len(todo)))
        difficulty.observe(*(np.array(x) for x in zip(*todo[:cut], strict=True)))
        todo = todo[cut:]
    n, c = difficulty.evidence(np.arange(6))
    for row in range(6):
        expected = slow_counts(memory, [v[1:] for v in visits if v[0] == row])
        assert (n[row], c[row]) == pytest.approx(expected, rel=1e-5)


def test_counts_of_all_commute():
    rng = np.random.default_rng(0)
    rows, n = rng.integers(0, 9, 200), rng.integers(1, 9, 200)
    c = rng.binomial(n, 0.4)
    found = []
    for order in (np.arange(200), rng.permutation(200)):
        difficulty = Difficulty(DifficultyConfig(memory="all"))
        difficulty.rows(range(9))
        difficulty.observe(rows[order], n[order], c[order])
        found.append(difficulty.evidence(np.arange(9)))
    assert np.array_equal(found[0], found[1])


def test_a_window_grows_keeps_the_last_visits_and_large_groups():
    difficulty, row = one(memory="window", window=100)
    for i in range(250):
        visit(difficulty, row, 1000 if i == 200 else 2, 1)
    assert difficulty.evidence(row) == (np.array([99 * 2 + 1000.0]), np.array([100.0]))
    with pytest.raises(DataError, match="65535"):
        visit(difficulty, row, 70_000, 0)


def test_discounted_memory_is_small():
    difficulty = Difficulty(DifficultyConfig())
    tracemalloc.start()
    rows = difficulty.rows(np.arange(200_000))
    del rows
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held <= 16 * 200_000 + 100_000
    stored = difficulty.state_dict()
    assert stored["memory"]["sum"].nbytes + stored["bin"].nbytes == 10 * 200_000


def test_a_step_does_not_cost_more_with_a_larger_data_set():
    def allocated(size):
        difficulty = Difficulty(DifficultyConfig())
        difficulty.rows(np.arange(size))
        rows = np.arange(64)
        difficulty.observe(rows, np.full(64, 4), np.full(64, 1))
        tracemalloc.start()
        difficulty.observe(rows, np.full(64, 4), np.full(64, 1))
        difficulty.population_B()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert allocated(200_000) < 1.5 * allocated(200) + 4096


# --- the estimate ---


def test_estimate_is_the_posterior_mean_and_does_not_jump_at_k():
    """D2: an unbiased estimator from n = k on would jump from .5 to 0 between n = 7 and 8."""
    difficulty, row = one(prior="fixed", memory="all")
    values = []
    for n in range(1, 12):
        visit(difficulty, row, 1, 0)
        values.append(difficulty.pass_at_k(row)[0])
        assert values[-1] == pytest.approx(8 / (n + 9))
    assert difficulty.success(row)[0] == pytest.approx(1 / 13)
    assert np.all(np.diff(values) < 0)


def test_any_is_the_papers_flag_over_the_window():
    difficulty, row = one(estimator="any", memory="window", window=4)
    for correct in (0, 3, 1, 0, 0):
        visit(difficulty, row, 4, correct)
    assert difficulty.pass_at_k(row)[0] == 0.5
    difficulty, row = one(estimator="any", half_life=1.0)
    for correct in (0, 3):
        visit(difficulty, row, 4, correct)
    assert difficulty.pass_at_k(row)[0] == pytest.approx(1 / 1.5)
    assert difficulty.success(row)[0] < 0.6  # still from the counts


def test_any_with_interval_is_a_config_error():
    with pytest.raises(ConfigError, match="estimator must be posterior"):
        Difficulty(DifficultyConfig(estimator="any", binning="interval"))


# --- hysteresis ---


def slow_move(bin_, estimate, boundaries, delta):
    """D3, word by word."""

    def margin(a):
        return min(delta, a, 1 - a)

    new = bin_
    while new + 1 < len(boundaries) - 1:
        a = boundaries[new + 1]
        if estimate < a + margin(a) - 1e-9:
            break
        new += 1
    if new > bin_:
        return new
    while new > 0:
        a = boundaries[new]
        if estimate > a - margin(a) + 1e-9:
            break
        new -= 1
    return new


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(
        [
            {"bins": 10},
            {"bins": 10, "delta": 0.0},
            {"bins": 3, "delta": 0.15},
            {"bins": 4, "edges": (0.07, 0.5, 0.93), "delta": 0.03},
            {"bins": 6, "delta": 0.08},
        ]
    ),
    st.lists(
        st.one_of(st.floats(0, 1), st.integers(0, 100).map(lambda i: i / 100)),
        min_size=1,
        max_size=15,
    ),
)
def test_hysteresis_is_its_definition(config, estimates):
    difficulty, row = one(estimates, **config)
    boundaries = difficulty.config.boundaries
    expected = None
    for e in estimates:
        visit(difficulty, row, 4, 1)
        if expected is None:
            expected = max(b for b in range(len(boundaries) - 1) if e >= boundaries[b])
        elif difficulty.config.delta > 0 or e not in boundaries:
            expected = slow_move(expected, e, boundaries, difficulty.config.delta)
        else:
            expected = max(b for b in range(len(boundaries) - 1) if e >= boundaries[b])
        assert difficulty.bin_P(row)[0] == expected
        assert difficulty.population_B()[expected] == 1 == difficulty.population_B().sum()


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ((0.25, 0.32), 2),
        ((0.25, 0.33), 3),
        ((0.35, 0.28), 3),
        ((0.35, 0.27), 2),  # inclusive
        ((0.75, 0.67), 6),
        ((0.75, 0.83), 8),
        ((0.05, 0.96), 9),
        ((0.95, 0.0), 0),
        ((0.25, 0.41), 3),
    ],
)
def test_margins_are_inclusive_despite_rounding(path, end):
    """.7 - .03 is .6699999999999999 in floats: .67 has crossed all the same."""
    difficulty, row = one(path)
    for _ in path:
        visit(difficulty, row, 4, 1)
    assert difficulty.bin_P(row)[0] == end


def test_any_estimates_of_0_and_1_reach_the_end_bins():
    for correct, end in ((0, 0), (4, 9)):
        difficulty, row = one(estimator="any", memory="window", window=2)
        for c in (0, 4, correct, correct):
            visit(difficulty, row, 4, c)
        assert difficulty.bin_P(row)[0] == end


def test_interval_moves_only_with_credibility():
    rng = np.random.default_rng(0)
    difficulty, row = one(binning="interval", credibility=0.8, **FIXED)
    p, moved = 0.6, 0
    for t in range(60):
        if t == 30:
            p = 0.05
        old = difficulty.bin_P(row)[0]
        visit(difficulty, row, 4, rng.binomial(4, p))
        new = difficulty.bin_P(row)[0]
        if old >= 0:
            a, b = difficulty.posterior(row)
            pass_k = 1 - (1 - rng.beta(a, b, 100_000)) ** 8
            low, high = difficulty.config.boundaries[old : old + 2]
            outside = max(np.mean(pass_k < low), np.mean(pass_k > high))
            if abs(outside - 0.9) > 0.005:
                assert (new != old) == (outside > 0.9)
            if new != old:
                assert new == math.floor(difficulty.pass_at_k(row)[0] * 10)
                moved += 1
    assert moved >= 1


# --- unseen prompts, and two visits at once ---


def test_unseen_prompts_counted_as_hardest():
    """A fault of the release: ours have a state of their own (D4)."""
    difficulty = Difficulty(DifficultyConfig())
    rows = difficulty.rows(["a", "b", "c"])
    assert difficulty.bin_P(rows).tolist() == [-1, -1, -1]
    assert difficulty.population_B().sum() == 0
    visit(difficulty, rows[:1], 4, 4)
    assert difficulty.bin_P(rows).tolist()[1:] == [-1, -1]
    assert difficulty.population_B().sum() == 1
    visit(difficulty, rows[1:2], 0, 0)  # no rollout came back: no visit
    assert difficulty.bin_P(rows)[1] == -1


def test_six_inner_edges_declared_as_six_bins():
    """A fault of the release: edges define the bins (D5)."""
    edges = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
    with pytest.raises(ConfigError, match="must be len"):
        DifficultyConfig(bins=6, edges=edges)
    assert len(Difficulty(DifficultyConfig(bins=7, edges=edges)).population_B()) == 7


def test_a_row_that_stands_twice_has_two_visits_in_order():
    config = DifficultyConfig(**FIXED)
    both, apart = Difficulty(config), Difficulty(config)
    rows = both.rows([5, 6]), apart.rows([5, 6])
    both.observe(np.array([0, 1, 0, 0]), np.array([4, 4, 8, 2]), np.array([0, 2, 8, 1]))
    for n, c in ((4, 0), (8, 8), (2, 1)):
        visit(apart, 0, n, c)
    visit(apart, 1, 4, 2)
    assert np.array_equal(both.evidence(rows[0]), apart.evidence(rows[1]))
    assert np.array_equal(both.bin_P(rows[0]), apart.bin_P(rows[1]))
    assert np.array_equal(both.population_B(), apart.population_B())


def test_population_is_kept_exactly():
    rng = np.random.default_rng(0)
    difficulty = Difficulty(DifficultyConfig())
    for _ in range(50):
        ids = rng.integers(0, 300, 40)
        rows, n = difficulty.rows(ids), rng.integers(0, 9, 40)
        difficulty.observe(rows, n, rng.binomial(n, 0.4))
        bins = difficulty.bin_P(np.arange(len(difficulty)))
        expected = np.bincount(bins[bins >= 0], minlength=10)
        assert np.array_equal(difficulty.population_B(), expected)


def test_impossible_counts_are_refused():
    difficulty, row = one()
    for n, correct in ((4, 5), (4, -1), (-1, 0)):
        with pytest.raises(DataError):
            visit(difficulty, row, n, correct)


# --- priors ---


def population(name, rng, size):
    return {
        "beta": lambda: rng.beta(0.3, 0.6, size),
        "atoms": lambda: np.where(rng.random(size) < 0.3, 0.0, rng.beta(0.8, 1.2, size)),
        "heavy": lambda: np.where(
            rng.random(size) < 0.5, rng.beta(8, 1, size), rng.beta(0.3, 4, size)
        ),
    }[name]()


@pytest.mark.parametrize("memory", ["discounted", "window", "all"])
@pytest.mark.parametrize("name", ["beta", "atoms", "heavy"])
def test_population_estimate_is_unbiased_under_an_outcome_reactive_allocator(name, memory):
    """The allocator gives the prompts that look hard six times the rollouts of the others."""
    rng = np.random.default_rng(1)
    p = population(name, rng, 4096)
    difficulty = Difficulty(DifficultyConfig(memory=memory))
    truth = 1 - (1 - p) ** 8
    for _ in range(6):
        for part in np.split(rng.permutation(4096), 16):
            rows = difficulty.rows(np.sort(part))
            n = np.where(difficulty.success(rows) < 0.3, 12, 2)
            difficulty.observe(rows, n, rng.binomial(n, p[np.sort(part)]))
    everyone = difficulty.rows(np.arange(4096))
    assert difficulty.pass_at_k(everyone).mean() == pytest.approx(truth.mean(), abs=0.02)


def test_fitted_prior_finds_the_population_and_lets_few_failures_call_it_hard():
    rng = np.random.default_rng(0)
    difficulty = Difficulty(DifficultyConfig())
    for _ in range(60):
        rows = difficulty.rows(rng.integers(0, 2**31, 256))
        difficulty.observe(rows, np.full(256, 4), rng.binomial(4, rng.beta(0.3, 0.6, 256)))
    metrics = difficulty.metrics()
    assert metrics["gdro/prior_a"] == pytest.approx(0.3, abs=0.05)
    assert metrics["gdro/prior_b"] == pytest.approx(0.6, abs=0.1)
    fixed = posterior_pass_at_k(1, 1 + 20, 8)
    a, b = metrics["gdro/prior_a"], metrics["gdro/prior_b"]
    assert posterior_pass_at_k(a, b + 20, 8) < 0.12 < 0.25 < fixed


@pytest.mark.parametrize("correct", [0, 1, 4])
def test_fitted_prior_stays_bounded_in_degenerate_populations(correct):
    difficulty = Difficulty(DifficultyConfig())
    rows = difficulty.rows(range(5000))
    for _ in range(8):
        visit(difficulty, rows, 4, correct)
    metrics = difficulty.metrics()
    a, b = metrics["gdro/prior_a"], metrics["gdro/prior_b"]
    assert min(a, b) > 0
    assert 0.19 < a + b < 16.1
    single = Difficulty(DifficultyConfig())
    visit(single, single.rows(range(100)), 1, 1)  # groups of one say nothing of the spread
    assert np.isfinite(single.success(np.arange(5))).all()


def bayes_ceiling(p, total, n):
    """Best possible share within one bin, from `total` successes in n, the population as prior."""
    from scipy.stats import binom

    grid = np.quantile(p, (np.arange(2000) + 0.5) / 2000)
    bin_ = np.minimum((1 - (1 - grid) ** 8) * 10, 9).astype(int)
    like = binom.pmf(np.arange(n + 1)[:, None], n, grid[None])
    mass = np.stack([like[:, abs(bin_ - b) <= 1].sum(1) for b in range(10)], 1)
    return (mass.max(1) / like.sum(1))[total].mean()


@pytest.mark.parametrize("name", ["beta", "atoms", "heavy"])
def test_bins_are_near_the_bayes_ceiling_after_five_visits(name):
    rng = np.random.default_rng(5)
    p = population(name, rng, 4096)
    difficulty = Difficulty(DifficultyConfig())
    rows, total = difficulty.rows(range(4096)), np.zeros(4096, int)
    for _ in range(5):
        c = rng.binomial(4, p)
        total += c
        for part in np.split(np.arange(4096), 16):
            difficulty.observe(rows[part], np.full(256, 4), c[part])
    truth = np.minimum((1 - (1 - p) ** 8) * 10, 9).astype(int)
    within = np.mean(abs(difficulty.bin_P(rows) - truth) <= 1)
    assert within >= 0.95 * bayes_ceiling(p, total, 20)


@pytest.mark.parametrize(("before", "after", "at_most"), [(0.1, 0.9, 3), (0.9, 0.1, 18)])
def test_bins_follow_a_jump(before, after, at_most):
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 0.6, 1500)
    p[:300] = before
    difficulty = Difficulty(DifficultyConfig())
    rows = difficulty.rows(range(1500))
    for _ in range(20):
        difficulty.observe(rows, np.full(1500, 4), rng.binomial(4, p))
    p[:300] = after
    truth = min(int((1 - (1 - after) ** 8) * 10), 9)
    lag = np.full(300, 99)
    for t in range(1, 40):
        difficulty.observe(rows, np.full(1500, 4), rng.binomial(4, p))
        there = abs(difficulty.bin_P(rows[:300]) - truth) <= 1
        lag = np.where(there & (lag == 99), t, lag)
    assert lag.mean() <= at_most
    assert np.quantile(lag, 0.9) <= at_most


def test_known_rates_place_unseen_prompts_and_yield_to_evidence():
    difficulty = Difficulty(DifficultyConfig(prior_column="rate", **FIXED))
    rows = difficulty.rows(range(4))
    difficulty.set_prior(rows[:3], np.array([0.0, 0.5, 1.0]))
    bins = difficulty.bin_P(rows)
    assert bins[0] < bins[1] <= bins[2]
    assert bins[3] == -1
    a, b = difficulty.posterior(rows)
    assert a == pytest.approx([0.3, 2.3, 4.3, 0.3])
    assert b == pytest.approx([4.6, 2.6, 0.6, 0.6])
    for _ in range(12):
        visit(difficulty, rows, 4, 4)
    assert difficulty.bin_P(rows).tolist() == [9] * 4
    late = difficulty.rows([99])
    assert difficulty.posterior(late) == (pytest.approx([0.3]), pytest.approx([0.6]))
    with pytest.raises(DataError, match="prior_column=rate"):
        difficulty.set_prior(rows[:1], np.array([1.5]))


# --- static groups ---


def test_groups_of_a_column_are_sorted_labels():
    difficulty = Difficulty(DifficultyConfig(source="column:family"))
    rows = difficulty.rows(["x", "y", "z", "w"])
    difficulty.set_groups(rows[:3], ["geometry", "algebra", "geometry"])
    assert difficulty.labels == ["algebra", "geometry"]
    assert difficulty.num_bins == 2
    assert difficulty.bin_P(rows).tolist() == [1, 0, 1, -1]
    assert difficulty.population_B().tolist() == [1, 2]
    visit(difficulty, rows, 4, 0)
    assert difficulty.bin_P(rows).tolist() == [1, 0, 1, -1]  # outcomes move no one
    assert difficulty.evidence(rows)[0].tolist() == [4, 4, 4, 4]
    difficulty.set_groups(rows[3:], ["algebra"])
    assert difficulty.population_B().tolist() == [2, 2]
    with pytest.raises(DataError, match="not among the groups"):
        difficulty.set_groups(rows[3:], ["topology"])
    with pytest.raises(DataError, match="without a value"):
        difficulty.set_groups(rows[3:], [None])


def test_numbers_are_sorted_by_value():
    difficulty = Difficulty(DifficultyConfig(source="column:level"))
    difficulty.set_groups(difficulty.rows(range(3)), [10, 9, 2])
    assert difficulty.labels == ["2", "9", "10"]


def test_random_bins_depend_on_the_id_alone():
    config = DifficultyConfig(source="random", bins=5)
    first, second = Difficulty(config), Difficulty(config)
    ids = [f"p{i}" for i in range(2000)]
    bins = first.bin_P(first.rows(ids))
    assert np.array_equal(second.bin_P(second.rows(ids[::-1]))[::-1], bins)
    counts = np.bincount(bins, minlength=5)
    assert np.array_equal(counts, first.population_B())
    assert counts.min() > 330
    visit(first, first.rows(ids), 4, 4)
    assert np.array_equal(first.bin_P(first.rows(ids)), bins)


# --- state ---


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"memory": "window", "window": 3},
        {"memory": "all"},
        {"estimator": "any"},
        {"binning": "interval"},
        {"source": "random"},
        {"prior_column": "rate"},
    ],
)
def test_resumed_equals_uninterrupted(tmp_path, config):
    rng = np.random.default_rng(0)
    steps = [(rng.integers(0, 50, 16), rng.integers(1, 9, 16)) for _ in range(20)]
    steps = [(ids, n, rng.binomial(n, 0.4)) for ids, n in steps]

    def play(difficulty, steps):
        for ids, n, c in steps:
            difficulty.observe(difficulty.rows([f"id {i}" for i in ids]), n, c)

    whole = Difficulty(DifficultyConfig(**config))
    if "prior_column" in config:
        whole.set_prior(whole.rows(["id 1", "id 60"]), np.array([0.1, 0.9]))
    play(whole, steps[:9])
    save(tmp_path / "s.npz", whole.state_dict(), fingerprint="f")
    resumed = Difficulty(DifficultyConfig(**config))
    resumed.load_state_dict(load(tmp_path / "s.npz", fingerprint="f"))
    for difficulty in (whole, resumed):
        play(difficulty, steps[9:])
    rows = np.arange(len(whole))
    assert len(resumed) == len(whole)
    assert np.array_equal(resumed.bin_P(rows), whole.bin_P(rows))
    assert np.array_equal(resumed.posterior(rows), whole.posterior(rows))
    assert resumed.metrics() == whole.metrics()


def test_state_is_a_copy_and_of_the_same_bins():
    difficulty, row = one()
    visit(difficulty, row, 4, 4)
    state = difficulty.state_dict()
    before = state["memory"]["sum"].copy()
    visit(difficulty, row, 4, 4)
    assert np.array_equal(state["memory"]["sum"], before)
    with pytest.raises(CheckpointError, match="other bins"):
        Difficulty(DifficultyConfig(bins=3)).load_state_dict(state)


# --- a prior by level ---


def test_unseen_prompts_start_from_their_level():
    """D4: once a level has had 16 visits, its unvisited prompts have the bin of its estimate."""
    config = DifficultyConfig(level_column="level")
    difficulty = Difficulty(config)
    ids = [f"{level}{i}" for level in ("hard", "easy", "none") for i in range(40)]
    rows = difficulty.rows(ids)
    levels = [None if i.startswith("none") else i[:4] for i in ids]
    difficulty.set_levels(rows, levels)
    rng = np.random.default_rng(0)
    rate = np.repeat([0.02, 0.7, 0.3], 40)
    first = np.r_[0:15, 40:55, 80:95]
    difficulty.observe(rows[first], np.full(45, 4), rng.binomial(4, rate[first]))
    assert (difficulty.bin_P(rows[20:40]) == -1).all(), "15 visits are not enough"
    more = np.r_[15:20, 55:60, 95:100]
    difficulty.observe(rows[more], np.full(15, 4), rng.binomial(4, rate[more]))
    hard, easy, none = (difficulty.bin_P(rows[k : k + 20]) for k in (20, 60, 100))
    assert (hard == hard[0]).all()
    assert 0 <= hard[0] <= 3
    assert (easy >= 8).all()
    assert (none == -1).all()
    assert difficulty.population_B().sum() == 60, "the unvisited are not counted"
    again = Difficulty(config)
    again.load_state_dict(difficulty.state_dict())
    np.testing.assert_array_equal(again.bin_P(rows), difficulty.bin_P(rows))
    np.testing.assert_array_equal(again.posterior(rows)[0], difficulty.posterior(rows)[0])
    assert again.bin_P(again.rows(["stranger"]))[0] == -1
    with pytest.raises(DataError, match="holds no level"):
        difficulty.set_levels(rows, [None] * len(rows))
