"""GRESO: skip prompts that were uninformative before (Zheng et al. 2025, arXiv 2506.02177)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gdro.core.index import grown, turns
from gdro.core.policy import Feedback, Setting
from gdro.core.select.base import Selector
from gdro.core.select.pool import Pool
from gdro.core.types import IntArray

_SHARE = np.array([1 / 3, 2 / 3])  # of the target: all right, all wrong (the source's 1 : 2)
_LEAST = 0.05  # a prompt is never skipped for good


class Greso(Selector):
    """Shuffled epochs in which a prompt is skipped with probability 1 - e^z.

    z is how many visits in a row were all right, or all wrong; e is the exploration probability of
    that kind. After each step e of a kind moves by `select.greso_step`: down if more than
    its part of `select.greso_target` of the step's groups were of that kind, up otherwise. Skipping
    costs no rollouts, so the budget is that of GRPO; the source also refills as DAPO does, which is
    `select.policy=dapo`. If an epoch's worth of prompts was not enough, skipped ones fill up.
    """

    def __init__(self, setting: Setting) -> None:
        select = setting.config.select
        self._step, self._target_2 = select.greso_step, select.greso_target * _SHARE
        self._explore_2 = np.full(2, select.greso_explore)
        self._streak: np.ndarray = np.zeros(0, np.int16)  # by row; > 0 all right, < 0 all wrong
        self._skipped = 0

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        self._streak = grown(self._streak, int(pool.rows_N.max()) + 1)
        chosen, skipped = np.zeros(0, np.int64), np.zeros(0, np.int64)
        while len(chosen) < num_prompts and len(chosen) + len(skipped) < pool.size:
            offered = pool.next(num_prompts - len(chosen), rng, np.concatenate([chosen, skipped]))
            streak = self._streak[pool.rows_N[offered]].astype(np.int64)
            explore = self._explore_2[(streak < 0).astype(int)]
            kept = rng.random(len(offered)) < explore ** np.abs(streak)
            chosen = np.concatenate([chosen, offered[kept]])
            skipped = np.concatenate([skipped, offered[~kept]])
        self._skipped = len(skipped)
        return np.concatenate([chosen, skipped[: num_prompts - len(chosen)]])

    def observe(self, feedback: Feedback) -> None:
        several_P = feedback.n_P > 1  # a single rollout is neither mixed nor uniform
        if not several_P.any():
            return
        rows_P, correct_P = feedback.row_P[several_P], feedback.correct_P[several_P]
        n_P = feedback.n_P[several_P]
        self._streak = grown(self._streak, int(rows_P.max()) + 1)
        kind_P = (correct_P == n_P).astype(int) - (correct_P == 0)
        for now in turns(rows_P):
            row, kind, old = rows_P[now], kind_P[now], self._streak[rows_P[now]]
            longer = np.where(np.sign(old) == kind, old + kind, kind)
            self._streak[row] = np.clip(longer, -1000, 1000)
        found_2 = np.array([np.mean(kind_P > 0), np.mean(kind_P < 0)])
        moved_2 = self._explore_2 + np.where(found_2 > self._target_2, -self._step, self._step)
        self._explore_2 = np.clip(moved_2, _LEAST, 1.0)

    def state_dict(self) -> dict[str, Any]:
        return {
            "streak": self._streak.copy(), "explore": self._explore_2.copy(),
            "skipped": self._skipped,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._streak, self._explore_2 = state["streak"].copy(), state["explore"].copy()
        self._skipped = int(state["skipped"])

    def metrics(self) -> dict[str, float]:
        return {
            "select/skipped": float(self._skipped),
            "select/explore_easy": float(self._explore_2[0]),
            "select/explore_hard": float(self._explore_2[1]),
        }
