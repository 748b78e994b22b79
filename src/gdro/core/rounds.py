"""Steps that generate in rounds: a plan that grows with what has come back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gdro.core.outcome import Rollouts
from gdro.core.types import FloatArray, IntArray, Plan


def groups_so_far(plan: Plan, rollouts: Rollouts) -> tuple[IntArray, IntArray]:
    """(rollouts, right ones) that have come back of each slot, 0 where nothing did."""
    size = len(plan.n_P)
    n_P = np.bincount(rollouts.slot_R, minlength=size)
    right_P = np.bincount(rollouts.slot_R, rollouts.correct_R, size)
    return n_P, np.rint(right_P).astype(np.int64)


def with_more(plan: Plan, more_P: IntArray) -> Plan:
    """The plan with more rollouts of its prompts; as many of them train as before."""
    return replace(plan, n_P=plan.n_P + more_P, round=plan.round + 1)


def grown(plan: Plan, more_P: IntArray, adversary_P: FloatArray, weight_P: FloatArray) -> Plan:
    """The plan with more rollouts of its prompts, all of which train, and the weights of them."""
    n_P = plan.n_P + more_P
    return replace(
        plan, n_P=n_P, train_P=n_P, adversary_P=adversary_P, weight_P=weight_P, round=plan.round + 1
    )


def with_prompts(
    plan: Plan, dropped: IntArray, fresh: Plan, row_P: IntArray, ids: Sequence[Any] | np.ndarray
) -> Plan:
    """The plan in which `fresh` prompts train in the place of the dropped slots.

    Args:
        plan: As it stands.
        dropped: Slots whose rollouts no longer train.
        fresh: What was decided for the prompts that take their place.
        row_P: Their positions in the data set.
        ids: Their ids.
    """
    train_P = plan.train_P.copy()
    train_P[dropped] = 0
    known_P = np.full(len(plan.n_P), -1) if plan.row_P is None else plan.row_P

    def joined(name: str) -> Any:
        old, new = getattr(plan, name), getattr(fresh, name)
        return None if old is None else np.concatenate([old, new])

    names = ("bin_P", "n_P", "weight_P", "adversary_P", "propensity_P")
    return replace(
        plan,
        prompt_P=np.concatenate([np.asarray(plan.prompt_P), np.asarray(ids)]),
        train_P=np.concatenate([train_P, fresh.train_P]),
        row_P=np.concatenate([known_P, row_P]),
        round=plan.round + 1,
        **{name: joined(name) for name in names},
    )


def trained(
    plan: Plan, slot_R: IntArray, correct_R: FloatArray, pick: Any, rng: np.random.Generator
) -> IntArray:
    """Positions of the rollouts that train, by slot; see `Controller.settle`."""
    order = np.argsort(slot_R, kind="stable")
    n_P = np.bincount(slot_R, minlength=len(plan.n_P))
    ends = np.cumsum(n_P)
    chosen = []
    for slot in np.flatnonzero(plan.train_P):
        group = order[ends[slot] - n_P[slot] : ends[slot]]
        size = int(plan.train_P[slot])
        chosen.append(group if len(group) <= size else group[pick(correct_R[group], size, rng)])
    return np.concatenate([np.zeros(0, np.int64), *chosen])
