"""How the variance of a prompt's gradient falls with n, or does not (method D18)."""

import itertools

import numpy as np
import pytest
from scipy import stats

from gdro.core.aggregation import aggregation_weight_P
from gdro.core.variance import advantage_variance

N_MEAN, GROUPS = 4, 200_000
COUNTS = np.array([2, 3, 4, 6, 8, 12, 16, 24])
RATES = (0.02, 0.1, 0.3, 0.5)


def advantages(n, p, rng):
    """Std-scaled advantages [groups, n]; 0 in groups that are not mixed."""
    reward = (rng.random((GROUPS, n)) < p).astype(float)
    advantage = reward - reward.mean(axis=1, keepdims=True)
    deviation = reward.std(axis=1, ddof=1, keepdims=True)
    return np.divide(advantage, deviation, out=np.zeros_like(advantage), where=deviation > 0)


def per_prompt(aggregation, p, std_scaled):
    """Factor on the mean gradient of a prompt, by count."""
    rate = np.full(COUNTS.size, p)
    weight = aggregation_weight_P(aggregation, COUNTS, N_MEAN, rate, std_scaled)
    return weight * COUNTS / N_MEAN


def slope(n, variance):
    """Of log variance on log(n - 1), -1 for a law of 1/n: the group's own mean takes one."""
    return float(np.polyfit(np.log(n - 1), np.log(variance), 1)[0])


def noise(n, p, std_scaled):
    """E[mean_i A_i^2] / n: the variance of mean_i A_i s_i for unit noise s_i in grad log pi."""
    squared = advantage_variance(n, np.array(p)) if std_scaled else p * (1 - p) * (n - 1) / n
    return squared / n


def test_the_mean_squared_advantage_is_the_formula(theory_table):
    """(n - 1) / n (1 - p^n - (1 - p)^n), in simulated groups; and what it does to noise."""
    rng, most = np.random.default_rng(0), 0.0
    for n, p in itertools.product(COUNTS, RATES):
        advantage = advantages(n, p, rng)
        square = np.mean(advantage**2, axis=1)
        error = max(square.std(), 1e-3) / np.sqrt(GROUPS)  # 0 where every group is mixed
        most = max(most, abs(square.mean() - advantage_variance(n, np.array(p))) / error)
        # Groups whose scores are noise alone: the variance of their mean gradient.
        gradient = np.mean(advantage * rng.choice([-1.0, 1.0], advantage.shape), axis=1)
        spread = np.std(gradient**2) / np.sqrt(GROUPS)
        most = max(most, abs(np.mean(gradient**2) - noise(n, p, True)) / spread)
    theory_table("mean squared advantage simulated - formula, in errors", most, "<=", 4.0)


@pytest.mark.parametrize("p", RATES)
def test_it_is_proportional_to_p_1_p_at_small_n_and_flat_at_large(p):
    for n, factor in ((2, 1.0), (3, 2.0)):
        assert advantage_variance(n, np.array(p)) == pytest.approx(factor * p * (1 - p))
    assert advantage_variance(10_000, np.array(p)) == pytest.approx(1, abs=2e-4)


def noise_slope(aggregation, p, std_scaled):
    factor = per_prompt(aggregation, p, std_scaled)
    return slope(COUNTS, factor**2 * noise(COUNTS, p, std_scaled))


def test_noise_is_of_order_1_over_n_without_scaling_and_under_neutral(theory_table):
    """And with std scaling alone it is not at small n p, where it even grows."""
    name = "slope of noise on n"
    for std_scaled, kind in ((False, "unscaled"), (True, "neutral")):
        flattest = max(noise_slope("neutral", p, std_scaled) for p in RATES)
        theory_table(f"{name}, {kind}, flattest p", flattest, "=", -1, abs=0.05)
    for p in RATES:
        assert noise_slope("prompt", p, True) > noise_slope("neutral", p, True) + 0.1
    theory_table(f"{name}, std-scaled, p .02", noise_slope("prompt", 0.02, True), ">", 0)


def gradient_variance(n, p, std_scaled, rng, answers=12, right=3):
    """Total variance of a prompt's mean gradient under a softmax over answers, some of them right.

    The gradient by the logits is sum_k A_k c_k / n - pi sum_i A_i / n, and the A_i sum to zero.
    """
    pi = np.r_[np.full(right, p / right), np.full(answers - right, (1 - p) / (answers - right))]
    count = rng.multinomial(n, pi, size=GROUPS // 4)
    m = count[:, :right].sum(axis=1) / n
    factor = np.ones(m.size)
    if std_scaled:
        root = np.sqrt(m * (1 - m) * n / (n - 1))
        factor = np.divide(1.0, root, out=np.zeros_like(m), where=root > 0)
    correct = np.arange(answers) < right
    gradient = factor[:, None] * (correct - m[:, None]) * count / n
    return gradient.var(axis=0).sum()


def test_a_softmax_policy_has_the_same_orders(theory_table):
    """Simulated gradients of a whole policy, whose scores depend on what is right."""
    rng = np.random.default_rng(0)

    def found(aggregation, std_scaled):
        slopes = []
        for p in (0.1, 0.3, 0.5):
            variance = np.array([gradient_variance(n, p, std_scaled, rng) for n in COUNTS])
            slopes.append(slope(COUNTS, per_prompt(aggregation, p, std_scaled) ** 2 * variance))
        return slopes

    name = "softmax policy: slope of variance on n"
    unscaled = max(found("neutral", False))
    theory_table(f"{name}, unscaled, flattest p", unscaled, "=", -1, abs=0.1)
    theory_table(f"{name}, neutral, flattest p", max(found("neutral", True)), "=", -1, abs=0.1)
    theory_table(f"{name}, std-scaled, steepest p", min(found("prompt", True)), ">", -0.6)


def test_neutral_is_never_less_noisy_than_unscaled(theory_table):
    """By Cauchy-Schwarz: P(mixed) E[m (1 - m)] >= E[sqrt(m (1 - m))]^2, tight at n = 2 and 3."""
    least, most = np.inf, 0.0
    for n in range(2, 65):
        m = np.arange(1, n) / n
        for p in np.linspace(0.01, 0.5, 25):
            chance = stats.binom.pmf(np.arange(1, n), n, p)
            ratio = chance.sum() * (chance @ (m * (1 - m))) / (chance @ np.sqrt(m * (1 - m))) ** 2
            least, most = min(least, ratio), max(most, ratio)
            if n <= 3:
                assert ratio == pytest.approx(1)
    theory_table("noise of neutral / unscaled at equal push, least", least, ">=", 1 - 1e-12)
    theory_table("noise of neutral / unscaled at equal push, most", most, "<=", 1.25)
