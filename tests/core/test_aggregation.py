"""The weight that a rollout count implies (method D16), against exact enumeration."""

import numpy as np
import pytest
from scipy import integrate, stats

from gdro.core.aggregation import aggregation_weight_P, gradient_scale, units_P


def expected_gradient(n: int, p: float, std_scaled: bool) -> float:
    """E[mean over a group of A grad log pi] per unit of grad p, by enumerating the outcomes.

    grad log pi of a right rollout is grad p / p in expectation, of a wrong one -grad p / (1 - p).
    """
    total = 0.0
    for correct in range(n + 1):
        rewards = np.array([1.0] * correct + [0.0] * (n - correct))
        advantage = rewards - rewards.mean()
        if std_scaled:
            deviation = rewards.std(ddof=1)
            advantage = advantage / deviation if deviation else np.zeros(n)
        score = np.where(rewards == 1, 1 / p, -1 / (1 - p))
        total += stats.binom.pmf(correct, n, p) * (advantage * score).mean()
    return total


@pytest.mark.parametrize("p", [0.001, 0.02, 0.3, 0.5, 0.97])
def test_h_is_the_expected_gradient_of_a_std_scaled_group(p):
    n = np.array([2, 3, 4, 7, 12, 24])
    expected = [expected_gradient(k, p, True) for k in n]
    np.testing.assert_allclose(gradient_scale(n, np.full(6, p)), expected, rtol=1e-10)


def test_h_has_the_published_ratios_and_its_limits():
    def ratio(n, p):
        h = gradient_scale(np.array([n, 4]), np.array([p, p]))
        return h[0] / h[1]

    assert ratio(12, 0.5) == pytest.approx(1.31, abs=0.005)
    assert ratio(12, 0.02) == pytest.approx(2.02, abs=0.005)
    assert 0.465 < ratio(2, 0.02) < ratio(2, 0.5) < 0.515
    n = np.array([2, 3, 12, 500, 4096])
    for end in (0.0, 1.0):
        h = gradient_scale(n, np.full(5, end))
        np.testing.assert_allclose(h, (n - 1) / np.sqrt(n), rtol=1e-9)
    # Many rollouts: the deviation is known, h -> 1 / sqrt(p (1 - p)).
    limit = gradient_scale(np.array([4096]), np.array([0.3]))[0]
    assert limit == pytest.approx(1 / np.sqrt(0.21), rel=1e-3)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.8])
def test_what_a_group_lacks_of_the_limit_falls_as_one_over_n(p):
    """docs/method.md, why a power: so `progress` and `hard_first` minimise a sum of a / n."""
    n, var = 1600, p * (1 - p)
    lack = n * (var**-0.5 - gradient_scale(np.array([n]), np.array([p]))[0])
    assert lack == pytest.approx((1 + 4 * var) / (8 * var**1.5), rel=3e-3)


def test_h_is_symmetric_and_grows_with_n():
    p = np.linspace(0, 1, 41)
    h = np.array([gradient_scale(np.full(41, n), p) for n in range(2, 25)])
    np.testing.assert_allclose(h, h[:, ::-1], rtol=1e-10)
    assert np.all(np.diff(h, axis=0) > 0)


@pytest.mark.parametrize("std_scaled", [True, False])
def test_neutral_makes_the_expected_gradient_independent_of_n(std_scaled):
    n = np.arange(2, 13)
    for n_mean in (4, 4.0, 5.5):
        for p in (0.01, 0.2, 0.5, 0.9):
            w = aggregation_weight_P("neutral", n, n_mean, np.full(n.size, p), std_scaled)
            # The engine averages over rollouts: a prompt counts n times.
            push = n * w * [expected_gradient(k, p, std_scaled) for k in n]
            np.testing.assert_allclose(push, push[0], rtol=1e-9)


def test_neutral_is_within_some_per_cent_at_a_rate_known_from_20_rollouts():
    p, trials = 0.3, np.arange(21)
    estimate = (trials + 1) / 22
    n = np.full(21, 12)
    w = aggregation_weight_P("neutral", n, 4, estimate, True)
    at_truth = aggregation_weight_P("neutral", n[:1], 4, np.array([p]), True)[0]
    assert stats.binom.pmf(trials, 20, p) @ w == pytest.approx(at_truth, rel=0.03)


def test_prompt_gives_every_prompt_the_same_say():
    n = np.array([2, 4, 12])
    w = aggregation_weight_P("prompt", n, 4, np.array([0.1, 0.5, 0.9]), True)
    np.testing.assert_allclose(n * w, 4)


@pytest.mark.parametrize("aggregation", ["rollout", "prompt", "neutral"])
@pytest.mark.parametrize("std_scaled", [True, False])
@pytest.mark.parametrize("n_mean", [2, 4, 7.0, 16])
def test_uniform_counts_are_left_exactly_alone(aggregation, std_scaled, n_mean):
    p = np.array([0.0, 1e-9, 0.1234, 0.5, 1.0])
    n = np.full(p.size, int(n_mean))
    assert np.all(aggregation_weight_P(aggregation, n, n_mean, p, std_scaled) == 1.0)


def test_units_are_what_the_aggregation_averages():
    n = np.array([2, 7])
    assert units_P("rollout", n).tolist() == [2.0, 7.0]
    assert units_P("prompt", n).tolist() == units_P("neutral", n).tolist() == [1.0, 1.0]


def test_h_averages_over_a_posterior_as_an_integral_would():
    """A check of scale: the posterior mean of h lies near h of the posterior mean."""
    a, b, n = 3.0, 9.0, 8
    density = stats.beta(a, b).pdf
    mean, _ = integrate.quad(
        lambda x: density(x) * gradient_scale(np.array([n]), np.array([x]))[0], 0, 1
    )
    at_mean = gradient_scale(np.array([n]), np.array([a / (a + b)]))[0]
    assert mean == pytest.approx(at_mean, rel=0.05)
