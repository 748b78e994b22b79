"""Exact integer budgets: counts within bounds whose sum is a given number. Pure combinatorics.

Two kinds of problem. *Items* choose freely within their own bounds (`separable`, `concave`): the
optimum takes the largest marginal gains. *Classes* of items choose one arm together (`best_totals`,
`draw_totals`: dynamic programming over the total), where a class whose total falls between two arms
is split so that the counts of its items differ by at most one.
"""

from gdro.core.budget.best import best_totals
from gdro.core.budget.draw import draw_totals
from gdro.core.budget.items import check_feasible, concave, separable

__all__ = ["best_totals", "check_feasible", "concave", "draw_totals", "separable"]
