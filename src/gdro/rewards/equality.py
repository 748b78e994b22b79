"""When two things that were read are the same: decided by value, not by how sympy simplifies them.

Numbers without a decimal point are compared as fractions where they are some, else to 200 digits;
formulas at points of the letters in them; sets, tuples, intervals, matrices and relations part by
part. Sympy's `simplify`, which is slow and at times wrong, is asked only about what cannot be
evaluated.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import sympy
from latex2sympy2_extended.logic import And
from math_verify.grader import verify as math_verify
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from gdro.rewards import exact
from gdro.rewards.reading import Unreadable

MAX_BITS = 100_000
"""Of the parts of a fraction; larger numbers are compared to `DIGITS`."""

DIGITS, ZERO = 200, 1e-150
"""To which numbers are computed, and the relative difference of two that are one."""

DIGITS_AT_POINT, ZERO_AT_POINT = 60, 1e-45
"""The same for formulas at a point of their letters."""

POINTS = 4
"""At which two formulas have to agree, in both signs and four magnitudes."""

_FLIPPED = {
    sympy.Gt: sympy.Lt, sympy.Lt: sympy.Gt, sympy.Ge: sympy.Le, sympy.Le: sympy.Ge,
    sympy.Eq: sympy.Eq, sympy.Ne: sympy.Ne,
}  # fmt: skip
_PERCENT = sympy.UnevaluatedExpr(sympy.Rational(1, 100))
_IN_PIECES = (
    sympy.Abs, sympy.floor, sympy.ceiling, sympy.Max, sympy.Min, sympy.Mod, sympy.sign,
)  # fmt: skip
_LENGTHY = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)


class Same(NamedTuple):
    """Compares a gold with an answer.

    Attributes:
        decimal: whether either was written with a decimal point: six places are enough then,
            unless the gold is an integer.
        tolerance: >= 0, the relative error that is allowed beyond that.
        seed: draws the points; the gold, so that a verdict stays the same.
    """

    decimal: bool
    tolerance: float
    seed: str

    def __call__(self, gold: Any, answer: Any) -> bool:
        """Whether they are the same.

        Raises:
            Unreadable: if one of them has no value.
        """
        gold, answer = _named(_only(gold)), _named(_only(answer))
        if _is_equation(answer) and not _is_equation(gold):
            answer = self._last(answer)
        elif _is_assignment(gold) and not _is_equation(answer):
            gold = self._last(gold)
        gold, answer = _only(gold), _only(answer)
        gold, answer = _as_set(gold, answer), _as_set(answer, gold)
        for kind, compare in (
            (Relational | And, self._relations),
            (sympy.MatrixBase | sympy.MatrixExpr, self._matrices),
            (sympy.Set | sympy.Tuple, self._collections),
        ):
            if isinstance(gold, kind) or isinstance(answer, kind):
                return isinstance(gold, kind) and isinstance(answer, kind) and compare(gold, answer)
        if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
            return False
        if gold.has(*_LENGTHY) or answer.has(*_LENGTHY):
            gold, answer = gold.doit(), answer.doit()
        if gold.free_symbols or answer.free_symbols:
            return gold == answer or self._formulas(gold, answer)
        return self._numbers(gold, answer)

    def _numbers(self, gold: Any, answer: Any) -> bool:
        (gold, gold_percent), (answer, answer_percent) = _percent(gold), _percent(answer)
        g, a = fraction(gold), fraction(answer)
        if g is not None and a is not None:
            numbers = (
                exact.Number(g, self.decimal, gold_percent),
                exact.Number(a, self.decimal, answer_percent),
            )
            return exact.agree(*numbers, tolerance=self.tolerance)
        if gold_percent != answer_percent:
            gold, answer = (
                (gold / 100 if gold_percent else gold),
                (answer / 100 if answer_percent else answer),
            )
        infinite = (sympy.oo, -sympy.oo)
        if gold in infinite or answer in infinite:
            return gold == answer
        size = abs(_value(gold))
        apart = abs(_value(sympy.Add(gold, sympy.Mul(-1, answer, evaluate=False), evaluate=False)))
        integer = g is not None and g.denominator == 1
        bound = ZERO * max(size, 1)
        if self.decimal and not integer:
            bound = min(float(exact.DECIMALS), float(exact.DIGITS) * size)
        return bool(apart <= max(bound, self.tolerance * size))

    def _formulas(self, gold: Any, answer: Any) -> bool:
        """Whether they have one value wherever they are evaluated."""
        agreed = 0
        difference = sympy.Add(gold, sympy.Mul(-1, answer, evaluate=False), evaluate=False)
        for point in _points(gold.free_symbols | answer.free_symbols, self.seed):
            g, a = fraction(gold, point), fraction(answer, point)
            if g is not None and a is not None:
                size, apart = g, g - a
                zero = 0
            else:
                size, apart = _value_at(gold, point), _value_at(difference, point)
                zero = ZERO_AT_POINT
            if size is None or apart is None:
                continue
            if abs(apart) > max(zero * max(abs(size), 1), self.tolerance * abs(size)):
                return False
            agreed += 1
            if agreed == POINTS:
                break
        if agreed == POINTS and not (gold.has(*_IN_PIECES) or answer.has(*_IN_PIECES)):
            return True
        return math_verify(gold, answer, timeout_seconds=None, raise_on_error=True)

    def _matrices(self, gold: Any, answer: Any) -> bool:
        gold, answer = gold.doit(), answer.doit()
        if not (isinstance(gold, sympy.MatrixBase) and isinstance(answer, sympy.MatrixBase)):
            return bool(gold == answer)
        return gold.shape == answer.shape and self._in_order(gold.flat(), answer.flat())

    def _collections(self, gold: Any, answer: Any) -> bool:
        """A tuple has an order, and gives it to the bare list opposite; an open interval is one."""
        if isinstance(gold, sympy.Interval) and isinstance(answer, sympy.Interval):
            return (
                (gold.left_open, gold.right_open) == (answer.left_open, answer.right_open)
                and self(gold.start, answer.start)
                and self(gold.end, answer.end)
            )  # fmt: skip
        golds, answers = _elements(gold), _elements(answer)
        if golds is not None and answers is not None:
            if len(golds) != len(answers):
                return False
            ordered = not (
                isinstance(gold, sympy.FiniteSet) and isinstance(answer, sympy.FiniteSet)
            )
            return (self._in_order if ordered else self._in_any_order)(golds, answers)
        if isinstance(gold, sympy.Union | sympy.Intersection | sympy.Complement):
            alike = type(gold) is type(answer) and len(gold.args) == len(answer.args)
            match = self._in_order if isinstance(gold, sympy.Complement) else self._in_any_order
            if alike and match(gold.args, answer.args):
                return True
        if not (isinstance(gold, sympy.Set) and isinstance(answer, sympy.Set)):
            return False
        gold, answer = gold.doit(), answer.doit()
        return bool(gold == answer or gold.symmetric_difference(answer).is_empty)

    def _relations(self, gold: Any, answer: Any) -> bool:
        if _is_assignment(gold) and _is_assignment(answer):
            same_name = _sides(gold)[0] == _sides(answer)[0]
            if same_name or isinstance(gold, And) or isinstance(answer, And):
                return same_name and self(self._last(gold), self._last(answer))
        if isinstance(gold, And) and isinstance(answer, And):
            return len(gold.args) == len(answer.args) and self._in_any_order(
                _links(gold), _links(answer)
            )
        if isinstance(gold, And) or isinstance(answer, And):
            return False
        if not (isinstance(gold.lhs, sympy.Expr) and isinstance(gold.rhs, sympy.Expr)):
            same_sides = self(gold.lhs, answer.lhs) and self(gold.rhs, answer.rhs)
            return type(gold) is type(answer) and same_sides
        if not (isinstance(answer.lhs, sympy.Expr) and isinstance(answer.rhs, sympy.Expr)):
            return False
        sign = self._multiple(gold.lhs - gold.rhs, answer.lhs - answer.rhs)
        return (sign > 0 and type(gold) is type(answer)) or (
            sign < 0 and _FLIPPED[type(gold)] is type(answer)
        )

    def _multiple(self, gold: Any, answer: Any) -> int:
        """The sign of the number by which `answer` is `gold`, 0 where there is none."""
        ratios = []
        for point in _points(gold.free_symbols | answer.free_symbols, self.seed):
            g, a = _value_at(gold, point), _value_at(answer, point)
            if g is None or a is None or not g or not a:
                continue
            ratios.append(a / g)
            if len(ratios) == POINTS:
                break
        if len(ratios) < POINTS or not ratios[0].is_real:
            return 0
        near = max(self.tolerance, 1e-12) * abs(ratios[0])
        return int(sympy.sign(ratios[0])) if all(abs(r - ratios[0]) <= near for r in ratios) else 0

    def _last(self, equation: Any) -> Any:
        """What an equation comes to; the sides on the way must be that too: not ``x = 3 = 5``."""
        name, *between, last = _sides(equation)
        for side in between:
            if not (isinstance(side, sympy.Expr) and isinstance(last, sympy.Expr)):
                continue
            known = side.xreplace({name: last}) if name.is_Symbol else side
            if known.free_symbols <= last.free_symbols and not self(last, known):
                raise Unreadable("sides that differ")
        return last

    def _in_order(self, golds: Iterable[Any], answers: Iterable[Any]) -> bool:
        return all(self(g, a) for g, a in zip(golds, answers, strict=True))

    def _in_any_order(self, golds: Iterable[Any], answers: Iterable[Any]) -> bool:
        left = list(answers)
        for gold in golds:
            found = next((n for n, answer in enumerate(left) if self(gold, answer)), None)
            if found is None:
                return False
            del left[found]
        return not left


def fraction(value: Any, point: Mapping[Any, Any] = {}) -> Fraction | None:
    """The exact value of an unevaluated expression, if it is rational and of moderate size.

    Args:
        value: the expression.
        point: rational values of its letters.
    """
    value = point.get(value, value)
    if value.is_Rational:
        return Fraction(int(value.p), int(value.q))
    if isinstance(value, sympy.UnevaluatedExpr):
        return fraction(value.args[0], point)
    operation = _RATIONAL.get(type(value))
    if operation is None:
        return None
    parts = []
    for part in value.args:
        known = fraction(part, point)
        if known is None:
            return None
        parts.append(known)
    found = operation(*parts)
    return None if found is None or _bits(found) > MAX_BITS else found


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _add(*parts: Fraction) -> Fraction | None:
    return sum(parts, Fraction(0)) if sum(map(_bits, parts)) <= MAX_BITS else None


def _multiply(*parts: Fraction) -> Fraction | None:
    return math.prod(parts, start=Fraction(1)) if sum(map(_bits, parts)) <= MAX_BITS else None


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or abs(exponent) * _bits(base) > MAX_BITS:
        return None
    return None if base == 0 and exponent < 0 else Fraction(base**exponent.numerator)


def _factorial(n: Fraction) -> Fraction | None:
    small = n.denominator == 1 and 0 <= n <= 2000
    return Fraction(math.factorial(n.numerator)) if small else None


def _binomial(n: Fraction, k: Fraction) -> Fraction | None:
    if n.denominator != 1 or k.denominator != 1 or n < 0 or k < 0:
        return None
    if min(k, n - k) * _bits(n) > MAX_BITS:
        return None
    return Fraction(math.comb(n.numerator, k.numerator))


_RATIONAL: dict[Any, Callable[..., Any]] = {
    sympy.Add: _add, sympy.Mul: _multiply, sympy.Pow: _power, sympy.Abs: abs,
    sympy.factorial: _factorial, sympy.binomial: _binomial,
}  # fmt: skip


def _value(number: Any, digits: int = DIGITS, **kwargs: Any) -> Any:
    """To 15 digits that are right, unless more than `digits` cancel.

    Raises:
        Unreadable: if it is no number, as 1/0.
    """
    value = number.evalf(15, maxn=digits, **kwargs)
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise Unreadable("no finite number")
    return value


def _value_at(formula: Any, point: dict[Any, Any]) -> Any:
    try:
        value = _value(formula, DIGITS_AT_POINT, subs=point)
    except (Unreadable, ZeroDivisionError):
        return None
    return value if isinstance(value, sympy.Expr) and not value.free_symbols else None


def _points(symbols: Iterable[Any], seed: str) -> Iterator[dict[Any, Any]]:
    draw = random.Random(seed)
    names = sorted(symbols, key=str)
    for n, scale in enumerate((1, 10, 1, 100, 1, 3, 30, 1000, 1, 1, 0.1, 2)):
        point = {}
        for k, name in enumerate(names):
            # The first two letters take all four pairs of signs in the first four points.
            negative = n >> k & 1 if k < 2 and n < POINTS else draw.random() < 0.5
            size = sympy.Rational(round(scale * draw.uniform(0.3, 3) * 997), 997)
            point[name] = -size if negative else size
        yield point


def _percent(value: Any) -> tuple[Any, bool]:
    is_percent = isinstance(value, sympy.Mul) and len(value.args) == 2 and value.args[1] == _PERCENT
    return (value.args[0], True) if is_percent else (value, False)


def _named(value: Any) -> Any:
    """With ``f(x)`` and ``dy/dx`` as letters of their own."""
    if not isinstance(value, sympy.Basic) or isinstance(value, And | sympy.Set | sympy.Tuple):
        return value
    found = value.atoms(AppliedUndef) | {
        d for d in value.atoms(sympy.Derivative) if d.expr.is_Symbol
    }
    return value.xreplace({f: sympy.Symbol(str(f), real=True) for f in found}) if found else value


def _links(relation: Any) -> list[Any]:
    """The relations of a chain as ``a < b < c``, in order."""
    return list(relation._unsorted_args) if isinstance(relation, And) else [relation]  # type: ignore


def _is_equation(value: Any) -> bool:
    parts = _links(value)
    return bool(parts) and all(isinstance(part, sympy.Eq) for part in parts)


def _is_assignment(value: Any) -> bool:
    return _is_equation(value) and isinstance(_sides(value)[0], sympy.Symbol)


def _sides(equation: Any) -> list[Any]:
    parts = _links(equation)
    return [parts[0].lhs, *(part.rhs for part in parts)]


def _as_set(value: Any, other: Any) -> Any:
    """An inequality in one letter as the set that it says, where the other side is a set."""
    if not isinstance(other, sympy.Set | sympy.Tuple) or _is_equation(value):
        return value
    return value.as_set() if isinstance(value, Relational | And) else value


def _only(value: Any) -> Any:
    """The element of a set of one."""
    is_one = isinstance(value, sympy.FiniteSet) and len(_elements(value) or ()) == 1
    return value.args[0] if is_one else value


def _elements(value: Any) -> list[Any] | None:
    if isinstance(value, sympy.FiniteSet):
        return list(getattr(value, "_unsorted_args", value.args))
    if isinstance(value, sympy.Tuple):
        return list(value.args)
    if isinstance(value, sympy.Interval) and value.left_open and value.right_open:
        return [value.start, value.end]
    return None
