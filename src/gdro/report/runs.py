"""A run's folder: `run.json`, `trace.jsonl`, `evals.jsonl`; any two of them may be missing."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gdro.core.errors import DataError
from gdro.core.passk import WORST_MIN_PROMPTS
from gdro.core.trace import Trace, read_trace

Group = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One line of `evals.jsonl`: a split at a step.

    `groups` holds `by_family`, `by_level`, ...; `worst_family` a name and its mean@k.
    """

    step: int
    split: str
    k: int
    mean: float | None
    passk: float | None
    rollouts: float | None
    tokens: float | None
    trained: float | None
    groups: dict[str, Group]
    worst_family: tuple[str, float] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What a folder holds. `notes` name what is missing or was left out, in words for the page."""

    path: Path
    name: str
    method: str
    about: dict[str, Any]
    trace: Trace | None
    evals: dict[str, list[Evaluation]]
    notes: list[str] = field(default_factory=list)

    @property
    def split(self) -> str | None:
        """The split that stands for the run: `test` if there is one, else the first."""
        return "test" if "test" in self.evals else next(iter(self.evals), None)

    def spent(self, name: str) -> float | None:
        """Training `rollouts`, `trained` ones or `tokens` by the trace, else by an evaluation."""
        if self.trace is not None and np.isfinite(values := self.trace.column(name)).any():
            return float(np.nansum(values))
        known = [getattr(e, name) for line in self.evals.values() for e in line]
        return max((v for v in known if v is not None), default=None)

    @property
    def seed(self) -> int | None:
        """As run.json says."""
        seed = self.about.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def seconds(self) -> float | None:
        """Wall time of the recorded steps."""
        seconds = self.trace.column("time.step") if self.trace is not None else np.array([])
        return float(np.nansum(seconds)) if np.isfinite(seconds).any() else None


def load_run(path: Path) -> Run:
    """Reads a run's folder.

    Raises:
        DataError: if the folder does not exist, holds neither a trace nor evaluations, or one of
            its files is not what its name says.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such run folder")
    files = {name: path / name for name in ("run.json", "trace.jsonl", "evals.jsonl")}
    there = {name for name, file in files.items() if file.exists()}
    if not there - {"run.json"}:
        raise DataError(f"{path}: holds neither trace.jsonl nor evals.jsonl; is it a run folder?")
    notes = [f"{name}: not in the folder" for name in files if name not in there]
    about = _about(files["run.json"]) if "run.json" in there else {}
    trace = read_trace(files["trace.jsonl"]) if "trace.jsonl" in there else None
    if trace is not None and trace.torn:
        notes.append("trace.jsonl: its last line is torn (the run was stopped) and was left out")
    if trace is not None and not trace.records:
        notes.append("trace.jsonl: holds no step yet")
    evals: dict[str, list[Evaluation]] = {}
    if "evals.jsonl" in there:
        evals, torn = _evals(files["evals.jsonl"])
        if torn:
            notes.append("evals.jsonl: its last line is torn and was left out")
        if not evals:
            notes.append("evals.jsonl: holds no evaluation yet")
    header = trace.header if trace is not None else {}
    return Run(
        path=path,
        name=str(about.get("name") or path.resolve().name),
        method=str(about.get("method") or header.get("method") or "unknown method"),
        about=about,
        trace=trace,
        evals=evals,
        notes=notes,
    )


def _about(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: is not JSON ({error})") from None
    if not isinstance(about, dict):
        raise DataError(f"{file}: must hold a mapping, got {type(about).__name__}")
    return about


def _evals(file: Path) -> tuple[dict[str, list[Evaluation]], bool]:
    """Evaluations by split and step; of two at one step (a resumed run), the later line stands."""
    lines = [line for line in file.read_bytes().split(b"\n") if line.strip()]
    found: dict[str, dict[int, Evaluation]] = {}
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines) > 1:
                return _sorted(found), True
            raise DataError(f"{file}, line {number}: is not JSON") from None
        evaluation = _evaluation(value, f"{file}, line {number}")
        found.setdefault(evaluation.split, {})[evaluation.step] = evaluation
    return _sorted(found), False


def _sorted(found: dict[str, dict[int, Evaluation]]) -> dict[str, list[Evaluation]]:
    return {split: [by_step[s] for s in sorted(by_step)] for split, by_step in found.items()}


def _evaluation(value: Any, where: str) -> Evaluation:
    step = _number(value, "step", where) if isinstance(value, dict) else None
    if step is None:
        raise DataError(f"{where}: is not an evaluation: a mapping with step, split, k, mean@k")
    k = int(_number(value, "k", where) or 8)
    groups: dict[str, Group] = {}
    for key, table in value.items():
        if key.startswith("by_") and table:
            if not isinstance(table, dict) or not all(isinstance(g, dict) for g in table.values()):
                raise DataError(f"{where}: {key} must map names to scores")
            groups[key] = {
                str(name): {m: v for m in group if (v := _number(group, m, where)) is not None}
                for name, group in table.items()
            }
    return Evaluation(
        step=int(step),
        split=str(value.get("split") or "test"),
        k=k,
        groups=groups,
        worst_family=_worst(value, groups.get("by_family", {}), k, where),
        mean=_number(value, f"mean@{k}", where),
        passk=_number(value, f"pass@{k}", where),
        rollouts=_number(value, "rollouts", where),
        tokens=_number(value, "tokens", where),
        trained=_number(value, "trained", where),
    )


def _worst(value: dict[str, Any], families: Group, k: int, where: str) -> tuple[str, float] | None:
    """As the line says, else the lowest mean@k of a family that is not known to be too small."""
    metric = f"mean@{k}"
    if (score := _number(value, f"worst_family_{metric}", where)) is not None:
        return str(value.get("worst_family")), score
    means = {
        name: group[metric]
        for name, group in families.items()
        if metric in group and group.get("prompts", WORST_MIN_PROMPTS) >= WORST_MIN_PROMPTS
    }
    return min(means.items(), key=lambda item: item[1]) if means else None


def _number(value: dict[str, Any], key: str, where: str) -> float | None:
    number = value.get(key)
    if number is None:
        return None
    if not isinstance(number, int | float) or not -1e300 < number < 1e300:
        raise DataError(f"{where}: {key} must be a number, got {number!r}")
    return float(number)
