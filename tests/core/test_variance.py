"""The gradient variance monitor (paper 4.3)."""

import numpy as np
import pytest
from scipy import stats

from gdro.core.config import RolloutConfig
from gdro.core.errors import DataError
from gdro.core.variance import VarianceMonitor, advantage_variance, log_slope, var_proxy, wse


def monitor(proxy="reward", *, std_scaled=False, bins=3, beta=0.5, aggregation="prompt"):
    config = RolloutConfig(proxy=proxy, proxy_beta=beta, aggregation=aggregation)
    return VarianceMonitor(config, bins, 4, std_scaled)


@pytest.mark.parametrize("n", [2, 3, 4, 12])
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.02, 0.5, 0.9, 1.0])
def test_mean_squared_advantage_by_enumeration(n, p):
    expected = 0.0
    for correct in range(1, n):
        rewards = np.array([1.0] * correct + [0.0] * (n - correct))
        advantage = (rewards - rewards.mean()) / rewards.std(ddof=1)
        expected += stats.binom.pmf(correct, n, p) * (advantage**2).mean()
    assert advantage_variance(n, np.array([p]))[0] == pytest.approx(expected, rel=1e-7, abs=1e-15)


def test_mean_squared_advantage_is_proportional_to_p_1_p_at_2_and_3():
    p = np.linspace(0.01, 0.99, 50)
    for n in (2, 3):
        ratio = advantage_variance(n, p) / (p * (1 - p))
        np.testing.assert_allclose(ratio, ratio[0])
    level = advantage_variance(64, np.linspace(0.2, 0.8, 20))
    assert np.ptp(level) < 1e-5


def test_square_root_law_minimises_var_proxy_and_the_two_thirds_law_wse():
    rng = np.random.default_rng(0)
    share, v = rng.dirichlet(np.ones(6)), rng.random(6) + 0.01

    def law(power):
        n = v**power
        return 4 * n / (share @ n)

    powers = np.linspace(0, 1, 61)
    assert powers[np.argmin([var_proxy(share, v, law(x)) for x in powers])] == pytest.approx(1 / 2)
    least = powers[np.argmin([wse(share, v, law(x)) for x in powers])]
    assert least == pytest.approx(1 / 3, abs=0.01)
    assert var_proxy(share, v, law(0)) == pytest.approx(var_proxy(share, v, 4.0))
    assert log_slope(v, law(0.5)) == pytest.approx(0.5)
    # Theorem 4.2: the optimum is (sum share sqrt v)^2 / n_mean.
    assert var_proxy(share, v, law(0.5)) == pytest.approx((share @ np.sqrt(v)) ** 2 / 4)


def test_slope_needs_two_variances():
    assert np.isnan(log_slope(np.array([0.2, 0.2, 0.0]), np.array([3.0, 5.0, 2.0])))


def test_first_value_starts_and_absent_bins_keep_theirs():
    m = monitor()
    np.testing.assert_array_equal(m.variance_B, 1.0)
    m.observe(np.array([0, 0, 1, -1]), np.full(4, 4), p_P=np.array([0.5, 0.1, 0.5, 0.9]))
    np.testing.assert_allclose(m.variance_B, [0.17, 0.25, 0.21])  # bin 2: mean of the known ones
    m.observe(np.array([0]), np.array([4]), p_P=np.array([0.1]))
    np.testing.assert_allclose(m.variance_B, [0.13, 0.25, 0.19])


def test_scaled_rewards_change_the_reward_proxy_but_not_under_neutral():
    p, bins, n = np.array([0.5, 0.02]), np.array([0, 1]), np.array([4, 4])
    for aggregation, expected in (("prompt", advantage_variance(4, p)), ("neutral", p * (1 - p))):
        m = monitor(std_scaled=True, bins=2, aggregation=aggregation)
        m.observe(bins, n, p_P=p)
        np.testing.assert_allclose(m.variance_B, expected)


def test_loss_proxy_is_the_variance_within_the_bin():
    m, rng = monitor("loss", bins=2), np.random.default_rng(0)
    loss = rng.normal(size=8)
    m.observe(np.array([0] * 7 + [1]), np.full(8, 4), loss_P=loss)
    expected = loss[:7].var(ddof=1)
    np.testing.assert_allclose(m.variance_B, expected)  # one prompt says nothing of bin 1


def test_score_proxy_is_the_mean_over_rollouts():
    m = monitor("score", bins=1)
    m.observe(np.array([0, 0]), np.array([2, 6]), score_P=np.array([1.0, 3.0]))
    assert m.variance_B[0] == pytest.approx(2.5)


def test_metrics_compare_with_the_uniform_allocation_of_equal_budget():
    m = monitor(bins=2)
    bin_P = np.array([0, 0, 1, -1])
    m.observe(bin_P, np.full(4, 4), p_P=np.array([0.5, 0.5, 0.1, 0.5]))
    same = m.metrics(bin_P, np.array([4, 4, 4, 9]), np.ones(4))
    assert same["alloc/wse"] == pytest.approx(same["alloc/wse_uniform"])
    better = m.metrics(bin_P, np.array([4, 5, 3, 2]), np.ones(4))
    assert better["alloc/var_proxy"] < better["alloc/var_proxy_uniform"]
    assert better["alloc/var_proxy_uniform"] == pytest.approx(same["alloc/var_proxy"])
    assert better["alloc/log_slope"] == pytest.approx(np.log(4.5 / 3) / np.log(0.25 / 0.09))
    assert m.metrics(np.array([-1]), np.array([4]), np.ones(1)) == {}
    assert "alloc/log_slope" not in m.metrics(np.array([0]), np.array([4]), np.ones(1))


def test_resumed_equals_uninterrupted():
    first, second = monitor(), monitor()
    first.observe(np.array([0, 2]), np.array([4, 4]), p_P=np.array([0.2, 0.4]))
    second.load_state_dict(first.state_dict())
    for m in (first, second):
        m.observe(np.array([0, 1]), np.array([4, 4]), p_P=np.array([0.7, 0.4]))
    np.testing.assert_array_equal(first.variance_B, second.variance_B)
    with pytest.raises(DataError, match="3 bins"):
        monitor(bins=2).load_state_dict(first.state_dict())
