r"""Tidy LaTeX to sympy: math-verify's parser, and what it reads otherwise than it was meant.

Loads sympy, so only the worker process imports this. Nothing is evaluated while reading.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

import sympy
from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from math_verify.grader import should_treat_as_complex

_NORMAL = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
)
_TOKEN = r"\\[A-Za-z]+|[^\s{}\\]"
_REWRITES = [
    (re.compile(pattern), by)
    for pattern, by in [
        # The grammar drops primes.
        (r"\s*\^\s*\{?\s*(\\prime)\s*(\\prime)?\s*\}?", lambda m: "'" * (1 + bool(m[2]))),
        (r"([A-Za-z])('+)", lambda m: f"{m[1]}_{{{'prime' * len(m[2])}}}"),
        # An E with a subscript is no Euler's number, and a subscript may be an operator.
        (r"(?<![A-Za-z\\])E\s*(?=_)", r"\\text{E}"),
        (r"_\s*(?:\{\s*\\([A-Za-z]+)\s*\}|\\([A-Za-z]+))", lambda m: f"_{{{m[1] or m[2]}}}"),
        (r"\\[lcdv]?dots(?:[bcm])?(?![A-Za-z])|\.\.\.|…", r"\\text{dots}"),  # else dropped
        (rf"\\(frac|binom|sqrt)\s*({_TOKEN})(?<!\[)", r"\\\1{\2}"),
        (rf"\\(frac|binom)(\{{[^{{}}]*\}})\s*({_TOKEN})", r"\\\1\2{\3}"),
    ]
]
_POWER_OF_T = re.compile(r"\^\s*(?:T(?![A-Za-z])|\{\s*(?:T|\\top)\s*\}|\\top(?![A-Za-z]))")
_DEGREES_WITHIN = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc).*\\circ")
_GROUPED = re.compile(r"(?:[^,\d]|\d{1,3}(?:,\d{3})+(?![,\d])|\d+(?![,\d]))*")
_MULTIPLE_OF_I = re.compile(r"\di(?![A-Za-z_])")
_LITERAL = re.compile(r"\{*[\d.,]+\}*$")


class Read(NamedTuple):
    """What a text says.

    Attributes:
        value: sympy's object, unevaluated; decimals are exact fractions in it.
        decimal: whether a decimal point was written, so that it may have been rounded.
    """

    value: Any
    decimal: bool


class Unreadable(ValueError):
    """There is no one meaning."""


def read(text: str, *, real: bool) -> Read:
    """Reads tidy LaTeX.

    Args:
        text: the answer, and nothing else.
        real: whether its letters are real numbers.

    Raises:
        Exception: of many kinds, from antlr, latex2sympy or sympy, if it cannot be read.
    """
    return _read(text, real)


def is_complex(text: str) -> bool:
    """Whether its letter ``i`` is the imaginary unit."""
    return should_treat_as_complex(text) or bool(_MULTIPLE_OF_I.search(text))


@lru_cache(maxsize=8192)
def _read(text: str, real: bool) -> Read:
    reader = _Reader(is_real=real or None, convert_degrees=bool(_DEGREES_WITHIN.search(text)),
                     config=ConversionConfig(lowercase_symbols=False))  # fmt: skip
    value = reader.parse_quickly(_normal(text))
    if not isinstance(value, sympy.Basic | sympy.MatrixBase):
        raise Unreadable(f"{type(value).__name__} is no value")
    return Read(value, bool(re.search(r"\.\d", text)))


def _normal(text: str) -> str:
    for pattern, by in _REWRITES:
        text = pattern.sub(by, text)
    if "matrix" not in text:  # else it is a transpose
        text = _POWER_OF_T.sub("^{1T}", text)
    if "'" in text or '"' in text:
        raise Unreadable("a quotation mark")  # which would be dropped
    return _commas_apart(normalize_latex(text, _NORMAL))


def _commas_apart(text: str) -> str:
    r"""Within brackets a comma parts elements: ``(1,100)`` is a pair, never 1100.

    Without, ``1,080\pi`` is one product if all commas stand so.
    """
    depth, out, grouped = 0, [], None
    for mark in re.findall(r"\\.|.", text, re.DOTALL):
        depth += (mark in ("(", "[", r"\{")) - (mark in (")", "]", r"\}"))
        if mark == "," and not depth:
            grouped = _GROUPED.fullmatch(text) if grouped is None else grouped
            mark = "" if grouped else mark
        out.append(", " if mark == "," and depth else mark)
    return "".join(out)


class _Reader(_Latex2Sympy):
    """The converter with its guesses about numbers that stand side by side taken out."""

    mode = PredictionMode.LL

    def create_parser(self, latex_str: str) -> Any:
        parser = super().create_parser(latex_str)
        parser._interp.predictionMode = self.mode
        return parser

    def parse_quickly(self, text: str) -> Any:
        """In ANTLR's two stages: what the simple prediction reads, the full one reads alike."""
        try:
            self.mode = PredictionMode.SLL
            return self.parse(text)
        except Unreadable:
            raise
        except Exception:  # noqa: BLE001
            self.mode = PredictionMode.LL
            return self.parse(text)

    def convert_postfix_list(self, arr: Any, i: int = 0) -> Any:
        factors: list[Any] = [self.convert_postfix(part) for part in arr[i:]]
        texts = [part.getText() for part in arr[i:]]
        if any(not isinstance(f, sympy.Expr | sympy.MatrixBase) for f in factors):
            if len(factors) == 1:
                return factors[0]
            return super().convert_postfix_list(arr, i)  # a derivative
        product, *rest = factors
        for before, text, factor in zip(texts, texts[1:], rest, strict=False):
            if factor.is_Number and _LITERAL.match(before):
                if _LITERAL.match(text) or text[0].isdigit():
                    raise Unreadable("numbers side by side")  # 2 3, which it would add
                if text.startswith(r"\frac"):  # 2\frac{1}{3}, which it would add for 2\frac{7}{3}
                    if not (before.isdigit() and product.is_Integer and 0 < factor < 1):
                        raise Unreadable("no mixed number")
                    product = product + factor
                    continue
            matrix = getattr(product, "is_Matrix", False) or getattr(factor, "is_Matrix", False)
            join = self.mat_mul_flat if matrix else self.mul_flat
            product = join(product, factor)
        return product

    def convert_atom(self, atom: Any) -> Any:
        if atom.number_subexpr() and atom.number_subexpr().subexpr():
            raise Unreadable("a numeral in some base within a formula")
        return super().convert_atom(atom)

    def convert_atom_expr(self, atom_expr: Any) -> Any:
        letter = atom_expr.LETTER_NO_E() and atom_expr.LETTER_NO_E().getText()
        below = atom_expr.subexpr()
        if letter == "I":  # a current or a moment of inertia
            base = sympy.Symbol("I" + (below.getText() if below else ""), real=self.is_real)
        elif letter == "i" and not below and not self.is_real:
            base = sympy.I
        else:
            return super().convert_atom_expr(atom_expr)
        above = atom_expr.supexpr() if hasattr(atom_expr, "supexpr") else None
        if above is None:
            return base
        power: Any = (
            self.convert_expr(above.expr()) if above.expr() else self.convert_atom(above.atom())
        )
        return sympy.Pow(base, power, evaluate=False)

    def convert_interval(self, expr: Any) -> Any:
        found = super().convert_interval(expr)
        if isinstance(found, sympy.FiniteSet):
            raise Unreadable("an interval of one point")
        return found

    def parse_number(self, text: str) -> Any:
        return sympy.Rational(text.replace(",", ""))

    def convert_binom(self, binom: Any) -> Any:
        top, bottom = self.convert_expr(binom.upper), self.convert_expr(binom.lower)
        return sympy.binomial(top, bottom, evaluate=False)
