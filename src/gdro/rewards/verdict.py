"""What the verifier says of a completion."""

from enum import StrEnum

VERDICTS = "verdict/{}"
"""Column of a reward function's verdicts, by its name, in TRL's log of completions."""


class Verdict(StrEnum):
    """Only `right` is rewarded; the others are kept apart because they are counted apart."""

    right = "right"
    wrong = "wrong"
    """Another value, or no answer at all: no box, an empty or an unclosed one."""
    unparsed = "unparsed"
    """There is an answer, but it cannot be read, or is refused unread (see `guards`)."""
    timeout = "timeout"
    """Comparing it took too long, or too much memory."""
