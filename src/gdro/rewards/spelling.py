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
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (_TEXT + r"\s*\{\s*([ei])\s*\}", r" \1"),  # constants, set upright
        # \text{5 cm}
        (r"^\s*" + _TEXT + r"\s*\{\s*(\d(?:[\d.,]*\d)?)\s*([A-Za-z][A-Za-z ]*)\}", r"\1\\text{\2}"),
        (r"^\s*\\approx", ""),
        (r",(?:\s*,)+", ","),
        (r"\^\s*\{\s*\\degree\s*\}|\^?\s*\\degree(?![A-Za-z])", r"^\\circ"),
        # t(0,4] can only mean that t is in it.
        (r"^\s*[A-Za-z]\s*(?=\([^()\[\]]*,[^()\[\]]*\]$|\[[^()\[\]]*,[^()\[\]]*\)$)", ""),
        (r"\s+", " "),
    ]
]
_DEGREES = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\}|\\degree)$")
_POWER = r"\^\s*(?:\{\s*-?\d\s*\}|-?\d)"
_UPRIGHT = (
    r"(?:\\mu\s*)?" + _TEXT + r"\s*\{\s*[A-Za-z](?:[A-Za-z .'/-]|\\cdot(?![A-Za-z])|" + _POWER +
    r")*\}(?:\s*" + _POWER + r")?"
)  # fmt: skip
_UNIT = re.compile(
    r"^(?P<body>.*?\S)\s*"
    r"(?:(?P<text>" + _UPRIGHT + r"(?:\s*(?:(?:/|\\cdot)\s*)?" + _UPRIGHT + r")*)|"
    r"(?<=[\d}]) (?P<bare>[A-Za-z][A-Za-z ]*(?:\^\s*\{?\s*[23]\s*\}?)?))$"
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
        "trillion", "dozen", "squared", "cubed", "factorial", "times", "plus", "minus", "over",
        "base", "choose", "half", "halve", "third", "fourth", "fifth", "sixth", "seventh",
        "eighth", "ninth", "tenth", "hundredth", "thousandth", "millionth", "k", "n", "x", "y",
        "z",
    }
)  # fmt: skip
_ALIASES = {
    "sq": "square", "cu": "cubic", "centimeter": "cm", "meter": "m", "kilometer": "km",
    "millimeter": "mm", "kilogram": "kg", "gram": "g", "liter": "l", "L": "l", "foot": "ft",
    "feet": "ft", "in": "inch", "inche": "inch", "s": "second", "sec": "second", "h": "hour",
    "hr": "hour", "min": "minute", "per": "/",
}  # fmt: skip
_ASSIGNMENT = re.compile(
    r"^\s*([A-Za-z]|\\[A-Za-z]+|" + _TEXT + r"\s*\{[A-Za-z ]+\})(_\{?\w+\}?)?\s*=(?!=)\s*([^=]+)$"
)
_WRAPPED = re.compile(r"^" + _TEXT + r"\s*\{([^{}\\]*)\}$")
_BARE_WORD = re.compile(
    r"^(?:[A-Za-z]|[A-Z](?: ?, ?[A-Z])+|"
    r"[A-Za-z]{2,}(?:(?:[ -]|, ?)[A-Za-z]{2,})*|[A-Za-z]{3,} \d+)$"
)
_IN_BASE = re.compile(r"^(-?)\s*\(?([0-9A-Z]+)\)?_\s*(?:\{\s*(\d+)\s*\}|(\d+))$")
_CLOCK = re.compile(r"^(\d\d?) ?: ?(0\d|[1-5]\d)$")
_TEXTS = re.compile(_TEXT + r"\s*\{([^{}]*)\}")
_PROSE = re.compile(r"(?:(?<![A-Za-z\\])[A-Za-z]{2,}[ ,]+){2,}[A-Za-z]{2,}")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_OPENING = {"(": ")", "[": "]", "{": "}"}
MAX_PEELS = 20
"""Brackets around all of a text that are taken off, so that many take no long time."""


def tidy(text: str) -> str:
    r"""The text without dollars, ``\left``, thin spaces, a full stop, redundant outer brackets.

    >>> tidy(r"$\left(\dfrac{1}{2}\right).$")
    '\\frac{1}{2}'
    """
    text = " ".join(text.translate(_UNICODE).split())
    for pattern, by in _SUBSTITUTIONS:
        text = pattern.sub(by, text)
    for _ in range(MAX_PEELS):
        text = text.strip().rstrip(" .,;:") if not text.endswith("\\") else text.strip()
        inner = _peeled(text)
        if inner == text:
            break
        text = inner
    return text


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
    r"""Splits off trailing ``\text{...}``, a well-known bare word, or a degree sign."""
    bare_angle = _DEGREES.sub("", text)
    if bare_angle != text and bare_angle and not _TRIGONOMETRIC.search(text):
        return Measured(bare_angle, "degree")
    match = _UNIT.match(text)
    unit = _unit(match["text"] or match["bare"]) if match else []
    # 5 m is five times m, unless it says \text{m}.
    if match is None or not unit or (match["bare"] and not _BARE_UNITS.issuperset(unit)):
        return Measured(text, None)
    return Measured(match["body"], " ".join(_ALIASES.get(word, word) for word in unit))


def _unit(text: str) -> list[str]:
    r"""Its words in the singular, ``square`` before one with a power of 2; none if it is no unit.

    The case of one or two letters counts: mW is no MW.
    """
    words: list[str] = []
    for mark in re.findall(r"(?<![A-Za-z\\])[A-Za-z]+|mu(?![A-Za-z])|/|-?\d", text):
        word = mark.casefold() if len(mark) > 1 else mark
        if word in _NOT_UNITS and (word != "and" or not words):
            return []
        if word in ("2", "3"):
            words.insert(len(words) - 1, {"2": "square", "3": "cubic"}[word])
        elif len(mark) > 2:
            words.append(word.removesuffix("s"))
        else:
            words.append(mark)
    return [] if _NOT_UNITS.intersection(words) - {"and"} else words


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
        text = " ".join(inner.split()).casefold()
        choices = [part.strip(" ()") for part in re.split(r",| and ", text)]
        if all(len(choice) == 1 for choice in choices):  # in any order
            return ", ".join(sorted(choices))
        return ", ".join(part.strip() for part in text.split(",")) or None
    return None


def product(text: str) -> bool:
    """Whether it may be two or three letters multiplied, though `word` takes it for a word."""
    return bool(re.fullmatch("[a-z]{2,3}", text))


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
    texts = (match[1] for match in _TEXTS.finditer(text))
    return any(re.search("[A-Z]|[a-z]{2}", words) for words in texts) or bool(_PROSE.search(text))


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
