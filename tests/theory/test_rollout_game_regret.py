"""The rollout game (Eq. 18-21): regret of a price-taker, and the budget before projection."""

import cvxpy as cp
import numpy as np
import pytest

from gdro.core.allocate.price import LogPrice
from gdro.core.theory import (
    CumulativeExp3P,
    exp3p_bound,
    price_form,
    price_regret_bound,
    shadow_price,
)

N_MEAN, LOW, HIGH, B = 4.0, 2, 12, 6
ARM_K = np.arange(LOW, HIGH + 1)
SHARE_B = np.array([0.3, 0.25, 0.2, 0.12, 0.08, 0.05])


def stationary(rng, rounds):
    return np.tile(np.exp(np.linspace(-4, -1.4, B)), (rounds, 1))


def noisy(rng, rounds):
    return stationary(rng, rounds) * rng.gamma(2.0, 0.5, (rounds, B))


def switching(rng, rounds):
    """The variances swap among the bins every few rounds."""
    v_TB = stationary(rng, rounds)
    v_TB[(np.arange(rounds) // 37) % 2 == 1] = v_TB[0, ::-1]
    return v_TB


def waves(rng, rounds):
    """All variances rise and fall together: budget saved in one phase is wanted in the other."""
    swing_T = np.exp(2 * np.sin(2 * np.pi * np.arange(rounds) / 400))
    return stationary(rng, rounds) / 4 * swing_T[:, None]


SEQUENCES = [stationary, noisy, switching, waves]


def traded(v_TB, alpha, best_response):
    """Allocations [T, B] that are bought, and prices [T + 1]; the real price class."""
    price, n_TB, price_T = LogPrice(alpha, N_MEAN), np.empty(v_TB.shape), [0.0] * (len(v_TB) + 1)
    for t, v_B in enumerate(v_TB):
        price_T[t] = price.value
        n_TB[t] = best_response(v_B, price.value)
        price.move(float(SHARE_B @ n_TB[t]))
    price_T[-1] = price.value
    return n_TB, np.array(price_T)


def continuous(v_B, price):
    return np.clip(price_form(v_B, price), LOW, HIGH)


def whole(v_B, price):
    return ARM_K[(-v_B[:, None] / ARM_K - price * ARM_K).argmax(axis=1)]


def best_fixed(solve, v_B, arm_K=None):
    """Most utility of an allocation of mean <= n_mean; with arms, of a mixture of them."""
    if arm_K is None:
        n = cp.Variable(B)
        cost = (SHARE_B * v_B) @ cp.inv_pos(n)
        limits = [SHARE_B @ n <= N_MEAN, n >= LOW, n <= HIGH]
    else:
        x = cp.Variable((B, arm_K.size), nonneg=True)
        cost = SHARE_B @ cp.sum(cp.multiply(v_B[:, None] / arm_K, x), axis=1)
        limits = [SHARE_B @ (x @ arm_K) <= N_MEAN, cp.sum(x, axis=1) == 1]
    return -solve(cp.Problem(cp.Minimize(cost), limits))


def reach(v_TB, price_T, step):
    """Prices that cannot be left: where all bins buy n_min or n_max, overshot by one step."""
    most = max(v_TB.max() / (LOW * (LOW - 0.5)), price_T[0]) * step
    return min(v_TB.min() / (HIGH * (HIGH + 0.5)), price_T[0]) / step, most


@pytest.mark.parametrize("arms", ["continuous", "whole"])
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_primal_dual_regret_and_violation(sequence, arms, solve, theory_table):
    """Both below the bounds of `price_regret_bound`, whose docstring derives them, and O(sqrt T).

    A priori, with G = n_max - n_mean the largest gap and mu within m..M: regret <=
    n_mean mu_1 / alpha + alpha M G^2 T / n_mean, and |violation| <= n_mean log(M / m) / alpha.
    """
    respond, arm_K = {"continuous": (continuous, None), "whole": (whole, ARM_K)}[arms]
    for rounds in (400, 1600, 6400):
        v_TB = sequence(np.random.default_rng(0), rounds)
        alpha, gap = 1 / np.sqrt(rounds), HIGH - N_MEAN
        n_TB, price_T = traded(v_TB, alpha, respond)
        demand_T = n_TB @ SHARE_B
        regret = rounds * best_fixed(solve, v_TB.mean(axis=0), arm_K)
        regret += float(np.sum(SHARE_B * v_TB / n_TB))
        bound = price_regret_bound(price_T, demand_T, N_MEAN, alpha)
        assert regret <= bound + 1e-7 * rounds  # the solver's digits
        least, most = reach(v_TB, price_T, np.exp(alpha * gap / N_MEAN))
        assert np.all((price_T >= least) & (price_T <= most))
        a_priori = N_MEAN * price_T[0] / alpha + alpha * most * gap**2 * rounds / N_MEAN
        assert bound <= a_priori
        violation = float(np.sum(demand_T - N_MEAN))
        telescoped = N_MEAN * np.log(price_T[-1] / price_T[0]) / alpha
        assert violation == pytest.approx(telescoped, abs=1e-7)
        allowed = N_MEAN * np.log(most / least) / alpha
        assert abs(violation) <= allowed
    name = f"{sequence.__name__}, T {rounds:,}"
    if arms == "whole":
        theory_table(f"rollout game: regret, {name}", regret, "<=", bound)
        theory_table(f"rollout game: |overdrawn|, {name}", abs(violation), "<=", allowed)
    # Not empty: players at either bound would break one of them.
    fewest = rounds * best_fixed(solve, v_TB.mean(axis=0), arm_K)
    assert fewest + np.sum(v_TB @ SHARE_B) / LOW > bound
    assert gap * rounds > allowed


def test_the_bound_on_regret_is_attained_to_a_factor_of_two(theory_table):
    """Utilities that are worth the price, mu_t n: every count is a best response to it.

    Bought dear when that is worst: once n_max at a low price, then n_min until it has come back.
    Then regret = -sum mu g, and the bound's exp(u) <= 1 + u + u^2 is twice what exp(u) has.
    """
    alpha, cycles = 0.01, 400
    price, n_T = LogPrice(alpha, N_MEAN), np.tile([12.0, 2.0, 2.0, 2.0, 2.0], cycles)
    price_T = []
    for n in n_T:
        price_T.append(price.value)
        price.move(n)
    price_T = np.array([*price_T, price.value])
    regret = float(price_T[:-1] @ (N_MEAN - n_T))
    bound = price_regret_bound(price_T, n_T, N_MEAN, alpha)
    theory_table("rollout game: regret, bins indifferent", regret, "<=", bound)
    assert regret > 0.48 * bound


def test_a_price_that_does_not_move_exceeds_the_bound(theory_table):
    """As released: mu stays where it is (D12), and the budget is overdrawn by a share of T."""
    rounds, alpha = 6400, 1 / 80
    v_TB = stationary(np.random.default_rng(0), rounds)
    price_T = np.full(rounds + 1, shadow_price(SHARE_B, v_TB[0], N_MEAN) / 4)
    least, most = reach(v_TB, price_T, np.exp(alpha * (HIGH - N_MEAN) / N_MEAN))
    overdrawn = rounds * float(SHARE_B @ continuous(v_TB[0], price_T[0]) - N_MEAN)
    allowed = N_MEAN * np.log(most / least) / alpha
    theory_table("rollout game: |overdrawn| at a price held fixed", overdrawn, ">", allowed)


def test_with_bandit_feedback(solve, theory_table):
    """Each bin an EXP3.P over arms 2, 4, 8: it sees the utility of the drawn arm less its price.

    Against every mixture of arms whose mean is at most n_mean, with probability 1 - B delta,

        regret <= R = sum_b share_b range_b 5.15 sqrt(T K log(K / delta)) + mu_1^2 / (2 alpha)
                      + alpha sum_t g_t^2 / 2.

    The first term is EXP3.P's, whose bound allows gains that depend on past draws, as prices do;
    range_b is that of J_b(n) - mu n over arms and prices. The rest bounds -sum mu g for
    mu += alpha g, kept in [0, M] (gradient descent; Zinkevich, 2003). Set against M instead of 0,
    the same descent gives (M - mu*) violation <= R + (M - mu_1)^2 / (2 alpha), for utilities that
    stay the same and have the multiplier mu*: a saddle point has sum f(n_t) - f(x) <= mu* sum g.
    """
    rounds, delta, arm_K = 40_000, 0.01, np.array([2, 4, 8])
    v_B = np.exp(np.linspace(-4, -1.4, B))
    utility_BK = -v_B[:, None] / arm_K
    x = cp.Variable(utility_BK.shape, nonneg=True)
    budget = SHARE_B @ (x @ arm_K) <= N_MEAN
    value = SHARE_B @ cp.sum(cp.multiply(utility_BK, x), axis=1)
    best = solve(cp.Problem(cp.Maximize(value), [budget, cp.sum(x, axis=1) == 1]))
    multiplier = float(budget.dual_value)
    most = 3 * multiplier
    alpha = most / (4 * np.sqrt(rounds))
    low_B = (utility_BK - most * arm_K).min(axis=1)
    range_B = utility_BK.max(axis=1) - low_B
    player = CumulativeExp3P(arm_K.size, rounds, delta, np.random.default_rng(0), games=B)
    price, earned, gap_T, bins = 0.0, 0.0, np.empty(rounds), np.arange(B)
    for t in range(rounds):
        k_B = player.draw()
        n_B, utility_B = arm_K[k_B], utility_BK[bins, k_B]
        player.observe((utility_B - price * n_B - low_B) / range_B)
        earned += float(SHARE_B @ utility_B)
        gap_T[t] = SHARE_B @ n_B - N_MEAN
        price = min(max(price + alpha * gap_T[t], 0.0), most)
    bound = float(SHARE_B @ range_B) * exp3p_bound(arm_K.size, rounds, delta)
    bound += alpha * float(gap_T @ gap_T) / 2
    allowed = (bound + most**2 / (2 * alpha)) / (most - multiplier)
    theory_table("rollout game, bandits: regret", rounds * best - earned, "<=", bound)
    theory_table("rollout game, bandits: overdrawn", gap_T.sum(), "<=", allowed)
    lazy = rounds * float(best - SHARE_B @ utility_BK[:, 0])
    theory_table("rollout game: regret of n_min alone", lazy, ">", bound)
    theory_table("rollout game: overdrawn by n_max alone", 4.0 * rounds, ">", allowed)
