"""The seven families of the arithmetic suite: how a problem is drawn and how it is worked out.

A problem is text of words separated by spaces, so that the tokenizer can be a plain word list::

    operators        3 a @ 5 b @ 2 c @ 7 =       a 1 b 4 c 0       random table, one per operator
    addition         a +7 3 5 b +7 6 6 =         a 11 b 16         columns in base 7, units first
    subtraction      a -7 3 5 b -7 6 2 =         a 5- b 3          "5-" is a 5 that borrowed
    product          3 a *7 5 b *7 2 =           a 1 b 2           running product modulo 7
    digit_sum        sum a G b C c F =           a 7 b 3 c 8       running sum, nines cast out
    sorting          sort G C F A H =            A F C H G         in the order of its script
    base_conversion  a >6 23 b >6 8 =            a 35 b 12         decimal to base 6

The letters are index hints (Zhou et al. 2023, "What Algorithms can Transformers Learn?"): they let
a model of three layers find the operands of a step. The answer is every step, not the last result,
so it cannot be guessed.

Each level of a family owns its facts: an operator table, a base, a modulus, a script. The base
model knows those of level 1 well and those of the others less and less, and what is learnt at one
level does not answer another.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gdro.data.suites.problem import Draw, Problem, Step, hashed

LABELS = "abcde"
"""Index hints; their number is the longest problem in steps."""

# What each level owns. The higher the level, the fewer its facts, so that the prompts that a
# training split holds of it show nearly all of them.
OPERATORS = "@#$%&"
OPERATOR_DIGITS = (10, 7, 6, 5, 5)
ADDITION_BASES = (10, 8, 7, 6, 5)
SUBTRACTION_BASES = (10, 8, 7, 6, 5)
MODULI = (11, 7, 9, 14, 18)
SCRIPTS = ("123456789", "ABCDEFGH", "IJKLMNOP", "QRSTUVWX", "αβγδεζηθ")
CONVERSION_BASES = (8, 9, 7, 6, 5)

OPERATOR_TABLES = {
    (symbol, x, y): hashed("operator", symbol, x, y) % size
    for symbol, size in zip(OPERATORS, OPERATOR_DIGITS, strict=True)
    for x in range(size)
    for y in range(size)
}
"""``(operator, state, operand) -> result``, random digits below the level's size."""

SCRIPT_ORDER = {
    script: "".join(sorted(script, key=lambda s: s if s.isdigit() else f"{hashed('order', s):020}"))
    for script in SCRIPTS
}
"""The order of each script's symbols; that of the digits is the usual one."""

SCRIPT_VALUES = {
    symbol: int(symbol) if symbol.isdigit() else value
    for script in SCRIPTS
    for value, symbol in enumerate(sorted(script, key=lambda s: hashed("value", s)), start=1)
}
"""The value of each symbol as a digit, 1 to 9; unrelated to the order."""


def in_base(number: int, base: int) -> str:
    """``number`` (>= 0) written in ``base`` (<= 10), without leading zeros."""
    digits = str(number % base)
    while number := number // base:
        digits = str(number % base) + digits
    return digits


def _length(rng: random.Random) -> int:
    return rng.randrange(3, len(LABELS) + 1)


def _labelled(words: Sequence[str]) -> str:
    return " ".join(f"{label} {word}" for label, word in zip(LABELS, words, strict=False))


def operators(rng: random.Random, level: int) -> Problem:
    """A state goes through operands, one random table per operator."""
    symbol, size = OPERATORS[level - 1], OPERATOR_DIGITS[level - 1]
    choices = [str(x) for x in range(size)]
    start, operands = rng.randrange(size), [rng.randrange(size) for _ in range(_length(rng))]

    def work(step: Step) -> str:
        state, words = start, []
        for operand in operands:
            right = str(OPERATOR_TABLES[symbol, state, operand])
            words.append(step((state, operand), right, choices))
            state = int(words[-1])
        return _labelled(words)

    prompt = f"{start} {_labelled([f'{symbol} {x}' for x in operands])} ="
    return Problem(family="operators", level=level, prompt=prompt, work=work)


def addition(rng: random.Random, level: int) -> Problem:
    """Two numbers added column by column, units first; a step is a column's sum, carry too."""
    base = ADDITION_BASES[level - 1]
    columns = [(rng.randrange(1, base), rng.randrange(1, base)) for _ in range(_length(rng))]
    choices = [in_base(x, base) for x in range(2, 2 * base)]

    def work(step: Step) -> str:
        carry, words = 0, []
        for upper, lower in columns:
            right = in_base(upper + lower + carry, base)
            words.append(step((upper, lower, carry), right, choices))
            carry = int(len(words[-1]) == 2)
        return _labelled(words)

    prompt = f"{_labelled([f'+{base} {x} {y}' for x, y in columns])} ="
    return Problem(family="addition", level=level, prompt=prompt, work=work)


