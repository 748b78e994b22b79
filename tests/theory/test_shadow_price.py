"""The shadow price mu follows the demand to the KKT multiplier (Eq. 21, 31; method D12)."""

import itertools

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import brentq

from gdro.core.allocate.price import AdditivePrice, LogPrice
from gdro.core.theory import price_form, shadow_price

N_MEAN, LOW, HIGH = 4.0, 2, 12
SHARE_B = np.array([0.1, 0.2, 0.3, 0.4])
V_B = np.array([0.25, 0.16, 0.05, 0.01])


def bought(price, low=0.0, high=np.inf):
    """Mean rollouts that the bins buy at this price, each the best response within the bounds."""
    return float(SHARE_B @ np.clip(price_form(V_B, price), low, high))


def followed(price, demand, steps):
    """Prices and demands of a run."""
    price_T, demand_T = np.empty(steps), np.empty(steps)
    for t in range(steps):
        price_T[t], demand_T[t] = price.value, demand(price.value)
        price.move(demand_T[t])
    return price_T, demand_T


@pytest.mark.parametrize("bounds", [(0.0, np.inf), (2.0, 12.0)])
def test_the_price_converges_to_the_multiplier_from_any_start(bounds, theory_table):
    multiplier = (
        shadow_price(SHARE_B, V_B, N_MEAN)
        if bounds[0] == 0
        else brentq(lambda mu: bought(mu, *bounds) - N_MEAN, 1e-5, 1.0, xtol=1e-15)
    )
    off = 0.0
    for alpha, start in itertools.product((0.05, 0.5), np.linspace(-7.5, 7.5, 31)):
        price = LogPrice(alpha, N_MEAN)
        price.state += start
        price_T, demand_T = followed(price, lambda mu: bought(mu, *bounds), round(100 / alpha))
        off = max(off, abs(price_T[-1] / multiplier - 1))
        assert demand_T[-1] == pytest.approx(N_MEAN)
    name = f"price / multiplier - 1, counts {bounds[0]:g}..{bounds[1]:g}, worst of 62 starts"
    theory_table(name, off, "<=", 1e-9)


ARM_K = np.arange(LOW, HIGH + 1)
UTILITY_BK = -V_B[:, None] / ARM_K


def whole(price, share_B):
    """Mean bought in whole rollouts, each bin the argmax of -v/n - mu n over the arms."""
    return float(share_B @ ARM_K[(UTILITY_BK - price * ARM_K).argmax(axis=1)])


def multipliers(share_B):
    """The prices below which more than n_mean are bought, and above which fewer."""
    ends = []
    for too_many in (lambda n: n > N_MEAN + 1e-9, lambda n: n > N_MEAN - 1e-9):
        low, high = 1e-5, 1.0
        while high / low > 1 + 1e-12:  # demand falls in the price
            middle = np.sqrt(low * high)
            low, high = (middle, high) if too_many(whole(middle, share_B)) else (low, middle)
        ends.append(high)
    return ends


@pytest.mark.parametrize("shares", ["one", "an interval for the"])
def test_with_whole_rollouts_the_running_average_does(shares, solve, theory_table):
    """The multiplier is then where the demand, a step function, jumps over n_mean (or meets it).

    The price gets there, and then circles within a step of the largest size on the log scale,
    alpha (n_max - n_mean) / n_mean. The demand's average is off by no more than n_mean / (alpha T)
    times two such steps, as its gaps telescope.
    """
    share_B = SHARE_B if shares != "one" else np.sqrt(SHARE_B) / np.sqrt(SHARE_B).sum()
    low, high = multipliers(share_B)
    assert (high / low > 1.01) == (shares != "one")
    # The same multiplier is the dual of the best mixture of arms within the budget.
    x = cp.Variable(UTILITY_BK.shape, nonneg=True)
    budget = share_B @ (x @ ARM_K) <= N_MEAN
    value = share_B @ cp.sum(cp.multiply(UTILITY_BK, x), axis=1)
    solve(cp.Problem(cp.Maximize(value), [budget, cp.sum(x, axis=1) == 1]))
    assert low * (1 - 1e-6) <= float(budget.dual_value) <= high * (1 + 1e-6)

    off = error = 0.0
    for alpha, start in itertools.product((0.01, 0.05, 0.2), (-6.0, 0.0, 6.0)):
        step, settle = alpha * (HIGH - N_MEAN) / N_MEAN, round(100 / alpha)
        price = LogPrice(alpha, N_MEAN)
        price.state += start
        followed(price, lambda mu: whole(mu, share_B), settle)
        price_T, demand_T = followed(price, lambda mu: whole(mu, share_B), settle)
        log_T = np.log(price_T)
        assert np.all((log_T >= np.log(low) - step) & (log_T <= np.log(high) + step))
        mean = np.clip(log_T.mean(), np.log(low), np.log(high))
        off = max(off, abs(log_T.mean() - mean) / step)
        most = N_MEAN * 2 * step / (alpha * settle)
        error = max(error, abs(demand_T.mean() - N_MEAN) / most)
    name = f"whole rollouts, {shares} multiplier"
    theory_table(f"mean log price off, in steps, {name}", off, "<=", 1)
    theory_table(f"mean demand off, over what telescopes, {name}", error, "<=", 1)


def one_bin(price):
    """v = .25 within 2..12; a price of 0 or less buys all there is."""
    return float(np.clip(price_form(np.array(0.25), price), 2, 12)) if price > 0 else 12.0


def test_the_additive_form_flips_between_the_bounds(theory_table):
    """dn/dmu = -n / (2 mu) = -128 at v = .25, n = 4: a step of .05 multiplies the gap by -5.4."""
    multiplier = 0.25 / N_MEAN**2
    h = 1e-7
    slope = (one_bin(multiplier + h) - one_bin(multiplier - h)) / (2 * h)
    theory_table("dn/dmu at v = .25, n = 4 (D12)", slope, "=", -128, rel=1e-6)
    price = AdditivePrice(0.05, N_MEAN)
    price.state = multiplier * 1.001
    _, demand_T = followed(price, one_bin, 2000)
    late_T = demand_T[1000:]
    at_bounds = np.mean((late_T < 2.001) | (late_T > 11.999))
    theory_table("additive price: steps at n_min or n_max, of the last 1,000", at_bounds, ">=", 0.9)
    assert {late_T.min(), late_T.max()} == {2.0, 12.0}
    log_T, _ = followed(LogPrice(0.05, N_MEAN), one_bin, 2000)
    assert log_T[-1] == pytest.approx(multiplier)


@pytest.mark.parametrize("times", [0.5, 0.9, 1.1])
def test_the_additive_form_is_stable_below_its_limit_only(times):
    """It contracts while alpha |dn/dmu| < 2: alpha < 1/64 there. The log form: alpha < 4."""
    multiplier = 0.25 / N_MEAN**2
    price = AdditivePrice(times * 2 / 128, N_MEAN)
    price.state = multiplier * 1.001
    price_T, _ = followed(price, one_bin, 1000)
    assert (abs(price_T[-1] / multiplier - 1) < 1e-9) == (times < 1)
