"""Prompts to train and evaluate on, from wherever they are, with what was dropped told."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gdro.core.errors import ConfigError, DataError
from gdro.data import sources
from gdro.data.identity import content_id
from gdro.data.templates import TEMPLATES, apply

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

OPTIONAL = ("level", "subject", "family")
"""Columns carried over where they are there."""


@dataclass(frozen=True)
class Report:
    """What became of the rows of a data set. ``str(report)`` is a table.

    Attributes:
        spec: what was read.
        read: rows read.
        duplicates: rows dropped because an earlier one has the same prompt (but for space
            around it).
        conflicts: those of them whose gold differs from the one kept.
        empty_prompts: rows dropped for want of a prompt.
        missing_golds: rows dropped for want of a gold answer.
        near_duplicates: rows kept whose prompt differs from an earlier one in inner space alone.
        kept: rows of the result.
    """

    spec: str
    read: int
    duplicates: int
    conflicts: int
    empty_prompts: int
    missing_golds: int
    near_duplicates: int
    kept: int

    def __str__(self) -> str:
        lines = [
            ("rows read", self.read),
            ("same prompt as an earlier row", -self.duplicates),
            ("empty prompt", -self.empty_prompts),
            ("no gold answer", -self.missing_golds),
            ("prompts kept", self.kept),
            ("of the dropped, another gold", self.conflicts),
            ("of the kept, same up to space", self.near_duplicates),
        ]
        return "\n".join([self.spec, *(f"  {name:<30} {count:>8,}" for name, count in lines)])


def load_prompts(
    spec: str, *, split: str = "train", template: str = "raw", config: str | None = None,
    columns: Mapping[str, str] | None = None, keep: Sequence[str] = (),
) -> "Dataset":  # fmt: skip
    """Loads prompts with their gold answers.

    Args:
        spec: ``arithmetic`` (the built-in suite), a local ``.jsonl``, ``.json``, ``.parquet`` or
            ``.csv`` file (perhaps with ``.gz``), a local folder in the layout of the hub, or the id
            of a hub data set. `gdro.data.sources.LAYOUTS` lists those whose columns are known.
        split: of the suite, folder or hub data set; a file has none.
        template: ``raw``, ``boxed`` or ``chat``; see `gdro.data.templates.apply`.
        config: configuration of a hub data set.
        columns: where the names differ from ours, ours -> theirs (``{"prompt": "question"}``).
        keep: further columns to carry along.

    Returns:
        A `datasets.Dataset` with ``id``, ``prompt`` (text, or a list of messages), ``answer`` and
        ``source``, and ``level``, ``subject``, ``family`` where present. Ids are the given ones or
        a hash of the problem. Of rows with one prompt the first is kept; what was dropped is
        logged.

    Raises:
        DataError: if the data are not there, are damaged or empty, lack a column, or hold a value
            of the wrong type or one id for two prompts. The message names the row, counted from 1.
        ConfigError: if the template is unknown.
    """
    return inspect_prompts(
        spec, split=split, template=template, config=config, columns=columns, keep=keep
    )[0]


def inspect_prompts(
    spec: str, *, split: str = "train", template: str = "raw", config: str | None = None,
    columns: Mapping[str, str] | None = None, keep: Sequence[str] = (),
) -> tuple["Dataset", Report]:  # fmt: skip
    """As `load_prompts`, with the report."""
    from datasets import Dataset

    if template not in TEMPLATES:
        raise ConfigError(f"template must be one of {', '.join(TEMPLATES)}, got {template!r}")
    if spec == "arithmetic":
        from gdro.data import arithmetic

        raw, layout = arithmetic.load(split).to_list(), sources.Layout({})
    else:
        layout = sources.layout_of(spec)
        raw = sources.read(spec, split, config or layout.config)
    names = _names(spec, raw, {**layout.columns, **(columns or {})}, keep)
    rows, report = _clean(spec, raw, names, layout)
    (logger.warning if report.kept < report.read else logger.info)("%s", report)
    for row in rows:
        if isinstance(row["prompt"], str):
            row["prompt"] = apply(template, row["prompt"])
        elif template != "raw":
            raise DataError(
                f"{spec}: template must be raw where prompts are messages, got {template!r}"
            )
    return Dataset.from_list(rows), report


def _names(
    spec: str, rows: list[sources.Row], columns: Mapping[str, str], keep: Sequence[str]
) -> dict[str, str]:
    """Our column names -> theirs, for the columns that are there."""
    if not rows:
        raise DataError(f"{spec}: no rows")
    present = dict.fromkeys(name for row in rows for name in row)
    ours = dict.fromkeys(("prompt", "answer", "id", "source", *OPTIONAL, *keep))
    names = {name: columns.get(name, name) for name in ours}
    missing = [
        theirs if theirs == name else f"{theirs} (for {name})"
        for name, theirs in names.items()
        if theirs not in present and (name in ("prompt", "answer", *keep) or name in columns)
    ]
    if missing:
        raise DataError(
            f"{spec}: no column {', '.join(missing)}; present are {', '.join(map(str, present))}"
        )
    return {name: theirs for name, theirs in names.items() if theirs in present}


def _clean(
    spec: str, raw: list[sources.Row], names: dict[str, str], layout: sources.Layout
) -> tuple[list[dict[str, Any]], Report]:
    """Checks every row, drops the useless ones and counts them."""
    has_id = "id" in names
    first: dict[str, int] = {}  # prompt -> position in `rows`
    owner: dict[str, tuple[int, str]] = {}  # id -> row number and prompt
    spaceless: set[str] = set()
    rows: list[dict[str, Any]] = []
    duplicates = conflicts = empty = goldless = near = 0
    for number, row in enumerate(raw, 1):
        where = f"{spec} row {number}"
        prompt = _prompt(where, names["prompt"], row.get(names["prompt"]))
        gold = _gold(where, names["answer"], row.get(names["answer"]), layout)
        if not prompt:
            empty += 1
            continue
        if not gold:
            goldless += 1
            continue
        # Space around a prompt makes no other problem of it, but is left as it is.
        key = prompt.strip() if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
        id_ = _id(where, names["id"], row.get(names["id"])) if has_id else content_id(key)
        earlier, known = owner.setdefault(id_, (number, key))
        if known != key:
            raise DataError(f"{spec}: rows {earlier} and {number} have one id, {id_!r}, "
                            "and different prompts")  # fmt: skip
        if key in first:
            duplicates += 1
            conflicts += rows[first[key]]["answer"] != gold
            continue
        first[key] = len(rows)
        squeezed = " ".join(key.split())
        near += squeezed in spaceless
        spaceless.add(squeezed)
        clean = {"id": id_, "prompt": prompt, "answer": gold}
        clean |= {name: row.get(theirs) for name, theirs in names.items() if name not in clean}
        clean["source"] = str(clean.get("source") or spec)
        if "level" in clean:
            clean["level"] = _level(clean["level"])
        rows.append(clean)
    report = Report(spec, len(raw), duplicates, conflicts, empty, goldless, near, len(rows))
    if not rows:
        raise DataError(f"{spec}: no row has both a prompt and a gold answer\n{report}")
    return rows, report


def _prompt(where: str, field: str, value: Any) -> str | list[dict[str, Any]]:
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value.strip() else ""
    if isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in value
    ):
        return value if any(m["content"].strip() for m in value) else []
    raise DataError(f"{where}: {field} must be text or a list of messages, got {_shown(value)}")


def _gold(where: str, field: str, value: Any, layout: sources.Layout) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return layout.gold(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError(f"{where}: {field} must be text or a number, got {_shown(value)}")
    return str(int(value) if value == int(value) else value)


def _id(where: str, field: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataError(f"{where}: {field} must be text or an integer, got {_shown(value)}")
    return str(value)


def _level(value: Any) -> Any:
    """MATH's ``Level 3`` is 3, its ``Level ?`` is None; anything else stays."""
    if isinstance(value, str) and value.startswith("Level "):
        return int(value[6:]) if value[6:].isdigit() else None
    return value


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.80}"
