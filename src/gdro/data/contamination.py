"""Problems of a benchmark that are in the training data, by text and answer."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdro.data.templates import problem_of

logger = logging.getLogger(__name__)

START = 100
"""Letters and digits that the second rule looks at."""

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Overlap:
    """A row of the training data and a problem of a benchmark that are the same.

    Attributes:
        benchmark: its name.
        train_id, benchmark_id: ids of the two rows.
        train_row, benchmark_row: where they stand, from 0.
        same_text: the problems are equal up to whitespace and dollars (whatever the answers).
        same_start: the first 100 letters and digits are equal up to case, and so are the answers
            up to whitespace, dollars, case, and zeros around an integer.
        problem: the benchmark's.
        train_answer, benchmark_answer: the two golds.
    """

    benchmark: str
    train_id: str
    benchmark_id: str
    train_row: int
    benchmark_row: int
    same_text: bool
    same_start: bool
    problem: str
    train_answer: str
    benchmark_answer: str


def overlaps(train: Rows, benchmarks: Mapping[str, Rows]) -> list[Overlap]:
    """Every pair of a training row and a benchmark's problem that either rule calls the same.

    One pass over each, by index. Instructions that `gdro.data.templates.problem_of` knows are taken
    off first; where more than half of the rows begin or end alike, an instruction that it does not
    know is likely, which hides overlaps: that is logged as a warning.

    Args:
        train: Rows with `id`, `prompt` (text or messages) and `answer`, as `load_prompts` gives.
        benchmarks: The same by name.
    """
    own = _Side("the training data", train)
    by_text: dict[str, list[int]] = defaultdict(list)
    by_start: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, keys in enumerate(zip(own.texts, own.starts, strict=True)):
        by_text[keys[0]].append(row)
        by_start[keys[1]].append(row)
    found = []
    for name, rows in benchmarks.items():
        side = _Side(name, rows)
        for b, (text, start) in enumerate(zip(side.texts, side.starts, strict=True)):
            same_text = set(by_text.get(text, ()))
            same_start = set(by_start.get(start, ())) if start[0] else set()
            for t in sorted(same_text | same_start):
                ours, theirs = own.rows[t], side.rows[b]
                pair = Overlap(
                    benchmark=name,
                    train_id=ours["id"],
                    benchmark_id=theirs["id"],
                    train_row=t,
                    benchmark_row=b,
                    same_text=t in same_text,
                    same_start=t in same_start,
                    problem=problem_of(theirs["prompt"]),
                    train_answer=ours["answer"],
                    benchmark_answer=theirs["answer"],
                )
                found.append(pair)
    return found


class _Side:
    """Rows with their two keys."""

    def __init__(self, name: str, rows: Rows) -> None:
        self.rows = list(rows)
        self.texts: list[str] = []
        self.starts: list[tuple[str, str]] = []
        ends: Counter[str] = Counter()
        for row in self.rows:
            problem = problem_of(row["prompt"])
            letters = re.sub(r"[\W_]+", "", problem.casefold())
            self.texts.append(re.sub(r"[\s$]+", "", problem))
            self.starts.append((letters[:START], _answer(row["answer"])))
            if len(letters) > START:
                ends.update(
                    [f"begin with {letters[:START]!r}", f"end in {letters[-START // 2 :]!r}"]
                )
        for end, count in ends.most_common(2):
            if 2 * count > len(self.rows) and count > 1:
                logger.warning(
                    "%s: %d of %d problems %s: an instruction that is not known here hides "
                    "overlaps; take it off first", name, count, len(self.rows), end,
                )  # fmt: skip


def _answer(answer: str) -> str:
    text = re.sub(r"[\s$]+", "", answer).casefold()
    number = re.fullmatch(r"(-?)0*(\d+)(?:\.0*)?", text)
    return number[1] + number[2] if number else text


def counts(found: Sequence[Overlap], sizes: Mapping[str, int]) -> str:
    """A table: of each benchmark, how many problems are in the training data by which rule.

    Args:
        found: The overlaps.
        sizes: Number of problems of each benchmark.
    """
    width = max(9, *map(len, sizes))
    head = f"{'benchmark':<{width}}  problems  same text  same start and answer  either"
    lines = [head]
    for name, size in sizes.items():
        of = [o for o in found if o.benchmark == name]
        text = len({o.benchmark_row for o in of if o.same_text})
        start = len({o.benchmark_row for o in of if o.same_start})
        either = len({o.benchmark_row for o in of})
        lines.append(f"{name:<{width}}  {size:>8,}  {text:>9,}  {start:>21,}  {either:>6,}")
    return "\n".join(lines)


def listed(pair: Overlap) -> str:
    """An overlap in three lines: the ids and the rules, the answers, how the problem starts."""
    rules = " and ".join(["text"] * pair.same_text + ["start and answer"] * pair.same_start)
    return (
        f"\n{pair.benchmark_id} of {pair.benchmark} is {pair.train_id}: same {rules}\n"
        f"  answers {pair.benchmark_answer} and {pair.train_answer}\n"
        f"  {' '.join(pair.problem.split())[:90]}"
    )


def without(train: Rows, found: Sequence[Overlap]) -> list[Mapping[str, Any]]:
    """The training rows that overlap with no benchmark."""
    gone = {o.train_row for o in found}
    return [row for number, row in enumerate(train) if number not in gone]
