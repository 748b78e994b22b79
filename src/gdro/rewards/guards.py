"""What sympy must not be shown: cheap checks of the text, before any of it is evaluated.

They spare the worker most of the inputs that it would be killed over; the kill stays the last word.
"""

import re

MAX_CHARS = 1000
MAX_NESTING = 40
MAX_DIGITS = 400
MAX_ELEMENTS = 64
MAX_TOKENS = 400
MAX_BARS = 16
MAX_POWER = 100_000

_COMMANDS = {
    "a sum, product, integral or limit": re.compile(
        r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf)(?![a-z])"
    ),
    "dots": re.compile(r"\\(?:[lcdv]|dd)?dots(?![a-z])|\.\.\.|…"),
}
_TOKEN = re.compile(r"\\[A-Za-z]+|\d+|\S")
_NUMBER = re.compile(r"\d+")
_FACTORIAL = re.compile(r"(?:(\d+)|(\S))\s*!")
_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{?\s*(\d+)")
_EXPONENT = re.compile(r"(?:\^|\*\*|(?<=[\d.])[eE])\s*(?:\{|\()?\s*[+-]?(\d[\d,]*)")
_LETTERS = frozenset(
    {
        "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta",
        "vartheta", "iota", "kappa", "lambda", "mu", "nu", "xi", "omicron", "rho", "varrho",
        "sigma", "varsigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega", "Delta",
        "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega", "imath", "ell",
        "hbar",
    }
)  # fmt: skip
_KNOWN = _LETTERS | frozenset(
    {
        "frac", "sqrt", "cdot", "times", "div", "pi", "pm", "mp", "binom", "left", "right",
        "quad", "ln", "log", "sin", "cos", "tan", "begin", "end", "text", "textrm", "textbf",
        "textit", "textnormal", "mathrm", "mathbf", "mathsf", "mathit", "mathcal", "mathbb",
        "mbox", "bm", "boldsymbol", "operatorname", "overline", "overrightarrow", "bar", "vec",
        "hat", "tilde", "widehat", "prime", "circ", "degree", "percent", "infty", "emptyset",
        "cup", "cap", "setminus", "in", "notin", "subset", "subseteq", "le", "ge", "lt", "gt",
        "ne", "neq", "leq", "geq", "approx", "pmod", "bmod", "mod", "mid", "to", "rightarrow",
        "implies", "land", "lor", "wedge", "vee", "lfloor", "rfloor", "lceil", "rceil", "lvert",
        "rvert", "vert", "langle", "rangle", "lbrace", "rbrace", "big", "bigg", "Big", "Bigg",
        "exp", "lg", "det", "gcd", "lcm", "max", "min", "arg", "deg", "arcsin", "arccos",
        "arctan", "arccot", "arcsec", "arccsc", "cot", "sec", "csc", "sinh", "cosh", "tanh",
        "coth", "arcsinh", "arccosh", "arctanh", "angle", "triangle", "partial", "nabla", "top",
    }
)  # fmt: skip
_OPERATORS = frozenset(
    ("arcsin", "arccos", "arctan", "arsinh", "arcosh", "artanh", "lcm", "gcd", "sgn", "cis")
)
_ENVIRONMENTS = frozenset(
    ("matrix", "pmatrix", "bmatrix", "vmatrix", "Bmatrix", "smallmatrix", "array", "cases")
)
_NAMED = re.compile(r"\\(begin|end|operatorname)\s*\*?\s*\{\s*([^{}]*?)\s*\}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}(?:\{[^{}]*\})?")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_EQUALS = re.compile(r"(?<![<>!=:])=(?!=)")


def refusal(gold: str, answer: str) -> str | None:
    """Why `answer` is not put to sympy, or None. Both are tidy; the gold is trusted."""
    if len(answer) > max(MAX_CHARS, 2 * len(gold)):
        return f"longer than {MAX_CHARS} characters"
    if nesting(answer) > max(MAX_NESTING, nesting(gold)):
        return f"nested deeper than {MAX_NESTING}"
    if _elements(answer) > max(MAX_ELEMENTS, 2 * _elements(gold)):
        return f"more than {MAX_ELEMENTS} elements"
    if len(_TOKEN.findall(answer)) > max(MAX_TOKENS, 2 * len(_TOKEN.findall(gold))):
        return f"more than {MAX_TOKENS} symbols"
    if answer.count("|") > max(MAX_BARS, gold.count("|")):
        return f"more than {MAX_BARS} bars"
    if _digits(answer) > max(MAX_DIGITS, _digits(gold)):
        return f"a number of more than {MAX_DIGITS} digits"
    for what, pattern in _COMMANDS.items():
        if pattern.search(answer) and not pattern.search(gold):
            return what
    if unknown := _names(answer) - _KNOWN - _names(gold):
        return f"a command that is not known: {min(unknown)}"
    if has_tower(answer) and not has_tower(gold):
        return "an exponent within an exponent"
    if _too_large(answer) and not _too_large(gold):
        return "a power, factorial or binomial of a large number"
    if "==" in answer and "==" not in gold:
        return "no LaTeX: =="
    if constant_left(answer) and not constant_left(gold):
        return "an equation with a constant left side"
    return None


def _elements(text: str) -> int:
    """Of lists and matrices."""
    return 1 + text.count(",") + text.count(";") + text.count("&") + text.count("\\\\")


def _digits(text: str) -> int:
    return max(map(len, _NUMBER.findall(text)), default=0)


def _names(text: str) -> set[str]:
    """Of commands; of environments and operators the known ones are left out."""
    named = {name for kind, name in _NAMED.findall(text)
             if name not in (_OPERATORS if kind == "operatorname" else _ENVIRONMENTS)}  # fmt: skip
    return named | set(_COMMAND.findall(text))


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
    if any(len(n) > 4 for n in _BINOMIAL.findall(text) + _EXPONENT.findall(text)):
        return True
    return _power(text) > MAX_POWER


def _power(text: str) -> int:
    """The largest product of exponents of powers of powers, as ``((2^9)^{9})^{9}``."""
    inside = [1]  # for each open bracket the largest within
    last = 1  # in the bracket that closed just before
    for found in re.finditer(r"(?:\^|\*\*)\s*\{?\s*(\d+)\s*\}?|[({]|[)}]|\S", text):
        mark = found.group()
        if found[1]:
            last *= int(found[1])
            inside[-1] = max(inside[-1], last)
        elif mark in "({":
            inside.append(1)
        elif mark in ")}" and len(inside) > 1:
            last = inside.pop()
            inside[-1] = max(inside[-1], last)
        else:
            last = 1
    return max(inside)


def constant_left(text: str) -> bool:
    """Whether it is ``3 = 5``: math-verify would look at the right side alone."""
    left, *right = _EQUALS.split(text)
    if not right:
        return False
    return not (_LETTERS.intersection(_COMMAND.findall(left)) or _has_letters(left))


def _has_letters(text: str) -> bool:
    return bool(re.search(r"[A-Za-z]", _COMMAND.sub("", _ENVIRONMENT.sub("", text))))
