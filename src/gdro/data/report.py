"""What became of the rows of data sets, as one table."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """What became of the rows of a data set. ``str(report)`` is a table, `table` one of several.

    A row is dropped for the first reason that holds, in this order.

    Attributes:
        spec: what was read.
        read: rows read.
        empty_prompts: rows dropped for want of a prompt.
        missing_golds: rows dropped for want of a gold answer.
        duplicates: rows dropped because an earlier one has the same prompt.
        cjk: rows dropped because Chinese, Japanese or Korean letters are in the prompt.
        too_long: rows dropped because the prompt is longer than asked for.
        kept: rows of the result.
        near_duplicates: of the kept, those whose prompt is that of an earlier row up to space.
        conflicts: of these and the duplicates, those whose gold differs from the earlier row's.
        bad_golds: rows dropped because no answer can meet their gold (`gdro.rewards.check_golds`).
        unused: rows that a run leaves out because it takes only the first so many.
    """

    spec: str
    read: int
    empty_prompts: int
    missing_golds: int
    duplicates: int
    cjk: int
    too_long: int
    kept: int
    near_duplicates: int
    conflicts: int
    bad_golds: int = 0
    unused: int = 0

    def __str__(self) -> str:
        return table([self])


def table(reports: Sequence[Report]) -> str:
    """One table of several reports, a column each."""
    names = [f"…{r.spec[-23:]}" if len(r.spec) > 24 and len(reports) > 1 else r.spec
             for r in reports]  # fmt: skip
    lines = [
        ("rows read", [r.read for r in reports]),
        ("empty prompt", [-r.empty_prompts for r in reports]),
        ("no gold answer", [-r.missing_golds for r in reports]),
        ("same prompt as an earlier row", [-r.duplicates for r in reports]),
        ("Chinese, Japanese, Korean", [-r.cjk for r in reports]),
        ("too long", [-r.too_long for r in reports]),
        ("beyond the number asked for", [-r.unused for r in reports]),
        ("gold that cannot be met", [-r.bad_golds for r in reports]),
        ("prompts kept", [r.kept for r in reports]),
        ("  same up to space", [r.near_duplicates for r in reports]),
        ("same prompt, another gold", [r.conflicts for r in reports]),
    ]
    widths = [max(10, len(name)) if len(reports) > 1 else 10 for name in names]
    head = names[0] if len(reports) == 1 else " " * 32 + _cells(names, widths)
    return "\n".join([head, *(f"  {name:<30}{_cells(counts, widths)}" for name, counts in lines)])


def _cells(values: Sequence[str | int], widths: Sequence[int]) -> str:
    texts = (v if isinstance(v, str) else f"{v:,}" for v in values)
    return "".join(f"  {text:>{width}}" for text, width in zip(texts, widths, strict=True))
