"""Theorem 4.2 (Eq. 28-31): the square-root law and its price, against a convex solver."""

import cvxpy as cp
import numpy as np
import pytest

from gdro.core.budget import separable
from gdro.core.theory import price_form, shadow_price, square_root_law
from gdro.core.variance import log_slope, var_proxy, wse

N_MEAN = 4.0


def instances(count, seed):
    rng = np.random.default_rng(seed)
    for bins in rng.integers(2, 11, count):
        yield rng.dirichlet(np.ones(bins)) * 0.9 + 0.1 / bins, np.exp(rng.uniform(-4, 0, bins))


def optimum(solve, share_B, v_B, low=0.0, high=np.inf):
    """The allocation of least VarProxy, the value, and the multiplier of the budget."""
    n = cp.Variable(len(v_B))
    budget = share_B @ n <= N_MEAN
    box = [n >= low] if np.isinf(high) else [n >= low, n <= high]
    problem = cp.Problem(cp.Minimize((share_B * v_B) @ cp.inv_pos(n)), [budget, *box])
    value = solve(problem)
    return n.value, value, float(budget.dual_value)


def test_the_law_is_the_optimum_and_the_multiplier_is_the_price(solve, theory_table):
    off_n = off_value = off_price = off_bought = 0.0
    for share_B, v_B in instances(25, seed=0):
        n_B, value, multiplier = optimum(solve, share_B, v_B)
        law_B = square_root_law(share_B, v_B, N_MEAN)
        price = shadow_price(share_B, v_B, N_MEAN)
        off_n = max(off_n, np.abs(law_B / n_B - 1).max())
        off_value = max(off_value, abs(var_proxy(share_B, v_B, law_B) / value - 1))
        off_price = max(off_price, abs(price / multiplier - 1))
        off_bought = max(off_bought, np.abs(price_form(v_B, price) / law_B - 1).max())
        assert share_B @ law_B == pytest.approx(N_MEAN)
        assert var_proxy(share_B, v_B, law_B) == pytest.approx(N_MEAN * price)
        assert log_slope(v_B, law_B) == pytest.approx(0.5)
    theory_table("square-root law against the solver, relative (Eq. 30)", off_n, "<=", 2e-3)
    theory_table("its VarProxy against the solver's, relative (Eq. 28)", off_value, "<=", 1e-6)
    theory_table("shadow price against the KKT multiplier, relative", off_price, "<=", 1e-3)
    theory_table("price form at that price against the law (Eq. 31)", off_bought, "<=", 1e-12)


def test_the_price_is_what_one_more_rollout_is_worth():
    """The multiplier as a derivative of the optimal value in the budget."""
    for share_B, v_B in instances(20, seed=1):
        h = 1e-5

        def best(n_mean, share_B=share_B, v_B=v_B):
            return var_proxy(share_B, v_B, square_root_law(share_B, v_B, n_mean))

        slope = (best(N_MEAN - h) - best(N_MEAN + h)) / (2 * h)
        assert shadow_price(share_B, v_B, N_MEAN) == pytest.approx(slope, rel=1e-6)


def test_between_bounds_the_optimum_is_the_price_form_clipped(solve, theory_table):
    off = 0.0
    for share_B, v_B in instances(25, seed=2):
        n_B, _, multiplier = optimum(solve, share_B, v_B, 2.0, 12.0)
        off = max(off, np.abs(np.clip(price_form(v_B, multiplier), 2, 12) - n_B).max())
    theory_table("price form, clipped to 2..12, against the solver", off, "<=", 1e-2)


def test_whole_rollouts_cost_little_more_and_no_allocation_less(theory_table):
    """VarProxy of the exact integer optimum, between the law's and that of its rounding."""
    rng, worst = np.random.default_rng(3), 1.0
    for _ in range(30):
        v_P = np.exp(rng.uniform(-2, 0, 64))
        even_P, low_P, high_P = np.full(64, 1 / 64), np.full(64, 1), np.full(64, 256)
        n_P = separable(v_P, low_P, high_P, 256, rng)
        law_P = square_root_law(even_P, v_P, N_MEAN)
        ratio = var_proxy(even_P, v_P, n_P) / var_proxy(even_P, v_P, law_P)
        assert ratio >= 1
        worst = max(worst, ratio)
        for _ in range(20):
            other_P = rng.dirichlet(np.full(64, 20.0)) * 256
            assert var_proxy(even_P, v_P, other_P) > var_proxy(even_P, v_P, law_P)
    theory_table("VarProxy of the integer optimum / the law's, worst of 30", worst, "<=", 1.05)


def test_wse_has_another_optimum(solve, theory_table):
    """Eq. 33 is least at n proportional to v^(1/3), not at the law that Theorem 4.2 is about."""
    off, better = 0.0, np.inf
    for share_B, v_B in instances(10, seed=4):
        n = cp.Variable(len(v_B))
        cost = (share_B * np.sqrt(v_B)) @ cp.power(n, -0.5)
        solve(cp.Problem(cp.Minimize(cost), [share_B @ n == N_MEAN]))
        third_B = np.cbrt(v_B) * N_MEAN / (share_B @ np.cbrt(v_B))
        off = max(off, np.abs(third_B / n.value - 1).max())
        law_B = square_root_law(share_B, v_B, N_MEAN)
        better = min(better, wse(share_B, v_B, law_B) - wse(share_B, v_B, third_B))
    theory_table("WSE: n ~ v^(1/3) against the solver, relative (Eq. 33)", off, "<=", 1e-2)
    theory_table("WSE of the square-root law above the least one", better, ">", 0)
