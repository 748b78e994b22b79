"""Prompts that got harder, easier, or were never solved; with answers where the run kept them."""

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from gdro.core.errors import DataError
from gdro.report.runs import Run
from gdro.report.style import clean

ROWS = 6
"""Most prompts of a kind."""
SHORT, LONG = 160, 2000
"""Most characters of an answer that are shown at once, and when it is opened."""
KINDS = {"harder": "Got harder", "easier": "Got easier", "never": "Never solved"}
CAPTIONS = {
    "evaluation": "Look for what the prompts of one kind have in common; a change by one or two "
    "answers is luck.",
    "training": "Look at what the answers get wrong: of each prompt that was sampled more than "
    "once, the first and the last of the completions that the run kept.",
}


@dataclass(frozen=True, kw_only=True)
class Text:
    """A string from a model: its beginning, and more of it to open ("" if that is all)."""

    short: str
    more: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt: right answers of how many, before and after."""

    prompt: Text
    group: str
    before: str
    after: str
    answer: Text | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Prompts by kind, from the evaluations or from the training samples."""

    key: str
    title: str
    kinds: list[tuple[str, int, list[Row]]]
    answers: bool
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """One file of `evals/`."""

    k: int
    correct: dict[str, int]
    group: dict[str, str]
    prompt: dict[str, str] = field(default_factory=dict)
    answer: dict[str, str] = field(default_factory=dict)


def prompt_tables(run: Run) -> tuple[list[Table], list[str]]:
    """The tables, and what is missing in words.

    Raises:
        DataError: if a file of `evals/` or `samples/` is broken.
    """
    tables, missing = [], []
    for make in (_of_evaluations, _of_samples):
        found = make(run)
        if isinstance(found, str):
            missing.append(found)
        else:
            tables.append(found)
    return tables, missing


def model_text(value: Any, short: int = SHORT) -> Text:
    """A completion or a prompt (text, or chat messages): lines kept, nothing invisible, cut."""
    if isinstance(value, list):
        value = "\n".join(str(m.get("content", "")) for m in value if isinstance(m, dict))
    whole = str(value)
    seen = "".join(
        c if c == "\n" or unicodedata.category(c)[0] != "C" else " " for c in whole[:LONG]
    ).strip()
    if len(whole) > LONG:
        seen += f" … ({len(whole):,} characters)"
    first = clean(seen, short)
    return Text(short=first, more="" if first == seen else seen)


def _of_evaluations(run: Run) -> Table | str:
    split = run.split
    files = sorted(run.path.glob(f"evals/*-{escape(split)}.json")) if split else []
    if len(files) < 2:
        return "prompts: it takes two evaluations by prompt (evals/*.json)"
    before, after = _counts(files[0]), _counts(files[-1])
    both = [name for name in after.correct if name in before.correct]
    gain = {n: after.correct[n] / after.k - before.correct[n] / before.k for n in both}
    order = sorted(both, key=gain.__getitem__)
    kinds = {
        "harder": [n for n in order if gain[n] < 0],
        "easier": [n for n in reversed(order) if gain[n] > 0],
        "never": [n for n in both if before.correct[n] == after.correct[n] == 0],
    }
    rows = {
        kind: [
            Row(
                prompt=model_text(after.prompt.get(n, n)),
                group=after.group.get(n, ""),
                before=f"{before.correct[n]} of {before.k}",
                after=f"{after.correct[n]} of {after.k}",
                answer=model_text(after.answer[n]) if n in after.answer else None,
            )
            for n in _spread_over(names, after.group)
        ]
        for kind, names in kinds.items()
    }
    return Table(
        key="evaluation",
        title=f"Of the {len(both):,} prompts of {clean(split)}, first and last evaluation",
        kinds=[(KINDS[kind], len(kinds[kind]), rows[kind]) for kind in KINDS],
        answers=any(row.answer for found in rows.values() for row in found),
        caption=CAPTIONS["evaluation"]
        + ("" if after.prompt else " (Prompts by their ids: this run kept no texts of them.)"),
    )


def _spread_over(names: list[str], group: dict[str, str]) -> list[str]:
    """The first `ROWS`, of different groups as far as that goes: the tail is seldom of one kind."""
    seen: dict[str, int] = {}
    turn = {}
    for name in names:
        turn[name] = seen[group.get(name, "")] = seen.get(group.get(name, ""), -1) + 1
    return sorted(names, key=turn.__getitem__)[:ROWS]


def _of_samples(run: Run) -> Table | str:
    found: dict[str, list[tuple[int, bool, Any]]] = {}
    prompts: dict[str, Any] = {}
    for file in sorted(run.path.glob("samples/*.jsonl")):
        for step, prompt, right, completion in _samples(file):
            key = json.dumps(prompt)
            prompts[key] = prompt
            found.setdefault(key, []).append((step, right, completion))
    often = {key: rows for key, rows in found.items() if len(rows) > 1}
    if not often:
        return "sample answers: no prompt was sampled twice (samples/*.jsonl)"
    kinds = {
        "harder": [k for k, rows in often.items() if rows[0][1] and not rows[-1][1]],
        "easier": [k for k, rows in often.items() if not rows[0][1] and rows[-1][1]],
        "never": [k for k, rows in often.items() if not any(right for _, right, _ in rows)],
    }
    kinds["never"].sort(key=lambda k: -len(often[k]))

    def row(key: str) -> Row:
        (first, was, _), (last, now, completion) = often[key][0], often[key][-1]
        return Row(
            prompt=model_text(prompts[key]),
            group=f"{sum(right for _, right, _ in often[key])} of {len(often[key])} right",
            before=f"{'right' if was else 'wrong'} at {first}",
            after=f"{'right' if now else 'wrong'} at {last}",
            answer=model_text(completion),
        )

    return Table(
        key="training",
        title=f"Of {len(often):,} training prompts that were sampled more than once",
        kinds=[(KINDS[k], len(kinds[k]), [row(key) for key in kinds[k][:ROWS]]) for k in KINDS],
        answers=True,
        caption=CAPTIONS["training"],
    )


def _counts(file: Path) -> _Counts:
    try:
        value = json.loads(file.read_bytes())
        names = [str(name) for name in value["id_N"]]
        groups = value.get("groups") or {}
        shown = {g: groups[g] for g in ("family", "level", "subject") if g in groups}
        pairs = [dict(zip(names, value.get(key) or [], strict=False)) for key in _TEXTS]
        return _Counts(
            k=int(value["k"]),
            correct={n: int(c) for n, c in zip(names, value["correct_N"], strict=True)},
            group={
                n: clean(
                    " · ".join(
                        str(g[i]) if isinstance(g[i], str) else f"{name} {g[i]}"
                        for name, g in shown.items()
                    )
                )
                for i, n in enumerate(names)
                if shown
            },
            prompt=pairs[0],
            answer=pairs[1],
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DataError(f"{file}: is no evaluation by prompt ({error!r})") from None


_TEXTS = ("prompt_N", "answer_N")
"""Optional keys of an evaluation by prompt: its text, and one completion of the k."""


def _samples(file: Path) -> Iterable[tuple[int, Any, bool, Any]]:
    """(step, prompt, right, completion); right: a reward above 0. A torn last line is left out."""
    lines = [line for line in file.read_bytes().split(b"\n") if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            rewards = value["rewards"].values()
            right = sum(r for r in rewards if r is not None) > 0
            yield int(value["step"]), value["prompt"], right, value["completion"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if number == len(lines) > 1 and isinstance(error, ValueError):
                return
            raise DataError(f"{file}, line {number}: is no sample ({error!r})") from None
