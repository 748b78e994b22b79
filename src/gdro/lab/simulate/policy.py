"""A softmax policy over the choices of each step, and how an update of it changes what is known."""

import math
from functools import cached_property

import numpy as np

from gdro.core.types import IntArray
from gdro.lab.simulate.population import RIGHT, World

_MOST = 60  # e to it, and to minus it, is a normal float32
_EVERY = 8  # updates between two draws of the drift, which is as large as if there were one each


class Policy:
    """What is known, softmax(odds_f + own_nl), but for slips to any wrong choice.

        pi(c | n, l) = (1 - slip) softmax(odds_f + own_nl)_c + slip / (C - 1) [c is wrong]

    f is the fact of step l of prompt n, g_nl the gradient by these log-odds. An update is Adam's on
    a network that is linear in many random features, of a fact, shared, or a prompt's own:

        d odds = speed lr K sum (1 - h_n) g_nl / v      K(f, f') = sqrt(gain_f gain_f') * in common
        d own  = speed lr gain_f h_n g_nl / v           h_n = updates on n so far / (they + novelty)

    h is how much of it is learnt by heart. v_c^2 is Adam's second moment (rate .999): the running
    mean of the squared length of the gradient by the features of choice c. Momentum, which delays,
    is left out. With every update odds_f moves at random, by `drift` times lr squared times
    gain_f: what a network's updates do to what they are not about. It is of second order in the
    rate and the features, as the rest is of first; so it is what sets a limit to the rate.

    Attributes:
        world: The facts and prompts.
        odds_FC: float32, log-odds of each fact's choices.
        own_NLC: float32, log-odds of each prompt's steps beside them.
    """

    def __init__(self, world: World, lr: float) -> None:
        self.world = world
        self._rate = world.population.speed * lr
        self._drift = world.population.drift * lr**2 * math.sqrt(_EVERY)
        self.odds_FC = world.base_FC.copy()
        self.own_NLC = np.zeros((*world.fact_NL.shape, world.base_FC.shape[1]), np.float32)
        self.own_NLC[..., RIGHT] = world.own_NL
        self._second_C = np.zeros(world.base_FC.shape[1])
        self._updates = 0
        self._updates_N = np.zeros(len(world.fact_NL), np.int64)
        self._root_F = np.sqrt(world.gain_F1[:, 0])
        self._alone_F = (1 - np.repeat(world.share_K1[:, 0], world.population.facts)).astype(float)
        apart_TT = np.abs(np.subtract.outer(*2 * [np.arange(world.population.tiers)]))
        self._near_TT = world.population.near**apart_TT
        self._rng = np.random.default_rng([world.seed, 0xD])

    def success(self, prompt_N: IntArray) -> np.ndarray:
        """float64 [N], probability that every step of a prompt is right."""
        return Look(self, prompt_N).success_N

    def ascend(self, prompt_P: IntArray, gradient_PLC: np.ndarray) -> None:
        """One update.

        Args:
            prompt_P: Prompts, each once.
            gradient_PLC: Of the objective, by the log-odds of each of their steps.
        """
        self._updates += 1
        world, choices = self.world, self.odds_FC.shape[1]
        updates_P = self._updates_N[prompt_P]
        self._updates_N[prompt_P] += 1
        heart_P = (updates_P / (updates_P + world.population.novelty)).astype(np.float32)
        own_PLC = heart_P[:, None, None] * gradient_PLC
        fact_PL = world.fact_NL.take(prompt_P, 0)
        by_step_PLC = (gradient_PLC - own_PLC) * self._root_F.take(fact_PL)[..., None]
        moved_CF, square_C = self._in_common(fact_PL.ravel(), by_step_PLC.reshape(-1, choices))
        own_PLC *= world.gain_F1.take(fact_PL, 0)
        square_C += np.einsum("plc,plc->c", own_PLC, gradient_PLC)
        self._second_C += 0.001 * (square_C - self._second_C)
        rate_C = self._rate / (np.sqrt(self._second_C / (1 - 0.999**self._updates)) + 1e-8)
        moved_CF *= rate_C[:, None]
        self.odds_FC[:-1] += moved_CF.T
        self.own_NLC[prompt_P] += rate_C.astype(np.float32) * own_PLC
        if self._drift and self._updates % _EVERY == 0:
            noise_FC = self._rng.standard_normal(self.odds_FC.shape, np.float32)
            self.odds_FC[:-1] += self._drift * self.world.gain_F1[:-1] * noise_FC[:-1]

    def _in_common(self, fact_S: IntArray, by_step_SC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What steps do to all facts, and the squared length of their gradient, by choice.

        Facts stand in rows, of one choice each: numpy is slow along a few choices.
        """
        p, share_K1 = self.world.population, self.world.share_K1
        classes, choices = len(share_K1), by_step_SC.shape[1]
        by_fact_CF = _sums(fact_S, by_step_SC, classes * p.facts)
        by_class_CK = by_fact_CF.reshape(choices, classes, p.facts) @ np.ones(p.facts)
        near_CJT = by_class_CK.reshape(choices, p.families, p.tiers) @ self._near_TT
        shared_CK = share_K1[:, 0] * near_CJT.reshape(choices, classes)
        moved_CF = self._alone_F * by_fact_CF
        square_C = np.einsum("cf,cf->c", moved_CF, by_fact_CF)
        square_C += np.einsum("ck,ck->c", shared_CK, by_class_CK)
        moved_CF.reshape(choices, classes, p.facts)[...] += shared_CK[..., None]
        moved_CF *= self._root_F[:-1]
        return moved_CF, square_C


def _sums(fact_S: IntArray, value_SC: np.ndarray, facts: int) -> np.ndarray:
    """float64 [C, facts]; of steps that there are not, which come last, nothing."""
    choices = value_SC.shape[1]
    place_SC = fact_S[:, None] + np.arange(choices) * (facts + 1)
    total = np.bincount(place_SC.ravel(), value_SC.ravel(), choices * (facts + 1))
    return total.reshape(choices, facts + 1)[:, :-1]


class Look:
    """The policy as it is now, at every step of some prompts.

    Args:
        policy: It must not be updated while this is in use.
        prompt_P: The prompts, by their place in the world.
    """

    def __init__(self, policy: Policy, prompt_P: IntArray) -> None:
        world = policy.world
        odds_PLC = policy.odds_FC.take(world.fact_NL.take(prompt_P, 0), 0)
        odds_PLC += policy.own_NLC.take(prompt_P, 0)
        odds_PLC -= odds_PLC[..., RIGHT, None].copy()
        np.minimum(np.maximum(odds_PLC, -_MOST, out=odds_PLC), _MOST, out=odds_PLC)
        np.exp(odds_PLC, out=odds_PLC)
        odds_PLC /= (odds_PLC @ np.ones(odds_PLC.shape[-1], np.float32))[..., None]
        self._softmax_PLC, self._prompt_P = odds_PLC, prompt_P
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
        return drawn_RL <= self._right_PL.take(slot_R, 0)

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

    def gradient(
        self, slot_R: IntArray, drawn_RL: np.ndarray, weight_R: np.ndarray
    ) -> tuple[IntArray, np.ndarray]:
        """Of sum_R weight_R sum_L log pi(choice), by log-odds: prompts [P'] and [P', L, C].

        Only prompts with a rollout of weight are among them.
        """
        live_R = np.flatnonzero(weight_R)  # most groups have one reward, and no gradient
        slot_R, weight_R = slot_R[live_R], weight_R[live_R]
        place_RL, shape = self._place(slot_R, drawn_RL[live_R]), self._softmax_PLC.shape
        # A choice that may have been a slip says less of what is known.
        known_RL = self._softmax_PLC.ravel()[place_RL] / self._pi_PLC.ravel()[place_RL]
        known_RL *= 1 - self._slip_PL1[slot_R, :, 0]
        weight_RL = weight_R[:, None] * known_RL
        by_odds = np.bincount(place_RL.ravel(), weight_RL.ravel(), self._softmax_PLC.size)
        live_P = np.flatnonzero(np.bincount(slot_R, minlength=shape[0]))
        by_odds_PLC = by_odds.reshape(shape).take(live_P, 0).astype(np.float32)
        by_odds_PLC -= by_odds_PLC.sum(-1, keepdims=True) * self._softmax_PLC[live_P]
        return self._prompt_P[live_P], by_odds_PLC

    def _place(self, slot_R: IntArray, drawn_RL: np.ndarray) -> IntArray:
        """Of every choice, in flattened [P, L, C]."""
        _, length, choices = self._softmax_PLC.shape
        step_RL = slot_R[:, None] * length + np.arange(length)
        return step_RL * choices + self.choice(slot_R, drawn_RL)
