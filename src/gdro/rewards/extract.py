"""Where in a completion the answer stands. Math-verify never sees more than what is found here."""

import re
from collections.abc import Callable, Iterator

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_ANSWER_LINE = re.compile(r"answer[ \t*]*:[ \t]*([^\n]*)", re.IGNORECASE)


def last_box(completion: str) -> str | None:
    r"""Content of the last ``\boxed{}`` or ``\fbox{}`` outside of ``<think>``.

    Boxes may be nested (the outermost counts, the inner marks are dropped) and adjacent. One pass,
    linear in the length.

    Returns:
        The content, stripped; None where there is no box, or the last one is empty or never closed.
    """
    text = _said(completion)
    content, newest = None, -1
    for start, stop in _boxes(text):
        newest = max(newest, start)
        if stop is not None:  # boxes close from the inside out: the last to close is outermost
            content = slice(start, stop)
    if content is None or newest > content.stop:  # the last box was cut off
        return None
    return _unboxed(text[content])


def first_match(completion: str) -> str | None:
    """The first complete box or answer line outside of ``<think>``, whichever comes first.

    For base models, which answer and then run on to the next problem.
    """
    text = _said(completion)
    line = _ANSWER_LINE.search(text)
    first = None  # of the boxes that close, the one that opens first
    for start, stop in _boxes(text):
        if stop is not None and (first is None or start < first.start):
            first = slice(start, stop)
    if line is not None and (first is None or line.start() < first.start):
        found = _of_line(line[1])
        if found is not None:
            return found
    return _unboxed(text[first]) if first is not None else None


def answer_line(completion: str) -> str | None:
    """What follows the last ``Answer:`` on its line (DAPO's format); a box in it is opened."""
    lines = _ANSWER_LINE.findall(_said(completion))
    return _of_line(lines[-1]) if lines else None


def whole(completion: str) -> str | None:
    """The stripped completion, all of it."""
    return completion.strip() or None


def _said(completion: str) -> str:
    """What follows the last ``</think>``, up to a ``<think>`` that never ends."""
    return completion.rpartition("</think>")[2].partition("<think>")[0]


def _boxes(text: str) -> Iterator[tuple[int, int | None]]:
    """For each box where its content starts, as it opens (with None) and where it stops."""
    opening = _BOX.search(text)
    if opening is None:
        return
    open_braces: list[int | None] = []  # for each the start, of a box's content
    for token in _TOKEN.finditer(text, opening.start()):
        mark = token.group()
        if mark == "{":
            open_braces.append(None)
        elif len(mark) > 2:
            open_braces.append(token.end())
            yield token.end(), None
        elif mark == "}" and open_braces and (start := open_braces.pop()) is not None:
            yield start, token.start()


def _unboxed(text: str) -> str | None:
    r"""Turns inner ``\boxed{5}`` into ``{5}``; None if nothing is left."""
    return _BOX.sub("{", text).strip() or None


def _of_line(line: str) -> str | None:
    text = line.strip().strip("*").strip()
    return last_box(text) if _BOX.search(text) else text or None


POLICIES: dict[str, Callable[[str], str | None]] = {
    "last_box": last_box,
    "answer_line": answer_line,
    "first_match": first_match,
    "whole": whole,
}
