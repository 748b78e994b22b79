"""What the suites hold, as tables of Markdown."""

import random
from collections import Counter

from gdro.data.suites import suites
from gdro.data.suites.problem import LEVELS, believe_right
from gdro.data.suites.suite import DEFAULT_SIZES

EXAMPLE_SEED, EXAMPLE_LEVEL = 0, 1


def splits() -> str:
    """Prompts of each split of each suite, by level and by family."""
    head = ["suite", "split", "prompts", *(f"level {level}" for level in range(1, LEVELS + 1))]
    rows = []
    for name, suite in suites().items():
        for split in DEFAULT_SIZES:
            problems = suite.generate(split)
            levels = Counter(row["level"] for row in problems)
            families = Counter(row["family"] for row in problems)
            most, least = max(families.values()), min(families.values())
            each = str(most) if most == least else f"{least} to {most}"
            families_in = "all" if not suite.held_out else ", ".join(families)
            counts = [levels[level] for level in range(1, LEVELS + 1)]
            rows.append([f"`{name}`", split, len(problems), *counts, f"{families_in}: {each} each"])
    return _table([*head, "families"], rows)


def families() -> str:
    """An easy problem of every family and its answer."""
    rows = []
    for name, suite in suites().items():
        if name != suite.collection:
            continue
        for family, draw in suite.families.items():
            problem = draw(random.Random(EXAMPLE_SEED), EXAMPLE_LEVEL)
            answer = problem.work(believe_right)
            rows.append([f"`{name}`", family, f"`{problem.prompt}`", f"`{answer}`"])
    return _table(["collection", "family", "prompt", "answer"], rows)


def _table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
