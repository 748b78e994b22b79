"""Classes that choose one arm together: a draw of the joint choice that meets the budget."""

import numpy as np

from gdro.core.budget.items import check_feasible
from gdro.core.budget.table import Table, interpolated
from gdro.core.types import FloatArray, IntArray

_FAINT = 1e-200
"""Budgets less probable than this, at the best tilt, are drawn in logarithms."""


def draw_totals(
    count_B: IntArray, log_weight_BK: FloatArray, first: int, budget: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Draws the joint choice of arms, independent but for the sum, given that it is `budget`.

    Every class takes a whole arm except the largest one, which takes the rest: as no step of
    another class exceeds its range, it can always meet the budget. Between two arms its log-weight
    is interpolated. Forward and backward sums over the totals of the classes give the draw and the
    probabilities that it was made with.

    The sums are of plain probabilities under the tilt that makes the budget expected (`_tilted`).
    All factors being at most 1, what underflows there has less than 1e-300 of the mass; where the
    budget's own probability is not far above that, the same sums are done in logarithms.

    Args:
        count_B: Items of each class; empty classes get 0.
        log_weight_BK: Finite log-weight of each class at arm first, first + 1, ...; need not be
            normalised.
        first: The count of column 0.
        budget: The sum to be met exactly.
        rng: Draws; and names the class that takes the rest if several are largest.

    Returns:
        Totals of the classes, and propensity_BK: the expected fraction of the class's items at
        each arm, given the budget (rows sum to 1; 0 for empty classes).

    Raises:
        BudgetError: if the arms exclude the budget.
    """
    arms = log_weight_BK.shape[1]
    total_B = first * count_B
    propensity_BK = np.zeros(log_weight_BK.shape)
    present = np.flatnonzero(count_B)
    check_feasible(total_B[present], (total_B + (arms - 1) * count_B)[present], budget)
    if not present.size:
        return total_B, propensity_BK
    present = present[np.lexsort((rng.random(present.size), count_B[present]))]
    c_B, rest = count_B[present], budget - int(total_B.sum())
    log_BK = _tilted(log_weight_BK[present], c_B, rest)
    drawn = _draw(_Plain, c_B, log_BK, rest, rng) or _draw(_Logarithms, c_B, log_BK, rest, rng)
    assert drawn is not None
    total_B[present] += drawn[0]
    propensity_BK[present] = drawn[1]
    return total_B, propensity_BK


def _tilted(log_BK: FloatArray, c_B: IntArray, rest: int) -> FloatArray:
    """Log-probabilities of the arms, times exp(-tilt x) where x = c j is the arm's total.

    That multiplies all joint choices of one sum alike, so it changes nothing given the budget. The
    tilt is found by Newton's method, with bounded steps, up to where the budget is within one
    standard deviation of what is expected: any tilt is right, a good one keeps sums in range.
    """
    x_BK = c_B[:, None] * np.arange(float(log_BK.shape[1]))
    longest, tilt, turns = 4.0 / c_B[-1], 0.0, 0
    while True:
        found_BK = log_BK - tilt * x_BK
        found_BK -= found_BK.max(axis=1, keepdims=True)
        p_BK = np.exp(found_BK)
        sum_B = p_BK.sum(axis=1)
        mean_B = np.einsum("bk,bk->b", p_BK, x_BK) / sum_B
        variance = float((np.einsum("bk,bk,bk->b", p_BK, x_BK, x_BK) / sum_B - mean_B**2).sum())
        gap, turns = float(mean_B.sum()) - rest, turns + 1
        if gap * gap <= variance or turns == 50:
            return found_BK - np.log(sum_B)[:, None]
        tilt += min(max(gap / max(variance, 1e-9), -longest), longest)


class _Plain:
    """Sums of products of probabilities."""

    nothing, one = 0.0, 1.0

    @staticmethod
    def of_log(log: FloatArray) -> FloatArray:
        return np.exp(log)

    @staticmethod
    def over_arms(weight_K: FloatArray, before_KT: FloatArray) -> FloatArray:
        return np.einsum("k,kt->t", weight_K, before_KT)

    @staticmethod
    def over_totals(before_KT: FloatArray, after_T: FloatArray) -> FloatArray:
        return np.einsum("kt,t->k", before_KT, after_T)

    @staticmethod
    def ratio(a: FloatArray, b: FloatArray, whole: float) -> FloatArray:
        return a * b / whole


class _Logarithms:
    """The same on the logarithms of everything."""

    nothing, one = -np.inf, 0.0

    @staticmethod
    def of_log(log: FloatArray) -> FloatArray:
        return log

    @staticmethod
    def over_arms(weight_K: FloatArray, before_KT: FloatArray) -> FloatArray:
        return _log_sum(weight_K[:, None] + before_KT)

    @staticmethod
    def over_totals(before_KT: FloatArray, after_T: FloatArray) -> FloatArray:
        return _log_sum((before_KT + after_T).T)

    @staticmethod
    def ratio(a: FloatArray, b: FloatArray, whole: float) -> FloatArray:
        return np.exp(a + b - whole)


def _draw(
    sums: type[_Plain] | type[_Logarithms], c_B: IntArray, log_BK: FloatArray, rest: int,
    rng: np.random.Generator,
) -> tuple[IntArray, FloatArray] | None:  # fmt: skip
    """`draw_totals` above the lowest arm, the largest class last; None if probabilities fail."""
    arms, last = log_BK.shape[1], c_B.size - 1
    size = c_B.tolist()
    upto = np.concatenate([[0], (arms - 1) * np.cumsum(c_B)])
    # Totals of the first b classes from which `rest` can still be met.
    starts = np.maximum(0, rest - (upto[-1] - upto)).tolist()
    ends = np.minimum(rest, upto).tolist()
    weight_BK = sums.of_log(log_BK)

    tables, before = [Table(0, np.full(1, sums.one))], []
    for b in range(last):
        before.append(tables[b].before(size[b], arms, starts[b + 1], ends[b + 1], sums.nothing))
        tables.append(Table(starts[b + 1], sums.over_arms(weight_BK[b], before[b])))
    reversed_X = tables[last].value_T[::-1]
    # What the last class takes is left by the others: reversed, both are by their total.
    x_X = np.arange(rest - ends[last], rest - starts[last] + 1)
    after = Table(int(x_X[0]), sums.of_log(interpolated(log_BK[last], size[last])[x_X]))
    whole = float(sums.over_totals(reversed_X[None], after.value_T)[0])
    if sums is _Plain and not whole > _FAINT:
        return None

    x_B, propensity_BK = np.zeros(c_B.size, np.int64), np.zeros(log_BK.shape)
    p_X = sums.ratio(reversed_X, after.value_T, whole)
    arm_X, over_X = np.divmod(x_X, size[last])
    share_X = over_X / size[last]
    propensity_BK[last] = (
        np.bincount(arm_X, p_X * (1 - share_X), arms)
        + np.bincount(arm_X + 1, p_X * share_X, arms + 1)[:arms]
    )
    x_B[last] = x_X[_one(p_X, rng)]
    left = rest - int(x_B[last])
    # From the last class to the first: its arm given what is left, and its share over all draws.
    for b in reversed(range(last)):
        t = left - starts[b + 1]
        p_K = sums.ratio(weight_BK[b], before[b][:, t], float(tables[b + 1].value_T[t]))
        x_B[b] = size[b] * _one(p_K, rng)
        left -= int(x_B[b])
        over_K = sums.over_totals(before[b], after.value_T[::-1])
        propensity_BK[b] = sums.ratio(weight_BK[b], over_K, whole)
        start, end = rest - ends[b], rest - starts[b]
        before_KT = after.before(size[b], arms, start, end, sums.nothing)
        after = Table(start, sums.over_arms(weight_BK[b], before_KT))
    return x_B, propensity_BK


def _log_sum(term_KT: FloatArray) -> FloatArray:
    """log sum exp over the first axis; -inf where every term is."""
    top_T = term_KT.max(axis=0)
    top_T = np.where(np.isfinite(top_T), top_T, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(term_KT - top_T).sum(axis=0)) + top_T


def _one(weight: FloatArray, rng: np.random.Generator) -> int:
    """An index drawn by weights; never one of weight 0."""
    possible = np.flatnonzero(weight)
    cumulative = np.cumsum(weight[possible])
    i = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return int(possible[min(i, possible.size - 1)])
