"""Reward functions in TRL's signature: keyword arguments in, one float for each completion out."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from gdro.core.errors import DataError
from gdro.rewards.verdict import Verdict
from gdro.rewards.verify import exact_match, verify

Completion = str | Sequence[dict[str, Any]]


def math_reward(
    completions: Sequence[Completion], answer: Sequence[str], **kwargs: Any
) -> list[float]:
    r"""1 where the last ``\boxed{}`` is the gold of the column ``answer``, else 0.

    Args:
        completions: texts, or chats (the content of the last message counts).
        answer: gold answers.
        kwargs: further columns, unused; TRL's ``log_metric``, if there, gets the share of each
            verdict.
    """
    return _rewards(verify(answer, [text_of(c) for c in completions]), kwargs.get("log_metric"))


def exact_reward(
    completions: Sequence[Completion], answer: Sequence[str], **kwargs: Any
) -> list[float]:
    """1 where the completion is the column ``answer`` but for space around it, else 0."""
    return _rewards(
        exact_match(answer, [text_of(c) for c in completions]), kwargs.get("log_metric")
    )


def text_of(completion: Completion) -> str:
    """The text of a completion, plain or a chat.

    Raises:
        DataError: if it is neither.
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list) and all(isinstance(message, dict) for message in completion):
        content = completion[-1].get("content") if completion else None
        if content is None:  # no message, or one of tool calls only
            return ""
        if isinstance(content, str):
            return content
        if isinstance(content, list) and all(isinstance(part, dict) for part in content):
            return "".join(part.get("text") or "" for part in content)
    raise DataError(f"a completion must be text or a list of messages, got {completion!r:.200}")


def _rewards(
    verdict_R: Sequence[Verdict], log_metric: Callable[[str, float], None] | None
) -> list[float]:
    if log_metric is not None and verdict_R:
        counts = Counter(verdict_R)
        for verdict in Verdict:
            log_metric(f"verify/{verdict}", counts[verdict] / len(verdict_R))
    return [float(verdict == Verdict.right) for verdict in verdict_R]
