"""Prompts to train and evaluate on, from wherever they are, with what was dropped told."""

import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

import numpy as np

from gdro.core.errors import ConfigError, DataError
from gdro.data import sources, suites
from gdro.data.identity import content_id
from gdro.data.layouts import LAYOUTS, Layout, layout_by_columns, layout_of
from gdro.data.report import Report
from gdro.data.templates import TEMPLATES, Prompt, apply

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)

Source: TypeAlias = "str | os.PathLike[str] | Dataset | DatasetDict | Iterable[Mapping[str, Any]]"

OPTIONAL = ("level", "subject", "family")
"""Columns carried over where they are there."""

CJK = re.compile(
    "[\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U000323af]"
)
"""Chinese characters, kana and hangul; not the wide punctuation that English rows hold too."""


class Options(TypedDict, total=False):
    """How prompts are loaded.

    Attributes:
        split: of the suite, folder, hub data set or dictionary of data sets; a file has none.
            Default: the layout's, which is ``test`` for some benchmarks, else ``train``.
        template: ``raw`` (default), ``boxed``, ``chat``, ``think`` or ``answer_line``; see
            `gdro.data.templates.apply`. Prompts that are messages come only ``raw``.
        layout: the hub id of a known data set whose columns the data have, wherever they are.
        config: configuration of a hub data set (default: the layout's, perhaps several).
        columns: where the names differ from ours, ours -> theirs (``{"prompt": "question"}``);
            dots lead into nested columns (``{"id": "extra_info.index"}``).
        keep: further columns to carry along.
        drop_cjk: drop rows whose prompt holds a Chinese, Japanese or Korean letter (default no):
            what makes the 14,116 English rows of DAPO's 17,398.
        max_prompt_chars: drop rows whose prompt, in its template, is longer.
        max_prompt_tokens: the same in tokens, after the tokenizer's chat template for messages.
        tokenizer: what counts them: a tokenizer of transformers.
    """

    split: str | None
    template: str
    layout: str | None
    config: str | None
    columns: Mapping[str, str]
    keep: Sequence[str]
    drop_cjk: bool
    max_prompt_chars: int | None
    max_prompt_tokens: int | None
    tokenizer: Any


def load_prompts(spec: Source, **options: Unpack[Options]) -> "Dataset":
    """Loads prompts with their gold answers.

    Args:
        spec: a built-in suite (``arithmetic``, ``worded``; see `gdro.data.suites`); a local
            ``.jsonl``, ``.json``, ``.parquet`` or ``.csv`` file (perhaps with ``.gz``), verl's
            parquet among them; a local folder in the layout of the hub, or by
            `datasets.Dataset.save_to_disk`; the id of a hub data set; a `datasets.Dataset`, a
            dictionary of them by split, or dicts in memory.
            `gdro.data.layouts` lists those whose columns are known.
        **options: see `Options`.

    Returns:
        A `datasets.Dataset` with ``id``, ``prompt`` (text, or a list of messages), ``answer`` and
        ``source``, and ``level``, ``subject``, ``family`` where present. Ids are the given ones or
        a hash of the problem. Of rows with one prompt the first is kept; what was dropped is
        logged.

    Raises:
        DataError: if the data are not there, are damaged or empty, lack a column, or hold a value
            of the wrong type or one id for two prompts. The message names the row, counted from 1.
        ConfigError: if an option is out of its bounds.
    """
    data, report = inspect_prompts(spec, **options)
    (logger.warning if report.kept < report.read else logger.info)("%s", report)
    return data


def inspect_prompts(spec: Source, **options: Unpack[Options]) -> tuple["Dataset", Report]:
    """As `load_prompts`, but returns the report instead of logging it."""
    _check(options)
    name, table, layout = _table(spec, options)
    rows, counts = _clean(name, table, layout, options)
    if not rows:
        raise DataError(f"{name}: no row is left\n{Report(name, **counts)}")
    rows, long = _without_long(name, rows, options)
    report = Report(name, **{**counts, "too_long": long, "kept": len(rows)})
    if not rows:
        raise DataError(f"{name}: no row is left\n{report}")
    return _dataset(name, rows), report


