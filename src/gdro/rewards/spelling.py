r"""One spelling for what LaTeX can write in many ways, and what kind of answer a text is.

Everything here works on strings; nothing is evaluated.
"""

import re
from dataclasses import dataclass

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "﹣": "-", "－": "-", "＋": "+", "×": r"\times ", "·": r"\cdot ",
        "⋅": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ", "≤": r"\le ",
        "≥": r"\ge ", "∪": r"\cup ", "∅": r"\emptyset ", "±": r"\pm ", "\u00a0": " ", "\u2009": " ",
        "\u202f": " ", "′": "'", "’": "'", "，": ",", "．": ".", "％": "%", "（": "(", "）": ")",
        "£": "", "€": "",
    }
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
)  # fmt: skip

_TEXT = r"\\(?:text|textrm|textbf|textit|textnormal|mathrm|mathbf|mathsf|mathit|mbox|bm|boldsymbol)"
_SUBSTITUTIONS = [
    (re.compile(pattern), by)
    for pattern, by in [
        (r"√\s*(\d+|\w|\([^()]*\))", r"\\sqrt{\1}"),
        (r"\\?\$|(?<!\\)\\[()\[\]]", " "),
        # Invisible.
        (r"\\[hv]?phantom\s*(?:\{[^{}]*\}|[^\s{}\\])|\\[hv]space\*?\s*\{[^{}]*\}", " "),
        (r"\\(?:displaystyle|textstyle|limits|bigl?|bigr|Bigl?|Bigr)(?![A-Za-z])\s*", ""),
        (r"\\m?(?:left|right)(?=[\[\]()|.]|\\[{}|])", ""),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset"),
        (r"\\(?:leq|leqslant)(?![A-Za-z])", r"\\le"),
        (r"\\(?:geq|geqslant)(?![A-Za-z])", r"\\ge"),
        # 1{,}234 and 1\,234 are never pairs, wherever they stand.
        (r"(?<=\d)\s*(?:\{,\}|,\s*\\!|\\,)\s*(?=\d{3}(?!\d))", ""),
        (r"\{,\}", ","),
        (r"(?<=\d)\\[!,;: ]\s*(?=\d)", " "),  # 1\,234 is 1 234, a group of digits
        (r"\\(?:quad|qquad|enspace|thinspace)(?![A-Za-z])|(?<!\\)\\[!,;: ]|~", " "),
        (_TEXT + r"\s*\{\s*,?\s*(?:and|or)\s*\}", ","),
        (r"(?<=[\d})]) *,? +(?:and|or) +(?=[\w\\({+-])", ","),
        (
            r"(?:\\(?:mathbf|bm|boldsymbol)|" + _TEXT + r"(?=\s*\{[\d\s.,+-]*\}))\s*\{([^{}]*)\}",
            r"\1",
        ),
        (_TEXT + r"\s*\{\s*percent\s*\}", r"\\%"),
        (r"^\s*\\approx", ""),
        (r",(?:\s*,)+", ","),
        (r"\^\s*\{\s*\\degree\s*\}|\^?\s*\\degree(?![A-Za-z])", r"^\\circ"),
        # t(0,4] can only mean that t is in it.
        (r"^\s*[A-Za-z]\s*(?=\([^()\[\]]*,[^()\[\]]*\]$|\[[^()\[\]]*,[^()\[\]]*\)$)", ""),
        (r"\s+", " "),
    ]
]
_DEGREES = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\}|\\degree)$")
_UNIT = re.compile(
    r"^(?P<body>.*\S)\s*(?:" + _TEXT + r"\s*\{\s*(?P<text>[A-Za-z][A-Za-z .'/-]*)\s*\}|"
    r"(?<=[\d}]) (?P<bare>[A-Za-z][A-Za-z ]*))\s*(?:\^\s*\{?\s*(?P<power>[23])\s*\}?)?$"
)
_BARE_UNITS = frozenset(
    {
        "dollar", "cent", "degree", "percent", "unit", "inch", "inche", "foot", "feet", "mile",
        "yard", "hour", "minute", "second", "day", "week", "month", "year", "meter",
        "centimeter", "kilometer", "millimeter", "gram", "kilogram", "liter", "square", "cubic",
        "cm", "mm", "km", "kg", "ml", "ft", "mph", "people", "apple", "way", "point", "student",
        "ticket",
    }
)  # fmt: skip
_NOT_UNITS = frozenset(
    {
        "or", "and", "not", "nor", "if", "unless", "to", "than", "least", "most", "more",
        "less", "about", "modulo", "mod", "hundred", "thousand", "million", "billion",
        "trillion", "dozen", "squared", "times", "plus", "minus", "over", "half", "base",
        "choose",
    }
)  # fmt: skip
_ALIASES = {
    "sq": "square", "cu": "cubic", "centimeter": "cm", "meter": "m", "kilometer": "km",
    "millimeter": "mm", "kilogram": "kg", "gram": "g", "liter": "l", "foot": "ft", "feet": "ft",
    "in": "inch", "inche": "inch", "sec": "second", "hr": "hour", "min": "minute",
}  # fmt: skip
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z]|\\(?!pi\b)[A-Za-z]+)(_\{?\w+\}?)?\s*=(?!=)\s*([^=]+)$")
_WRAPPED = re.compile(r"^" + _TEXT + r"\s*\{([^{}\\]*)\}$")
_BARE_WORD = re.compile(
    r"^(?:[A-Za-z]|[A-Z](?:, ?[A-Z])+|[A-Za-z]{2,}(?:(?:[ -]|, ?)[A-Za-z]{2,})*|[A-Za-z]{3,} \d+)$"
)
_IN_BASE = re.compile(r"^(-?)\s*\(?([0-9A-Z]+)\)?_\s*(?:\{\s*(\d+)\s*\}|(\d+))$")
_CLOCK = re.compile(r"^(\d\d?) ?: ?(0\d|[1-5]\d)$")
_HAS_TEXT = re.compile(
    _TEXT + r"\s*\{[^{}]*[A-Za-z]{2,}[^{}]*\}|" + _TEXT + r"\s*\{[^{}]*[A-Z][^{}]*\}"
)
_PROSE = re.compile(r"(?:(?<![A-Za-z\\])[A-Za-z]{2,}[ ,]+){2,}[A-Za-z]{2,}")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_OPENING = {"(": ")", "[": "]", "{": "}"}


