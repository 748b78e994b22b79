"""The adversary: scores, mixtures against a second solver, weights against bisection."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, minimize

from gdro.core.config import PromptConfig
from gdro.core.errors import CheckpointError, DataError
from gdro.core.signal import signal_P
from gdro.core.theory import entropy, lead_lag, robust_value
from gdro.core.weigh.adversary import Adversary
from gdro.core.weigh.cap import capped_mean_one
from gdro.core.weigh.chi_square import chi_square
from gdro.core.weigh.cvar import cvar
from gdro.core.weigh.entropic import entropic

SHARE = np.array([0.7, 0.2, 0.1])
SCORE = np.array([0.1, 0.5, 0.9])


def scored(score_B, **config):
    adversary = Adversary(PromptConfig(**config), len(score_B))
    adversary.score_B = np.asarray(score_B, float)
    return adversary


def batch(share_B, size=1000):
    return np.repeat(np.arange(len(share_B)), np.round(np.asarray(share_B) * size).astype(int))


# --- scores ---


def test_scores_are_moving_averages_of_means_that_start_at_the_first():
    adversary = Adversary(PromptConfig(beta=0.25), 4)
    adversary.observe(np.array([1.0, 0.5, 0.8, 9.0]), np.array([0, 0, 2, -1]))
    assert adversary.score_B == pytest.approx([0.75, np.nan, 0.8, np.nan], nan_ok=True)
    adversary.observe(np.array([0.25, np.nan, 0.0]), np.array([0, 2, 3]))
    expected = [0.75 * 0.75 + 0.25 * 0.25, np.nan, 0.8, 0.0]
    assert adversary.score_B == pytest.approx(expected, nan_ok=True)
    with pytest.raises(DataError, match="infinite"):
        adversary.observe(np.array([np.inf]), np.array([0]))


def test_mean_per_prompt_is_free_of_frequency_and_share_normalisation_is_not():
    loss, bins = np.full(100, 0.9), np.r_[np.zeros(98, int), 1, 1]
    for on, expected in ((False, [0.9, 0.9]), (True, [0.9 / 0.98, 45.0])):
        adversary = Adversary(PromptConfig(share_normalize=on), 2)
        adversary.observe(loss, bins)
        assert adversary.score_B == pytest.approx(expected)


# --- mixtures against a second solver ---

cases = (
    st.integers(2, 6)
    .flatmap(
        lambda b: st.tuples(
            st.lists(st.floats(-2, 2), min_size=b, max_size=b),
            st.lists(st.floats(0.05, 1), min_size=b, max_size=b),
        )
    )
    .map(lambda x: (np.array(x[0]), np.array(x[1]) / np.sum(x[1])))
)


@settings(deadline=None)
@given(cases, st.floats(0.05, 1))
def test_cvar_is_the_linear_programme(case, alpha):
    score, base = case
    found = cvar(score, base, alpha)
    best = linprog(
        -score, A_eq=np.ones((1, len(score))), b_eq=[1], bounds=[(0, b / alpha) for b in base]
    )
    assert found.sum() == pytest.approx(1)
    assert np.all((found >= 0) & (found <= base / alpha * (1 + 1e-9)))
    assert found @ score == pytest.approx(-best.fun, abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(cases, st.floats(0.01, 5))
def test_chi_square_is_the_convex_programme(case, rho):
    score, base = case
    assume(np.ptp(score) > 0.01)
    found = chi_square(score, base, rho)
    assert found.sum() == pytest.approx(1)
    assert np.all(found >= 0)
    assert np.sum((found - base) ** 2 / base) <= rho * (1 + 1e-9)
    best = minimize(
        lambda q: -q @ score,
        base,
        jac=lambda q: -score,
        method="SLSQP",
        bounds=[(0, 1)] * len(base),
        constraints=[
            {"type": "eq", "fun": lambda q: q.sum() - 1, "jac": np.ones_like},
            {
                "type": "ineq",
                "fun": lambda q: rho - np.sum((q - base) ** 2 / base),
                "jac": lambda q: -2 * (q - base) / base,
            },
        ],
        options={"maxiter": 300, "ftol": 1e-12},
    )
    # SLSQP may end outside the set by a little, or short of the optimum
    assert found @ score >= -best.fun - 1e-4


@pytest.mark.filterwarnings("error")
def test_chi_square_of_ties_at_the_radius_that_just_admits_them():
    """All mass on k of B even bins has divergence 1 / (their base) - 1, up to rounding."""
    for size in range(2, 30):
        base = np.full(size, 1 / size)
        for k in range(1, size):
            score = np.r_[np.ones(k), np.zeros(size - k)]
            found = chi_square(score, base, 1 / base[:k].sum() - 1)
            np.testing.assert_allclose(found, score / k, atol=1e-9)


def test_chi_square_of_two_bins_in_closed_form():
    """q = (1/2 - d, 1/2 + d) has divergence 4 d^2; all mass is on the larger from rho = 1 on."""
    base = np.full(2, 0.5)
    for scores in ([0.0, 1.0], [-3.0, 4.0], [0.0, 1e200]):
        for rho, d in ((0.04, 0.1), (0.64, 0.4), (1.0, 0.5), (1e6, 0.5)):
            found = chi_square(np.array(scores), base, rho)
            assert found == pytest.approx([0.5 - d, 0.5 + d], abs=1e-9)
    assert chi_square(SCORE, np.full(3, 1 / 3), 1e6).tolist() == [0, 0, 1]


@settings(deadline=None, max_examples=40)
@given(cases, st.floats(-3, 3), st.sampled_from([0.05, 0.5, 5.0]))
def test_a_bin_without_base_measure_changes_nothing(case, extra, size):
    score, base = case
    more_score, more_base = np.append(score, extra), np.append(base, 0.0)
    for solve, radius in ((entropic, 1000 * size), (cvar, min(size, 1)), (chi_square, size)):
        found = solve(more_score, more_base, radius)
        assert found == pytest.approx(np.append(solve(score, base, radius), 0.0), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(cases, st.floats(0.1, 10))
def test_entropic_is_optimal_and_gives_the_robust_value(case, eta):
    score, base = case
    found = entropic(score, base, eta)

    def value(q):
        held = q > 0
        return q @ score - np.sum(q[held] * np.log(q[held] / base[held])) / eta

    rng = np.random.default_rng(0)
    for other in [*rng.dirichlet(np.ones(len(base)), 200), base]:
        assert value(found) >= value(other) - 1e-12
        assert value(found) >= value(0.99 * found + 0.01 * other) - 1e-12
    uniform = np.full(len(base), 1 / len(base))
    q = entropic(score, uniform, eta)
    robust = robust_value(score, eta)
    assert q @ score + entropy(q) / eta == pytest.approx(robust)  # Eq. 22
    assert score.max() - 1e-12 <= robust <= score.max() + np.log(len(base)) / eta + 1e-12  # 25


def test_robust_value_has_gradient_q():
    """Eq. 26, by finite differences."""
    loss, eta, h = np.array([0.3, -0.2, 0.9]), 2.0, 1e-6
    slope = [
        (robust_value(loss + h * e, eta) - robust_value(loss - h * e, eta)) / (2 * h)
        for e in np.eye(3)
    ]
    assert slope == pytest.approx(entropic(loss, np.full(3, 1 / 3), eta), abs=1e-8)


@pytest.mark.parametrize("ambiguity", ["entropic", "cvar", "chi_square"])
def test_ties_are_shared_by_base_measure(ambiguity):
    q = scored([0.4] * 4, ambiguity=ambiguity).q_B(np.ones(4))
    assert q == pytest.approx([0.25] * 4)
    q = scored([0.4] * 4, ambiguity=ambiguity, base="share").q_B(np.array([4, 3, 2, 1]))
    assert q == pytest.approx([0.4, 0.3, 0.2, 0.1])
    q = scored([0.9, 0.9, 0.1], ambiguity=ambiguity, gamma=0.0).q_B(np.ones(3))
    assert q[0] == pytest.approx(q[1])


def test_q_of_the_design_note():
    assert scored(SCORE, gamma=0.0).q_B(SHARE) == pytest.approx([0.12, 0.27, 0.61], abs=0.006)
    mixed = scored(SCORE, gamma=0.3).q_B(SHARE)
    assert mixed == pytest.approx(0.7 * scored(SCORE, gamma=0.0).q_B(SHARE) + 0.1)


def test_bins_without_a_score_keep_their_base_measure():
    q = scored([np.nan, 0.9, np.nan, 0.1]).q_B(np.ones(4))
    assert q[[0, 2]] == pytest.approx([0.25, 0.25])
    assert q.sum() == pytest.approx(1)
    assert q[1] > q[3]
    assert scored([np.nan] * 2, base="share").q_B(np.array([3, 1])) == pytest.approx([0.75, 0.25])
    assert scored([np.nan] * 2, base="share").q_B(np.zeros(2)) == pytest.approx([0.5, 0.5])


@settings(deadline=None)
@given(
    cases,
    st.sampled_from(["entropic", "cvar", "chi_square"]),
    st.sampled_from(["uniform", "share"]),
    st.floats(0, 1),
)
def test_q_is_a_distribution_no_worse_than_its_base(case, ambiguity, base, gamma):
    score, share = case
    share = share.copy()
    share[0] = 0  # a bin that no prompt is in
    share /= share.sum()
    q = scored(score, ambiguity=ambiguity, base=base, gamma=gamma).q_B(share)
    start = share if base == "share" else np.full(len(share), 1 / len(share))
    assert q.sum() == pytest.approx(1)
    assert np.all(q >= 0)
    assert q @ score >= start @ score - 1e-9


# --- weights ---


def bisected(ratio, share, cap):
    """s of method D7 by a root finder."""
    s = brentq(
        lambda log_s: share @ np.minimum(np.exp(log_s) * ratio, cap) - 1, -60, 60, xtol=1e-14
    )
    return np.minimum(np.exp(s) * ratio, cap)


@settings(deadline=None)
@given(cases, st.floats(1.05, 20))
def test_capped_weights_are_those_of_a_root_finder(case, cap):
    score, share = case
    ratio = np.exp(2 * score)
    assert capped_mean_one(ratio, share, cap) == pytest.approx(bisected(ratio, share, cap))


configurations = st.fixed_dictionaries(
    {
        "realisation": st.sampled_from(["omega", "mass"]),
        "ambiguity": st.sampled_from(["entropic", "cvar", "chi_square"]),
        "base": st.sampled_from(["uniform", "share"]),
        "gamma": st.sampled_from([0.0, 0.01, 1.0]),
        "cap": st.floats(1, 20),
        "eta": st.floats(0, 1000),
        "alpha": st.floats(0.01, 1),
        "rho": st.floats(0, 10),
    }
)


@settings(deadline=None, max_examples=300)
@given(
    configurations,
    st.lists(
        st.one_of(st.floats(-1e30, 1e30), st.floats(-1, 1), st.just(np.nan)), min_size=4, max_size=4
    ),
    st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 12)), min_size=1, max_size=30),
    st.randoms(),
)
def test_weights_have_mean_one_after_the_cap_and_follow_their_prompts(
    config, score, prompts, random
):
    """Also the release's fault: NaN at large scores."""
    adversary = scored(score, **config)
    bins, unit = np.array(prompts).T
    weight = adversary.weight_P(bins, unit)
    assert np.isfinite(weight).all()
    assert np.all((weight >= 0) & (weight <= config["cap"] * (1 + 1e-12)))
    neutral = (bins == -1) | np.isnan(adversary.score_B[bins])
    assert np.all(weight[neutral] == 1.0)  # unseen prompts, bins without a score
    assert np.average(weight, weights=unit) == pytest.approx(1)
    order = list(range(len(bins)))
    random.shuffle(order)
    assert adversary.weight_P(bins[order], unit[order]) == pytest.approx(weight[order], abs=1e-9)
    for b in range(4):
        assert len(set(weight[bins == b])) <= 1