def _check(options: Options) -> None:
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise ConfigError(f"no such option: {', '.join(unknown)}")
    template = options.get("template", "raw")
    if template not in TEMPLATES:
        raise ConfigError(f"template must be one of {', '.join(TEMPLATES)}, got {template!r}")
    layout = options.get("layout")
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    for name in ("max_prompt_chars", "max_prompt_tokens"):
        bound = options.get(name)
        if bound is not None and bound < 1:
            raise ConfigError(f"{name} must be >= 1, got {bound}")
    if options.get("max_prompt_tokens") is not None and options.get("tokenizer") is None:
        raise ConfigError("max_prompt_tokens needs a tokenizer")


def _table(spec: Any, options: Options) -> tuple[str, sources.Table, Layout]:
    """Name, rows and layout."""
    split, config, named = (options.get(name) for name in ("split", "config", "layout"))
    given = LAYOUTS[named] if named else None
    if not isinstance(spec, str | os.PathLike):
        name = "the data set in memory"
        table = sources.table_of(sources.in_memory(spec, split or "train"))
        return name, table, given or layout_by_columns(table.columns)
    name = os.fspath(spec)
    if suite := suites.find(name):
        return name, sources.table_of(suite.load(split or "train")), Layout()
    layout = given or layout_of(name)
    known = layout or Layout()
    table = sources.read(name, split or known.split, (config,) if config else known.configs)
    return name, table, layout or layout_by_columns(table.columns)


def _names(spec: str, present: Sequence[str], layout: Layout, options: Options) -> dict[str, str]:
    """Our column names -> theirs, for the columns that are there."""
    columns, keep = options.get("columns", {}), options.get("keep", ())
    ours = dict.fromkeys(("prompt", "answer", "id", "source", *OPTIONAL, *keep))
    stray = sorted(set(columns) - set(ours))
    if stray:
        raise ConfigError(f"columns must map {', '.join(ours)}, got {', '.join(stray)}")
    names = {name: columns.get(name, layout.columns.get(name, name)) for name in ours}
    required = {"prompt", "answer", *keep, *columns}

    def there(path: str) -> bool:
        return path in present or path.split(".")[0] in present

    missing = [
        theirs if theirs == name else f"{theirs} (for {name})"
        for name, theirs in names.items()
        if not there(theirs) and name in required
    ]
    if missing:
        raise DataError(
            f"{spec}: no column {', '.join(missing)}; present are {', '.join(map(str, present))}"
        )
    return {name: theirs for name, theirs in names.items() if there(theirs)}


def _value(where: str, row: Mapping[str, Any], path: str) -> Any:
    """Of a column, or nested in one; NumPy's numbers as Python's."""
    value: Any = row
    for part in [path] if path in row else path.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise DataError(f"{where}: {path} must lead into objects, got {_shown(value)}")
        value = value.get(part)
    return value.item() if isinstance(value, np.generic) else value


