"""Gold answers against completions: cheap and exact first, math-verify for what is left."""

from collections.abc import Sequence

from gdro.core.errors import ConfigError, DataError
from gdro.rewards import exact, guards, spelling, worker
from gdro.rewards.extract import POLICIES
from gdro.rewards.verdict import Verdict


def verify(
    gold_R: Sequence[str], completion_R: Sequence[str], *, policy: str = "last_box"
) -> list[Verdict]:
    r"""Marks each completion against its gold answer.

    An answer is looked for by the policy; what math-verify sees is that answer, never the whole
    completion, and it sees it in a process of its own that is killed when it overruns. May be
    called from any thread.

    Args:
        gold_R: gold answers, LaTeX, without a box.
        completion_R: what the model wrote, in the same order.
        policy: where the answer stands: ``last_box`` (the last ``\boxed{}`` or ``\fbox{}`` after
            the last ``</think>``), ``answer_line`` (after the last ``Answer:``) or ``whole``.

    Returns:
        A verdict for each row.

    Raises:
        DataError: if the lengths differ, or a row is no text, or a gold is empty.
        ConfigError: if the policy is unknown.

    >>> verify(["42", r"\frac{1}{2}"], [r"so \boxed{042}", r"so \boxed{0.4}"])
    [<Verdict.right: 'right'>, <Verdict.wrong: 'wrong'>]
    """
    if policy not in POLICIES:
        raise ConfigError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    _check_rows(gold_R, completion_R)
    extract = POLICIES[policy]
    judged: dict[tuple[str, str], Verdict] = {}  # rollouts of one prompt repeat each other
    verdict_R = []
    for gold, completion in zip(gold_R, completion_R, strict=True):
        answer = extract(completion)
        if answer is None:
            verdict_R.append(Verdict.wrong)
            continue
        if (gold, answer) not in judged:
            judged[gold, answer] = judge(gold, answer)
        verdict_R.append(judged[gold, answer])
    return verdict_R


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


def check_golds(golds: Sequence[str]) -> list[int]:
    """Rows whose gold does not verify against itself: no completion could ever be right there.

    Equal strings do not count as verified here; a formula has to be read and compared.

    Returns:
        Indices, ascending; empty is good.
    """
    read: dict[str, Verdict] = {}
    for gold in golds:
        if gold not in read:
            ok = isinstance(gold, str) and gold.strip()
            read[gold] = judge(gold, gold, by_text=False) if ok else Verdict.unparsed
    return [row for row, gold in enumerate(golds) if read[gold] != Verdict.right]


def judge(gold: str, answer: str, *, by_text: bool = True) -> Verdict:
    """One extracted answer against one gold.

    Args:
        gold: LaTeX.
        answer: LaTeX.
        by_text: whether two formulas that are spelled alike are equal without being read.
    """
    if len(answer) > max(guards.MAX_CHARS, 2 * len(gold)):
        return Verdict.unparsed
    gold, answer = spelling.tidy(gold), spelling.tidy(answer)
    if not gold or not answer:
        return Verdict.unparsed
    if not spelling.balanced(answer):
        return Verdict.unparsed
    gold_part, answer_part = spelling.split_unit(gold), spelling.split_unit(answer)
    if gold_part.unit and answer_part.unit and gold_part.unit != answer_part.unit:
        return Verdict.wrong
    gold_text, answer_text = spelling.tidy(gold_part.body), spelling.tidy(answer_part.body)

    verdict = _as_number(gold_text, answer_text)
    if verdict is None:
        verdict = _as_text(gold, answer, by_text=by_text)
    if verdict is not None:
        return verdict

    shapes = spelling.shape(gold_text), spelling.shape(answer_text)
    if None not in shapes and shapes[0] != shapes[1]:
        return Verdict.wrong
    if spelling.has_text(answer_text) or guards.refusal(gold_text, answer_text):
        return Verdict.unparsed
    number = exact.read(spelling.split_assignment(gold_text)[1])
    is_integer = number is not None and number.value.denominator == 1
    return worker.shared().compare(gold_text, answer_text, exact=is_integer)


def _as_number(gold: str, answer: str) -> Verdict | None:
    """The verdict if both are plain numbers, perhaps as ``x = 5``."""
    gold_name, gold_value = spelling.split_assignment(gold)
    answer_name, answer_value = spelling.split_assignment(answer)
    gold_number = exact.read(spelling.tidy(gold_value))
    answer_number = exact.read(spelling.tidy(answer_value))
    if gold_number is None or answer_number is None:
        return None
    if gold_name and answer_name and gold_name != answer_name:
        return Verdict.wrong
    return Verdict.right if exact.agree(gold_number, answer_number) else Verdict.wrong


def _as_text(gold: str, answer: str, *, by_text: bool) -> Verdict | None:
    """The verdict if the gold is a word or a numeral in some base, or if both are spelled alike."""
    for kind in (spelling.in_base, spelling.word):
        text = kind(gold)
        if text is not None and (len(text) > 1 or kind(answer) is not None):
            return Verdict.right if text == kind(answer) else Verdict.wrong
    # Words within a formula: sympy would read them as products of letters.
    alike = spelling.squeezed(gold) == spelling.squeezed(answer)
    if spelling.has_text(spelling.split_unit(gold).body):
        return Verdict.right if alike else Verdict.wrong
    return Verdict.right if alike and by_text else None


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
