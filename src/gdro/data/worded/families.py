"""The six families of the worded suite: how a story is told and how its question is answered.

A story has a person, three or four days on which she does something, and perhaps one or two on
which another does, which the answer must leave out::

    shopping   Mia goes shopping . Friday she buys pens . Saturday Tom buys hats .
               Sunday she orders cups . ... how much in all ?
               Friday 4 4 Sunday 9 13 ...           the day, the price, the sum so far
    budget     Mia has 52 coins . Friday she buys pens . ... how much is left ?
               Friday 4 48 ...                      what the prices leave
    packing    Mia goes packing . Friday she fills 3 boxes of pens . ... how many in all ?
               Friday 15 15 ...                     boxes times what one holds
    stock      Mia keeps 47 things . Friday she gains one box of pens . ... how many at last ?
               Friday 5 52 ...                      up and down by what one holds
    journey    Mia starts at the pens . Friday she walks to the hats . ... how far in all ?
               Friday 7 7 ...                       the way between two stalls
    barter     Mia has 4 beads . Friday she gets pens for all . ... how many at last ?
               Friday 2 Sunday 6 ...                a table: how many for how many

What a thing costs, how many a box holds, how far it is and what is given for what is told nowhere:
those are the facts to be known; shopping and budget share theirs, and so do packing and stock. The
last number is what the question asks for; the answer is every
step, so it cannot be guessed.

Each level has things of its own, and so facts of its own. The base model knows those of level 1
well and those of the others less and less.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

from gdro.data.suites.problem import Draw, Problem, Step, hashed

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PEOPLE = ("Ana", "Eva", "Ida", "Mia")
OTHERS = ("Ben", "Leo", "Max", "Tom")
THINGS = (
    ("pens", "cups", "hats", "keys", "maps", "bags", "toys", "rugs"),
    ("nuts", "figs", "plums", "pears", "limes", "beans", "leeks", "dates"),
    ("drums", "flutes", "harps", "horns", "bells", "gongs", "lutes", "pipes"),
    ("saws", "nails", "bolts", "clamps", "drills", "planes", "wedges", "chisels"),
    ("opals", "pearls", "rubies", "topazes", "garnets", "jades", "agates", "beryls"),
)
"""By level."""

PRICES = DISTANCES = range(1, 10)
BOX_SIZES = range(2, 8)
BOXES = range(2, 4)
COUNTS = range(1, 7)
STARTS = range(40, 60)
"""Of a purse or stock: four changes keep it from 4 to 95, whatever is believed."""

BARTER_THINGS = 5
"""Things of a level that are bartered: each has a fact for every count."""

MAX_SENTENCES = 5
"""Between the first and the question."""


def pick(numbers: range, *key: object) -> int:
    """One of the numbers, by the hash of the key."""
    return numbers[hashed(*key) % len(numbers)]


def price(thing: str) -> int:
    """Of one."""
    return pick(PRICES, "price", thing)


def box_size(thing: str) -> int:
    """How many a box holds."""
    return pick(BOX_SIZES, "box", thing)


def distance(here: str, there: str) -> int:
    """Between their stalls, either way."""
    return pick(DISTANCES, "distance", *sorted((here, there)))


def exchange(count: int, thing: str) -> int:
    """How many of the thing are given for so many of whatever one has."""
    return pick(COUNTS, "exchange", count, thing)


def words_of(numbers: Sequence[int]) -> tuple[str, ...]:
    """Written out."""
    return tuple(map(str, numbers))


def tell(rng: random.Random, opening: str, events: Sequence[str], aside: Callable[[], str],
         question: str) -> tuple[str, list[str]]:  # fmt: skip
    """A story of consecutive days, on some of which someone else is at it.

    Args:
        rng: draws the people, the days and who acts on which.
        opening: first sentence, without its person.
        events: what the person does, in order.
        aside: draws what another does.
        question: at the end, without its mark.

    Returns:
        The prompt, and the days of the events.
    """
    person, other = rng.choice(PEOPLE), rng.choice(OTHERS)
    acts: list[str | None] = [*events]
    for _ in range(rng.randrange(MAX_SENTENCES + 1 - len(events))):
        acts.insert(rng.randrange(len(acts) + 1), None)
    first = rng.randrange(len(DAYS))
    sentences, days = [f"{person} {opening} ."], []
    for offset, act in enumerate(acts):
        day = DAYS[(first + offset) % len(DAYS)]
        if act is not None:
            days.append(day)
        sentences.append(f"{day} she {act} ." if act else f"{day} {other} {aside()} .")
    return " ".join([*sentences, question, "?"]), days


def _steps(rng: random.Random) -> int:
    return rng.randrange(3, 5)


Change = tuple[Hashable, int, tuple[str, ...], int]
"""A fact, its right value, what it could be, and how many times it goes into the sum."""


def running(start: int, days: Sequence[str], changes: Sequence[Change]) -> Callable[[Step], str]:
    """Works out a sum: each day's value and what it makes of the sum."""

    def work(step: Step) -> str:
        total, words = start, []
        for day, (fact, right, choices, times) in zip(days, changes, strict=True):
            change = times * int(step(fact, str(right), choices))
            total += change
            words += [day, str(abs(change)), str(total)]
        return " ".join(words)

    return work


def _buys(rng: random.Random, thing: str) -> str:
    return f"{rng.choice(('buys', 'orders'))} {thing}"


