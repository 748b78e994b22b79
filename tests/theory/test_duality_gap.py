"""The duality gap of averaged iterates is below the sum of the regrets (Eq. 27)."""

import cvxpy as cp
import numpy as np
import pytest

from gdro.core.theory import Hedge

B, D, RADIUS = 5, 3, 2.0


class Quadratic:
    """L_b = |theta - centre_b|^2 / 2: the value is half the smallest enclosing ball's radius^2."""

    def __init__(self, rng):
        self.centre_BD = rng.normal(size=(B, D)) / 2
        reach = RADIUS + np.linalg.norm(self.centre_BD, axis=1).max()
        self.most, self.slope = reach**2 / 2, reach

    def losses(self, theta):
        return np.sum((theta - self.centre_BD) ** 2, axis=1) / 2

    def gradients(self, theta):
        return theta - self.centre_BD

    def symbolic(self, theta):
        return [cp.sum_squares(theta - c) / 2 for c in self.centre_BD]


class Logistic:
    """L_b = mean logistic loss of the 20 points of a group; the groups disagree."""

    def __init__(self, rng):
        self.x_BND = rng.normal(size=(B, 20, D))
        truth_BD = rng.normal(size=(B, D))
        label_BN = np.sign(np.einsum("bnd,bd->bn", self.x_BND, truth_BD) + rng.normal(size=(B, 20)))
        self.x_BND *= label_BN[..., None]
        longest = np.linalg.norm(self.x_BND, axis=2).max()
        self.most, self.slope = np.log1p(np.exp(RADIUS * longest)), longest

    def losses(self, theta):
        return np.logaddexp(0, -self.x_BND @ theta).mean(axis=1)

    def gradients(self, theta):
        weight_BN = 1 / (1 + np.exp(self.x_BND @ theta))
        return -np.einsum("bn,bnd->bd", weight_BN, self.x_BND) / 20

    def symbolic(self, theta):
        return [cp.sum(cp.logistic(-x @ theta)) / 20 for x in self.x_BND]


def play(problem, rounds):
    """Projected gradient descent on theta against Hedge on q; averages and both regrets' parts."""
    hedge = Hedge(B, np.sqrt(8 * np.log(B) / rounds))
    rate = RADIUS / (problem.slope * np.sqrt(rounds))
    theta, mean, q_mean, earned, total = np.zeros(D), np.zeros(D), np.zeros(B), 0.0, np.zeros(B)
    for _ in range(rounds):
        q_B, loss_B = hedge.q_B, problem.losses(theta)
        mean, q_mean = mean + theta / rounds, q_mean + q_B / rounds
        earned, total = earned + q_B @ loss_B, total + loss_B
        hedge.observe(loss_B / problem.most)
        theta = theta - rate * (q_B @ problem.gradients(theta))
        theta = theta * min(1.0, RADIUS / max(np.linalg.norm(theta), 1e-300))
    return mean, q_mean, earned, total, hedge


@pytest.mark.parametrize("kind", [Quadratic, Logistic])
def test_the_gap_is_below_the_sum_of_the_regrets(kind, solve, theory_table):
    """gap = max_b L_b(mean theta) - min_theta q_mean.L(theta) <= (Regret_theta + Regret_q) / T.

    And a priori: Regret_theta <= RADIUS slope sqrt(T) (projected gradient descent from 0 at that
    rate: Zinkevich, 2003), Regret_q <= most sqrt(T log(B) / 2) (Hedge).
    """
    problem = kind(np.random.default_rng(0))
    theta = cp.Variable(D)
    ball = [cp.norm(theta) <= RADIUS]
    value = solve(cp.Problem(cp.Minimize(cp.max(cp.hstack(problem.symbolic(theta)))), ball))
    gaps = []
    for rounds in (100, 1000, 10_000):
        mean, q_mean, earned, total, hedge = play(problem, rounds)
        weighted = sum(q * loss for q, loss in zip(q_mean, problem.symbolic(theta), strict=True))
        least = solve(cp.Problem(cp.Minimize(weighted), ball))
        gap = problem.losses(mean).max() - least
        regret_theta, regret_q = earned - rounds * least, total.max() - earned
        assert least - 1e-7 <= value <= problem.losses(mean).max() + 1e-7
        assert regret_q == pytest.approx(problem.most * hedge.regret)
        most_theta = RADIUS * problem.slope * np.sqrt(rounds)
        most_q = problem.most * hedge.bound
        assert regret_theta <= most_theta
        assert regret_q <= most_q
        name = f"duality gap, {kind.__name__.lower()}, T {rounds:,}"
        theory_table(name, gap, "<=", (regret_theta + regret_q) / rounds)
        gaps.append(gap)
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0