@pytest.mark.parametrize(
    "config",
    [
        {"eta": 0.0},
        {"realisation": "sample"},
        {"ambiguity": "cvar", "alpha": 1.0},
        {"ambiguity": "chi_square", "rho": 0.0},
    ],
)
def test_uniform_is_exactly_one(config):
    bins = batch(SHARE)
    weight = scored(SCORE, **config).weight_P(bins, np.random.default_rng(0).integers(2, 12, 1000))
    assert np.all(weight == 1.0)


def test_alike_bins_and_a_single_bin_weigh_exactly_one():
    for realisation in ("omega", "mass"):
        one = scored([0.3, 0.8, np.nan], realisation=realisation)
        assert np.all(one.weight_P(np.array([1, 1, -1, 2]), np.array([4, 7, 2, 3])) == 1.0)
    equal = scored([0.3, 0.3, 0.3]).weight_P(batch(SHARE), np.ones(1000))
    assert np.all(equal == 1.0)


def test_omega_of_the_design_note_lets_frequency_back_in():
    bins = batch(SHARE)
    weight = scored(SCORE, gamma=0.0).weight_P(bins, np.ones(1000))
    realised = np.bincount(bins, weights=weight) / 1000
    assert realised == pytest.approx([0.43, 0.27, 0.30], abs=0.005)
    assert weight[-1] / weight[0] == pytest.approx(np.exp(2 * 0.8))


