"""Classes that choose one arm together: the best joint choice that meets the budget."""

from collections.abc import Sequence

import numpy as np

from gdro.core.budget.items import check_feasible
from gdro.core.budget.table import Table, interpolated
from gdro.core.types import FloatArray, IntArray

_SECOND, _NOISE = 1e-8, 1e-13  # weights of the two tie breakers beside values of scale 1
_CELLS = 1 << 15  # as many as a core's cache holds are laid out at once, more are added by arm


def best_totals(
    count_B: IntArray, value_BK: FloatArray, first: int, budget: int, rng: np.random.Generator,
    tie_BK: FloatArray | None = None,
) -> IntArray:  # fmt: skip
    """Totals of the classes that maximise the summed value and sum to `budget`.

    A class of c items that all take arm n has total c n and is worth value(n). Between two arms
    some items take n + 1 and the others n, and the value is interpolated linearly. Moving one unit
    between two split classes changes the sum linearly, so one of the two directions does not lower
    it until one of them is whole: some optimum has at most one split class. The search is exact.

    Args:
        count_B: Items of each class; empty classes get 0.
        value_BK: Finite value of each class (not of each item) at arm first, first + 1, ...
        first: The count of column 0.
        budget: The sum to be met exactly.
        rng: Breaks the ties that `tie_BK` leaves.
        tie_BK: A second table that decides between optima of the first. Sums that differ by less
            than 1e-8 of the largest loss of the first table count as tied.

    Returns:
        Totals, first * c <= total <= (first + K - 1) * c.

    Raises:
        BudgetError: if the arms exclude the budget.
    """
    arms = value_BK.shape[1]
    total_B = first * count_B
    present = np.flatnonzero(count_B)
    check_feasible(total_B[present], (total_B + (arms - 1) * count_B)[present], budget)
    if arms == 1 or not present.size:
        return total_B
    value_BK = _unit(value_BK[present]) + _NOISE * rng.random((present.size, arms))
    if tie_BK is not None:
        value_BK += _SECOND * _unit(tie_BK[present])

    c_B = count_B[present]
    rest = budget - int(total_B.sum())
    mirrored = 2 * rest > (arms - 1) * int(c_B.sum())  # counting down from the top is shorter
    if mirrored:
        value_BK, rest = value_BK[:, ::-1], (arms - 1) * int(c_B.sum()) - rest
    x_B = _best_units(c_B, value_BK, rest)
    total_B[present] += (arms - 1) * c_B - x_B if mirrored else x_B
    return total_B


def _unit(value_BK: FloatArray) -> FloatArray:
    """The table with every class's best at 0 and the worst of all at -1."""
    value_BK = value_BK - value_BK.max(axis=1, keepdims=True)
    return value_BK / (-value_BK.min() or 1.0)


Chain = tuple[int, Table, "Chain | None"]
"""The classes of a table, last one first: the class, the table before it, the chain of that."""


def _best_units(c_B: IntArray, value_BK: FloatArray, rest: int) -> IntArray:
    """Units x in 0..c (K - 1) of each class that maximise the summed value and sum to `rest`.

    For each class as the split one, a table of the best whole arms of all others (divide and
    conquer), then the best way to fill the rest.
    """
    size, arms = value_BK.shape
    sizes = c_B.tolist()
    everything = (arms - 1) * sum(sizes)

    best, found = -np.inf, (0, 0, None)
    nothing: tuple[Table, int, Chain | None] = (Table(0, np.zeros(1)), 0, None)
    stack: list[tuple[tuple[Table, int, Chain | None], Sequence[int]]] = [(nothing, range(size))]
    while stack:
        (table, upto, chain), left_out = stack.pop()
        if len(left_out) > 1:
            half = len(left_out) // 2
            for inside, outside in ((left_out[:half], left_out[half:]),
                                    (left_out[half:], left_out[:half])):  # fmt: skip
                part, reach, links = table, upto, chain
                for b in outside:
                    links = (b, part, links)
                    reach += (arms - 1) * sizes[b]
                    # Only totals from which `rest` can still be met.
                    start, end = max(0, rest - (everything - reach)), min(rest, reach)
                    part = _add_best(part, sizes[b], value_BK[b], start, end)
                stack.append(((part, reach, links), inside))
            continue
        b = left_out[0]
        worth_X = interpolated(value_BK[b], sizes[b])[rest - table.end : rest - table.start + 1]
        value_X = table.value_T[::-1] + worth_X  # by what is left for class b
        i = int(np.argmax(value_X))
        if value_X[i] > best:
            best, found = float(value_X[i]), (b, rest - table.end + i, chain)

    x_B = np.zeros(size, dtype=np.int64)
    split, filled, chain = found
    x_B[split] = filled
    t = rest - filled
    while chain is not None:  # walk the whole arms of the others back from their total
        b, table, chain = chain
        value_K = table.before(sizes[b], arms, t, t, -np.inf)[:, 0] + value_BK[b]
        x_B[b] = sizes[b] * int(np.argmax(value_K))
        t -= int(x_B[b])
    assert t == 0
    return x_B


def _add_best(table: Table, c: int, value_K: FloatArray, start: int, end: int) -> Table:
    """The table with one more class, for totals start..end (max-plus convolution)."""
    before_KT = table.before(c, value_K.size, start, end, -np.inf)
    if before_KT.size <= _CELLS:
        return Table(start, (before_KT + value_K[:, None]).max(axis=0))
    best_T, part_T = np.full(end - start + 1, -np.inf), np.empty(end - start + 1)
    for j, value in enumerate(value_K.tolist()):
        a, b = max(start, table.start + c * j) - start, min(end, table.end + c * j) + 1 - start
        if a < b:
            part = np.add(before_KT[j, a:b], value, out=part_T[a:b])
            np.maximum(best_T[a:b], part, out=best_T[a:b])
    return Table(start, best_T)
