"""Weighers against the formulas they are named after."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import beta
from scipy.stats import binom

from gdro.core import registry
from gdro.core.config import ControllerConfig
from gdro.core.policy import Batch, Setting
from gdro.core.weigh.adversary import Adversary
from gdro.core.weigh.base import Weigher


def make(name: str, **prompt: Any) -> Weigher:
    config = ControllerConfig.from_dict({"prompt": {"weigh": name, **prompt}})
    adversary = Adversary(config.prompt, 4)
    adversary.observe(np.array([0.9, 0.6, 0.3, 0.1]), np.arange(4))
    setting = Setting(config=config, num_bins=4, n_mean=4, std_scaled=True, adversary=adversary)
    return registry.load(registry.WEIGH[name])(setting)


def make_batch(a_P: Any, b_P: Any, bin_P: Any = None) -> Batch:
    a_P, b_P = np.asarray(a_P, float), np.asarray(b_P, float)
    size = len(a_P)
    return Batch(
        bin_P=np.zeros(size, int) if bin_P is None else np.asarray(bin_P),
        p_P=a_P / (a_P + b_P), a_P=a_P, b_P=b_P, weight_P=np.ones(size), variance_B=np.ones(4),
        lo_P=np.full(size, 2), hi_P=np.full(size, 12), budget=4 * size,
    )  # fmt: skip


def scaled(ratio_P: np.ndarray, unit_P: np.ndarray, cap: float) -> np.ndarray:
    """min(s * ratio, cap) of mean 1, with s from a root finder."""

    def excess(log_s: float) -> float:
        return np.average(np.minimum(np.exp(log_s) * ratio_P, cap), weights=unit_P) - 1

    return np.minimum(np.exp(brentq(excess, -50, 700, xtol=1e-13)) * ratio_P, cap)


SIZE = 12
POSTERIORS = st.lists(st.tuples(st.floats(0.2, 30), st.floats(0.2, 30)), min_size=1, max_size=SIZE)


@given(POSTERIORS, st.floats(0, 40), st.floats(1.1, 15), st.booleans())
@settings(max_examples=60, deadline=None)
def test_per_prompt_is_the_exponential_of_the_failure_rate(
    posteriors: list, eta: float, cap: float, by_rollout: bool
) -> None:
    a_P, b_P = np.array(posteriors).T
    unit_P = np.arange(2, 2 + len(a_P)) if by_rollout else np.ones(len(a_P))
    found = make("per_prompt", eta=eta, cap=cap).weigh(make_batch(a_P, b_P), unit_P)
    ratio_P = np.exp(eta * (b_P / (a_P + b_P) - 1))
    np.testing.assert_allclose(found, scaled(ratio_P, unit_P, cap), rtol=1e-6)


@given(POSTERIORS, st.integers(1, 64), st.floats(1.1, 15))
@settings(max_examples=30, deadline=None)
def test_pass_at_k_is_the_expected_slope_of_pass_at_k(posteriors: list, k: int, cap: float) -> None:
    """E[(1 - p)^(k - 1)] under Beta(a, b), integrated numerically."""
    a_P, b_P = np.array(posteriors).T

    def slope(a: float, b: float) -> float:
        """By a rule that knows the poles of p^(a - 1) (1 - p)^(b - 1) at 0 and 1."""
        poles = {"weight": "alg", "wvar": (a - 1, b - 1)}
        value, _ = quad(lambda p: (1 - p) ** (k - 1), 0, 1, epsabs=0, epsrel=1e-9, **poles)
        return value / beta(a, b)

    ratio_P = np.array([slope(a, b) for a, b in posteriors])
    found = make("pass_at_k", k=k, cap=cap).weigh(make_batch(a_P, b_P), np.ones(len(a_P)))
    np.testing.assert_allclose(found, scaled(ratio_P, np.ones(len(a_P)), cap), rtol=1e-6)


@given(POSTERIORS, st.sampled_from([0.0, 1.0, 2.0, 16.0]), st.sampled_from([4, 3.5, 6.5]))
@example([(30.0, 0.2), (29.0, 0.2), (28.0, 0.3)], 16.0, 4)  # nothing but easy ones
@settings(max_examples=40, deadline=None)
def test_implied_is_the_push_of_the_allocation(
    posteriors: list, power: float, n_mean: float
) -> None:
    """n times the expected gradient of a group of n over that of one of n_mean, by enumeration."""
    a_P, b_P = np.array(posteriors).T
    batch = make_batch(a_P, b_P)
    config = ControllerConfig.from_dict({"prompt.weigh": "implied", "rollout.power": power})
    setting = Setting(
        config=config, num_bins=4, n_mean=n_mean, std_scaled=True,
        adversary=Adversary(config.prompt, 4),
    )  # fmt: skip
    log_P = power * np.log(1 - batch.p_P)

    def counts(log_s: float) -> np.ndarray:
        return np.clip(np.exp(np.minimum(log_s + log_P, 9)), 2, 12)

    n_P = counts(brentq(lambda log_s: counts(log_s).mean() - 4, 0, 200, xtol=1e-13))
    rounded = registry.load(registry.ALLOCATE["hard_first"])(setting)
    assert np.abs(rounded.allocate(batch, np.random.default_rng(0)) - n_P).max() < 1.5

    def mean_push(n: int, p: float) -> float:
        """E[mean over the group of A (y - p)], A the std-scaled advantages: by all outcomes."""
        total = 0.0
        for c in range(1, n):
            right, wrong = np.array([1 - c / n, -c / n]) / np.sqrt(c * (n - c) / (n * (n - 1)))
            total += binom.pmf(c, n, p) * (c * right * (1 - p) + (n - c) * wrong * -p) / n
        return total

    def between(n: float, p: float) -> float:
        whole = int(n)
        low, high = mean_push(whole, p), mean_push(whole + 1, p)
        return low + (n - whole) * (high - low)

    def push(n: float, p: float) -> float:
        return n * between(n, p) / between(n_mean, p)

    expected = np.array([push(n, p) for n, p in zip(n_P, batch.p_P, strict=True)])
    found = registry.load(registry.WEIGH["implied"])(setting).weigh(batch, np.ones(len(a_P)))
    np.testing.assert_allclose(found, scaled(expected, np.ones(len(a_P)), 15), rtol=1e-6)


@pytest.mark.parametrize("eta", [10.0, 700.0, 760.0, 1000.0])
def test_per_prompt_tells_easy_prompts_apart_at_any_rate(eta: float) -> None:
    a_P, b_P = np.array([99.0, 98, 97, 85]), np.array([1.0, 2, 3, 15])
    found = make("per_prompt", eta=eta, cap=3.0).weigh(make_batch(a_P, b_P), np.ones(4))
    ratio_P = np.exp(eta * (b_P - 15) / 100)
    np.testing.assert_allclose(found, scaled(ratio_P, np.ones(4), 3.0), rtol=1e-6)


def test_pass_at_k_with_large_k_and_evidence_does_not_underflow() -> None:
    weigher = make("pass_at_k", k=1024, cap=15.0)
    found = weigher.weigh(make_batch([5000.0, 4000.0, 1.0], [1.0, 1000.0, 9.0]), np.ones(3))
    np.testing.assert_allclose(found, [0, 0, 3], atol=1e-9)
    easy = weigher.weigh(make_batch([5000.0, 4000.0], [1.0, 1000.0]), np.ones(2))
    np.testing.assert_allclose(easy, [0, 2], atol=1e-9)
    assert make("pass_at_k").weigh(make_batch([], []), np.ones(0)).size == 0


@pytest.mark.parametrize("name", ["pass_at_k", "per_prompt"])
def test_an_unseen_prompt_changes_nothing_for_the_seen(name: str) -> None:
    weigher = make(name, k=1024, eta=1000.0)
    seen = make_batch([400.0, 600.0], [0.2, 0.2])
    joined = make_batch([400.0, 600.0, 1.0], [0.2, 0.2, 9.0], [0, 0, -1])
    weight_P = weigher.weigh(seen, np.ones(2))
    assert weight_P[0] > weight_P[1] > 0
    np.testing.assert_allclose(weigher.weigh(joined, np.ones(3)), [*weight_P, 1], rtol=1e-12)


@pytest.mark.parametrize("name", registry.WEIGH)
@given(
    prompts=st.lists(
        st.tuples(st.floats(0.2, 30), st.floats(0.2, 30), st.integers(-1, 3), st.integers(2, 12)),
        min_size=1, max_size=SIZE,
    ),
    cap=st.floats(1, 15),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_every_weigher_keeps_its_promises(name: str, prompts: list, cap: float) -> None:
    """Within the cap, mean 1 over the units, 1 for the unseen, and by prompt, not by position."""
    a_P, b_P, bin_P, unit_P = np.array(prompts).T
    weigher, bin_P = make(name, cap=cap), bin_P.astype(int)
    weight_P = weigher.weigh(make_batch(a_P, b_P, bin_P), unit_P)
    assert weight_P.shape == (len(prompts),)
    assert np.all((weight_P >= 0) & (weight_P <= cap * (1 + 1e-9)))
    assert np.average(weight_P, weights=unit_P) == pytest.approx(1)
    assert np.all(weight_P[bin_P == -1] == 1)
    back = weigher.weigh(make_batch(a_P[::-1], b_P[::-1], bin_P[::-1]), unit_P[::-1])
    np.testing.assert_allclose(back[::-1], weight_P)


def test_none_is_exactly_one_and_gdro_is_the_adversary() -> None:
    batch, unit_P = make_batch([1.0, 2, 3, 4], [4.0, 3, 2, 1], [0, 1, 3, -1]), np.arange(2, 6)
    assert np.all(make("none").weigh(batch, unit_P) == 1)
    weigher: Any = make("gdro")
    expected = scaled(np.exp(2 * np.array([0.9, 0.6, 0.1])), unit_P[:3], 15.0)
    np.testing.assert_allclose(weigher.weigh(batch, unit_P), [*expected, 1])
    assert weigher.state_dict() == {}
