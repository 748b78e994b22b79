"""SEC: a bandit over classes that follows advantages (Chen et al. 2025, arXiv 2505.14970)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gdro.core.policy import Feedback, Setting
from gdro.core.select.base import Selector
from gdro.core.select.mixture import draw_by_class
from gdro.core.select.pool import Pool
from gdro.core.types import UNSEEN, IntArray


class Sec(Selector):
    """Draws classes by softmax(Q / tau), and in a class those drawn longest ago.

    Q(c) <- (1 - alpha) Q(c) + alpha r(c), r the mean |advantage| of the class's rollouts in a step:
    2 sqrt(m (1 - m)) sqrt((n - 1) / n) for a group of n with mean m when advantages are scaled by
    the unbiased deviation, 2 m (1 - m) when they are not; alpha is `select.sec_rate`, tau
    `select.sec_temperature`; Q starts at 0. What a class has too few prompts for goes to the
    others.

    The source's classes are fixed groups of the data (`difficulty.source=column:<name>`). Where
    they are the classifier's bins, and the unseen prompts as one more, their sizes change as the
    run goes, so a class has mass size * exp(Q / tau): a bin of four prompts would otherwise be
    drawn as often as ten thousand unseen ones.
    """

    def __init__(self, setting: Setting) -> None:
        select = setting.config.select
        self._alpha, self._tau = select.sec_rate, select.sec_temperature
        self._scaled = setting.std_scaled
        self._static = setting.config.difficulty.source.startswith("column:")
        self._value_V = np.zeros(setting.num_bins + 1)  # the last is of unseen prompts

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        queues = pool.queues(rng)
        size_C = queues.size_C
        value_C = np.where(pool.bin_C == UNSEEN, len(self._value_V) - 1, pool.bin_C)
        mass_V = np.exp((self._value_V - self._value_V.max()) / self._tau)
        mass_C = size_C * mass_V[value_C]
        if self._static:
            mass_C /= np.maximum(np.bincount(value_C, size_C, len(mass_V)), 1)[value_C]
        return rng.permutation(draw_by_class(queues, mass_C, num_prompts, rng))

    def observe(self, feedback: Feedback) -> None:
        n_P, mean_P = feedback.n_P, feedback.correct_P / feedback.n_P
        size_P = 2 * mean_P * (1 - mean_P)
        if self._scaled:
            size_P = 2 * np.sqrt(mean_P * (1 - mean_P) * (n_P - 1) / n_P)
        value_P = np.where(feedback.bin_P == UNSEEN, len(self._value_V) - 1, feedback.bin_P)
        n_V = np.bincount(value_P, n_P, len(self._value_V))
        present = n_V > 0
        reward_V = np.bincount(value_P, n_P * size_P, len(self._value_V))[present] / n_V[present]
        self._value_V[present] += self._alpha * (reward_V - self._value_V[present])

    def state_dict(self) -> dict[str, Any]:
        return {"value": self._value_V.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._value_V = state["value"].copy()