@pytest.mark.parametrize("ambiguity", ["entropic", "cvar", "chi_square"])
@pytest.mark.parametrize("base", ["uniform", "share"])
def test_mass_realises_q_over_the_units(ambiguity, base):
    bins, rng = batch(SHARE), np.random.default_rng(0)
    for unit in (np.ones(1000), rng.integers(2, 12, 1000) + 3 * bins):
        share = np.bincount(bins, weights=unit) / unit.sum()
        adversary = scored(SCORE, realisation="mass", ambiguity=ambiguity, base=base)
        realised = np.bincount(bins, weights=adversary.weight_P(bins, unit) * unit) / unit.sum()
        assert realised == pytest.approx(adversary.q_B(share))


def test_mass_goes_to_the_bins_present():
    adversary = scored([0.1, 0.5, 0.9], realisation="mass", gamma=0.0)
    weight = adversary.weight_P(np.array([0, 0, 0, 1]), np.ones(4))
    odds = np.exp(2 * 0.4)
    assert weight[3] / 4 == pytest.approx(odds / (1 + odds))
    assert weight.mean() == pytest.approx(1)


def test_unnormalised_weights_are_equation_16():
    adversary = scored([-1e6, 0.5, 3.0], eta=1.0, normalize="none", cap=15.0, clip=10.0)
    found = adversary.weight_P(np.array([0, 1, 2, -1]), np.ones(4))
    assert found == pytest.approx([np.exp(-10), np.exp(0.5), 15.0, 1.0])
    clipped = scored([-6.0, 0.5, 6.0], eta=1.0, normalize="none", cap=1e6, clip=3.0)
    assert clipped.weight_P(np.arange(3), np.ones(3)) == pytest.approx(np.exp([-3, 0.5, 3]))
    mass = scored(SCORE, realisation="mass", normalize="none")
    found = mass.weight_P(np.array([0, 0, 1, 2]), np.ones(4))
    expected = mass.q_B(np.ones(3)) / [0.5, 0.25, 0.25]
    assert found == pytest.approx(expected[[0, 0, 1, 2]])
    density = scored(SCORE, ambiguity="cvar", alpha=0.5, gamma=0.0, normalize="none")
    assert density.weight_P(np.array([0, 1, 2]), np.ones(3)) == pytest.approx([0, 1, 2])


