"""Where in a completion the answer stands. Math-verify never sees more than what is found here."""

import re
from collections.abc import Callable

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_ANSWER_LINE = re.compile(r"answer[ \t*]*:[ \t]*([^\n]*)", re.IGNORECASE)


def last_box(completion: str) -> str | None:
    r"""Content of the last ``\boxed{}`` or ``\fbox{}`` after the last ``</think>``.

    Boxes may be nested (the outermost counts, the inner marks are dropped) and adjacent. One pass,
    linear in the length.

    Returns:
        The content, stripped; None where there is no box, or the last one is empty or never closed.
    """
    text = completion[completion.rfind("</think>") + 1 :]
    first = _BOX.search(text)
    if first is None:
        return None
    open_braces: list[tuple[bool, int]] = []  # is it a box?, where its content starts
    content = None
    newest_open = -1
    for token in _TOKEN.finditer(text, first.start()):
        mark = token.group()
        if mark == "{" or len(mark) > 2:
            open_braces.append((len(mark) > 2, token.end()))
            if len(mark) > 2:
                newest_open = token.end()
        elif mark == "}" and open_braces:
            is_box, start = open_braces.pop()
            if is_box:  # boxes close from the inside out: the last to close is outermost
                content = slice(start, token.start())
    if content is None or newest_open > content.stop:  # the last box was cut off
        return None
    return _unboxed(text[content]).strip() or None


def _unboxed(text: str) -> str:
    r"""Turns inner ``\boxed{5}`` into ``{5}``."""
    return _BOX.sub("{", text)


def answer_line(completion: str) -> str | None:
    """What follows the last ``Answer:`` on its line (DAPO's format); a box in it is opened."""
    lines = _ANSWER_LINE.findall(completion[completion.rfind("</think>") + 1 :])
    if not lines:
        return None
    text = lines[-1].strip().strip("*").strip()
    return last_box(text) if _BOX.search(text) else text or None


def whole(completion: str) -> str | None:
    """The stripped completion, all of it."""
    return completion.strip() or None


POLICIES: dict[str, Callable[[str], str | None]] = {
    "last_box": last_box,
    "answer_line": answer_line,
    "whole": whole,
}
