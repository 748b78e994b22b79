r"""A second reader of LaTeX answers, written apart from the verifier, to check what that accepts.

It knows numbers, letters, ``+ - * / ^ !``, ``\frac \sqrt``, some functions, ``|x|``, lists in
brackets and relations; it computes with fractions where it can and in floating point at a point
of the letters otherwise. What it does not know it refuses: then somebody has to look.
"""

import cmath
import math
import re
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

TOKEN = re.compile(
    r"\s*(\\[A-Za-z]+|\\[{}%]|\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+|<=|>=|.)",
    re.DOTALL,
)
IGNORED = re.compile(
    r"\\(?:left|right|displaystyle|big|Big|,|!|;|:|quad|qquad|\s)(?![A-Za-z])|\$|\\[()\[\]]"
)
FUNCTIONS = {
    r"\sin": cmath.sin, r"\cos": cmath.cos, r"\tan": cmath.tan, r"\ln": cmath.log,
    r"\log": lambda z: cmath.log(z) / math.log(10), r"\exp": cmath.exp,
    r"\arcsin": cmath.asin, r"\arccos": cmath.acos, r"\arctan": cmath.atan,
    r"\sinh": cmath.sinh, r"\cosh": cmath.cosh, r"\tanh": cmath.tanh,
}  # fmt: skip
RELATIONS = {"=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\leq": "<=",
             r"\geq": ">=", r"\in": "=", r"\cup": "U"}  # fmt: skip


class Unknown(ValueError):
    """The oracle cannot say."""


