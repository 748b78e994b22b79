"""Items that choose freely within their own bounds: the largest marginal gains are the optimum."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gdro.core.errors import BudgetError
from gdro.core.types import FloatArray, IntArray

_TIE = 1e-12  # marginals closer than this, relatively, are equal but for rounding


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
    if not zero_P.any():
        return _waterfill(a_P / scale, lo_P, hi_P, budget, rng, key_P)
    rest = budget - int(np.where(zero_P, lo_P, hi_P).sum())
    a_P = np.where(zero_P, 1.0, a_P / (scale or 1.0))
    if rest <= 0:
        return _waterfill(a_P, lo_P, np.where(zero_P, lo_P, hi_P), budget, rng, key_P)
    n_P = hi_P.copy()
    rest += int(lo_P[zero_P].sum())
    n_P[zero_P] = _waterfill(a_P[zero_P], lo_P[zero_P], hi_P[zero_P], rest, rng, key_P[zero_P])
    return n_P


def _waterfill(
    a_P: FloatArray, lo_P: IntArray, hi_P: IntArray, budget: int, rng: np.random.Generator,
    key_P: FloatArray,
) -> IntArray:  # fmt: skip
    """`separable` for feasible bounds and costs in (0, 1].

    The steps are taken down to some price. Newton's method brackets it until no more than one step
    an item lies between, and those few are settled exactly.
    """
    root_P, least_P, most_P = np.sqrt(a_P), lo_P.astype(float), hi_P.astype(float)

    def at(price: float) -> FloatArray:
        """Counts after all steps of marginal above price: the largest n, n (n - 1) < a / price."""
        n_P = a_P / price
        n_P += 0.25
        n_P = np.sqrt(n_P, out=n_P)
        n_P -= 0.5
        n_P = np.ceil(n_P, out=n_P)
        return np.minimum(np.maximum(n_P, least_P, out=n_P), most_P, out=n_P)

    size = a_P.size
    above, below = least_P.sum(), most_P.sum()  # what is taken at the ends of the bracket
    high, low = 1.0, float(a_P.min()) / (2.0 * float(most_P.max()) ** 2)
    price, turns = (float(root_P.sum()) / budget) ** 2, 0
    while below - above > size and high > low * (1 + 1e-9):
        if turns > 8 or not low < price < high:  # bisection, where Newton's method leads nowhere
            price = np.sqrt(low) * np.sqrt(high)
        n_P = at(price)
        total = int(n_P.sum())
        if total == budget:
            low = high = price
            break
        if total < budget:
            high, above = price, total
        else:
            low, below = price, total
        # n is about sqrt(a / price) within the bounds; the aim is a little beyond the budget, so
        # that the bracket closes from both sides.
        slope = float(root_P @ ((n_P > least_P) & (n_P < most_P)))
        aim = budget + (size / 4 if total < budget else -size / 4)
        scale = 1 / np.sqrt(price) + (aim - total) / slope if slope else 0.0
        price, turns = 1 / scale**2 if scale > 0 else 0.0, turns + 1

    # A little wider than the bracket: steps of equal marginal are settled together.
    n_P, upper_P = at(high * (1 + 1e-9)).astype(np.int64), at(low * (1 - 1e-9)).astype(np.int64)
    rest = budget - int(n_P.sum())
    if rest == 0:
        return n_P
    steps_P = upper_P - n_P
    end_P = np.cumsum(steps_P)
    item_C = np.repeat(np.arange(size), steps_P)
    step_C = np.arange(item_C.size) + np.repeat(n_P - end_P + steps_P, steps_P)
    marginal_C = a_P[item_C] / (step_C * (step_C + 1.0))
    taken_C = _largest(marginal_C, rest, lambda tied: (step_C[tied], key_P[item_C[tied]]), rng)
    return n_P + np.bincount(item_C[taken_C], minlength=size)


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
    key_P = np.zeros(lo_P.size) if key_P is None else key_P
    arms, size = marginal_PK.shape[1], lo_P.size
    gain_KP, least_P = np.empty((arms, size)), np.full(size, np.inf)
    for k in range(arms):  # one step of all items at a time: numpy accumulates slowly
        np.minimum(least_P, marginal_PK[:, k], out=least_P)
        gain_KP[k] = np.where((lo_P <= first + k) & (first + k < hi_P), least_P, -np.inf)

    def step_and_key(tied: IntArray) -> tuple[IntArray, FloatArray]:
        return tied // size, key_P[tied % size]

    rest = budget - int(lo_P.sum())
    taken_C = _largest(gain_KP.ravel(), rest, step_and_key, rng)
    return lo_P + np.count_nonzero(taken_C.reshape(arms, size), axis=0)


def _largest(
    marginal_C: FloatArray, count: int,
    step_and_key: Callable[[IntArray], tuple[IntArray, FloatArray]], rng: np.random.Generator,
) -> NDArray[np.bool_]:  # fmt: skip
    """Which candidates (`_C`) are the `count` largest; ties by least step, greatest key, then lot.

    The marginals of one item fall with its step, so what is taken of an item is its first steps;
    ordering ties by step first keeps that true among equals.
    """
    if count == 0:
        return np.zeros(marginal_C.size, bool)
    bar = np.partition(marginal_C, marginal_C.size - count)[marginal_C.size - count]
    width = _TIE * abs(bar)
    taken_C = marginal_C >= bar - width
    surplus = int(np.count_nonzero(taken_C)) - count
    if surplus:
        tied = np.flatnonzero(taken_C & (marginal_C <= bar + width))
        step, key = step_and_key(tied)
        order = np.lexsort((rng.random(tied.size), -key, step))
        taken_C[tied[order[tied.size - surplus :]]] = False
    return taken_C