def tidy(text: str) -> str:
    r"""The text without dollars, ``\left``, thin spaces, a full stop, redundant outer brackets.

    >>> tidy(r"$\left(\dfrac{1}{2}\right).$")
    '\\frac{1}{2}'
    """
    text = text.translate(_UNICODE)
    for pattern, by in _SUBSTITUTIONS:
        text = pattern.sub(by, text)
    while True:
        text = text.strip().rstrip(" .,;:") if not text.endswith("\\") else text.strip()
        inner = _peeled(text)
        if inner == text:
            return text
        text = inner


def _peeled(text: str) -> str:
    r"""Without one outer pair of ``{}``, or of ``()`` or ``\{\}`` that holds a single element."""
    for opening, closing in (("{", "}"), ("(", ")"), (r"\{", r"\}")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > 2:
            inner = text[len(opening) : -len(closing)]
            if inner.endswith("\\") or not balanced(inner):
                continue
            if opening == "{" or (inner.strip() and "," not in inner and "|" not in inner):
                return inner
    return text


def balanced(text: str) -> bool:
    """Braces match each other; round and square brackets too, as one kind: ``(1,2]`` is fine."""
    braces = brackets = 0
    for token in re.finditer(r"\\[a-zA-Z]+|\\.|[\[\](){}]", text):
        mark = token.group()
        if mark in ("{", "}"):
            braces += 1 if mark == "{" else -1
        elif mark in "([)]":
            brackets += 1 if mark in "([" else -1
        if braces < 0 or brackets < 0:
            return False
    return braces == brackets == 0


@dataclass(frozen=True)
class Measured:
    """A text without its unit: ``5 \\text{ cm}^2`` is body ``5``, unit ``square cm``."""

    body: str
    unit: str | None


def split_unit(text: str) -> Measured:
    r"""Splits off a trailing ``\text{...}``, a well-known bare word, or a degree sign."""
    bare_angle = _DEGREES.sub("", text)
    if bare_angle != text and bare_angle and not _TRIGONOMETRIC.search(text):
        return Measured(bare_angle, "degree")
    match = _UNIT.match(text)
    if match is None:
        return Measured(text, None)
    words = re.findall(r"[A-Za-z]+", (match["text"] or match["bare"]).casefold())
    if words[0] == "and" or _NOT_UNITS.intersection(words) - {"and"}:
        return Measured(text, None)
    words = [w.removesuffix("s") or w for w in words]
    # 5 m is five times m, unless it says \text{m}.
    if match["bare"] and not _BARE_UNITS.issuperset(words):
        return Measured(text, None)
    words = [_ALIASES.get(w, w) for w in words]
    power = {None: [], "2": ["square"], "3": ["cubic"]}[match["power"]]
    return Measured(match["body"], " ".join(power + words))


def split_assignment(text: str) -> tuple[str | None, str]:
    """``x = 5`` is (``x``, ``5``); a text without a single ``name =`` is (None, text)."""
    match = _ASSIGNMENT.match(text)
    return (match[1] + (match[2] or ""), match[3].strip()) if match else (None, text)


def word(text: str) -> str | None:
    r"""A tidy text that is a word, a name or a choice, casefolded; else None.

    Words are compared as strings: sympy would read ``AB`` as a product that commutes.
    """
    wrapped = _WRAPPED.match(text)
    inner = wrapped[1].strip(" .,;:") if wrapped else text
    if inner.startswith("(") and inner.endswith(")"):
        inner = inner[1:-1]
    if wrapped or _BARE_WORD.match(inner):
        parts = " ".join(inner.split()).casefold().split(",")
        parts = [part.strip() for part in parts]
        if all(len(part) == 1 for part in parts):  # choices, in any order
            parts.sort()
        return ", ".join(parts) or None
    return None


def in_base(text: str) -> str | None:
    """``2516_8`` or ``2516_{8}`` in one spelling, else None."""
    match = _IN_BASE.match(text)
    return f"{match[1]}{match[2]}_{match[3] or match[4]}" if match else None


def clock(text: str) -> str | None:
    """``05:00`` as ``5:00`` if it is a time, not a ratio: one with a zero before a digit."""
    match = _CLOCK.match(text)
    if match is None or not (match[1].startswith("0") or match[2].startswith("0")):
        return None
    return f"{int(match[1])}:{match[2]}"


def has_text(text: str) -> bool:
    r"""Whether words stand within the formula: ``\text{...}`` that is no unit, or bare prose."""
    return bool(_HAS_TEXT.search(text) or _PROSE.search(text))


def shape(text: str) -> str | None:
    r"""Brackets around a list: ``()``, ``[)``, ``{}``, ...; None for a bare list or no list.

    A set is no tuple and a closed interval no pair, though math-verify may find them equal.
    """
    text = text.replace(r"\{", "{").replace(r"\}", "}")
    if len(text) < 3 or text[0] not in _OPENING or text[-1] not in ")]}":
        return None
    depth, commas = 0, 0
    for position, mark in enumerate(text):
        depth += (mark in "([{") - (mark in ")]}")
        commas += mark == "," and depth == 1
        if depth == 0 and position < len(text) - 1:
            return None
    return text[0] + text[-1] if commas else None


def squeezed(text: str) -> str:
    """Without spaces, but where one keeps two digits apart: ``2 1/3`` is not ``21/3``."""
    return re.sub(r"(?<!\d) +| +(?!\d)", "", text)
