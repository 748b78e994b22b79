"""The majority among the answers to a problem: what maj@k is made of."""

from collections.abc import Sequence, Set
from itertools import groupby

import numpy as np

from gdro.core.errors import ConfigError
from gdro.rewards import Verdict, verify
from gdro.rewards.extract import POLICIES


def answers(text_R: Sequence[str], policy: str) -> list[str | None]:
    """What each completion answers, as text; None where it answers nothing.

    Raises:
        ConfigError: if the policy is unknown.
    """
    if policy == "exact":
        return [text.strip() or None for text in text_R]
    if policy not in POLICIES:
        raise ConfigError(f"policy must be exact, {', '.join(POLICIES)}, got {policy!r}")
    return [POLICIES[policy](text) for text in text_R]


def group(
    answer_GK: Sequence[Sequence[str | None]], policy: str, unread: Set[str] = frozenset()
) -> np.ndarray:
    """Sorts the answers to each problem into groups of equal ones.

    Two answers are equal if they are spelled alike, or if the verifier takes one for the other: the
    same judge that sees the gold, and it doesn't see the gold. An answer joins the first group
    whose first answer, in the order of the completions, it equals.

    Args:
        answer_GK: K answers to each of G problems.
        policy: ``exact`` compares spellings alone.
        unread: Answers that the verifier could not read, or not in time, against their gold: they
            equal what is spelled alike, and are not tried again.

    Returns:
        int64, G x K: number of the group; -1 where there is no answer, which is no vote.
    """
    found: list[list[list[str]]] = []  # of each problem: groups, as lists of spellings
    alone: list[list[str]] = []
    waiting: list[list[str]] = []
    for row in answer_GK:
        spellings = dict.fromkeys(a for a in row if a is not None)
        found.append([])
        alone.append([s for s in spellings if policy == "exact" or s in unread])
        waiting.append([s for s in spellings if policy != "exact" and s not in unread])
    # One spelling of every problem at a time: the verifier is faster on many pairs.
    while any(waiting):
        turn = [(g, spellings.pop(0)) for g, spellings in enumerate(waiting) if spellings]
        pairs = [(g, i, s) for g, s in turn for i in range(len(found[g]))]
        golds = [found[g][i][0] for g, i, _ in pairs]
        verdicts = verify(golds, [f"\\boxed{{{s}}}" for _, _, s in pairs]) if pairs else []
        equal = {}
        for (g, _), verdict_of in groupby(zip(pairs, verdicts, strict=True), lambda x: x[0][::2]):
            equal[g] = [i for (_, i, _), v in verdict_of if v == Verdict.right]
        for g, spelling in turn:
            if first := equal.get(g):
                found[g][first[0]].append(spelling)
            else:
                found[g].append([spelling])
    numbers = []
    for g, row in enumerate(answer_GK):
        groups = [*found[g], *([s] for s in alone[g])]
        number = {s: n for n, spellings in enumerate(groups) for s in spellings}
        numbers.append([-1 if a is None else number[a] for a in row])
    return np.array(numbers, dtype=np.int64)


def majority(group_GK: np.ndarray, right_GK: np.ndarray) -> np.ndarray:
    """Expected score of the majority's answer, float64 of length G, in [0, 1].

    Of groups of equal size one is drawn, and of its answers one; they nearly always share a
    verdict. Where nobody votes it is 0.
    """
    scores = np.zeros(len(group_GK))
    for g, (groups, right) in enumerate(zip(group_GK, right_GK, strict=True)):
        votes = np.bincount(groups[groups >= 0])
        if votes.size:
            tied = np.flatnonzero(votes == votes.max())
            scores[g] = np.mean([right[groups == number].mean() for number in tied])
    return scores
