"""The command `gdro data`. Each of its words imports what it needs."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdro.core.errors import ConfigError

if TYPE_CHECKING:
    from gdro.data.prompts import Options

CHECK = """\
Lists the problems of benchmarks that are in the training data TRAIN: equal up to whitespace and
dollars, or with the same first 100 letters and digits and the same answer.

The exit code is 0 where there is none, 1 where there is one, 2 for an error.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs it, and returns the exit code."""
    known = _parser().parse_args(arguments)
    return {"show": _show, "check": _check, "export": _export, "base": _base,
            "suites": _suites}[known.what](known)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gdro data", description="Prompts, and base models.")
    words = parser.add_subparsers(dest="what", metavar="what", required=True)
    reading = argparse.ArgumentParser(add_help=False)
    add = reading.add_argument
    add("--split", help="split of a suite, folder or hub data set (default: the usual one)")
    add("--config", help="configuration of a hub data set (default: the usual one)")
    add("--layout", help="hub id of a known data set whose columns the data have")
    add("--column", action="append", default=[], metavar="OURS=THEIRS", help="prompt=question")
    add("--drop-cjk", action="store_true", help="drop Chinese, Japanese and Korean prompts")

    show = words.add_parser(
        "show", parents=[reading], help="what a data set holds, and what is dropped of it"
    )
    show.add_argument("spec", help="a file, folder, hub id, or suite")
    show.add_argument("--rows", type=int, default=3, help="rows to print")
    show.add_argument("--template", default="raw", help="how problems are put to the model")

    check = words.add_parser(
        "check",
        parents=[reading],
        help="problems of benchmarks that are in the training data",
        description=CHECK,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = check.add_argument
    add("train", metavar="TRAIN", help="a file, folder, hub id, or suite")
    add("--against", nargs="+", required=True, metavar="BENCH", help="the same")
    add("--against-split", help="split of the benchmarks (default: the usual one)")
    add("--against-column", action="append", default=[], metavar="OURS=THEIRS",
        help="of the benchmarks")  # fmt: skip
    add("--out", type=Path, metavar="FILE.json", help="write the pairs there")
    add("--write-clean", type=Path, metavar="FILE.jsonl",
        help="write TRAIN there, in our columns, without the rows listed")  # fmt: skip

    export = words.add_parser(
        "export", parents=[reading], help="write a data set as the parquet file that verl reads"
    )
    add = export.add_argument
    add("spec", help="a file, folder, hub id, or suite")
    add("--template", default="boxed", help="how problems are put to the model [boxed]")
    add("--name", default="train", help="the rows' extra_info.split [train]")
    add("--out", type=Path, required=True, metavar="FILE.parquet")

    words.add_parser("suites", help="the built-in suites, their splits and families")
    base = words.add_parser(
        "base",
        help="make a base model of a suite; minutes on one core",
        argument_default=argparse.SUPPRESS,
    )
    add = base.add_argument
    add("--suite", help="arithmetic (default) or worded")
    add("--architecture", help="qwen3 (default), llama or mistral")
    add("--size", help="small (default; 0.35M parameters) or large (1.3M)")
    add("--seed", type=int, help="of the weights and the examples (default: 0)")
    add("--steps", type=int, help="fewer than the usual 2000 make a weaker one")
    add("--out", type=Path, required=True, metavar="FOLDER",
        help="for model_name_or_path; what is there already is not made again")  # fmt: skip
    return parser


def _base(known: argparse.Namespace) -> int:
    from gdro.data.suites.base import Base, make_base

    what = {name: value for name, value in vars(known).items() if name not in ("what", "out")}
    made = make_base(Base(**what), known.out)
    print(known.out if made else f"{known.out} is there already")
    return 0


def _suites(known: argparse.Namespace) -> int:
    from gdro.data.suites import tables

    print(tables.splits(), tables.families(), sep="\n\n")
    return 0


def _reading(known: argparse.Namespace) -> "Options":
    return {
        "split": known.split,
        "config": known.config,
        "layout": known.layout,
        "columns": _columns(known.column),
        "drop_cjk": known.drop_cjk,
    }


def _columns(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if not all(pair.partition("=")):
            raise ConfigError(f"a column must be OURS=THEIRS, got {pair!r}")
    return dict(pair.split("=", 1) for pair in pairs)


def _show(known: argparse.Namespace) -> int:
    from datasets import disable_progress_bars

    from gdro.data import inspect_prompts

    disable_progress_bars()
    options = _reading(known)
    options["template"] = known.template
    data, report = inspect_prompts(known.spec, **options)
    print(report)
    for row in data.select(range(min(known.rows, len(data)))).to_list():
        print("", *(f"{name}: {value}" for name, value in row.items()), sep="\n")
    return 0


def _export(known: argparse.Namespace) -> int:
    from datasets import disable_progress_bars

    from gdro.data import inspect_prompts
    from gdro.data.export import write_verl

    if known.out.suffix != ".parquet" or known.out.is_dir():
        raise ConfigError(f"--out must be a file that ends in .parquet, got {known.out}")
    disable_progress_bars()
    options = _reading(known)
    options["template"] = known.template
    data, report = inspect_prompts(known.spec, **options)
    print(report)
    write_verl(data, known.out, known.name)
    print(f"{known.out}: {len(data)} prompts")
    return 0


def _check(known: argparse.Namespace) -> int:
    from datasets import disable_progress_bars

    from gdro.data import contamination, inspect_prompts, table

    for flag, path in (("--out", known.out), ("--write-clean", known.write_clean)):
        if path and not path.parent.is_dir():
            raise ConfigError(f"{flag}: no such folder, {path.parent}")
        if path and path.is_dir():
            raise ConfigError(f"{flag}: is a folder, {path}")
    if known.write_clean and known.write_clean.suffix != ".jsonl":
        raise ConfigError(f"--write-clean must end in .jsonl, got {known.write_clean}")
    disable_progress_bars()
    data, report = inspect_prompts(known.train, **_reading(known))
    rows, reports = data.to_list(), [report]
    benchmarks: dict[str, list[dict[str, Any]]] = {}
    for name in known.against:
        data, report = inspect_prompts(
            name, split=known.against_split, columns=_columns(known.against_column)
        )
        benchmarks[name] = data.to_list()
        reports.append(report)
    found = contamination.overlaps(rows, benchmarks)
    lines = [table(reports), ""]
    lines += [contamination.counts(found, {name: len(b) for name, b in benchmarks.items()})]
    lines += [contamination.listed(pair) for pair in found]
    # Files first: whoever reads the list may stop reading.
    if known.out:
        known.out.write_text(json.dumps([asdict(pair) for pair in found], indent=1) + "\n")
    if known.write_clean:
        clean = contamination.without(rows, found)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in clean)
        known.write_clean.write_text(text, encoding="utf-8")
        lines += ["", f"{known.write_clean}: {len(clean):,} of {len(rows):,} rows"]
    print("\n".join(lines))
    return int(bool(found))