def subtraction(rng: random.Random, level: int) -> Problem:
    """Two numbers subtracted column by column, units first; a step that borrows is marked ``-``."""
    base = SUBTRACTION_BASES[level - 1]
    columns = [(rng.randrange(base), rng.randrange(1, base)) for _ in range(_length(rng))]
    choices = [f"{x}{mark}" for mark in ("", "-") for x in range(base)]

    def work(step: Step) -> str:
        borrow, words = 0, []
        for upper, lower in columns:
            difference = upper - lower - borrow
            right = f"{difference % base}{'-' if difference < 0 else ''}"
            words.append(step((upper, lower, borrow), right, choices))
            borrow = int(words[-1].endswith("-"))
        return _labelled(words)

    prompt = f"{_labelled([f'-{base} {x} {y}' for x, y in columns])} ="
    return Problem(family="subtraction", level=level, prompt=prompt, work=work)


def product(rng: random.Random, level: int) -> Problem:
    """A running product modulo the level's modulus, among numbers coprime to it."""
    modulus = MODULI[level - 1]
    units = units_of(modulus)
    choices = [str(x) for x in units]
    start, operands = rng.choice(units), [rng.choice(units[1:]) for _ in range(_length(rng))]

    def work(step: Step) -> str:
        state, words = start, []
        for operand in operands:
            words.append(step((state, operand), str(state * operand % modulus), choices))
            state = int(words[-1])
        return _labelled(words)

    prompt = f"{start} {_labelled([f'*{modulus} {x}' for x in operands])} ="
    return Problem(family="product", level=level, prompt=prompt, work=work)


def units_of(modulus: int) -> list[int]:
    """The numbers below ``modulus`` with an inverse: a product of them is never the absorbing 0."""
    return [x for x in range(1, modulus) if all(x % d or modulus % d for d in range(2, x + 1))]


def digit_sum(rng: random.Random, level: int) -> Problem:
    """A running sum of digits with nines cast out; each script has digits of its own."""
    script = SCRIPTS[level - 1]
    symbols = [rng.choice(script) for _ in range(_length(rng))]
    choices = [str(x) for x in range(1, 10)]

    def work(step: Step) -> str:
        total, words = 0, []
        for symbol in symbols:
            value = int(step(symbol, str(SCRIPT_VALUES[symbol]), choices))
            total = (total + value - 1) % 9 + 1
            words.append(str(total))
        return _labelled(words)

    return Problem(family="digit_sum", level=level, prompt=f"sum {_labelled(symbols)} =", work=work)


def sorting(rng: random.Random, level: int) -> Problem:
    """Five or six symbols put in the order of their script."""
    order = SCRIPT_ORDER[SCRIPTS[level - 1]]
    items = rng.sample(sorted(order), rng.randrange(5, 7))

    def work(step: Step) -> str:
        left, words = sorted(items, key=order.index), []
        while left:
            words.append(step(left[0], left[0], tuple(left)))
            left.remove(words[-1])
        return " ".join(words)

    return Problem(family="sorting", level=level, prompt=f"sort {' '.join(items)} =", work=work)


def base_conversion(rng: random.Random, level: int) -> Problem:
    """Decimal numbers of two digits in the base, one a step."""
    base = CONVERSION_BASES[level - 1]
    choices = [in_base(x, base) for x in range(base, base**2)]
    numbers = [rng.randrange(base, base**2) for _ in range(_length(rng))]

    def work(step: Step) -> str:
        return _labelled([step(x, in_base(x, base), choices) for x in numbers])

    prompt = f"{_labelled([f'>{base} {x}' for x in numbers])} ="
    return Problem(family="base_conversion", level=level, prompt=prompt, work=work)


FAMILIES: dict[str, Draw] = {
    "operators": operators,
    "addition": addition,
    "subtraction": subtraction,
    "product": product,
    "digit_sum": digit_sum,
    "sorting": sorting,
    "base_conversion": base_conversion,
}


def vocabulary() -> list[str]:
    """Every word of the suite, in a fixed order; the tokenizer is this list."""
    words = [str(x) for x in range(100)] + [f"{x}-" for x in range(10)]
    words += [*LABELS, "=", "sum", "sort", *OPERATORS]
    words += [f"+{b}" for b in ADDITION_BASES] + [f"-{b}" for b in SUBTRACTION_BASES]
    words += [f"*{m}" for m in MODULI] + [f">{b}" for b in CONVERSION_BASES]
    words += [symbol for script in SCRIPTS[1:] for symbol in script]
    return words
