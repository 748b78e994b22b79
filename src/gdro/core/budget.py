"""Exact integer budgets: counts within bounds whose sum is a given number. Pure combinatorics.

Two kinds of problem. *Items* choose freely within their own bounds (`separable`, `concave`): the
optimum takes the largest marginal gains. *Classes* of items choose one arm together
(`best_totals`, `draw_totals`): dynamic programming over the total, where a class whose total falls
between two arms is split so that the counts of its items differ by at most one.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from gdro.core.errors import BudgetError
from gdro.core.types import FloatArray, IntArray

_TIE = 1e-12  # marginals closer than this, relatively, are equal but for rounding
_SECOND, _NOISE = 1e-8, 1e-13  # weights of the two tie breakers beside values of scale 1


def check_feasible(lo_P: IntArray, hi_P: IntArray, budget: int) -> None:
    """Raises BudgetError unless some counts lo <= n <= hi sum to `budget`."""
    low, high = int(lo_P.sum()), int(hi_P.sum())
    if np.any(lo_P > hi_P) or not low <= budget <= high:
        bounds = f"{lo_P.min()}..{hi_P.max()}" if lo_P.size else "none"
        raise BudgetError(
            f"no counts meet the budget: {lo_P.size} items with bounds {bounds} can sum to "
            f"{low}..{high}, the budget is {budget}"
        )


def separable(
    a_P: FloatArray, lo_P: IntArray, hi_P: IntArray, budget: int, rng: np.random.Generator,
    key_P: FloatArray | None = None,
) -> IntArray:  # fmt: skip
    """Minimises sum_i a_i / n_i over integers lo <= n <= hi whose sum is `budget`.

    The continuous optimum is n proportional to sqrt(a); the integer one takes the steps n -> n + 1
    of largest marginal a / (n (n + 1)). Items with a = 0 share what the others cannot take, as
    evenly as their bounds allow. Ties go to the item with the fewest so far, then to the greatest
    key, then by lot.

    Args:
        a_P: Costs, >= 0. Values below 1e-250 of the largest count as 0.
        lo_P: Fewest of each item, >= 1.
        hi_P: Most of each item.
        budget: The sum to be met exactly.
        rng: Breaks the ties that the key leaves.
        key_P: Second criterion.

    Returns:
        Counts, in the order of `a_P`.

    Raises:
        BudgetError: if the bounds exclude the budget.
    """
    check_feasible(lo_P, hi_P, budget)
    if not a_P.size:
        return lo_P.copy()
    key_P = np.zeros(a_P.size) if key_P is None else key_P
    scale = a_P.max()
    zero_P = a_P <= 1e-250 * scale
    most_P = np.where(zero_P, lo_P, hi_P)
    if budget > most_P.sum():
        n_P = hi_P.copy()
        rest = budget - int(hi_P[~zero_P].sum())
        ones = np.ones(int(zero_P.sum()))
        n_P[zero_P] = separable(ones, lo_P[zero_P], hi_P[zero_P], rest, rng, key_P[zero_P])
        return n_P
    if budget == lo_P.sum():
        return lo_P.copy()

    a_P = np.where(zero_P, 1.0, a_P / scale)

    def at(price: float) -> IntArray:
        """Counts after all steps of marginal above price: the largest n, n (n - 1) < a / price."""
        n_P = np.ceil(0.5 + np.sqrt(0.25 + a_P / price)) - 1
        return np.clip(n_P, lo_P, most_P).astype(np.int64)

    # Bracket the price, then settle the few steps of nearly that marginal exactly.
    low, high = np.log(a_P.min() / 2.0 / hi_P.max() ** 2), 0.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        if at(np.exp(middle)).sum() <= budget:
            high = middle
        else:
            low = middle
    n_P, upper_P = at(np.exp(high + 1e-9)), at(np.exp(low - 1e-9))
    steps_P = upper_P - n_P
    item_C = np.repeat(np.arange(a_P.size), steps_P)
    first_C = np.repeat(np.cumsum(steps_P) - steps_P, steps_P)
    step_C = n_P[item_C] + np.arange(item_C.size) - first_C
    marginal_C = a_P[item_C] / (step_C * (step_C + 1.0))
    n_P += _take_largest(marginal_C, item_C, step_C, budget - int(n_P.sum()), key_P=key_P, rng=rng)
    return n_P


def concave(
    marginal_PK: FloatArray, first: int, lo_P: IntArray, hi_P: IntArray, budget: int,
    rng: np.random.Generator, key_P: FloatArray | None = None,
) -> IntArray:  # fmt: skip
    """Maximises a sum of concave gains over integers lo <= n <= hi whose sum is `budget`.

    Takes marginals, not gains: differences of gains near their limit would be rounding alone.

    Args:
        marginal_PK: What each item gains from the step n -> n + 1, n = first, first + 1, ...; falls
            with n (a rise, as rounding may leave, is flattened).
        first: The n of column 0; the columns cover every step from lo to hi.
        lo_P: Fewest of each item.
        hi_P: Most of each item.
        budget: The sum to be met exactly.
        rng: Breaks the ties that the key leaves.
        key_P: Second criterion; ties as in `separable`.

    Raises:
        BudgetError: if the bounds exclude the budget.
    """
    check_feasible(lo_P, hi_P, budget)
    marginal_PK = np.minimum.accumulate(marginal_PK, axis=1)
    step_K = first + np.arange(marginal_PK.shape[1])
    item_C, k_C = np.nonzero((step_K >= lo_P[:, None]) & (step_K < hi_P[:, None]))
    key_P = np.zeros(lo_P.size) if key_P is None else key_P
    rest = budget - int(lo_P.sum())
    return lo_P + _take_largest(
        marginal_PK[item_C, k_C], item_C, step_K[k_C], rest, key_P=key_P, rng=rng
    )


def _take_largest(
    marginal_C: FloatArray, item_C: IntArray, step_C: IntArray, count: int,
    *, key_P: FloatArray, rng: np.random.Generator,
) -> IntArray:  # fmt: skip
    """How many of the `count` largest marginals (candidates, `_C`) belong to each item.

    The marginals of one item fall with its step, so what is taken of an item is its first steps;
    ordering ties by step first keeps that true among equals.
    """
    if count == 0:
        return np.zeros(key_P.size, dtype=np.int64)
    bar = np.partition(marginal_C, marginal_C.size - count)[marginal_C.size - count]
    width = _TIE * abs(bar)
    taken_C = marginal_C > bar + width
    tied = np.flatnonzero(np.abs(marginal_C - bar) <= width)
    order = np.lexsort((rng.random(tied.size), -key_P[item_C[tied]], step_C[tied]))
    taken_C[tied[order[: count - int(taken_C.sum())]]] = True
    return np.bincount(item_C[taken_C], minlength=key_P.size).astype(np.int64)


def best_totals(
    count_B: IntArray, value_BK: FloatArray, first: int, budget: int, rng: np.random.Generator,
    tie_BK: FloatArray | None = None,
) -> IntArray:  # fmt: skip
    """Totals of the classes that maximise the summed value and sum to `budget`.

    A class of c items that all take arm n has total c n and is worth value(n). Between two arms
    some items take n + 1 and the others n, and the value is interpolated linearly. Moving one unit
    between two split classes changes the sum linearly, so one of the two directions does not lower
    it until one of them is whole: some optimum has at most one split class. The search is exact:
    for each class as the split one, a table of the best whole arms of all others (divide and
    conquer), then the best way to fill the rest.

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
    x_B = _best(c_B, value_BK, rest)
    total_B[present] += (arms - 1) * c_B - x_B if mirrored else x_B
    return total_B


