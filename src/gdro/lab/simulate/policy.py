"""A softmax policy over the choices of each step, linear in the step's features."""

import math

import numpy as np

from gdro.core.types import IntArray
from gdro.lab.simulate.population import RIGHT, World

_MOST = 80  # e to it is a float32
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
        self.weights_DC = np.zeros((world.features_FD.shape[1], world.base_FC.shape[1]), np.float32)
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
        fact_S, choices = world.fact_NL[prompt_P].ravel(), weights_DC.shape[1]
        self._features_SD = world.features_FD.take(fact_S, 0)
        self._own_PD = world.own_ND.take(prompt_P, 0)
        odds_SC = policy.base_FC.take(fact_S, 0) + self._features_SD @ weights_DC
        odds_PLC = odds_SC.reshape(len(prompt_P), -1, choices)
        odds_PLC += (self._own_PD @ weights_DC)[:, None]
        odds_PLC -= odds_PLC[..., RIGHT, None].copy()
        odds_PLC = np.exp(np.minimum(odds_PLC, _MOST, out=odds_PLC), out=odds_PLC)
        self._softmax_PLC = odds_PLC / odds_PLC.sum(-1, keepdims=True)
        slip_PL1 = world.slip_F.take(fact_S).reshape(len(prompt_P), -1, 1)
        self._known_PLC = (1 - slip_PL1) * self._softmax_PLC
        self._pi_PLC = self._known_PLC + slip_PL1 / (choices - 1)
        self._pi_PLC[..., RIGHT] = self._known_PLC[..., RIGHT]

    @property
    def success_N(self) -> np.ndarray:
        """Probability that every step of each prompt is right."""
        return self._pi_PLC[..., RIGHT].astype(np.float64).prod(1)

    def sample(self, slot_R: IntArray, rng: np.random.Generator) -> IntArray:
        """int64 [R, L], the choice of every step of a rollout of each prompt named."""
        right_RL = self._pi_PLC[..., RIGHT][slot_R]
        drawn_RL = rng.random(right_RL.shape)
        choice_RL = np.zeros(right_RL.shape, np.int64)
        rollout_W, step_W = np.nonzero(drawn_RL > right_RL)  # only what goes wrong is looked up
        below_WC = self._pi_PLC.cumsum(-1)[slot_R[rollout_W], step_W, :-1]
        choice_RL[rollout_W, step_W] = (drawn_RL[rollout_W, step_W, None] > below_WC).sum(-1)
        return choice_RL

    def probability(self, slot_R: IntArray, choice_RL: IntArray) -> np.ndarray:
        """[R, L], pi of every choice."""
        return self._pi_PLC.ravel()[self._place(slot_R, choice_RL)]

    def gradient(self, slot_R: IntArray, choice_RL: IntArray, weight_R: np.ndarray) -> np.ndarray:
        """[D, C], of sum_R weight_R sum_L log pi(choice) by W."""
        place_RL, shape = self._place(slot_R, choice_RL), self._pi_PLC.shape
        # A choice that may have been a slip says less of what is known.
        known_RL = self._known_PLC.ravel()[place_RL] / self._pi_PLC.ravel()[place_RL]
        weight_RL = weight_R[:, None] * known_RL
        by_odds = np.bincount(place_RL.ravel(), weight_RL.ravel(), self._pi_PLC.size)
        by_odds_PLC = by_odds.astype(np.float32).reshape(shape)
        by_odds_PLC -= by_odds_PLC.sum(-1, keepdims=True) * self._softmax_PLC
        by_step_SC = by_odds_PLC.reshape(-1, shape[-1])
        return self._features_SD.T @ by_step_SC + self._own_PD.T @ by_odds_PLC.sum(1)

    def _place(self, slot_R: IntArray, choice_RL: IntArray) -> IntArray:
        """Of every choice, in flattened [P, L, C]."""
        _, length, choices = self._pi_PLC.shape
        return (slot_R[:, None] * length + np.arange(length)) * choices + choice_RL
