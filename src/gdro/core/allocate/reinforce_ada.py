"""Reinforce-Ada: rounds of rollouts until a prompt has a signal (Xiong et al. 2025, 2510.04996)."""

import numpy as np

from gdro.core.allocate.base import Allocator
from gdro.core.allocate.uniform import Uniform
from gdro.core.policy import Batch, Feedback, Setting
from gdro.core.types import FloatArray, IntArray


class ReinforceAda(Allocator):
    """Uniform rounds; a prompt leaves once it has what `rollout.exit` asks for.

    * `balanced`: half of the n rollouts that train are to be right, and half wrong;
    * `positive`: one right rollout.

    A prompt that has not left after `rollout.max_rounds` rounds trains on what there is. Of each
    prompt the same n rollouts train as under `uniform`: as near half right, half wrong as what came
    allows, drawn by lot. Advantages take mean and deviation of *all* that was generated, as in the
    source. Not compute-neutral: up to `rounds` times the budget is generated.
    """

    def __init__(self, setting: Setting) -> None:
        rollout = setting.config.rollout
        self.rounds, self._exit = rollout.max_rounds, rollout.exit
        self._uniform = Uniform(setting)

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        return self._uniform.allocate(batch, rng)

    def more(
        self, batch: Batch, groups: Feedback, train_P: IntArray, rng: np.random.Generator
    ) -> IntArray:
        wrong_P = groups.n_P - groups.correct_P
        if self._exit == "positive":
            done_P = groups.correct_P >= 1
        else:
            half_P = train_P // 2
            done_P = (groups.correct_P >= half_P) & (wrong_P >= half_P)
        return np.where(done_P, 0, train_P)

    def pick(self, correct_G: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
        order = rng.permutation(correct_G.size)
        right, wrong = order[correct_G[order] > 0], order[correct_G[order] == 0]
        half = size // 2
        right_size = min(right.size, max(half, size - wrong.size))
        return np.sort(np.concatenate([right[:right_size], wrong[: size - right_size]]))