def _unit(value_BK: FloatArray) -> FloatArray:
    """The table with every class's best at 0 and the worst of all at -1."""
    value_BK = value_BK - value_BK.max(axis=1, keepdims=True)
    return value_BK / (-value_BK.min() or 1.0)


class _Table:
    """Best sum (or log of the summed weights) of some classes by their total t = start, ..."""

    def __init__(self, start: int, value_T: FloatArray) -> None:
        self.start, self.value_T = start, value_T

    @property
    def end(self) -> int:
        """The last total, inclusive."""
        return self.start + self.value_T.size - 1

    def overlaps(
        self, c: int, start: int, end: int, arms: int
    ) -> Iterator[tuple[int, slice, slice]]:
        """For arm j: where t in start..end and t - c j here coincide, as slices of both."""
        for j in range(arms):
            a, b = max(start, self.start + c * j), min(end, self.end + c * j)
            if a <= b:
                here = slice(a - c * j - self.start, b - c * j - self.start + 1)
                yield j, slice(a - start, b - start + 1), here


def _add_best(table: _Table, c: int, value_K: FloatArray, start: int, end: int) -> _Table:
    """The table with one more class, for totals start..end (max-plus convolution)."""
    out = np.full(end - start + 1, -np.inf)
    buffer = np.empty_like(out)
    for j, there, here in table.overlaps(c, start, end, value_K.size):
        part = buffer[: there.stop - there.start]
        np.add(table.value_T[here], value_K[j], out=part)
        np.maximum(out[there], part, out=out[there])
    return _Table(start, out)


