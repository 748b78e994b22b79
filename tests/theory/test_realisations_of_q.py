"""What becomes of q: the mass of each bin under `omega`, `mass` and `sample` (method D9)."""

import numpy as np
import pytest

from gdro import Controller
from gdro.core.config import ControllerConfig, DifficultyConfig, PromptConfig
from gdro.core.theory import robust_value
from gdro.core.weigh.adversary import Adversary

SHARE_B, SCORE_B, ETA, SIZE = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.5, 0.9]), 2.0, 1000
BIN_N = np.repeat(np.arange(3), np.round(SHARE_B * SIZE).astype(int))
Q_B = np.exp(ETA * SCORE_B) / np.exp(ETA * SCORE_B).sum()


def adversary(realisation, **config):
    found = Adversary(PromptConfig(realisation=realisation, eta=ETA, **config), 3)
    found.score_B = SCORE_B.copy()
    return found


def mass_B(weight_P, bin_P, unit_P=None):
    """Share of the loss that each bin has."""
    part_P = weight_P * (np.ones(len(bin_P)) if unit_P is None else unit_P)
    return np.bincount(bin_P, part_P, 3) / part_P.sum()


def test_q_of_the_example(theory_table):
    q_B = adversary("omega", gamma=0.0).q_B(SHARE_B)
    off = np.abs(q_B - [0.12, 0.27, 0.61]).max()
    theory_table("q against .12/.27/.61 (D9)", off, "<=", 0.005)
    assert q_B == pytest.approx(Q_B)


def test_omega_realises_share_times_omega(theory_table):
    """Eq. 16 lets frequency back in, and gamma has no effect."""
    found_B = mass_B(adversary("omega", gamma=0.0).weight_P(BIN_N, np.ones(SIZE)), BIN_N)
    off = np.abs(found_B - [0.43, 0.27, 0.30]).max()
    theory_table("omega: mass against .43/.27/.30 (D9)", off, "<=", 0.005)
    theory_table("omega: |mass - q|", np.abs(found_B - Q_B).max(), ">", 0.3)
    closed_B = SHARE_B * np.exp(ETA * SCORE_B)
    assert found_B == pytest.approx(closed_B / closed_B.sum())
    for gamma in (0.5, 1.0):
        weight_P = adversary("omega", gamma=gamma).weight_P(BIN_N, np.ones(SIZE))
        assert mass_B(weight_P, BIN_N) == pytest.approx(found_B)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_mass_realises_q(gamma, theory_table):
    """Over prompts, and over rollouts where the loss averages over those."""
    target_B = (1 - gamma) * Q_B + gamma / 3
    rng, off = np.random.default_rng(0), 0.0
    for unit_P in (np.ones(SIZE), rng.integers(2, 13, SIZE).astype(float)):
        weight_P = adversary("mass", gamma=gamma).weight_P(BIN_N, unit_P)
        off = max(off, np.abs(mass_B(weight_P, BIN_N, unit_P) - target_B).max())
        assert np.average(weight_P, weights=unit_P) == pytest.approx(1)
    theory_table(f"mass: |mass - q|, gamma {gamma}", off, "<=", 1e-12)


def test_over_the_wrong_units_mass_does_not_realise_q(theory_table):
    """Weights made for prompts, in a loss that averages over rollouts (D16)."""
    unit_P = np.where(BIN_N == 0, 2.0, 12.0)
    weight_P = adversary("mass", gamma=0.0).weight_P(BIN_N, np.ones(SIZE))
    off = np.abs(mass_B(weight_P, BIN_N, unit_P) - Q_B).max()
    theory_table("mass, over the wrong units: |mass - q|", off, ">", 0.05)


def test_with_mass_the_gradient_of_the_batch_is_that_of_the_robust_value(theory_table):
    """Eq. 26: weights on the prompts' gradients, at scores that are the bins' losses now."""
    rng = np.random.default_rng(1)
    loss_N, gradient_ND = rng.random(SIZE) + BIN_N / 3, rng.normal(size=(SIZE, 4))
    count_B = np.bincount(BIN_N)

    def bins(loss_N):
        return np.bincount(BIN_N, loss_N) / count_B

    mass = Adversary(PromptConfig(realisation="mass", eta=ETA, gamma=0.0), 3)
    mass.score_B = bins(loss_N)
    batch_D = mass.weight_P(BIN_N, np.ones(SIZE)) @ gradient_ND / SIZE
    h = 1e-6
    robust_D = [
        (robust_value(bins(loss_N + h * g), ETA) - robust_value(bins(loss_N - h * g), ETA))
        / (2 * h)
        for g in gradient_ND.T
    ]
    off = np.abs(batch_D - robust_D).max()
    theory_table("mass: gradient of the batch against grad R_eta (Eq. 26)", off, "<=", 1e-8)


def sampler(**bounds):
    """`sample` over a pool of three groups: a function that draws, and the visits so far."""
    config = PromptConfig(
        weigh="gdro",
        realisation="sample",
        eta=ETA,
        gamma=0.0,
        **({"max_repeat": 1e9, "max_gap": 1e9} | bounds),
    )
    controller = Controller(
        ControllerConfig(prompt=config, difficulty=DifficultyConfig(source="column:g"))
    )
    controller.bind(np.arange(SIZE), group=BIN_N.tolist())
    controller.method.adversary.score_B = SCORE_B.copy()
    return controller.select, controller.pool.visits_N


def drawn(num_prompts, draws):
    """Mass of the bins over many steps."""
    select, visits_N = sampler()
    for _ in range(draws):
        assert np.unique(select(num_prompts)).size == num_prompts, "without replacement"
    return np.bincount(BIN_N, visits_N, 3) / visits_N.sum()


@pytest.mark.parametrize(("num_prompts", "draws"), [(7, 2000), (64, 500)])
def test_sample_realises_q_in_expectation(num_prompts, draws, theory_table):
    """Counts are within one of P q, so a mass has an error of at most 1 / (2 P sqrt(draws))."""
    found_B = drawn(num_prompts, draws)
    error = 1 / (2 * num_prompts * np.sqrt(draws))
    off = np.abs(found_B - Q_B).max() / error
    theory_table(f"sample, P {num_prompts}: |mass - q| in errors", off, "<=", 4.0)
    assert np.all(adversary("sample").weight_P(BIN_N, np.ones(SIZE)) == 1.0)


def test_sample_realises_q_up_to_its_bound_on_repeats(theory_table):
    """Over epochs a bin has no more than max_repeat times its share: here 4 x .1, for q = .61."""
    bounded_B = np.r_[0.6 * Q_B[:2] / Q_B[:2].sum(), 0.4]
    for max_repeat, expected_B in ((1e9, Q_B), (4.0, bounded_B)):
        select, visits = sampler(max_repeat=max_repeat)
        for _ in range(400):
            select(50)
        found_B = np.bincount(BIN_N, visits, 3) / visits.sum()
        off = np.abs(found_B - expected_B).max()
        theory_table(f"sample, 20 epochs, max_repeat {max_repeat:g}: |mass - q|", off, "<=", 0.02)
