"""Numbers read and compared exactly, without sympy: this decides GSM8K, AIME, AMC and DAPO.

A gold that is an integer needs exact equality, at any size. For other golds, where one side is
written as a decimal, six decimal places and six significant digits are enough.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 1000
MAX_EXPONENT = 1000

DECIMALS = Fraction(5, 10**7)
DIGITS = Fraction(5, 10**6)

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_PLAIN = rf"(?:{_WHOLE}(?:\.\d*)?|\.\d+)"
_SIGN = r"(?P<sign>[+-]?)\s*"
_SPELLINGS = [
    re.compile(rf"^{_SIGN}{pattern}\Z", re.ASCII)
    for pattern in [
        rf"(?P<plain>{_PLAIN})(?:\s*[eE]\s*(?P<exponent>[+-]?\d+))?",
        rf"(?:(?P<plain>{_PLAIN})\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*\^\s*"
        r"(?:\{\s*(?P<exponent>[+-]?\s*\d+)\s*\}|(?P<bare_exponent>[+-]?\d+))",
        r"(?P<before>\d*)\.(?P<fixed>\d*)\\overline\s*\{(?P<repeated>\d+)\}",
        r"(?:(?P<mixed>\d+)\s*)?\\frac\s*(?:\{(?P<top>[^{}]+)\}|(?P<top_digit>\d))\s*"
        r"(?:\{(?P<bottom>[^{}]+)\}|(?P<bottom_digit>\d))",
        rf"(?:(?P<mixed>\d+)(?: +|(?=\())\s*)?\(?(?P<top>{_PLAIN})\)?\s*/\s*"
        rf"\(?(?P<bottom>{_PLAIN})\)?",
    ]
]
_PART = re.compile(rf"^\s*{_SIGN}(?P<plain>{_PLAIN})\s*$", re.ASCII)
_PERCENT = re.compile(r"\s*\\?%$")


@dataclass(frozen=True)
class Number:
    """An exact value and how it was written.

    Attributes:
        value: exact; of ``50\\%`` it is 50.
        decimal: whether it was written with a decimal point, so may have been rounded.
        percent: whether a percent sign followed.
    """

    value: Fraction
    decimal: bool
    percent: bool = False


def read(text: str) -> Number | None:
    r"""The number that a tidy text is, or None if it is anything else.

    Read are signs, groups of three digits (``1,234``, ``1 234``), zero padding, decimals,
    repeating decimals, scientific notation (``4.5e3``, ``4.5 \times 10^{3}``), fractions
    (``\frac12``, ``1/2``), mixed numbers (``2\frac{1}{3}``) and a percent sign.
    """
    if len(text) > MAX_CHARS:
        return None
    body = _PERCENT.sub("", text)
    percent = body != text
    for spelling in _SPELLINGS:
        match = spelling.match(body)
        if match is None:
            continue
        value = _value({k: v for k, v in match.groupdict().items() if v is not None})
        if value is None:
            return None
        decimal = "." in body and "overline" not in body
        return Number(-value if match["sign"] == "-" else value, decimal, percent)
    return None


def _value(parts: dict[str, str]) -> Fraction | None:
    """Of the named parts of a spelling; None where there is no such number."""
    if "repeated" in parts:
        fixed, repeated = parts["fixed"], parts["repeated"]
        tail = Fraction(int(repeated), 10 ** len(repeated) - 1)
        return (int(parts["before"] + fixed or "0") + tail) / 10 ** len(fixed)
    top = parts.get("top", parts.get("top_digit"))
    bottom = parts.get("bottom", parts.get("bottom_digit"))
    if top is not None and bottom is not None:
        numerator, denominator = _part(top), _part(bottom)
        if numerator is None or not denominator:
            return None
        value = numerator / denominator
        if "mixed" not in parts:
            return value
        # 2 1/3 is a mixed number; 2 7/3 is nothing that anybody means.
        return int(parts["mixed"]) + value if 0 <= value < 1 else None
    exponent = int(parts.get("exponent", parts.get("bare_exponent", "0")).replace(" ", ""))
    if abs(exponent) > MAX_EXPONENT:
        return None
    return _plain(parts.get("plain", "1")) * Fraction(10) ** exponent


def _part(text: str) -> Fraction | None:
    match = _PART.match(text)
    if match is None:
        return None
    return -_plain(match["plain"]) if match["sign"] == "-" else _plain(match["plain"])


def _plain(text: str) -> Fraction:
    return Fraction("0" + text.replace(",", "").replace(" ", ""))


def agree(gold: Number, answer: Number, tolerance: float = 0.0) -> bool:
    """Whether the answer is the gold: exactly, or to six places where a decimal was written.

    A percent sign is optional: 50% is 50 and is 0.5; but 50 is not 0.5.

    Args:
        gold: decides: an integer is met exactly.
        answer: as it was read.
        tolerance: >= 0, the error relative to any gold, an integer too, that is allowed beyond
            that; 1e-4 is the tolerant score of Minerva.
    """
    pairs = [(gold.value, answer.value)]
    if gold.percent and not answer.percent:
        pairs.append((gold.value / 100, answer.value))
    if answer.percent and not gold.percent:
        pairs.append((gold.value, answer.value / 100))
    rounded = (gold.decimal or answer.decimal) and gold.value.denominator != 1
    return any(
        abs(g - a)
        <= max(min(DECIMALS, DIGITS * abs(g)) if rounded else 0, Fraction(tolerance) * abs(g))
        for g, a in pairs
    )
