"""What sympy must not be shown: cheap checks of the text, before any of it is evaluated.

They spare the worker most of the inputs that it would be killed over; the kill stays the last word.
"""

import re

MAX_CHARS = 1000
MAX_NESTING = 40
MAX_DIGITS = 400
MAX_ELEMENTS = 64

_COMMANDS = {
    "a sum, product, integral or limit": re.compile(
        r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf)(?![a-z])"
    ),
    "dots": re.compile(r"\\(?:[lcdv]|dd)?dots(?![a-z])|\.\.\.|…"),
}
_NUMBER = re.compile(r"\d+")
_FACTORIAL = re.compile(r"(?:(\d+)|(\S))\s*!")
_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{?\s*(\d+)")
_EXPONENT = re.compile(r"(?:\^|\*\*)\s*(?:\{|\()?\s*-?(\d+)")
_VARIABLE_FREE = frozenset(
    {
        "frac", "sqrt", "cdot", "times", "div", "pi", "pm", "mp", "binom", "left", "right",
        "quad", "text", "approx", "ln", "log", "sin", "cos", "tan",
    }
)  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_EQUALS = re.compile(r"(?<![<>!=:])=(?!=)")


def refusal(gold: str, answer: str) -> str | None:
    """Why `answer` is not put to sympy, or None. Both are tidy; the gold is trusted."""
    if len(answer) > max(MAX_CHARS, 2 * len(gold)):
        return f"longer than {MAX_CHARS} characters"
    if nesting(answer) > MAX_NESTING:
        return f"nested deeper than {MAX_NESTING}"
    if answer.count(",") >= max(MAX_ELEMENTS, 2 * gold.count(",")):
        return f"more than {MAX_ELEMENTS} elements"
    if any(len(run) > MAX_DIGITS for run in _NUMBER.findall(answer)):
        return f"a number of more than {MAX_DIGITS} digits"
    for what, pattern in _COMMANDS.items():
        if pattern.search(answer) and not pattern.search(gold):
            return what
    if has_tower(answer) and not has_tower(gold):
        return "an exponent within an exponent"
    if _too_large(answer) and not _too_large(gold):
        return "a power, factorial or binomial of a large number"
    if constant_left(answer) and not constant_left(gold):
        return "an equation with a constant left side"
    return None


def nesting(text: str) -> int:
    """Depth of braces and brackets."""
    depth = deepest = 0
    for mark in re.findall(r"[{}()\[\]]", text):
        depth += 1 if mark in "{([" else -1
        deepest = max(deepest, depth)
    return deepest


def has_tower(text: str) -> bool:
    """Whether an exponent has an exponent: ``9^{9^9}``, ``9^9^9``, ``9**9**9``."""
    text = text.replace("**", "^").replace(" ", "")
    if re.search(r"\^[\w.]*\^", text):
        return True
    closers: list[bool] = []  # for each open brace or bracket: does it hold an exponent?
    for mark, position in ((m.group(), m.start()) for m in re.finditer(r"[{}()^]", text)):
        if mark in "{(":
            closers.append(text[max(position - 1, 0)] == "^")
        elif mark in "})":
            if closers:
                closers.pop()
        elif any(closers):
            return True
    return False


def _too_large(text: str) -> bool:
    factorials = _FACTORIAL.findall(text)
    if len(factorials) > 4 or any(len(digits) > 3 for digits, _ in factorials):
        return True
    if any(before and before in ")}!" for _, before in factorials) and not _has_letters(text):
        return True  # ((9!)!)!, while (2n)! stays a symbol
    return any(len(n) > 4 for n in _BINOMIAL.findall(text) + _EXPONENT.findall(text))


def constant_left(text: str) -> bool:
    """Whether it is ``3 = 5``: math-verify would look at the right side alone."""
    left, *right = _EQUALS.split(text)
    if not right:
        return False
    return set(_COMMAND.findall(left)) <= _VARIABLE_FREE and not _has_letters(left)


def _has_letters(text: str) -> bool:
    return bool(re.search(r"[A-Za-z]", _COMMAND.sub("", text)))