def test_nan_at_large_scores():
    """A fault of the release."""
    adversary = Adversary(PromptConfig(eta=1000.0, clip=1e300), 3)
    adversary.observe(np.array([1e200, -1e200, 1.0]), np.arange(3))
    for realisation in ("omega", "mass"):
        for normalize in ("mean", "none"):
            other = scored(
                adversary.score_B,
                eta=1000.0,
                clip=1e300,
                realisation=realisation,
                normalize=normalize,
            )
            assert np.isfinite(other.weight_P(np.array([0, 1, 2]), np.ones(3))).all()
            assert np.isfinite(other.q_B(np.ones(3))).all()


def test_where_the_worst_bins_are_too_few_for_the_cap_the_others_share_the_rest():
    weight = capped_mean_one(np.array([1.0, 0.0, 0.0]), np.array([0.1, 0.4, 0.5]), 4.0)
    assert weight == pytest.approx([4.0, 0.6 / 0.9, 0.6 / 0.9])


def test_a_cap_of_one_leaves_no_choice():
    """Also where the shares add up to a little less than 1."""
    weight = capped_mean_one(np.arange(1.0, 11.0), np.full(10, 0.1), 1.0)
    assert weight == pytest.approx(1)


# --- signals, theory, state ---


def test_signals_are_unbiased_in_n():
    rng = np.random.default_rng(0)
    for n in (2, 5, 12):
        n_P, p = np.full(200_000, n), 0.3
        c = rng.binomial(n_P, p)
        arguments = {
            "n_P": n_P,
            "correct_P": c,
            "loss_P": None,
            "pass_at_k_P": np.full(200_000, 0.9),
        }
        assert signal_P("error", **arguments).mean() == pytest.approx(0.7, abs=0.003)
        assert signal_P("learnability", **arguments).mean() == pytest.approx(0.21, abs=0.003)
        assert signal_P("failure", **arguments) == pytest.approx(0.1)


