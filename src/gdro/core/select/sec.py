"""SEC: a bandit over classes that follows advantages (Chen et al. 2025, arXiv 2505.14970)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gdro.core.policy import Feedback, Setting
from gdro.core.select.base import Selector
from gdro.core.select.mixture import by_class, systematic, within
from gdro.core.select.pool import Pool
from gdro.core.types import UNSEEN, IntArray


class Sec(Selector):
    """Draws classes by softmax(Q / tau), and in a class the least drawn prompts.

    Q(c) <- (1 - alpha) Q(c) + alpha r(c), r the mean |advantage| of the class's rollouts in a step:
    2 sqrt(m (1 - m)) sqrt((n - 1) / n) for a group of n with mean m when advantages are scaled by
    the unbiased deviation, 2 m (1 - m) when they are not. The classes are the classifier's bins
    (or a column's groups, as in the source), and the unseen prompts as one more; alpha is
    `select.sec_rate`, tau `select.sec_temperature`; Q starts at 0. What a class has too few prompts
    for goes to the others.
    """

    def __init__(self, setting: Setting) -> None:
        select = setting.config.select
        self._alpha, self._tau = select.sec_rate, select.sec_temperature
        self._scaled = setting.std_scaled
        self._value_C = np.zeros(setting.num_bins + 1)  # the last is of unseen prompts

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        unseen = len(self._value_C) - 1
        bin_N = pool.bin_N
        class_N = np.where(bin_N == UNSEEN, unseen, bin_N)
        room_C = np.bincount(class_N, minlength=unseen + 1)
        mass_C = np.exp((self._value_C - self._value_C.max()) / self._tau)
        count_C = systematic(within(mass_C, room_C, num_prompts), rng)
        return rng.permutation(by_class(class_N, count_C, pool.visits_N, rng))

    def observe(self, feedback: Feedback) -> None:
        n_P, mean_P = feedback.n_P, feedback.correct_P / feedback.n_P
        size_P = 2 * mean_P * (1 - mean_P)
        if self._scaled:
            size_P = 2 * np.sqrt(mean_P * (1 - mean_P) * (n_P - 1) / n_P)
        class_P = np.where(feedback.bin_P == UNSEEN, len(self._value_C) - 1, feedback.bin_P)
        n_C = np.bincount(class_P, n_P, len(self._value_C))
        present = n_C > 0
        reward_C = np.bincount(class_P, n_P * size_P, len(self._value_C))[present] / n_C[present]
        self._value_C[present] += self._alpha * (reward_C - self._value_C[present])

    def state_dict(self) -> dict[str, Any]:
        return {"value": self._value_C.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._value_C = state["value"].copy()