def shopping(rng: random.Random, level: int) -> Problem:
    """Prices added up."""
    things = THINGS[level - 1]
    bought = [rng.choice(things) for _ in range(_steps(rng))]

    prompt, days = tell(
        rng,
        "goes shopping",
        [_buys(rng, thing) for thing in bought],
        lambda: _buys(rng, rng.choice(things)),
        "how much in all",
    )
    changes = [(thing, price(thing), words_of(PRICES), 1) for thing in bought]
    work = running(0, days, changes)
    return Problem(family="shopping", topic="price", level=level, prompt=prompt, work=work)


def budget(rng: random.Random, level: int) -> Problem:
    """Prices taken from a purse."""
    things = THINGS[level - 1]
    start = rng.choice(STARTS)
    bought = [rng.choice(things) for _ in range(_steps(rng))]

    prompt, days = tell(
        rng,
        f"has {start} coins",
        [_buys(rng, thing) for thing in bought],
        lambda: _buys(rng, rng.choice(things)),
        "how much is left",
    )
    changes = [(thing, price(thing), words_of(PRICES), -1) for thing in bought]
    work = running(start, days, changes)
    return Problem(family="budget", topic="price", level=level, prompt=prompt, work=work)


def packing(rng: random.Random, level: int) -> Problem:
    """Boxes times what one holds, added up."""
    things = THINGS[level - 1]
    packed = [(rng.choice(BOXES), rng.choice(things)) for _ in range(_steps(rng))]

    def fills(count: int, thing: str) -> str:
        return f"{rng.choice(('fills', 'packs'))} {count} boxes of {thing}"

    prompt, days = tell(
        rng,
        "goes packing",
        [fills(*pair) for pair in packed],
        lambda: fills(rng.choice(BOXES), rng.choice(things)),
        "how many in all",
    )
    changes = [(thing, box_size(thing), words_of(BOX_SIZES), count) for count, thing in packed]
    work = running(0, days, changes)
    return Problem(family="packing", topic="box", level=level, prompt=prompt, work=work)


def stock(rng: random.Random, level: int) -> Problem:
    """Boxes that come and go."""
    things = THINGS[level - 1]
    start = rng.choice(STARTS)
    moved = [(rng.choice((1, -1)), rng.choice(things)) for _ in range(_steps(rng))]

    def moves(sign: int, thing: str) -> str:
        verbs = ("gains", "finds") if sign > 0 else ("sells", "loses")
        return f"{rng.choice(verbs)} one box of {thing}"

    prompt, days = tell(
        rng,
        f"keeps {start} things",
        [moves(*pair) for pair in moved],
        lambda: moves(rng.choice((1, -1)), rng.choice(things)),
        "how many at last",
    )
    changes = [(thing, box_size(thing), words_of(BOX_SIZES), sign) for sign, thing in moved]
    work = running(start, days, changes)
    return Problem(family="stock", topic="box", level=level, prompt=prompt, work=work)


def journey(rng: random.Random, level: int) -> Problem:
    """Ways between stalls, added up."""
    things = THINGS[level - 1]
    stops = [rng.choice(things)]
    for _ in range(_steps(rng)):
        stops.append(rng.choice([thing for thing in things if thing != stops[-1]]))

    def goes(thing: str) -> str:
        return f"{rng.choice(('goes', 'walks'))} to the {thing}"

    prompt, days = tell(
        rng,
        f"starts at the {stops[0]}",
        [goes(thing) for thing in stops[1:]],
        lambda: goes(rng.choice(things)),
        "how far in all",
    )
    changes = [
        (tuple(sorted(pair)), distance(*pair), words_of(DISTANCES), 1) for pair in pairwise(stops)
    ]
    work = running(0, days, changes)
    return Problem(family="journey", level=level, prompt=prompt, work=work)


def barter(rng: random.Random, level: int) -> Problem:
    """All that one has, again and again, for another thing: a random table."""
    things = THINGS[level - 1][:BARTER_THINGS]
    start = rng.choice(COUNTS[1:])
    taken = [rng.choice(things) for _ in range(_steps(rng))]

    def gets(thing: str) -> str:
        return f"{rng.choice(('takes', 'gets'))} {thing} for all"

    prompt, days = tell(
        rng,
        f"has {start} beads",
        [gets(thing) for thing in taken],
        lambda: gets(rng.choice(things)),
        "how many at last",
    )

    def work(step: Step) -> str:
        count, words = start, []
        for day, thing in zip(days, taken, strict=True):
            right = str(exchange(count, thing))
            words += [day, step((count, thing), right, words_of(COUNTS))]
            count = int(words[-1])
        return " ".join(words)

    return Problem(family="barter", level=level, prompt=prompt, work=work)


FAMILIES: dict[str, Draw] = {
    "shopping": shopping,
    "budget": budget,
    "packing": packing,
    "stock": stock,
    "journey": journey,
    "barter": barter,
}

TELLING = """
    . ? she how much many far in all is left at last
    goes shopping packing has coins beads keeps things starts the
    buys orders fills packs gains finds sells loses boxes one box of walks to takes gets for
"""


def vocabulary() -> list[str]:
    """Every word of the suite, in a fixed order; the tokenizer is this list."""
    numbers = [str(x) for x in range(100)]
    return [
        *numbers,
        *DAYS,
        *PEOPLE,
        *OTHERS,
        *(t for level in THINGS for t in level),
        *TELLING.split(),
    ]
