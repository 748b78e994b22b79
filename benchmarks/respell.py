r"""Other spellings of a gold answer, wrong answers beside it, and random mutants of it."""

import random
import re
from collections.abc import Iterator
from fractions import Fraction

INTEGER = re.compile(r"-?\d+\Z")
DECIMAL = re.compile(r"-?\d*\.\d+\Z")
FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?\d+)\}\{(\d+)\}\Z")
NUMBER = re.compile(r"(?<![\d.,{}_^\\])\d{4,}(?![\d.,}])")
PAIR = re.compile(r"(\\left)?([\[(])([^()\[\]{},;]+),([^()\[\]{},;]+?)(\\right)?([\])])\Z")
WORDS = re.compile(r"\\(?:text|mathrm|textbf|mbox)|[A-Za-z]{3,} [A-Za-z]{2,}")
WRAPPED = re.compile(r"(?:\$[^$]*\$)\Z", re.DOTALL)


def bare(gold: str) -> str:
    gold = gold.strip()
    return gold[1:-1].strip() if WRAPPED.match(gold) else gold


def respellings(gold: str) -> Iterator[tuple[str, str]]:
    """Pairs of what was done and the text: each says what the gold says, to a mathematician."""
    text = bare(gold)
    if "$" in text:  # not one formula
        yield "dollars around", f"${gold}$"
        return
    yield "dollars", f"${text}$"
    yield "dollars left out", text
    yield "brackets of LaTeX", rf"\({text}\)"
    yield "spaces around", f"  {text} \n"
    yield "a full stop", f"{text}."
    yield "a full stop after dollars", f"${text}$."
    yield "braces", f"{{{text}}}"
    yield "displaystyle", rf"\displaystyle {text}"
    yield "thin spaces around", rf"\,{text}\,"
    words = WORDS.search(text)
    if r"\frac" in text or r"\dfrac" in text:
        plain = text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
        yield "dfrac", plain.replace(r"\frac", r"\dfrac")
        yield "tfrac", plain.replace(r"\frac", r"\tfrac")
    if not words and not re.search(r"\\(?:left|right|big)|\|", text):
        sized = re.sub(r"(?<!\\)\(", r"\\left(", re.sub(r"(?<!\\)\)", r"\\right)", text))
        if (
            text.count("(") == text.count(")")
            and "[" not in text
            and "]" not in text
            and sized != text
        ):
            yield "left and right", sized
    if not words:
        yield "spaces around signs", re.sub(r"(?<=[\w)}]) *([+=]) *(?=[\w({\\])", r" \1 ", text)
        yield "spaces after commas", re.sub(r",(?=[^\d!}])|(?<=\D),(?=\d)", ", ", text)
        yield "no spaces", re.sub(r"(?<=[^A-Za-z\d\\]) +| +(?=[^A-Za-z\d\\])", "", text)
        if not re.search(r"[,()\[\]{}|_]", text) or ("frac" in text and "," not in text):
            for macro, by in ((r"\le", r"\leq"), (r"\ge", r"\geq"), (r"\cdot", r"\times")):
                found = re.sub(re.escape(macro) + r"(?![A-Za-z])", lambda _, b=by: b, text)
                if found != text:
                    yield f"{by[1:]} for {macro[1:]}", found
        base = re.search(r"\d_", text)
        grouped = text if base else NUMBER.sub(lambda m: f"{int(m[0]):,}".replace(",", "{,}"), text)
        if grouped != text and not re.search(r"(?<!\d)0\d{3,}", text):
            yield "groups of digits, {,}", grouped
            yield "groups of digits, thin spaces", grouped.replace("{,}", r"\,")
            yield "groups of digits, ,\\!", grouped.replace("{,}", r",\!")
            if "," not in text and not re.search(r"[(\[{]", text):
                yield "groups of digits, commas", grouped.replace("{,}", ",")
    yield from _numbers(text)
    if re.fullmatch(r"[A-Za-z]{2,}|\\text\{[^{}]*\}", text):
        word = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
        yield "text", rf"\text{{{word}}}"
        yield "textbf", rf"\textbf{{{word}}}"
        yield "capitals", rf"\text{{{word.upper()}}}"
        yield "no text", word
    if not re.search(
        r"[=<>,:]|\\(?:le|ge|leq|geq|leqslant|geqslant|in|ne|neq|text|mbox|infty|cup|approx)(?![A-Za-z])|"
        r"\d_\{?\d|[A-Za-z ]+\Z", text
    ):  # fmt: skip
        yield "an assignment", f"Q = {text}"


def _numbers(text: str) -> Iterator[tuple[str, str]]:
    if INTEGER.match(text):
        n = int(text)
        sign, size = ("-" if n < 0 else ""), abs(n)
        yield "leading zeros", f"{sign}00{size}"
        yield "a decimal point", f"{n}.0"
        yield "text", rf"\text{{{n}}}"
        yield "mathbf", rf"\mathbf{{{n}}}"
        yield "a fraction", rf"\frac{{{3 * n}}}{{3}}"
        yield "a decimal as fraction", rf"\frac{{{n}}}{{1}}"
        if n > 0:
            yield "a plus sign", f"+{n}"
        if n % 10 == 0 and n:
            yield "scientific", rf"{n // 10} \times 10^{{1}}"
        yield "a sum", f"{n - 7} + 7"
        yield "a product", rf"{n} \cdot 1"
    elif DECIMAL.match(text):
        value = Fraction(text)
        yield "a fraction", rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
        yield "more places", f"{text}00"
        yield "leading zero", re.sub(r"(?<!\d)\.", "0.", text)
        yield "scientific", rf"{text} \times 10^{{0}}"
    elif found := FRACTION.match(text):
        value = Fraction(int(found[1] + "1") * int(found[2]), int(found[3]))
        top, bottom = value.numerator, value.denominator
        yield "a slash", f"{top}/{bottom}"
        yield "not in lowest terms", rf"\frac{{{6 * top}}}{{{6 * bottom}}}"
        yield "a minus in the numerator", rf"\frac{{{top}}}{{{bottom}}}"
        if (10**6) % bottom == 0:
            yield "a decimal", f"{float(value):.6f}".rstrip("0").rstrip(".")
        if value > 1:
            whole, rest = divmod(value, 1)
            if rest:
                yield "mixed", rf"{whole}\frac{{{rest.numerator}}}{{{rest.denominator}}}"
        if 0 < top < 10 and bottom < 10:
            yield "no braces", rf"\frac{top}{bottom}"


