"""A softmax policy over the choices of each step, linear in the step's features."""

import math
from functools import cached_property

import numpy as np

from gdro.core.types import IntArray
from gdro.lab.simulate.population import RIGHT, World

_MOST = 60  # e to it, and to minus it, is a normal float32
_EVERY = 8  # updates between two draws of the drift, which is as large as if there were one each


class Policy:
    """What is known, softmax(base_f + x W), but for slips to any wrong choice.

        pi(c | n, f) = (1 - slip) softmax(base_f + x_nf W)_c + slip / (C - 1) [c is wrong]

    x_nf are the features of fact f in prompt n. W is learnt by Adam (rates .9 and .999, as trainers
    have it). With every update base_f moves at random, by `drift` times lr times the rate: what a
    network's updates do to what they are not about. It is of second order in the rate, as the
    linear part is in the features; so it is what sets a limit to the rate.

    Attributes:
        world: The facts and prompts.
        base_FC: float32, log-odds without W.
        weights_DC: float32, W, zeros at first.
    """

    def __init__(self, world: World, lr: float) -> None:
        self.world = world
        self._rate = world.population.speed * lr
        self._drift = world.population.drift * self._rate * lr * math.sqrt(_EVERY)
        self.weights_DC = np.zeros((world.step_NLD.shape[-1], world.base_FC.shape[-1]), np.float32)
        self._first_DC = np.zeros_like(self.weights_DC)
        self._second_DC = np.zeros_like(self.weights_DC)
        self._updates = 0
        self.base_FC = world.base_FC.copy()
        self._rng = np.random.default_rng([world.seed, 0xD])

    def success(self, prompt_N: IntArray) -> np.ndarray:
        """float64 [N], probability that every step of a prompt is right."""
        return Look(self, prompt_N).success_N

    def ascend(self, gradient_DC: np.ndarray) -> None:
        """One step of Adam."""
        self._updates += 1
        self._first_DC += 0.1 * (gradient_DC - self._first_DC)
        self._second_DC += 0.001 * (gradient_DC**2 - self._second_DC)
        deviation_DC = np.sqrt(self._second_DC / (1 - 0.999**self._updates)) + 1e-8
        self.weights_DC += self._rate / (1 - 0.9**self._updates) * self._first_DC / deviation_DC
        if self._drift and self._updates % _EVERY == 0:
            noise_FC = self._rng.standard_normal(self.base_FC.shape, np.float32)
            self.base_FC[:-1] += self._drift * noise_FC[:-1]


class Look:
    """The policy as it is now, at every step of some prompts.

    Args:
        policy: It must not be updated while this is in use.
        prompt_P: The prompts, by their place in the world.
    """

    def __init__(self, policy: Policy, prompt_P: IntArray) -> None:
        world, weights_DC = policy.world, policy.weights_DC
        fact_PL, choices = world.fact_NL.take(prompt_P, 0), weights_DC.shape[1]
        self._step_PLD = world.step_NLD.take(prompt_P, 0)
        odds_PLC = policy.base_FC.take(fact_PL, 0)
        odds_PLC += (self._step_PLD.reshape(-1, len(weights_DC)) @ weights_DC).reshape(
            odds_PLC.shape
        )
        odds_PLC -= odds_PLC[..., RIGHT, None].copy()
        odds_PLC = np.exp(np.clip(odds_PLC, -_MOST, _MOST, out=odds_PLC), out=odds_PLC)
        odds_PLC /= (odds_PLC @ np.ones(choices, np.float32))[..., None]
        self._softmax_PLC = odds_PLC
        self._slip_PL1 = world.slip_NL1.take(prompt_P, 0)
        self._right_PL = odds_PLC[..., RIGHT] * (1 - self._slip_PL1[..., 0])

    @property
    def success_N(self) -> np.ndarray:
        """Probability that every step of each prompt is right."""
        return self._right_PL.astype(np.float64).prod(1)

    @cached_property
    def _pi_PLC(self) -> np.ndarray:
        slip_PL1 = self._slip_PL1
        pi_PLC = (1 - slip_PL1) * self._softmax_PLC + slip_PL1 / (self._softmax_PLC.shape[-1] - 1)
        pi_PLC[..., RIGHT] = self._right_PL
        return pi_PLC

    def right(self, slot_R: IntArray, drawn_RL: np.ndarray) -> np.ndarray:
        """bool [R, L], whether `choice` would be right."""
        return drawn_RL <= self._right_PL[slot_R]

    def choice(self, slot_R: IntArray, drawn_RL: np.ndarray) -> IntArray:
        """int64 [R, L], what uniform numbers choose at every step of a rollout of each prompt."""
        choice_RL = np.zeros(drawn_RL.shape, np.int64)
        rollout_W, step_W = np.nonzero(~self.right(slot_R, drawn_RL))
        below_WC = self._pi_PLC[slot_R[rollout_W], step_W, :-1].cumsum(-1)
        choice_RL[rollout_W, step_W] = (drawn_RL[rollout_W, step_W, None] > below_WC).sum(-1)
        return choice_RL

    def probability(self, slot_R: IntArray, drawn_RL: np.ndarray) -> np.ndarray:
        """[R, L], pi of every choice."""
        return self._pi_PLC.ravel()[self._place(slot_R, drawn_RL)]

    def gradient(self, slot_R: IntArray, drawn_RL: np.ndarray, weight_R: np.ndarray) -> np.ndarray:
        """[D, C], of sum_R weight_R sum_L log pi(choice) by W."""
        live_R = np.flatnonzero(weight_R)  # most groups have one reward, and no gradient
        slot_R, weight_R = slot_R[live_R], weight_R[live_R]
        place_RL, shape = self._place(slot_R, drawn_RL[live_R]), self._softmax_PLC.shape
        # A choice that may have been a slip says less of what is known.
        known_RL = self._softmax_PLC.ravel()[place_RL] / self._pi_PLC.ravel()[place_RL]
        known_RL *= 1 - self._slip_PL1[slot_R, :, 0]
        weight_RL = weight_R[:, None] * known_RL
        by_odds = np.bincount(place_RL.ravel(), weight_RL.ravel(), self._softmax_PLC.size)
        live_P = np.flatnonzero(np.bincount(slot_R, minlength=shape[0]))
        by_odds_PLC = by_odds.astype(np.float32).reshape(shape)[live_P]
        by_odds_PLC -= by_odds_PLC.sum(-1, keepdims=True) * self._softmax_PLC[live_P]
        by_odds_SC = by_odds_PLC.reshape(-1, shape[-1])
        step_SD = self._step_PLD[live_P].reshape(-1, self._step_PLD.shape[-1])
        return step_SD.T @ by_odds_SC

    def _place(self, slot_R: IntArray, drawn_RL: np.ndarray) -> IntArray:
        """Of every choice, in flattened [P, L, C]."""
        _, length, choices = self._softmax_PLC.shape
        step_RL = slot_R[:, None] * length + np.arange(length)
        return step_RL * choices + self.choice(slot_R, drawn_RL)
