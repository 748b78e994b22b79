"""From run folders to raw tables: runs.parquet, prompts.parquet and study.json.

All that is said of a comparison is computed from these three files; docs/comparison.md has their
columns. The same runs give the same bytes.
"""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdro.core.errors import DataError
from gdro.core.files import write_bytes, write_json
from gdro.core.trace import read_trace
from gdro.evals import Evaluation
from gdro.lab.compare.study import Study
from gdro.lab.folder import RunFolder, read_jsonl

if TYPE_CHECKING:
    from gdro.lab.compare.plan import Run

VERSION = 2
SPENT = ("rollouts", "trained", "tokens", "trained_tokens")
CURRICULUM = ("lead_lag", "effective_support", "mixed_groups", "hard_prompts", "hard_budget",
              "hard_rollouts", "hard_weight")  # fmt: skip
KEYS = ("name", "suites", "methods", "seeds", "contrasts", "versions")
FILES = ("runs.parquet", "prompts.parquet", "study.json")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """The raw tables.

    Attributes:
        runs: Rows of runs.parquet.
        prompts: Of prompts.parquet, as an Arrow table.
        study: study.json.
    """

    runs: list[Row]
    prompts: Any
    study: dict[str, Any]


def schemas() -> tuple[Any, Any]:
    """Of runs.parquet and prompts.parquet."""
    import pyarrow as pa

    text, count, number = pa.string(), pa.int64(), pa.float64()
    key = {"suite": text, "method": text, "phase": text, "seed": count, "point": count}
    runs = key | {
        "values": text, "step": count, "last": pa.bool_(), "split": text, "k": count,
        "prompts": count, "mean": number, "pass": number, "worst_family": text,
        "worst_family_mean": number, **dict.fromkeys(SPENT, count), "seconds": number,
        **dict.fromkeys(CURRICULUM, pa.list_(number)),
    }  # fmt: skip
    prompts = {"suite": text, "method": text, "seed": count, "step": count, "id": text,
               "family": text, "level": text, "correct": count}  # fmt: skip
    return pa.schema(list(runs.items())), pa.schema(list(prompts.items()))


def gather(
    study: Study, runs: Iterable["Run"], bases: dict[str, Path]
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Rows of the two tables, and study.json.

    Args:
        study: What was compared.
        runs: Its runs, all finished.
        bases: File of the base model's evaluation, by suite.

    Raises:
        DataError: if a run holds no evaluation of its last step.
    """
    rows, prompts, versions = [], [], {}
    for suite, path in bases.items():
        key = {"suite": suite, "method": None, "phase": "base", "seed": None, "point": None}
        found = _evaluation(path)
        line = found.summary() | {"step": 0, "split": found.settings["split"]}
        rows.append(key | {"values": "{}", "last": True} | _scores(line))
        prompts += _prompts({"suite": suite, "method": None, "seed": None, "step": 0}, found)
    for run in runs:
        found = run_rows(run)
        rows += found
        for name, version in run.job.folder.about["versions"].items():
            versions.setdefault(name, set()).add(version)
        for row in found if run.phase == "test" else ():
            path = run.job.folder.path / "evals" / f"{row['step']:06d}-{row['split']}.json"
            key = {name: row[name] for name in ("suite", "method", "seed", "step")}
            prompts += _prompts(key, _evaluation(path))
    about = {"version": VERSION} | study.to_dict()
    about["versions"] = {name: " and ".join(sorted(found)) for name, found in versions.items()}
    return rows, prompts, about


def run_rows(run: "Run") -> list[Row]:
    """The evaluations of a finished run; that of step 0 is the base model's, and no part of it."""
    folder = run.job.folder
    key = {"suite": run.suite, "method": run.method, "phase": run.phase, "seed": run.seed,
           "point": run.point, "values": json.dumps(run.values)}  # fmt: skip
    last = last_step(folder)
    rows = []
    for line in read_jsonl(folder.evals):
        if line["step"] > 0:
            row = key | {"last": line["step"] == last} | _scores(line)
            rows.append(row | (_ending(folder) if row["last"] else {}))
    return rows


def last_step(folder: RunFolder) -> int:
    """The step of a finished run's final evaluation.

    Raises:
        DataError: if that step was not evaluated.
    """
    step = folder.about.get("steps")
    if not any(line["step"] == step for line in read_jsonl(folder.evals)):
        raise DataError(f"{folder.evals}: holds no evaluation of the last step, {step}")
    return int(folder.about["steps"])


def metric_names(k: int) -> dict[str, str]:
    """What an evaluation calls the columns of scores."""
    return {name: f"{name}@{k}" for name in ("mean", "pass", "worst_family_mean")}


def _scores(line: dict[str, Any]) -> Row:
    named = metric_names(line["k"])
    plain = ("step", "split", "k", "prompts", "worst_family", *SPENT)
    return {name: line.get(name) for name in plain} | {n: line.get(m) for n, m in named.items()}


def _ending(folder: RunFolder) -> Row:
    """What is known of a run as a whole: seconds, and the curriculum at four stages."""
    from gdro.report import curriculum_numbers

    row: Row = {"seconds": folder.about["train_seconds"]}
    if folder.trace.exists():
        numbers = curriculum_numbers(read_trace(folder.trace))
        row |= {name: numbers[name] for name in CURRICULUM}
    return row


def _evaluation(path: Path) -> Evaluation:
    try:
        return Evaluation.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not an evaluation ({error})") from None


def _prompts(key: Row, found: Evaluation) -> list[Row]:
    none = [None] * len(found.id_N)
    columns = (found.id_N, *(found.groups.get(g, none) for g in ("family", "level")))
    return [
        key | {"id": str(i), "correct": int(correct),
               "family": None if family is None else str(family),
               "level": None if level is None else str(level)}
        for i, family, level, correct in zip(*columns, found.correct_N, strict=True)
    ]  # fmt: skip


def write_raw(folder: Path, runs: list[Row], prompts: list[Row], study: dict[str, Any]) -> None:
    """Writes the three files, each whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, rows, schema in zip(FILES, (runs, prompts), schemas(), strict=False):
        table = pa.Table.from_pylist(rows, schema=schema)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        write_bytes(folder / name, buffer.getvalue())
    write_json(folder / FILES[2], study)


def read_raw(folder: Path) -> Raw:
    """Reads the three files.

    Raises:
        DataError: if one is missing, or is not what its name says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise DataError(f"{folder}: no {missing[0]}; is it the results folder of a comparison?")
    try:
        study = json.loads((folder / FILES[2]).read_bytes())
        tables = [pq.ParquetFile(folder / name).read() for name in FILES[:2]]
    except (ValueError, pa.ArrowException) as error:
        raise DataError(f"{folder}: {error}") from None
    version = study.get("version") if isinstance(study, dict) else None
    if version != VERSION:
        raise DataError(f"{folder}: has version {version}, this gdro reads {VERSION}")
    if missing := [key for key in KEYS if key not in study]:
        raise DataError(f"{folder / FILES[2]}: lacks {missing[0]}")
    for name, table, schema in zip(FILES, tables, schemas(), strict=False):
        if not table.schema.equals(schema):
            raise DataError(f"{folder / name}: has other columns than this gdro's")
    return Raw(runs=tables[0].to_pylist(), prompts=tables[1], study=study)
