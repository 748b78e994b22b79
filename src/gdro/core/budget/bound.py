"""Branch and bound on the joint choice of arms: quick where few choices come near the best."""

from typing import NamedTuple

import numpy as np

from gdro.core.types import FloatArray, IntArray

_MOST = 4096  # joint choices listed; beyond it the tables of `best` are quicker


def best_by_bound(c_B: IntArray, value_KB: FloatArray, rest: int) -> IntArray | None:
    """Units x in 0..c (K - 1) of each class that maximise the summed value and sum to `rest`.

    At a price z a unit, arm k of class b loses max_j (v_jb - z c_b j) - (v_kb - z c_b k) >= 0, and
    among all x of one sum the best has the least total loss. A split class loses what its two arms
    lose, interpolated, so one of the two loses no more. Hence: list every joint choice of whole
    arms that loses at most L, and in each move one class between its arm and the next until the
    sum is met. If the best of these loses at most L, nothing unlisted is better; else raise L. With
    a price near that of the relaxed problem few choices lose so little.

    Args:
        c_B: Items of each class, > 0.
        value_KB: Value of each class at arm 0, 1, ..., K - 1 >= 1, linear in between.
        rest: The sum, within what the arms can give; at most one class is split to meet it.

    Returns:
        int64 [B], or None if more than `_MOST` choices lose too little to be told apart.
    """
    arm_K = np.arange(len(value_KB))
    worth_KB = value_KB - _price(c_B, value_KB, rest) * (arm_K[:, None] * c_B)
    loss_KB = worth_KB.max(axis=0) - worth_KB
    limits = np.append(np.sort(loss_KB, axis=None), np.inf)
    rank, loss = 2 * c_B.size, np.inf
    while True:
        limit = min(loss, float(limits[min(rank, limits.size) - 1]))
        choices = _listed(loss_KB, c_B, limit)
        if choices is None:
            return None
        x_B, loss = _completed(choices, loss_KB, c_B, rest)
        if loss <= limit:
            return x_B
        rank *= 2


def _price(c_B: IntArray, value_KB: FloatArray, rest: int) -> float:
    """Least of sum_b max_k (v_kb - z c_b k) + z rest, the relaxed problem's price.

    Convex and piecewise linear in z: the lines that touch it on both sides are cut until they meet
    on it.
    """
    b_B = np.arange(c_B.size)
    unit_KB = np.arange(len(value_KB))[:, None] * c_B
    value_low, units_low = float(value_KB[-1].sum()), int(unit_KB[-1].sum())  # at low prices
    value_high, units_high = float(value_KB[0].sum()), 0
    while True:
        price = (value_low - value_high) / (units_low - units_high)
        arm_B = (value_KB - price * unit_KB).argmax(axis=0)
        value, units = float(value_KB[arm_B, b_B].sum()), int(arm_B @ c_B)
        if units >= units_low or units <= units_high or units == rest:
            return price
        if units > rest:
            value_low, units_low = value, units
        else:
            value_high, units_high = value, units


class _Choices(NamedTuple):
    """Joint choices of whole arms: the quickest arms, with some classes' replaced."""

    arm_B: IntArray
    loss_M: FloatArray
    units_M: IntArray
    branches: list[tuple[int, IntArray, IntArray]]
    """For each class with several arms: the class, and the parent and arm of each of its nodes."""


def _listed(loss_KB: FloatArray, c_B: IntArray, limit: float) -> _Choices | None:
    """All joint choices that lose at most `limit`, class by class."""
    arm_B = loss_KB.argmin(axis=0)
    few_KB = loss_KB <= limit
    loss_M, units_M = np.zeros(1), np.array([int(arm_B @ c_B)])
    branches = []
    for b in np.flatnonzero(few_KB.sum(axis=0) > 1).tolist():
        arm_J = np.flatnonzero(few_KB[:, b])
        longer_MJ = loss_M[:, None] + loss_KB[arm_J, b]
        parent_M, j_M = np.nonzero(longer_MJ <= limit)
        if parent_M.size > _MOST:
            return None
        loss_M = longer_MJ[parent_M, j_M]
        units_M = units_M[parent_M] + ((arm_J - arm_B[b]) * c_B[b])[j_M]
        branches.append((b, parent_M, arm_J[j_M]))
    return _Choices(arm_B, loss_M, units_M, branches)


def _completed(
    choices: _Choices, loss_KB: FloatArray, c_B: IntArray, rest: int
) -> tuple[IntArray, float]:
    """The best of the choices once one class of each has moved towards its next arm, and its loss.

    The loss is infinite if no move of one class meets the sum.
    """
    near = np.flatnonzero(np.abs(rest - choices.units_M) <= c_B.max())
    if not near.size:
        return c_B, np.inf
    arm_MB = np.tile(choices.arm_B, (near.size, 1))
    node = near
    for b, parent_M, arm_M in reversed(choices.branches):
        arm_MB[:, b], node = arm_M[node], parent_M[node]
    missing_M = (rest - choices.units_M[near])[:, None]
    share_MB = np.abs(missing_M) / c_B
    edge = np.full((1, c_B.size), np.inf)
    padded_KB, b_B = np.concatenate([edge, loss_KB, edge]), np.arange(c_B.size)
    own_MB, next_MB = loss_KB[arm_MB, b_B], padded_KB[arm_MB + np.sign(missing_M) + 1, b_B]
    total_MB = choices.loss_M[near, None] + share_MB * (next_MB - own_MB)
    total_MB[share_MB > 1] = np.inf
    m, b = divmod(int(total_MB.argmin()), c_B.size)
    x_B = arm_MB[m] * c_B
    x_B[b] += int(missing_M[m, 0])
    return x_B, float(total_MB[m, b])