def _clean(
    spec: str, table: sources.Table, layout: Layout, options: Options
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Checks every row, drops the useless ones and counts them."""
    present = [*table.columns, *layout.makes]
    names: dict[str, str] = {}
    golds: dict[str, str] = {}  # prompt -> gold of its first row
    nearly: dict[str, str] = {}  # the same up to space
    owner: dict[str, tuple[int, str]] = {}  # id -> row number and prompt
    rows: list[dict[str, Any]] = []
    kinds: dict[str, type] = {}
    count = dict.fromkeys(Report.__dataclass_fields__, 0)
    del count["spec"]
    for number, raw in enumerate(table.rows, 1):
        if not names:
            names = _names(spec, present, layout, options)
        count["read"] += 1
        where = f"{spec} row {number}"
        row = layout.prepare(where, raw) if layout.prepare else raw
        prompt = _prompt(where, names["prompt"], _value(where, row, names["prompt"]))
        gold = _gold(where, names["answer"], _value(where, row, names["answer"]), layout.gold)
        if not prompt or not gold:
            count["missing_golds" if prompt else "empty_prompts"] += 1
            continue
        text = prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt)
        key = text if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=repr)
        id_ = content_id(key)
        if "id" in names:
            id_ = _id(where, names["id"], _value(where, row, names["id"]))
        earlier, known = owner.setdefault(id_, (number, key))
        if known != key:
            raise DataError(f"{spec}: rows {earlier} and {number} have one id, {id_!r}, "
                            "and different prompts")  # fmt: skip
        if key in golds:
            count["duplicates"] += 1
            count["conflicts"] += golds[key] != gold
            continue
        golds[key] = gold
        if options.get("drop_cjk") and CJK.search(text):
            count["cjk"] += 1
            continue
        squeezed = " ".join(key.split())
        first = nearly.setdefault(squeezed, key)
        count["near_duplicates"] += first != key
        count["conflicts"] += golds[first] != gold
        clean = {"id": id_, "prompt": prompt, "answer": gold}
        for name, theirs in names.items():
            clean.setdefault(name, _value(where, row, theirs))
        clean["source"] = str(clean.get("source") or spec)
        if "level" in clean:
            clean["level"] = _level(clean["level"])
        for name, value in clean.items():
            _same_kind(where, name, value, kinds)
        rows.append(clean)
    if not count["read"]:
        raise DataError(f"{spec}: no rows")
    return rows, count


def _prompt(where: str, field: str, value: Any) -> Prompt:
    if _absent(value):
        return ""
    if isinstance(value, str):
        return _utf8(where, field, value) if value.strip() else ""
    if isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in value
    ):
        for message in value:
            _utf8(where, field, message["content"])
        return value if any(m["content"].strip() for m in value) else []
    raise DataError(f"{where}: {field} must be text or a list of messages, got {_shown(value)}")


def _gold(where: str, field: str, value: Any, final: Callable[[str], str]) -> str:
    if _absent(value):
        return ""
    if isinstance(value, str):
        return final(_utf8(where, field, value))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError(f"{where}: {field} must be text or a number, got {_shown(value)}")
    return str(int(value) if value == int(value) else value)


def _absent(value: Any) -> bool:
    """Null, or what pandas makes of it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _utf8(where: str, field: str, text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{where}: {field} cannot be written as UTF-8: {error}") from None
    return text


def _id(where: str, field: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataError(f"{where}: {field} must be text or an integer, got {_shown(value)}")
    return _utf8(where, field, str(value))


def _level(value: Any) -> Any:
    """MATH's ``Level 3`` is 3, its ``Level ?`` is None; anything else stays."""
    if isinstance(value, str) and value.startswith("Level "):
        return int(value[6:]) if value[6:].isdigit() else None
    return None if _absent(value) else value


def _same_kind(where: str, field: str, value: Any, kinds: dict[str, type]) -> None:
    """A column holds one kind of value, and nulls."""
    if value is None:
        return
    if isinstance(value, str):
        _utf8(where, field, value)
    kind = kinds.setdefault(field, type(value))
    if type(value) is not kind and not {type(value), kind} <= {int, float}:
        raise DataError(
            f"{where}: {field} must be {kind.__name__} as in the rows before, got {_shown(value)}"
        )


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.80}"


def _without_long(
    spec: str, rows: list[dict[str, Any]], options: Options
) -> tuple[list[dict[str, Any]], int]:
    """The rows in their template, without those over the bounds, and how many those were."""
    template = options.get("template", "raw")
    if template != "raw" and any(not isinstance(row["prompt"], str) for row in rows):
        raise DataError(
            f"{spec}: template must be raw where prompts are messages, got {template!r}"
        )
    for row in rows:
        if isinstance(row["prompt"], str):
            row["prompt"] = apply(template, row["prompt"])
    chars, tokens = options.get("max_prompt_chars"), options.get("max_prompt_tokens")
    kept = rows
    if chars is not None:
        kept = [row for row in kept if _chars(row["prompt"]) <= chars]
    if tokens is not None and kept:
        lengths = _tokens(spec, [row["prompt"] for row in kept], options.get("tokenizer"))
        kept = [row for row, length in zip(kept, lengths, strict=True) if length <= tokens]
    return kept, len(rows) - len(kept)


def _chars(prompt: Prompt) -> int:
    return len(prompt) if isinstance(prompt, str) else sum(len(m["content"]) for m in prompt)


def _tokens(spec: str, prompts: list[Prompt], tokenizer: Any) -> list[int]:
    """Lengths as the trainer will see them."""
    chat = not isinstance(prompts[0], str)
    if chat and not tokenizer.chat_template:
        raise ConfigError(f"{spec}: prompts are messages, and the tokenizer has no chat template")
    texts = [
        tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        if chat
        else prompt
        for prompt in prompts
    ]
    encoded = tokenizer(texts, add_special_tokens=not chat)
    return [len(ids) for ids in encoded["input_ids"]]


def _dataset(spec: str, rows: list[dict[str, Any]]) -> "Dataset":
    from datasets import Dataset
    from pyarrow import ArrowException, array

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for name, values in columns.items():
        try:
            array(values)
        except (ArrowException, OverflowError) as error:
            raise DataError(f"{spec}: {name} makes no column: {error}") from error
    return Dataset.from_dict(columns)
