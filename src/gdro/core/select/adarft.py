"""AdaRFT: a target difficulty that follows the reward (Shi et al. 2025, arXiv 2504.05520)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gdro.core.policy import Feedback, Setting
from gdro.core.select.base import Selector
from gdro.core.select.pool import Pool, smallest
from gdro.core.types import IntArray


class AdaRFT(Selector):
    """The prompts of difficulty nearest to T; T <- clip(T + eta tanh(alpha (R - beta)), 0, 1).

    Difficulty is 1 - p in [0, 1] where the source scales it to 100: p is the classifier's posterior
    mean, which a `difficulty.prior_column` of pass rates starts (the source estimates them once,
    beforehand). R is the mean correct of the step, beta `select.target`, eta `select.adarft_step`,
    alpha `select.adarft_gain`; T starts at 0, the easiest. Of equally near prompts the least drawn
    come first.
    """

    def __init__(self, setting: Setting) -> None:
        select = setting.config.select
        self._step, self._gain, self._beta = (
            select.adarft_step, select.adarft_gain, select.target,
        )  # fmt: skip
        self._target = 0.0

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        distance_N = np.abs(1 - pool.success_N - self._target)
        return rng.permutation(smallest(distance_N, pool.visits_N, num_prompts, rng))

    def observe(self, feedback: Feedback) -> None:
        if feedback.n_P.size:
            reward = feedback.correct_P.sum() / feedback.n_P.sum()
            moved = self._target + self._step * np.tanh(self._gain * (reward - self._beta))
            self._target = float(np.clip(moved, 0.0, 1.0))

    def state_dict(self) -> dict[str, Any]:
        return {"target": self._target}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._target = float(state["target"])

    def metrics(self) -> dict[str, float]:
        return {"select/target_difficulty": self._target}
