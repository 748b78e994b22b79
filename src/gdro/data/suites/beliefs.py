"""What a base model is taught: worked examples by one who knows each fact only so well.

The noise is what gives the base its tail. Each fact has a reliability, the probability that a
worked example states it right; it falls with the level. A wrong statement is the fact's
own misconception half of the time, which is as likely as or likelier than the truth at the high
levels (so sharpening the model solves nothing there), else any other word that could stand there.
The example goes on from whatever was written. The examples come from prompts of a split of their
own, ``warm_start``: none of them is a prompt of train, validation or test.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterator, Sequence
from functools import cache

from gdro.data.suites.problem import LEVELS, Problem, hashed
from gdro.data.suites.suite import Suite, split_of

RELIABILITY = (0.97, 0.66, 0.46, 0.32, 0.20)
"""Of a middling fact, by level; a problem is right when its three to six facts are."""

RELIABILITY_SPREAD = 0.5
"""Standard deviation of the facts' log-odds of reliability within a level."""

MISCONCEPTION = 0.5
"""Share of the wrong statements that are the fact's one misconception; the rest is spread."""

LEVEL_SHARES = (0.30, 0.20, 0.18, 0.16, 0.16)
"""Of the worked examples. The high levels are shown nearly as often as the others: they are hard
by their reliability, so what the base believes there is noise, not ignorance of the task."""


@cache
def reliability(topic: str, level: int, fact: Hashable) -> float:
    """Probability that a worked example states this fact right, in (0, 1); fixed for ever."""
    mean = RELIABILITY[level - 1]
    uniform = hashed("reliability", topic, level, fact) / 2**64 - 0.5
    log_odds = math.log(mean / (1 - mean)) + RELIABILITY_SPREAD * math.sqrt(12) * uniform
    return 1 / (1 + math.exp(-log_odds))


@cache
def misconception(topic: str, level: int, fact: Hashable, wrong: tuple[str, ...]) -> str:
    """The wrong word that is believed of this fact; fixed for ever."""
    return min(wrong, key=lambda word: hashed("misconception", topic, level, fact, word))


def worked_example(problem: Problem, rng: random.Random) -> str:
    """A problem worked out by one who knows each fact only as well as its reliability."""
    topic = problem.topic or problem.family

    def step(fact: Hashable, right: str, choices: Sequence[str]) -> str:
        if len(choices) == 1 or rng.random() < reliability(topic, problem.level, fact):
            return right
        wrong = tuple(word for word in choices if word != right)
        if rng.random() < MISCONCEPTION:
            return misconception(topic, problem.level, fact, wrong)
        return wrong[int(rng.random() * len(wrong))]

    return problem.work(step)


def problems(suite: Suite, seed: int) -> Iterator[Problem]:
    """An endless stream of problems of the base's own split, of all families."""
    rng, draws = random.Random(f"warm_start-{seed}"), list(suite.families.values())
    while True:
        draw = draws[int(rng.random() * len(draws))]
        problem = draw(rng, rng.choices(range(1, LEVELS + 1), LEVEL_SHARES)[0])
        if split_of(problem.prompt) == "warm_start":
            yield problem
