"""A few rollouts of every prompt, and the rest where these showed no success."""

import numpy as np

from gdro.core.allocate.hard_first import HardFirst
from gdro.core.budget import separable
from gdro.core.errors import ConfigError
from gdro.core.policy import Batch, Feedback, Setting
from gdro.core.types import IntArray


class SecondLook(HardFirst):
    """`hard_first` in two rounds: first `rollout.n_min` rollouts of every prompt, then the others
    of the budget by the posterior that these have moved, at least one where none was right.

    What is generated all trains, and is exactly the budget. A prompt whose first rollouts have a
    success gives up what a rule that decides beforehand would still have spent on it, also on its
    very first visit.
    """

    rounds = 2
    surplus = False

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        rollout = setting.config.rollout
        self._first, self._most = rollout.n_min, rollout.n_max
        if setting.n_mean < self._first + 1:
            raise ConfigError(
                f"rollout.n_min must be <= {setting.n_mean - 1:g} with rollout.allocator="
                f"second_look, one less than the mean, got {self._first}: the rest is for the "
                "second look"
            )

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        return np.full(len(batch.p_P), self._first)

    def more(
        self, batch: Batch, groups: Feedback, train_P: IntArray, rng: np.random.Generator
    ) -> IntArray:
        a_P = batch.a_P + groups.correct_P
        p_P = a_P / (batch.a_P + batch.b_P + groups.n_P)
        lo_P = train_P + (groups.correct_P == 0)
        n_P = separable(
            (1 - p_P) ** (2 * self.power), lo_P, np.full_like(lo_P, self._most), batch.budget, rng,
            p_P * (1 - p_P),
        )  # fmt: skip
        return n_P - train_P