def wrong_answers(gold: str, others: list[str], draw: random.Random) -> Iterator[tuple[str, str]]:
    """Pairs of what was done and the text; not every one is wrong: `oracle.same` has to say."""
    text = bare(gold)
    for other in draw.sample(others, 3):
        yield "another gold", other
    if INTEGER.match(text):
        n = int(text)
        yield "one more", str(n + 1)
        yield "one more, as a sum", f"{n} + 1"
        yield "a digit appended", f"{n}0"
        yield "a hundredth", rf"\frac{{{n}}}{{100}}" if n else "1"
        yield "almost", f"{n}.0000001"
    elif not re.search(r"[=<>,;_]|\\(?:text|le|ge|in|cup|infty|pm)|[A-Za-z]{3,}(?<!frac)(?<!sqrt)",
                       text.replace(r"\pi", "")):  # fmt: skip
        yield "one more", f"{text} + 1"
        yield "twice", rf"2 \cdot ({text})"
        yield "squared", f"({text})^2"
    if re.fullmatch(r"-?(?:\d+|\\frac\{\d+\}\{\d+\})", text) and not re.fullmatch(r"-?0+", text):
        yield "negated", text[1:] if text[0] == "-" else f"-{text}"
    if found := PAIR.match(text):
        left, opening, first, second, right, closing = found.groups()
        if first.strip() != second.strip():
            yield "swapped", f"{left or ''}{opening}{second},{first}{right or ''}{closing}"
        turned = {"(": "[", "[": "("}[opening], {")": "]", "]": ")"}[closing]
        yield "other brackets", f"{turned[0]}{first},{second}{turned[1]}"
    if found := re.match(r"(.*\d)\s*\\(?:text|mathrm)\{\s*([a-z ]+)\}", text):
        other = "kg" if found[2].strip() != "kg" else "cm"
        yield "another unit", rf"{found[1]}\text{{ {other}}}"
    yield "a hedge", f"{text} \\text{{ or }} 17"
    yield "a list", f"{text}, 17"
    yield "a constant left", f"17 = {text}"


ALPHABET = r"0123456789+-*/^_=<>(){}[]|,.;:!'\$%& abcdefinxyzABCEIT" + "\u2212\u03c0\u00b2\n\x00"
TOKENS = tuple(
    r"""
    \frac \sqrt \pi \cdot \times \left( \right) { } ^ ^{2} _ _{1} \text{ \text{and} \infty
    \cup \le \ge = , + - ! / \binom \log \sin \ln \pm \in \emptyset \% ^\circ \circ \boxed{
    \begin{ pmatrix} \end{ & \\ \{ \} ( ) [ ] | 0 1 2 10 0.5 1e9 10^{9} x y n i e \overline
    \approx \sum \int \lim \ldots \operatorname{ \mathbb{R} \vec \prime ' \div \mod \; \, \! ~
    $ \$
    """.split()  # noqa: SIM905
)
_PIECES = re.compile(r"\\[A-Za-z]+|\d+|\s+|.", re.DOTALL)


def mutants(golds: list[str], count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Pairs of a gold and a text made of it by one to four random changes."""
    draw = random.Random(seed)
    for _ in range(count):
        gold = draw.choice(golds)
        text = bare(gold)
        for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
            text = _mutate(text, golds, draw)
        yield gold, text


def _mutate(text: str, golds: list[str], draw: random.Random) -> str:
    kind = draw.randrange(9)
    at = draw.randrange(len(text) + 1)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + draw.choice(ALPHABET) + text[at:]
    if kind == 2:
        return text[:at] + draw.choice(ALPHABET) + text[at + 1 :]
    if kind == 3:
        other = bare(draw.choice(golds))
        return text[:at] + other[draw.randrange(len(other) + 1) :]
    if kind == 4:
        return text[:at]
    if kind == 5:
        inner = draw.choice((r"\frac{%s}{%s}", r"\sqrt{%s}", "(%s)^{%s}", r"\left(%s\right)",
        "%s%s", "{%s}", "%s=%s", "%s,%s", "-%s", r"\{%s\}", "%s!", "|%s|"))  # fmt: skip
        return inner.replace("%s", text)
    pieces = _PIECES.findall(text)
    where = draw.randrange(len(pieces) + 1)
    if kind == 6:
        pieces[where:where] = [draw.choice(TOKENS)]
    elif kind == 7:
        pieces[where : where + 1] = [draw.choice(TOKENS)]
    else:
        other = draw.randrange(len(pieces) + 1)
        if where < len(pieces) and other < len(pieces):
            pieces[where], pieces[other] = pieces[other], pieces[where]
    return "".join(pieces)
