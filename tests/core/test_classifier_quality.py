"""How well prompts are told apart, on known success rates: the bounds of benchmarks/classifier.py.

The full table is docs/results/classifier.md; here are fewer seeds of what it promises.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from gdro import ControllerConfig

_PATH = Path(__file__).parents[2] / "benchmarks" / "classifier.py"
_SPEC = importlib.util.spec_from_file_location("classifier_benchmark", _PATH)
bench = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)

OURS, FLAG = bench.CLASSIFIERS[bench.DEFAULT], bench.CLASSIFIERS[bench.PAPER]
everywhere = pytest.mark.parametrize("place", bench.POPULATIONS)
standing = pytest.mark.parametrize("place", bench.STANDING)
however_many = pytest.mark.parametrize("kind", bench.COUNTS)


def followed(classifier, place, counts, seed, rounds=20):
    population = bench.POPULATIONS[place]
    return bench.followed(classifier, population, counts, seed, 2048, rounds)


def within_one(bins, truth):
    return np.mean(abs(bins - truth) <= 1)


def test_the_rows_are_the_default_and_the_paper():
    for classifier, default in (
        (OURS, ControllerConfig()),
        (FLAG, ControllerConfig.preset("paper")),
    ):
        config = ControllerConfig.from_dict({"difficulty": classifier})
        assert config.difficulty == default.difficulty


@everywhere
@however_many
def test_five_visits_place_prompts_near_the_bayes_ceiling_and_better_than_the_flag(place, kind):
    shares = {}
    for name, classifier in (("ours", OURS), ("flag", FLAG)):
        got, best = 0.0, 0.0
        for seed in range(2):
            run, history = followed(classifier, place, bench.COUNTS[kind], seed, rounds=5)
            *_, (_, near, _) = bench.bayes_bins(bench.POPULATIONS[place], history)
            got += within_one(run["bin"][4], run["truth"][4])
            best += within_one(near, run["truth"][4])
        shares[name] = got / best
    assert 0.95 <= shares["ours"] <= 1.0
    assert shares["flag"] <= shares["ours"] - 0.04


@standing
@however_many
def test_bins_follow_a_jump_up_and_down_sooner_than_the_flag(place, kind):
    ours, flag = (
        bench.lags(classifier, bench.POPULATIONS[place], bench.COUNTS[kind], seed=0, size=480)
        for classifier in (OURS, FLAG)
    )
    assert ours["up"].mean() <= 3
    assert ours["down"].mean() <= 18
    assert flag["up"].mean() >= 20
    assert flag["down"].mean() >= ours["down"].mean() + 1


@standing
def test_the_population_is_unbiased_at_every_visit_when_the_allocator_reacts(place):
    ours, flag = (
        followed(classifier, place, bench.COUNTS["hard_first"], seed=1)[0]["bias"]
        for classifier in (OURS, FLAG)
    )
    assert abs(ours).max() <= 0.02
    assert flag.max() <= -0.04


@standing
def test_the_flag_depends_on_the_rollouts_of_a_visit(place):
    """It estimates pass@n: unbiased at n = k, else not; counts do not care (method D1)."""
    for classifier, apart in ((OURS, False), (FLAG, True)):
        four, eight = (
            np.mean([followed(classifier, place, (n, n), s, rounds=5)[0]["bias"] for s in range(3)])
            for n in (4, 8)
        )
        assert abs(eight) <= 0.01
        assert (eight - four >= 0.04) == apart


def test_moving_rates_are_followed_by_forgetting():
    def at_20(classifier, place):
        run = followed(classifier, place, bench.COUNTS["n = 4"], seed=0)[0]
        return within_one(run["bin"][19], run["truth"][19])

    everything = bench.CLASSIFIERS["all, posterior"]
    assert at_20(OURS, "drifting") >= at_20(everything, "drifting") + 0.02
    assert at_20(OURS, "uniform") <= at_20(everything, "uniform") - 0.02


def test_the_ceiling_is_one():
    """No classifier is above it, and the filter of a walk too short to matter is as good."""
    place, counts = "uniform", bench.COUNTS["n in 2..12"]
    population = bench.POPULATIONS[place]
    run, history = followed(OURS, place, counts, seed=0, rounds=5)
    truth = run["truth"][4]

    def scores(exact, near, median):
        off = abs(median - truth).mean()
        return np.array([np.mean(exact == truth), within_one(near, truth), -off])

    *_, best = bench.bayes_bins(population, history)
    almost_still = bench.Population(population.a, population.b, walk=1e-3)
    *_, filtered = bench.bayes_bins(almost_still, history)
    assert scores(*filtered) == pytest.approx(scores(*best), abs=0.01)
    for classifier in bench.CLASSIFIERS.values():
        bins = followed(classifier, place, counts, seed=0, rounds=5)[0]["bin"][4]
        assert (scores(bins, bins, bins) <= scores(*best) + 0.01).all()
