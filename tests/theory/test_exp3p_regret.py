"""Regret of EXP3.P on sums, with bandit feedback, against its high-probability bound."""

import numpy as np
import pytest

from gdro.core.theory import CumulativeExp3P, exp3p_bound

T, K, DELTA, GAMES = 10_000, 11, 0.05, 20
"""As many arms as counts 2..12; twenty games, each with its own draws."""


def stochastic(rng):
    """Bernoulli gains, the last arm best."""
    mean_K = np.r_[np.full(K - 1, 0.2), 0.8]
    return lambda t, play: (rng.random((GAMES, K)) < mean_K).astype(float)


def switching(rng):
    """The best arm of the first half is the worst of the second."""
    first_K, second_K = np.linspace(1, 0, K), np.r_[0, np.linspace(0, 1, K - 1)]
    return lambda t, play: np.broadcast_to(first_K if t < 0.3 * T else second_K, (GAMES, K))


def against_the_player(rng):
    """Gain 1 wherever the arm is improbable: it depends on the draws before."""
    return lambda t, play: (play.p_SK <= np.median(play.p_SK, axis=1)[:, None]).astype(float)


def late(rng):
    """Nothing to learn at first, then one arm alone pays."""
    late_K = np.eye(K)[3]
    return lambda t, play: np.broadcast_to(late_K if t > T // 4 else np.full(K, 0.5), (GAMES, K))


def played(player, gains):
    """Regret of each game."""
    total_SK, game = np.zeros((GAMES, K)), np.arange(GAMES)
    for t in range(T):
        gain_SK = gains(t, player)
        player.observe(gain_SK[game, player.draw()])
        total_SK += gain_SK
    return total_SK.max(axis=1) - player.earned_S


@pytest.mark.parametrize("sequence", [stochastic, switching, against_the_player, late])
def test_exp3p_stays_below_its_bound(sequence, theory_table):
    rng = np.random.default_rng(0)
    player = CumulativeExp3P(K, T, DELTA, rng, GAMES)
    regret_S = played(player, sequence(rng))
    name = sequence.__name__.replace("_", " ")
    bound = exp3p_bound(K, T, DELTA)
    theory_table(f"EXP3.P regret, {name}, worst of {GAMES}", regret_S.max(), "<=", bound)
    assert regret_S.std() > 0, "the games have draws of their own"


@pytest.mark.parametrize("sequence", [stochastic, late])
def test_a_player_who_does_not_learn_exceeds_it(sequence, theory_table):
    rng = np.random.default_rng(0)
    player = CumulativeExp3P(K, T, DELTA, rng, GAMES)
    player.eta = 0.0
    regret_S = played(player, sequence(rng))
    name = f"uniform draws: regret, {sequence.__name__}, least of {GAMES}"
    theory_table(name, regret_S.min(), ">", exp3p_bound(K, T, DELTA))


def test_it_is_the_algorithm_of_the_book():
    """Exp3.P with the rates of Theorem 3.2, written out with loops, along one game."""
    arms, rounds, delta = 4, 300, 0.1
    eta = 0.95 * np.sqrt(np.log(arms) / (rounds * arms))
    gamma = 1.05 * np.sqrt(arms * np.log(arms) / rounds)
    beta = np.sqrt(np.log(arms / delta) / (rounds * arms))
    player = CumulativeExp3P(arms, rounds, delta, np.random.default_rng(1))
    gain_TK, estimate, earned = np.random.default_rng(2).random((rounds, arms)), [0.0] * arms, 0.0
    for gain_K in gain_TK:
        weight = [np.exp(eta * g) for g in estimate]
        p = [(1 - gamma) * w / sum(weight) + gamma / arms for w in weight]
        assert player.p_SK[0] == pytest.approx(p)
        (arm,) = player.draw()
        player.observe(gain_K[[arm]])
        for i in range(arms):
            estimate[i] += ((gain_K[i] if i == arm else 0.0) + beta) / p[i]
        earned += gain_K[arm]
    assert player.earned_S[0] == pytest.approx(earned)


def test_draws_have_the_probabilities_that_they_are_weighted_with():
    player = CumulativeExp3P(5, 1000, 0.1, np.random.default_rng(0), games=100_000)
    player.estimate_SK += np.array([0.0, 20.0, 40.0, 60.0, 5.0])
    p_K = player.p_SK[0]
    count_K = np.bincount(player.draw(), minlength=5)
    error_K = np.sqrt(p_K * (1 - p_K) / 100_000)
    assert np.all(np.abs(count_K / 100_000 - p_K) < 4.5 * error_K)


def test_few_rounds_leave_nothing_but_exploration():
    player = CumulativeExp3P(K, 5, DELTA, np.random.default_rng(0))
    assert player.gamma == 1.0
    assert player.p_SK[0] == pytest.approx(1 / K)
    assert exp3p_bound(K, 5, DELTA) > 5