def _best(c_B: IntArray, value_BK: FloatArray, rest: int) -> IntArray:
    """`best_totals` above the lowest arm: units x in 0..c (K - 1) of each class, sum `rest`."""
    arms = value_BK.shape[1]
    range_B = (arms - 1) * c_B
    everything = int(range_B.sum())

    def add(table: _Table, merged: int, b: int) -> tuple[_Table, int]:
        """Adds class b, keeping only totals from which `rest` can still be met."""
        merged += int(range_B[b])
        start, end = max(0, rest - (everything - merged)), min(rest, merged)
        return _add_best(table, int(c_B[b]), value_BK[b], start, end), merged

    best, split, filled = -np.inf, -1, -1
    stack: list[tuple[_Table, int, Sequence[int]]] = [(_Table(0, np.zeros(1)), 0, range(c_B.size))]
    while stack:
        table, merged, left_out = stack.pop()
        if len(left_out) > 1:
            half = len(left_out) // 2
            for inside, outside in ((left_out[:half], left_out[half:]),
                                    (left_out[half:], left_out[:half])):  # fmt: skip
                part, size = table, merged
                for b in outside:
                    part, size = add(part, size, b)
                stack.append((part, size, inside))
            continue
        b = left_out[0]
        x_X = rest - np.arange(table.start, table.end + 1)  # what is left for class b
        value_X = table.value_T + np.interp(x_X, c_B[b] * np.arange(arms), value_BK[b])
        i = int(np.argmax(value_X))
        if value_X[i] > best:
            best, split, filled = float(value_X[i]), b, int(x_X[i])

    x_B = np.zeros(c_B.size, dtype=np.int64)
    x_B[split] = filled
    # Walk the whole arms of the others back from their total.
    rest, everything = rest - filled, everything - int(range_B[split])
    others = [b for b in range(c_B.size) if b != split]
    tables, merged = [_Table(0, np.zeros(1))], 0
    for b in others:
        table, merged = add(tables[-1], merged, b)
        tables.append(table)
    t = rest
    for b, table in zip(reversed(others), reversed(tables[:-1]), strict=True):
        scores = [(table.value_T[here.start] + value_BK[b, j], j)
                  for j, _, here in table.overlaps(int(c_B[b]), t, t, arms)]  # fmt: skip
        x_B[b] = int(c_B[b]) * max(scores)[1]
        t -= int(x_B[b])
    assert t == 0
    return x_B