def test_learnability_of_one_rollout_is_unknown_and_ignored():
    loss = signal_P(
        "learnability",
        n_P=np.array([1, 4]),
        correct_P=np.array([1, 2]),
        loss_P=None,
        pass_at_k_P=np.ones(2),
    )
    assert loss == pytest.approx([np.nan, 1 / 3], nan_ok=True)
    adversary = Adversary(PromptConfig(), 2)
    adversary.observe(loss, np.array([0, 1]))
    assert np.isnan(adversary.score_B[0])


def test_surrogate_is_the_loss():
    arguments = {"n_P": np.ones(2), "correct_P": np.ones(2), "pass_at_k_P": np.ones(2)}
    loss = np.array([0.1, -0.2])
    assert np.array_equal(signal_P("surrogate", loss_P=loss, **arguments), loss)


def test_support_and_lead_lag():
    assert entropy(np.array([0.5, 0.5, 0.0])) == pytest.approx(np.log(2))
    assert lead_lag(np.array([3, 1, 0]), np.array([1, 1, 2])) == pytest.approx(0.25 - 1.25)
    share_B = np.array([0.25, 0.25, 0.5])
    q_B = scored([0.9, 0.2, np.nan]).q_B(share_B)
    assert lead_lag(q_B, share_B) < 0, "the mixture leads to the hardest bin"


def test_state_round_trip():
    adversary = scored([0.1, np.nan])
    other = Adversary(PromptConfig(), 2)
    other.load_state_dict(adversary.state_dict())
    assert np.array_equal(other.score_B, adversary.score_B, equal_nan=True)
    with pytest.raises(CheckpointError, match="2 bins"):
        Adversary(PromptConfig(), 3).load_state_dict(adversary.state_dict())
