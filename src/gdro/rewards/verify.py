"""Gold answers against completions: cheap and exact first, math-verify for what is left."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from gdro.core.errors import ConfigError, DataError
from gdro.rewards import exact, guards, spelling, worker
from gdro.rewards.extract import POLICIES
from gdro.rewards.symbolic import Question
from gdro.rewards.verdict import Verdict

_SOLUTION = re.compile(r"####|\\(?:boxed|fbox)(?![a-zA-Z])")

MAX_GOLD_CHARS = 10_000
"""A longer gold is not read."""


def verify(
    gold_R: Sequence[str],
    completion_R: Sequence[str],
    *,
    policy: str = "last_box",
    tolerance: float = 0.0,
) -> list[Verdict]:
    r"""Marks each completion against its gold answer.

    An answer is looked for by the policy; what math-verify sees is that answer, never the whole
    completion, and it sees it in processes of their own that are killed when they overrun. May be
    called from any thread or forked process; see `worker.Pool`.

    Args:
        gold_R: gold answers, LaTeX, without a box.
        completion_R: what the model wrote, in the same order.
        policy: where the answer stands: ``last_box`` (the last ``\boxed{}`` or ``\fbox{}`` after
            the last ``</think>``), ``answer_line`` (after the last ``Answer:``), ``first_match``
            (the first box or answer line, for models that run on after they have answered) or
            ``whole``.
        tolerance: relative difference up to which numbers agree, in [0, 1). 0 is strict: a gold
            that is an integer needs exact equality, a decimal six places. Where it is positive it
            holds for integers too: the golds are then taken for measurements (1e-4 is Minerva's
            tolerant score).

    Returns:
        A verdict for each row.

    Raises:
        DataError: if the lengths differ, or a row is no text, or a gold is empty.
        ConfigError: if the policy is unknown, or the tolerance out of its bounds.

    >>> verify(["42", r"\frac{1}{2}"], [r"so \boxed{042}", r"so \boxed{0.4}"])
    [<Verdict.right: 'right'>, <Verdict.wrong: 'wrong'>]
    """
    if policy not in POLICIES:
        raise ConfigError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    _check_tolerance(tolerance)
    _check_rows(gold_R, completion_R)
    extract = POLICIES[policy]
    pair_R = [(gold, extract(text)) for gold, text in zip(gold_R, completion_R, strict=True)]
    judged = _judge_all(((g, a) for g, a in pair_R if a is not None), tolerance=tolerance)
    return [Verdict.wrong if a is None else judged[g, a] for g, a in pair_R]


def exact_match(gold_R: Sequence[str], completion_R: Sequence[str]) -> list[Verdict]:
    """Whether each completion is its gold, character by character, but for space around it.

    Raises:
        DataError: as `verify`.
    """
    _check_rows(gold_R, completion_R)
    return [
        Verdict.right if gold.strip() == completion.strip() else Verdict.wrong
        for gold, completion in zip(gold_R, completion_R, strict=True)
    ]


def numeric_match(
    gold_R: Sequence[str], completion_R: Sequence[str], *, tolerance: float = 0.0
) -> list[Verdict]:
    """Whether each completion is a number, and nothing else, that equals its gold: 007 or 7.0 is 7.

    A completion that is no number is `Verdict.unparsed`, an empty one `Verdict.wrong`.

    Args:
        gold_R: numbers, as `exact.read` reads them.
        completion_R: what the model wrote, in the same order.
        tolerance: as in `verify`.

    Raises:
        DataError: as `verify`, or if a gold is no number.
        ConfigError: if the tolerance is out of its bounds.

    >>> numeric_match(["7", "7"], [" 007", "seven"])
    [<Verdict.right: 'right'>, <Verdict.unparsed: 'unparsed'>]
    """
    _check_tolerance(tolerance)
    _check_rows(gold_R, completion_R)
    verdict_R = []
    for row, (gold, completion) in enumerate(zip(gold_R, completion_R, strict=True)):
        number = _number(gold)
        if number is None:
            raise DataError(f"gold_R[{row}] must be a number, got {gold!r:.80}")
        if not completion.strip():
            verdict_R.append(Verdict.wrong)
            continue
        answer = _number(completion) if len(completion) <= guards.MAX_CHARS else None
        if answer is None:
            verdict_R.append(Verdict.unparsed)
        else:
            verdict_R.append(_verdict(exact.agree(number, answer, tolerance)))
    return verdict_R


def check_golds(golds: Sequence[str]) -> list[int]:
    """Rows whose gold does not verify against itself: no completion could ever be right there.

    Equal strings do not count as verified here; a formula has to be read and compared. A worked
    solution, known by a box or GSM8K's ``####``, is no gold, though it might pass for words.

    Returns:
        Indices, ascending; empty is good.
    """
    texts = {gold for gold in golds if isinstance(gold, str) and gold.strip()}
    texts = {gold for gold in texts if not _SOLUTION.search(gold)}
    judged = _judge_all(((gold, gold) for gold in texts), by_text=False)
    good = {gold for gold in texts if judged[gold, gold] == Verdict.right}
    return [row for row, gold in enumerate(golds) if not isinstance(gold, str) or gold not in good]


def check_numbers(golds: Sequence[str]) -> list[int]:
    """Rows whose gold `numeric_match` would refuse.

    Returns:
        Indices, ascending; empty is good.
    """
    return [
        row
        for row, gold in enumerate(golds)
        if not isinstance(gold, str) or len(gold) > MAX_GOLD_CHARS or _number(gold) is None
    ]


def judge(gold: str, answer: str, *, by_text: bool = True, tolerance: float = 0.0) -> Verdict:
    """One extracted answer against one gold.

    Args:
        gold: LaTeX.
        answer: LaTeX.
        by_text: whether two formulas that are spelled alike are equal without being read.
        tolerance: as in `verify`.
    """
    return _judge_all([(gold, answer)], by_text=by_text, tolerance=tolerance)[gold, answer]


def _judge_all(
    pairs: Iterable[tuple[str, str]], *, by_text: bool = True, tolerance: float = 0.0
) -> dict[tuple[str, str], Verdict]:
    """Decides what it can, and puts the rest to the workers; rollouts of a prompt repeat a lot."""
    decided = {pair: _decide(*pair, by_text, tolerance) for pair in dict.fromkeys(pairs)}
    questions = [q for q in dict.fromkeys(decided.values()) if isinstance(q, Question)]
    verdicts = worker.shared().compare(questions) if questions else []
    answered = dict(zip(questions, verdicts, strict=True))
    return {
        pair: answered[found] if isinstance(found, Question) else found
        for pair, found in decided.items()
    }


class _Side(NamedTuple):
    """A gold or an answer, tidied: all of it, and its body and unit."""

    text: str
    body: str
    unit: str | None


@lru_cache(maxsize=8192)
def _side(latex: str) -> _Side:
    text = spelling.tidy(latex)
    body, unit = text, None
    if text:
        measured = spelling.split_unit(text)
        body, unit = spelling.tidy(measured.body), measured.unit
    return _Side(text, body, unit)


def _decide(gold: str, answer: str, by_text: bool, tolerance: float) -> Verdict | Question:
    """The verdict, or what has to be asked of math-verify."""
    if len(gold) > MAX_GOLD_CHARS or len(answer) > max(guards.MAX_CHARS, 2 * len(gold)):
        return Verdict.unparsed
    golds, answers = _side(gold), _side(answer)
    if not golds.text or not answers.text or not spelling.balanced(answers.text):
        return Verdict.unparsed
    if golds.unit and answers.unit and golds.unit != answers.unit:
        return Verdict.wrong

    verdict = _as_number(golds.body, answers.body, tolerance)
    if verdict is None:
        verdict = _as_text(golds.text, answers.text, by_text=by_text)
    if verdict is not None:
        return verdict

    shapes = spelling.shape(golds.body), spelling.shape(answers.body)
    if None not in shapes and shapes[0] != shapes[1]:
        return Verdict.wrong
    if spelling.has_text(answers.body) or guards.refusal(golds.body, answers.body):
        return Verdict.unparsed
    return Question(golds.body, answers.body, tolerance)


def _as_number(gold: str, answer: str, tolerance: float) -> Verdict | None:
    """The verdict if both are plain numbers, perhaps as ``x = 5``."""
    if guards.constant_left(answer) and not guards.constant_left(gold):
        return None
    gold_name, gold_value = spelling.split_assignment(gold)
    answer_name, answer_value = spelling.split_assignment(answer)
    gold_number, answer_number = _number(gold_value), _number(answer_value)
    if gold_number is None or answer_number is None:
        return None
    if gold_name and answer_name and gold_name != answer_name:
        return Verdict.wrong
    return _verdict(exact.agree(gold_number, answer_number, tolerance))


def _as_text(gold: str, answer: str, *, by_text: bool) -> Verdict | None:
    """The verdict if the gold is a word, a time or a numeral in some base, or both are alike."""
    for kind in (spelling.in_base, spelling.clock, spelling.word):
        text, other = kind(gold), kind(answer)
        if text is None or (len(text) == 1 and other is None):
            continue
        if text == other or not spelling.product(gold):
            return _verdict(text == other)
    # Words within a formula: sympy would read them as products of letters.
    alike = spelling.squeezed(gold) == spelling.squeezed(answer)
    if spelling.has_text(spelling.split_unit(gold).body):
        return _verdict(alike)
    return Verdict.right if alike and by_text else None


def _number(text: str) -> exact.Number | None:
    return exact.read(spelling.tidy(text))


def _verdict(same: bool) -> Verdict:
    return Verdict.right if same else Verdict.wrong


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance must be in [0, 1), got {tolerance}")


def _check_rows(gold_R: Sequence[str], completion_R: Sequence[str]) -> None:
    if len(gold_R) != len(completion_R):
        raise DataError(
            f"gold_R and completion_R must have equal lengths, got {len(gold_R)} and "
            f"{len(completion_R)}"
        )
    for name, rows in (("gold_R", gold_R), ("completion_R", completion_R)):
        for row, text in enumerate(rows):
            if not isinstance(text, str):
                raise DataError(f"{name}[{row}] must be text, got {type(text).__name__} {text!r}")
    for row, gold in enumerate(gold_R):
        if not gold.strip():
            raise DataError(f"gold_R[{row}] is empty")