def draw_totals(
    count_B: IntArray, log_weight_BK: FloatArray, first: int, budget: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Draws the joint choice of arms, independent but for the sum, given that it is `budget`.

    Every class takes a whole arm except the largest one, which takes the rest: as no step of
    another class exceeds its range, it can always meet the budget. Between two arms its log-weight
    is interpolated. Forward and backward sums over the totals of the classes give the draw and the
    probabilities that it was made with; all in logarithms.

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
    c_B = count_B[present]
    w_BK = log_weight_BK[present] - log_weight_BK[present].max(axis=1, keepdims=True)
    rest = budget - int(total_B.sum())

    range_B = (arms - 1) * c_B
    upto_B = np.concatenate([[0], np.cumsum(range_B)])
    starts, ends = np.maximum(0, rest - (upto_B[-1] - upto_B)), np.minimum(rest, upto_B)
    last = c_B.size - 1
    forward = [_Table(0, np.zeros(1))]
    for b in range(last):
        forward.append(_add_log(forward[b], int(c_B[b]), w_BK[b], starts[b + 1], ends[b + 1]))
    x_X = rest - np.arange(starts[last], ends[last] + 1)
    completion_T = np.interp(x_X, c_B[last] * np.arange(arms), w_BK[last])
    log_p_X = forward[last].value_T + completion_T
    log_sum = float(_log_sum(log_p_X[:, None])[0])

    p_X = np.exp(log_p_X - log_sum)
    arm_X, over_X = np.divmod(x_X, c_B[last])
    share_X = over_X / c_B[last]
    propensity_BK[present[last]] = (
        np.bincount(arm_X, p_X * (1 - share_X), arms)
        + np.bincount(arm_X + 1, p_X * share_X, arms + 1)[:arms]
    )
    # Draw from the last class to the first; the backward sums meanwhile give the propensities.
    i = _draw(p_X, rng)
    total_B[present[last]] += x_X[i]
    t = rest - int(x_X[i])
    backward = _Table(int(starts[last]), completion_T)
    for b in reversed(range(last)):
        c, table = int(c_B[b]), forward[b]
        p_K = np.zeros(arms)
        for j, _, here in table.overlaps(c, t, t, arms):
            log_all = forward[b + 1].value_T[t - starts[b + 1]]
            p_K[j] = np.exp(table.value_T[here.start] + w_BK[b, j] - log_all)
        j = _draw(p_K, rng)
        total_B[present[b]] += c * j
        t -= c * j
        for j, there, here in table.overlaps(c, backward.start, backward.end, arms):
            log_p_T = table.value_T[here] + w_BK[b, j] + backward.value_T[there] - log_sum
            propensity_BK[present[b], j] = np.exp(log_p_T).sum()
        backward = _complete_log(backward, c, w_BK[b], int(starts[b]), int(ends[b]))
    return total_B, propensity_BK


def _add_log(table: _Table, c: int, w_K: FloatArray, start: int, end: int) -> _Table:
    """The table with one more class, for totals start..end (log-sum-exp convolution)."""
    term_KT = np.full((w_K.size, end - start + 1), -np.inf)
    for j, there, here in table.overlaps(c, start, end, w_K.size):
        np.add(table.value_T[here], w_K[j], out=term_KT[j, there])
    return _Table(int(start), _log_sum(term_KT))


def _complete_log(table: _Table, c: int, w_K: FloatArray, start: int, end: int) -> _Table:
    """Log-weight of all completions from t in start..end, given those one class later."""
    term_KT = np.full((w_K.size, end - start + 1), -np.inf)
    before = _Table(start, np.empty(end - start + 1))
    for j, there, here in before.overlaps(c, table.start, table.end, w_K.size):
        np.add(table.value_T[there], w_K[j], out=term_KT[j, here])
    return _Table(start, _log_sum(term_KT))


def _log_sum(term_KT: FloatArray) -> FloatArray:
    """log sum exp over the first axis; -inf where every term is."""
    top_T = term_KT.max(axis=0)
    top_T = np.where(np.isfinite(top_T), top_T, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(term_KT - top_T).sum(axis=0)) + top_T


def _draw(p: FloatArray, rng: np.random.Generator) -> int:
    """An index drawn by probabilities that sum to 1 up to rounding; never one of probability 0."""
    possible = np.flatnonzero(p)
    cumulative = np.cumsum(p[possible])
    i = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return int(possible[min(i, possible.size - 1)])
