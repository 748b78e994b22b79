"""The simulated policy: exact gradients, Adam's updates, what is by heart, what drifts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.lab.test_simulate import SMALL

from gdro.lab.simulate import World
from gdro.lab.simulate.policy import Look, Policy
from gdro.lab.simulate.run import _advantages


def test_every_tier_starts_at_its_rate():
    world = World(SMALL, 0)
    success_N = Policy(world, 1.0).success(np.arange(len(world.fact_NL)))
    for tier, rate in enumerate(SMALL.rates):
        assert success_N[world.tier_N == tier].mean() == pytest.approx(rate, rel=1e-5)


def test_the_gradient_is_autograds():
    rng, world = np.random.default_rng(0), World(SMALL, 0)
    policy = Policy(world, 1.0)
    policy.odds_FC[:-1] += rng.normal(size=policy.odds_FC[:-1].shape) / 4
    policy.own_NLC += rng.normal(size=policy.own_NLC.shape) / 4
    prompt_P, slot_R = np.arange(6), np.repeat(np.arange(6), 3)
    there_PL = world.slip_NL1[prompt_P, :, 0] > 0
    policy.own_NLC[prompt_P] *= there_PL[..., None]
    look = Look(policy, prompt_P)
    drawn_RL = rng.random((len(slot_R), world.fact_NL.shape[1]))
    choice_RL, weight_R = look.choice(slot_R, drawn_RL), rng.normal(size=len(slot_R))
    weight_R[slot_R == 2] = 0  # a group of one reward
    right_RL = choice_RL == 0
    assert set(np.unique(right_RL)) == {True, False}
    assert (right_RL == look.right(slot_R, drawn_RL)).all()

    start_PLC = policy.odds_FC[world.fact_NL[prompt_P]] + policy.own_NLC[prompt_P]
    odds_PLC = torch.tensor(start_PLC, dtype=torch.float64, requires_grad=True)
    there_RL = torch.tensor(there_PL[slot_R])
    pi = (1 - SMALL.slip) * torch.softmax(odds_PLC[slot_R], -1)
    pi = torch.cat([pi[..., :1], pi[..., 1:] + SMALL.slip / (SMALL.choices - 1)], -1)
    pi_RL = pi.gather(-1, torch.tensor(choice_RL)[..., None])[..., 0]
    log_RL = torch.where(there_RL, pi_RL.log(), 0.0)  # and a step that there is not is right
    assert right_RL[~there_RL.numpy()].all()
    np.testing.assert_allclose(
        look.probability(slot_R, drawn_RL)[there_RL], pi_RL.detach()[there_RL], rtol=1e-4
    )
    (log_RL.sum(1) * torch.tensor(weight_R)).sum().backward()
    assert odds_PLC.grad is not None
    expected_PLC = np.nan_to_num(odds_PLC.grad.numpy())
    expected_PLC[~there_PL] = 0
    live_P, found_PLC = look.gradient(slot_R, drawn_RL, weight_R)
    assert live_P.tolist() == [0, 1, 3, 4, 5]
    np.testing.assert_allclose(found_PLC, expected_PLC[live_P], rtol=1e-3, atol=1e-5)
    assert not len(look.gradient(slot_R, drawn_RL, np.zeros(len(slot_R)))[0])


def test_an_update_is_adams_on_random_features():
    """Of a linear network with many features a fact, and many that the facts of a class share."""
    population, width = replace(SMALL, novelty=1e6, drift=0.0, speed=0.5), 4096
    world, rng = World(population, 0), np.random.default_rng(0)
    policy = Policy(world, 2.0)
    size, length = world.fact_NL.shape

    def directions(count):
        return rng.normal(size=(count, width)) / np.sqrt(width)

    share_K1, near = world.share_K1, population.near
    tiers_TT = np.linalg.cholesky([[1, near], [near, 1]])
    group_KD = (tiers_TT @ directions(len(share_K1)).reshape(-1, 2, width)).reshape(-1, width)
    share_F1, group_FD = (np.repeat(x, population.facts, 0) for x in (share_K1, group_KD))
    fact_FD = np.sqrt(1 - share_F1) * directions(len(share_F1)) + np.sqrt(share_F1) * group_FD
    fact_FD = np.append(fact_FD, np.zeros((1, width)), 0)  # of steps that there are not
    step_NLD = torch.tensor((np.sqrt(world.gain_F1) * fact_FD)[world.fact_NL])
    weights_DC = torch.zeros((width, population.choices), dtype=torch.float64, requires_grad=True)
    rate = 2 * population.speed / np.sqrt(width)
    adam = torch.optim.Adam([weights_DC], rate, betas=(0.0, 0.999), maximize=True)
    moved = []
    for _ in range(60):  # the first updates are of signs, until the second moments even out
        prompt_P = rng.permutation(size)[:12]
        there_PL = world.slip_NL1[prompt_P, :, 0] > 0
        gradient_PLC = rng.normal(size=(12, length, population.choices)).astype(np.float32)
        fact_S = world.fact_NL[prompt_P][there_PL]
        before = (
            policy.odds_FC[fact_S],
            (step_NLD[prompt_P] @ weights_DC.detach()).numpy()[there_PL],
        )
        policy.ascend(prompt_P, gradient_PLC)
        adam.zero_grad()
        ((step_NLD[prompt_P] @ weights_DC) * torch.tensor(gradient_PLC)).sum().backward()
        adam.step()
        after = policy.odds_FC[fact_S], (step_NLD[prompt_P] @ weights_DC.detach()).numpy()[there_PL]
        moved = [np.asarray(y - x).ravel() for x, y in zip(before, after, strict=True)]
    found, expected = moved
    assert np.corrcoef(found, expected)[0, 1] > 0.98
    assert found @ expected / (expected @ expected) == pytest.approx(1, abs=0.15)


def test_what_is_learnt_by_heart_helps_no_other_prompt():
    gains = []
    for novelty in (1e6, 1e-6):
        world = World(replace(SMALL, novelty=novelty, drift=0.0), 0)
        policy, seen, slot_R = Policy(world, 4.0), np.arange(SMALL.train), np.arange(SMALL.train)
        right_RL = np.zeros(world.fact_NL[seen].shape)  # the least number chooses what is right

        def learn(updates, policy=policy, seen=seen, slot_R=slot_R, right_RL=right_RL):
            for _ in range(updates):
                look = Look(policy, seen)
                policy.ascend(*look.gradient(slot_R, right_RL, np.ones(SMALL.train)))
            return np.array(
                [policy.success(seen).mean(), policy.success(policy.world.test_N).mean()]
            )

        first = learn(1)  # what is new of a prompt is never by heart
        gains.append(learn(9) - first)
    (known, known_others), (heart, heart_others) = gains
    assert known_others > 0.8 * known > 0.1
    assert heart > 0.05
    assert abs(heart_others) < 1e-3


def test_half_of_an_update_is_by_heart_after_so_many():
    """A prompt's own part against what its first fact gains."""
    population = replace(SMALL, families=1, novelty=2.0, gain=0.0, drift=0.0)
    world = World(population, 0)
    policy, rng = Policy(world, 1.0), np.random.default_rng(0)
    parts = []
    for _ in range(3):  # 0, 1 and 2 updates before
        gradient_PLC = rng.normal(size=(1, 5, population.choices)).astype(np.float32)
        fact = world.fact_NL[7, 0]
        before = policy.own_NLC[7].copy(), policy.odds_FC[fact].copy()
        policy.ascend(np.array([7]), gradient_PLC)
        first = world.fact_NL[7] == fact
        class_first = world.fact_NL[7] < world.fact_NL.max()
        # K of a fact with itself is 1; with others of its class it is `share`.
        share = world.share_K1[fact // population.facts, 0]
        total_C = gradient_PLC[0][first].sum(0) * (1 - share)
        total_C = total_C + share * gradient_PLC[0][class_first].sum(0)
        own = (policy.own_NLC[7] - before[0])[0] / gradient_PLC[0, 0]
        others = (policy.odds_FC[fact] - before[1]) / total_C
        parts.append(own / (own + others))
    np.testing.assert_allclose(parts[0], 0, atol=1e-4)
    np.testing.assert_allclose(parts[1], 1 / 3, rtol=1e-3)
    np.testing.assert_allclose(parts[2], 1 / 2, rtol=1e-3)


def test_known_facts_change_faster_by_a_power_of_their_odds():
    world = World(replace(SMALL, gain=0.5), 0)
    right_F, tier_F = world.base_FC[:-1, 0], np.arange(len(world.base_FC) - 1) // SMALL.facts % 2
    odds_F = right_F - np.logaddexp.reduce(world.base_FC[:-1, 1:], axis=1)
    easy, hard = (world.gain_F1[:-1, 0][tier_F == tier] for tier in (0, 1))
    apart = odds_F[tier_F == 0].mean() - odds_F[tier_F == 1].mean()
    assert np.log(easy.mean() / hard.mean()) == pytest.approx(0.5 * apart, rel=1e-4)
    assert world.gain_F1[:-1].mean() == pytest.approx(1)
    assert world.gain_F1[-1] == 0


def test_drift_grows_with_the_square_of_the_rate_and_with_the_gain():
    moved, population = [], replace(SMALL, gain=1.0, facts=100)
    for lr in (1.0, 2.0):
        policy = Policy(World(population, 0), lr)
        before_FC = policy.odds_FC[:-1].copy()
        for _ in range(64):
            policy.ascend(np.zeros(0, np.int64), np.zeros((0, 5, SMALL.choices), np.float32))
        by_tier = (policy.odds_FC[:-1] - before_FC).reshape(-1, 2, 100, SMALL.choices)
        moved.append(by_tier.std((0, 2, 3)))
    gain_T = policy.world.gain_F1[:-1].reshape(-1, 2, 100).mean((0, 2))
    assert gain_T[0] > 3 * gain_T[1]
    np.testing.assert_allclose(moved[0], SMALL.drift * 8 * gain_T, rtol=0.1)
    np.testing.assert_allclose(moved[1], 4 * moved[0], rtol=1e-3)


def test_choices_come_as_often_as_the_policy_says():
    world = World(SMALL, 0)
    look, slot_R = Look(Policy(world, 1.0), np.arange(1)), np.zeros(40_000, np.int64)
    drawn_RL = np.random.default_rng(0).random((40_000, world.fact_NL.shape[1]))
    choice_RL = look.choice(slot_R, drawn_RL)
    assert (choice_RL == 0).all(1).mean() == pytest.approx(look.success_N[0], abs=0.01)
    probability_RL = look.probability(slot_R, drawn_RL)
    for choice in range(SMALL.choices):
        at = choice_RL[:, 0] == choice
        assert at.mean() == pytest.approx(probability_RL[at, 0].mean(), abs=0.01)


def test_advantages_are_trls():
    """Ragged groups, in any order."""
    rng = np.random.default_rng(0)
    slot_R = rng.permutation(np.repeat(np.arange(5), [2, 3, 4, 5, 12]))
    reward_R = rng.integers(2, size=slot_R.size).astype(float)
    reward_R[slot_R == 0] = 1
    found_R = _advantages(slot_R, reward_R, 5)
    for slot in range(5):
        group = torch.tensor(reward_R[slot_R == slot])
        expected = (group - group.mean()) / (group.std() + 1e-4)
        np.testing.assert_allclose(found_R[slot_R == slot], expected.numpy(), atol=1e-12)
    unscaled_R = _advantages(slot_R, reward_R, 5, scale=False)
    for slot in range(5):
        group = reward_R[slot_R == slot]
        np.testing.assert_allclose(unscaled_R[slot_R == slot], group - group.mean(), atol=1e-12)
