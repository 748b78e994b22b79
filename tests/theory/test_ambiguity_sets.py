"""CVaR and chi-square best responses (method D10), against a convex solver."""

import cvxpy as cp
import numpy as np
import pytest

from gdro.core.weigh.chi_square import chi_square
from gdro.core.weigh.cvar import cvar


def instances(count, seed):
    """Scores with and without ties, base measures level, skewed, and with an empty bin."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        bins = int(rng.integers(2, 9))
        score_B = rng.normal(size=bins) if i % 2 else rng.integers(0, 3, bins) / 2
        base_B = rng.dirichlet(np.full(bins, [0.5, 2.0, 1e6][i % 3])) + 1e-3
        if i % 5 == 0:
            base_B[rng.integers(bins)] = 0.0
        yield score_B, base_B / base_B.sum(), rng


def largest(solve, score_B, constraints):
    q = cp.Variable(len(score_B), nonneg=True)
    problem = cp.Problem(cp.Maximize(score_B @ q), [cp.sum(q) == 1, *constraints(q)])
    return solve(problem)


def divergence(q_B, base_B):
    held = base_B > 0
    return np.sum((q_B - base_B)[held] ** 2 / base_B[held])


def test_cvar_is_the_worst_mass_alpha(solve, theory_table):
    off = 0.0
    for score_B, base_B, rng in instances(60, seed=0):
        alpha = rng.choice([1e-6, 0.03, 0.3, 0.7, 1.0])
        q_B = cvar(score_B, base_B, alpha)
        assert q_B.sum() == pytest.approx(1)
        assert np.all((q_B >= 0) & (q_B <= base_B / alpha * (1 + 1e-9)))
        best = largest(solve, score_B, lambda q, top_B=base_B / alpha: [q <= top_B])
        off = max(off, abs(q_B @ score_B - best))
    theory_table("CVaR: q.S against the linear programme, 60 instances", off, "<=", 1e-5)


def test_cvar_is_the_formula_of_rockafellar_and_uryasev():
    """max over q <= base / alpha of q.S = min over x of x + E[(S - x)_+] / alpha."""
    for score_B, base_B, rng in instances(200, seed=1):
        alpha = rng.uniform(0.01, 1)
        dual = min(x + base_B @ np.maximum(score_B - x, 0) / alpha for x in score_B)
        assert cvar(score_B, base_B, alpha) @ score_B == pytest.approx(dual)


def test_chi_square_is_the_largest_within_the_radius(solve, theory_table):
    off, outside = 0.0, 0.0
    for score_B, base_B, rng in instances(60, seed=2):
        rho = rng.choice([1e-4, 0.1, 1.0, 5.0, 1e4])
        q_B = chi_square(score_B, base_B, rho)
        assert q_B.sum() == pytest.approx(1)
        assert np.all(q_B >= 0)
        outside = max(outside, divergence(q_B, base_B) / rho - 1)
        held = base_B > 0
        root_B = np.sqrt(base_B[held])

        def ball(q, held=held, root_B=root_B, base_B=base_B, rho=rho):
            apart = cp.multiply(q[held] - base_B[held], 1 / root_B)
            return [cp.norm(apart) <= np.sqrt(rho), q[~held] == 0]

        off = max(off, abs(q_B @ score_B - largest(solve, score_B, ball)))
    theory_table("chi-square: q.S against the cone programme, 60 instances", off, "<=", 1e-5)
    theory_table("chi-square: divergence beyond rho, relative", outside, "<=", 1e-9)


def test_inside_the_simplex_chi_square_is_mean_plus_deviation(theory_table):
    """While no bin is cut off, q.S = E[S] + sqrt(rho Var[S]) under the base measure."""
    off = 0.0
    for score_B, base_B, _ in instances(100, seed=3):
        mean = base_B @ score_B
        deviation = np.sqrt(base_B @ (score_B - mean) ** 2)
        if deviation == 0:
            continue
        rho = 0.99 * (deviation / (mean - score_B[base_B > 0].min())) ** 2  # keeps q > 0
        found = chi_square(score_B, base_B, rho) @ score_B
        off = max(off, abs(found - mean - np.sqrt(rho) * deviation))
    theory_table("chi-square: q.S against E[S] + sqrt(rho Var[S])", off, "<=", 1e-9)


@pytest.mark.parametrize(
    "respond", [lambda *a: cvar(*a, alpha=0.3), lambda *a: chi_square(*a, rho=0.5)]
)
def test_ties_are_shared_by_base_measure(respond):
    score_B, base_B = np.array([0.9, 0.1, 0.9, 0.9]), np.array([0.1, 0.4, 0.3, 0.2])
    q_B = respond(score_B, base_B)
    assert q_B[[2, 3]] / q_B[0] == pytest.approx([3, 2])
    assert respond(np.full(4, 0.2), base_B) == pytest.approx(base_B)


def test_the_ends_of_both_sets():
    """alpha = 1 and rho = 0 are the base measure; alpha and 1/rho to 0 the worst bin alone."""
    score_B, base_B = np.array([0.2, 0.9, 0.4]), np.array([0.5, 0.2, 0.3])
    for still_B in (cvar(score_B, base_B, 1.0), chi_square(score_B, base_B, 0.0)):
        assert still_B == pytest.approx(base_B)
    for worst_B in (cvar(score_B, base_B, 0.2), chi_square(score_B, base_B, 4.0)):
        assert worst_B == pytest.approx([0, 1, 0], abs=1e-7)
    assert chi_square(score_B, base_B, 3.9)[1] < 1
    assert cvar(score_B, base_B, 0.21)[1] < 1
