"""A softmax policy over the choices of each step, linear in the features of its fact."""

import numpy as np

from gdro.core.types import FloatArray, IntArray
from gdro.lab.simulate.population import RIGHT, World


class Policy:
    """What is known, softmax(base_f + features_f W), but for slips to any wrong choice.

        pi(c | f) = (1 - slip) softmax(base_f + features_f W)_c + slip / (C - 1) [c is wrong]

    W is learnt by Adam (rates .9 and .999, as trainers have it). With every update base_f moves at
    random, by `drift` times its rate: what a network's updates do to what they are not about.

    Attributes:
        world: The facts.
        base_FC: Log-odds without W.
        weights_DC: W, zeros at first.
    """

    def __init__(self, world: World, rate: float) -> None:
        self.world, self._rate = world, rate
        self.weights_DC = np.zeros((world.features_FD.shape[1], world.base_FC.shape[1]))
        self._first_DC = np.zeros_like(self.weights_DC)
        self._second_DC = np.zeros_like(self.weights_DC)
        self._updates = 0
        self.base_FC = world.base_FC.copy()
        self._rng = np.random.default_rng([world.seed, 0xD])

    def success(self, fact_NL: IntArray) -> FloatArray:
        """float64 [N], probability that every step of a prompt is right."""
        return Look(self, fact_NL).success_N

    def ascend(self, gradient_DC: FloatArray) -> None:
        """One step of Adam."""
        self._updates += 1
        self._first_DC += 0.1 * (gradient_DC - self._first_DC)
        self._second_DC += 0.001 * (gradient_DC**2 - self._second_DC)
        rate = self._rate / (1 - 0.9**self._updates)
        deviation_DC = np.sqrt(self._second_DC / (1 - 0.999**self._updates))
        self.weights_DC += rate * self._first_DC / (deviation_DC + 1e-8)
        if drift := self.world.population.drift * self._rate:
            self.base_FC[:-1] += drift * self._rng.normal(size=self.base_FC[:-1].shape)


class Look:
    """The policy as it is now, at the facts (U of them) of some prompts.

    Args:
        policy: It must not be updated while this is in use.
        fact_NL: The facts of the prompts.
    """

    def __init__(self, policy: Policy, fact_NL: IntArray) -> None:
        world = policy.world
        facts_U, place = np.unique(fact_NL, return_inverse=True)
        self._place_NL = place.reshape(fact_NL.shape)
        self._features_UD = world.features_FD[facts_U]
        odds_UC = policy.base_FC[facts_U] + self._features_UD @ policy.weights_DC
        odds_UC = np.exp(odds_UC - odds_UC.max(1, keepdims=True))
        self._softmax_UC = odds_UC / odds_UC.sum(1, keepdims=True)
        none_U = facts_U == len(world.base_FC) - 1  # a step that there is not cannot go wrong
        slip_U1 = np.where(none_U, 0, world.population.slip)[:, None]
        self._known_UC = (1 - slip_U1) * self._softmax_UC
        self._pi_UC = self._known_UC + slip_U1 / (odds_UC.shape[1] - 1)
        self._pi_UC[:, RIGHT] = self._known_UC[:, RIGHT]

    @property
    def success_N(self) -> FloatArray:
        """Probability that every step of each prompt is right."""
        return self._pi_UC[:, RIGHT][self._place_NL].prod(1)

    def sample(self, slot_R: IntArray, rng: np.random.Generator) -> IntArray:
        """int64 [R, L], the choice of every step of a rollout of each prompt named."""
        place_RL = self._place_NL[slot_R]
        below_UC = self._pi_UC[:, :-1].cumsum(1)
        return (rng.random(place_RL.shape)[..., None] > below_UC[place_RL]).sum(-1)

    def probability(self, slot_R: IntArray, choice_RL: IntArray) -> FloatArray:
        """float64 [R, L], pi of every choice."""
        return self._pi_UC[self._place_NL[slot_R], choice_RL]

    def gradient(self, slot_R: IntArray, choice_RL: IntArray, weight_R: FloatArray) -> FloatArray:
        """float64 [D, C], of sum_R weight_R sum_L log pi(choice) by W."""
        place_RL, (facts, choices) = self._place_NL[slot_R], self._pi_UC.shape
        # A choice that may have been a slip says less of what is known.
        known_RL = self._known_UC[place_RL, choice_RL] / self._pi_UC[place_RL, choice_RL]
        weight_RL = (weight_R[:, None] * known_RL).ravel()
        chosen = np.bincount((place_RL * choices + choice_RL).ravel(), weight_RL, facts * choices)
        visited_U = np.bincount(place_RL.ravel(), weight_RL, facts)
        by_odds_UC = chosen.reshape(facts, choices) - visited_U[:, None] * self._softmax_UC
        return self._features_UD.T @ by_odds_UC