class Reader:
    """Recursive descent over the tokens of one text, at one point."""

    def __init__(self, text: str, seed: int) -> None:
        text = IGNORED.sub(" ", text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac"))
        text = re.sub(r"(?<=\d)\s*\{,\}\s*(?=\d{3})", "", text)
        self.tokens = TOKEN.findall(text.strip())
        self.at = 0
        self.seed = seed

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise Unknown(token)

    def read(self) -> Any:
        found = self.list("")
        if self.at < len(self.tokens):
            raise Unknown(self.peek())
        return found

    def list(self, closing: str) -> Any:
        parts = [self.relation()]
        while self.peek() == ",":
            self.next()
            parts.append(self.relation())
        return parts[0] if len(parts) == 1 and not closing else ("list", parts)

    def relation(self) -> Any:
        sides, marks = [self.sum()], []
        while self.peek() in RELATIONS:
            marks.append(RELATIONS[self.next()])
            sides.append(self.sum())
        return ("relation", marks, sides) if marks else sides[0]

    def sum(self) -> Any:
        total = self.product()
        while self.peek() in ("+", "-", r"\pm", r"\mp"):
            mark = self.next()
            if "\\" in mark:
                raise Unknown(mark)
            term = self.product()
            total = total + number(term) if mark == "+" else number(total) - number(term)
        return total

    def product(self) -> Any:
        sign = 1
        while self.peek() in ("+", "-"):
            sign *= -1 if self.next() == "-" else 1
        total = self.power()
        while True:
            token = self.peek()
            if token in (r"\cdot", r"\times", "*"):
                self.next()
                total = number(total) * number(self.power())
            elif token in ("/", r"\div"):
                self.next()
                total = divide(total, self.power())
            elif (
                token
                and (token[0].isalnum() or token in ("(", "{") or token[0] == "\\")
                and (token not in RELATIONS and token not in (r"\}", r"\%", r"\pm", r"\mp"))
            ):
                before = self.tokens[self.at - 1]
                if before[-1:].isdigit() and (token[0].isdigit() or token == r"\frac"):
                    mixed = token == r"\frac" and before.isdigit()
                    rest = self.power() if mixed else None
                    if rest is None or not isinstance(rest, Fraction) or not 0 < rest < 1:
                        raise Unknown("numbers side by side")
                    total = number(total) + rest
                else:
                    total = number(total) * number(self.power())
            elif token == r"\%":
                raise Unknown(token)
            else:
                return total if sign == 1 else -number(total)

    def power(self) -> Any:
        base = self.atom()
        while self.peek() in ("^", "!"):
            if self.next() == "!":
                if not isinstance(base, Fraction) or base.denominator != 1 or not 0 <= base < 200:
                    raise Unknown("!")
                base = Fraction(math.factorial(int(base)))
                continue
            if self.peek() == r"\circ":
                raise Unknown("degrees")
            base = raise_to(base, self.argument())
        return base

    def argument(self) -> Any:
        token = self.peek()
        if token == "{":
            self.next()
            found = self.sum()
            self.expect("}")
            return found
        if len(token) > 1 and token.isdigit():
            # \frac12 and x^12: the first digit alone, as TeX has it; the verifier may read on.
            raise Unknown("digits without braces")
        return self.atom()

    def atom(self) -> Any:
        token = self.next()
        if token[:1].isdigit() or token[:1] == ".":
            return Fraction(token.replace(",", ""))
        if token in ("(", "[", "{", r"\{"):
            closing = {"(": ")]", "[": "])", "{": "}", r"\{": r"\}"}[token]
            parts = self.list(token)[1]
            end = self.next()
            if end not in (closing if token in "([" else [closing]) or not end:
                raise Unknown(end)
            return parts[0] if len(parts) == 1 else ("brackets", token + end, parts)
        if token == "|":
            found = abs(number(self.sum()))
            self.expect("|")
            return found
        if token == r"\frac":
            top = self.argument()
            return divide(top, self.argument())
        if token == r"\sqrt":
            index: Any = Fraction(2)
            if self.peek() == "[":
                self.next()
                index = self.sum()
                self.expect("]")
            return raise_to(self.argument(), divide(Fraction(1), index))
        if token == r"\pi":
            return complex(math.pi)
        if token == "e":
            return complex(math.e)
        if token == "i":
            return 1j
        if token in FUNCTIONS and self.peek() in ("(", "{"):
            return FUNCTIONS[token](complex(number(self.atom())))
        name = token
        if self.peek() == "_":
            self.next()
            part = self.next()
            while part == "{" and self.peek() != "}" and self.peek():
                name += self.next()
            name += part if part != "{" else self.next()
        if re.fullmatch(
            r"[A-Za-z]\w*\}?|\\(?:alpha|beta|theta|lambda|mu|phi|omega|rho|sigma)", name
        ):
            draw = zlib.crc32(f"{name}{self.seed}".encode()) / 2**32
            return complex((0.4 + 2.3 * draw) * (1 if draw * 64 % 2 < 1 else -1))
        raise Unknown(token)


def number(value: Any) -> Any:
    if not isinstance(value, Fraction | complex):
        raise Unknown("no number")
    return value


def divide(top: Any, bottom: Any) -> Any:
    if not number(bottom):
        raise Unknown("division by zero")
    return number(top) / bottom


def raise_to(base: Any, exponent: Any) -> Any:
    base, exponent = number(base), number(exponent)
    whole = isinstance(exponent, Fraction) and exponent.denominator == 1
    if isinstance(base, Fraction) and whole and abs(exponent) <= 4000:
        if base == 0 and exponent < 0:
            raise Unknown("division by zero")
        return base ** int(exponent)
    return complex(base) ** complex(exponent)


def same(gold: str, answer: str) -> bool | None:
    """Whether they are equal, as far as the oracle can tell: None where it cannot read one."""
    rounded = any(re.search(r"\.\d", text) for text in (gold, answer))
    verdicts = []
    for seed in range(3):
        try:
            verdicts.append(_same(Reader(gold, seed).read(), Reader(answer, seed).read(), rounded))
        except (Unknown, OverflowError, ZeroDivisionError, ValueError, RecursionError):
            return None
    return all(verdicts)


def _same(gold: Any, answer: Any, rounded: bool) -> bool:
    if _tag(answer) == "relation" and _tag(gold) != "relation" and set(answer[1]) == {"="}:
        if isinstance(answer[2][0], Fraction):
            raise Unknown("an equation with a constant left side")
        answer = answer[2][-1]
    if _tag(gold) == "relation" and _tag(answer) != "relation" and set(gold[1]) == {"="}:
        gold = gold[2][-1]
    if isinstance(gold, Fraction | complex) and isinstance(answer, Fraction | complex):
        if isinstance(gold, Fraction) and isinstance(answer, Fraction):
            near = min(Fraction(1, 10**6), abs(gold) / 10**5)
            return abs(gold - answer) <= (near if rounded and gold.denominator != 1 else 0)
        size = abs(complex(gold))
        near = min(1e-6, 1e-5 * size) if rounded else 1e-9 * size
        return abs(complex(gold) - complex(answer)) <= near + 1e-13
    if _tag(gold) == _tag(answer) == "relation":
        if len(gold[2]) == len(answer[2]) == 2 and gold[1] == answer[1] == ["="]:
            left, right = (number(s[2][0]) - number(s[2][1]) for s in (gold, answer))
            sides = all(_same(g, a, rounded) for g, a in zip(gold[2], answer[2], strict=True))
            if not sides and left and right:
                raise Unknown("equations")  # a multiple of each other, perhaps
            return sides
        return gold[1] == answer[1] and _all(gold[2], answer[2], rounded)
    golds, answers = _parts(gold), _parts(answer)
    if golds is None or answers is None or len(golds[1]) != len(answers[1]):
        return False
    brackets = {golds[0], answers[0]} - {""}
    if len(brackets) > 1:
        return False
    if brackets <= {r"\{\}"}:
        left = list(answers[1])
        for g in golds[1]:
            found = next((n for n, a in enumerate(left) if _same(g, a, rounded)), None)
            if found is None:
                return False
            del left[found]
        return True
    return _all(golds[1], answers[1], rounded)


def _all(golds: Sequence[Any], answers: Sequence[Any], rounded: bool) -> bool:
    return len(golds) == len(answers) and all(
        _same(g, a, rounded) for g, a in zip(golds, answers, strict=True)
    )


def _tag(value: Any) -> str:
    return value[0] if isinstance(value, tuple) else ""


def _parts(value: Any) -> tuple[str, list[Any]] | None:
    if _tag(value) == "list":
        return "", value[1]
    return (value[1], value[2]) if _tag(value) == "brackets" else None
