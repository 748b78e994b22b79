"""The trace of a run: one JSON line per step, appended as the run goes, readable after any crash.

The first line is the header:

    {"schema": "gdro-trace", "version": 1, "boundaries": [0, .1, ..., 1],
     "bin_names": ["0-.1", ...], "config": {...}, "n_mean": 4, "std_scaled": true,
     "rounds": 1, "method": "joint"}

`boundaries` are the B + 1 pass@k boundaries of the bins, or null where bins are static groups;
`bin_names` are the B names; `config` is `ControllerConfig.to_dict()`; `std_scaled` says whether the
engine divides advantages by the deviation of their group; `rounds` is how often a step generates at
most.

Every other line is one step. Only `step` is required; what is not known is null or left out.
NaN and infinity are written as null, floats with five significant digits.

| key | meaning |
| --- | --- |
| `step` | index of the plan, from 0; no step twice |
| `prompts_B`, `rollouts_B` | prompts of the batch in each bin, and all their rollouts |
| `weight_B` | mean weight of the bin's prompts (null: no prompt of the bin in the batch) |
| `q_B`, `score_B` | the adversary's mixture (Eq. 15) and smoothed loss (Eq. 12) |
| `correct_B`, `variance_B` | mean correct over the bin's rollouts; running variance estimate v_b |
| `unparsed_B`, `timeout_B` | rollouts whose verdict was so; `correct_B` has the right ones |
| `population_B` | all known prompts of the data set by bin |
| `unseen_prompts`, `unseen_rollouts`, `unseen_correct` | the same of the batch's unseen prompts |
| `budget`, `rollouts`, `tokens` | rollouts planned; rollouts and completion tokens realised |
| `unparsed`, `timeout` | as `unparsed_B` and `timeout_B`, over the step's rollouts |
| `trained` | rollouts that train: fewer than `rollouts` only where a step generates in rounds |
| `reward` | mean correct (0/1) over the step's rollouts |
| `price` | shadow price mu, where the allocator has one (Eq. 21) |
| `entropy`, `effective_support` | of q: nats, and the number of bins it amounts to |
| `lead_lag` | mean bin index of the weights minus that of the data (Eq. 32): < 0 is harder |
| `rollout_lead_lag` | the same of the rollouts |
| `wse`, `wse_uniform`, `varproxy`, `varproxy_uniform` | Eq. 33, 28: as planned, at n = n_mean |
| `mixed_fraction`, `mixed_weight` | groups with right and wrong rollouts: share, mean weight |
| `time` | seconds: `step`, of which `generation`, `reward`, `update`, `hook` (what gdro adds) |

`time` also has `plan` and `observe`, the controller's parts of `hook`. Evaluations stand beside the
trace, in `evals.jsonl`. Further numeric keys may be added; a key that ends in `_B` holds a list
with one entry per bin.
"""

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gdro.core.errors import DataError
from gdro.core.files import write_bytes
from gdro.core.types import FloatArray, IntArray

if TYPE_CHECKING:
    from gdro.core.controller import Controller

SCHEMA = "gdro-trace"
VERSION = 1
_DIGITS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """What `read_trace` found.

    Attributes:
        header: The first line.
        records: The steps, in order of `step`.
        torn: Broken last lines that were ignored: 0, or 1 after a crash.
    """

    header: dict[str, Any]
    records: list[dict[str, Any]]
    torn: int = 0

    @property
    def num_bins(self) -> int:
        """B."""
        return len(self.header["bin_names"])

    @property
    def boundaries(self) -> tuple[float, ...] | None:
        """The B + 1 boundaries of the bins in pass@k, or None where bins have no such order."""
        source = self.header.get("config", {}).get("difficulty", {}).get("source", "online")
        edges = self.header.get("boundaries")
        return tuple(map(float, edges)) if edges and source == "online" else None

    @property
    def steps(self) -> IntArray:
        """int64[T], the recorded steps, ascending."""
        return np.array([r["step"] for r in self.records], dtype=np.int64)

    def column(self, name: str) -> FloatArray:
        """float64[T], one number per step, NaN where it is not known; `time.plan` looks inside."""
        room, _, key = name.rpartition(".")
        values = ((r.get(room) or {} if room else r).get(key) for r in self.records)
        return np.array([math.nan if v is None else v for v in values], dtype=np.float64)

    def per_bin(self, name: str) -> FloatArray:
        """float64[T, B] of a `_B` key, NaN where it is not known."""
        blank = [None] * self.num_bins
        rows = [[math.nan if v is None else v for v in r.get(name) or blank] for r in self.records]
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.num_bins)


def header_of(controller: "Controller") -> dict[str, Any]:
    """The part of a trace's header that the controller knows."""
    difficulty, config = controller.difficulty, controller.config
    bounds, static = config.difficulty.boundaries, config.difficulty.source != "online"
    names = [f"{a:g}-{b:g}" for a, b in pairwise(bounds)]
    if static:
        names = difficulty.labels or [str(b) for b in range(difficulty.num_bins)]
    return {
        "boundaries": None if static else list(bounds),
        "bin_names": names,
        "config": config.to_dict(),
        "n_mean": controller.n_mean,
        "std_scaled": controller.std_scaled,
        "rounds": controller.rounds,
    }


class TraceWriter:
    """Appends steps to a trace; each is on disk, whole, when `append` returns.

    A file left by a crash is continued: a torn last line is removed. One process writes a trace.

    Example:
        >>> with TraceWriter(path, header) as trace:      # doctest: +SKIP
        ...     trace.truncate_after(resumed_step)
        ...     trace.append({"step": resumed_step, "prompts_B": [3, 1], "reward": .5})
    """

    def __init__(self, path: str | Path, header: Mapping[str, Any]) -> None:
        """Opens `path` for appending; a new file (and its folder) is made with `header`.

        Args:
            path: The file, `<run>/trace.jsonl`.
            header: `boundaries`, `bin_names`, `config`, `n_mean`, `std_scaled`, `rounds` (all of
                `header_of`), `method`.

        Raises:
            DataError: if the header is not valid, or `path` holds something else: a foreign file, a
                broken one, or the trace of another configuration.
        """
        self.path = Path(path)
        self._header = {"schema": SCHEMA, "version": VERSION} | _plain(header, None)
        _check_header(self._header, "header")
        self._steps: set[int] = set()
        first = _line(self._header)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if _starts_with_or_absent(self.path, first):
            write_bytes(self.path, first)
        else:
            trace, good = _scan(self.path)
            # A key that the file has not is one that headers did not have when it was begun.
            differing = [k for k, v in trace.header.items() if self._header.get(k) != v]
            if differing:
                raise DataError(
                    f"{self.path}: is the trace of another run: {', '.join(differing)} "
                    "differ; resume with the same configuration or name another folder"
                )
            os.truncate(self.path, good)
            self._steps = {r["step"] for r in trace.records}
        self._open()

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one step (NumPy values welcome) and forces it to disk.

        Raises:
            DataError: if the step is there already, or a value is not of the schema.
        """
        plain = _plain(record, _DIGITS)
        _check_record(plain, len(self._header["bin_names"]), "record")
        if plain["step"] in self._steps:
            raise DataError(
                f"{self.path}: step {plain['step']} is recorded already; a resumed run "
                "calls truncate_after(step) first"
            )
        start = self._file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(_line(plain))
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)
            raise
        self._steps.add(plain["step"])

    def truncate_after(self, step: int) -> int:
        """Drops the records of `step` and all later ones, atomically, and returns their number.

        A run that resumes at `step` will record that step again.
        """
        later = {s for s in self._steps if s >= step}
        if later:
            trace, _ = _scan(self.path)
            kept = [_line(r) for r in trace.records if r["step"] < step]
            self._file.close()
            try:
                write_bytes(self.path, b"".join([_line(self._header), *kept]))
            finally:
                self._open()
            self._steps -= later
        return len(later)

    def close(self) -> None:
        """Closes the file; nothing is pending."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - owned, see close
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                self._file.write(b"\n")


def keep_aside(path: Path) -> Path:
    """Renames an older run's trace, so that starting again loses nothing; returns its new name."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    warnings.warn(f"{path} is of an earlier run: it is kept as {aside.name}", stacklevel=2)
    return aside


def read_trace(path: str | Path) -> Trace:
    """Reads a trace; a torn last line is ignored and counted.

    Raises:
        DataError: if there is no file, it is empty, of another schema or version, or broken before
            its last line; the message names the line.
    """
    return _scan(Path(path))[0]


def _scan(path: Path) -> tuple[Trace, int]:
    """The trace, and the number of bytes up to the end of its last whole line."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DataError(f"{path}: no trace here ({error.strerror})") from None
    if not data.strip():
        raise DataError(f"{path}: is empty; the run stopped before its first line")
    values, good, torn = _values(data, path)
    if not values:
        raise DataError(f"{path}: is not a gdro trace (its only line is not whole JSON)")
    (_, header), *rest = values
    _check_header(header, str(path))
    lines: dict[int, int] = {}
    for number, record in rest:
        _check_record(record, len(header["bin_names"]), f"{path}, line {number}")
        if (earlier := lines.setdefault(record["step"], number)) != number:
            raise DataError(
                f"{path}, line {number}: step {record['step']} is on line {earlier} "
                "too; a resumed run drops the steps that it repeats"
            )
    records = sorted((record for _, record in rest), key=lambda r: r["step"])
    return Trace(header=header, records=records, torn=torn), good


def _values(data: bytes, path: Path) -> tuple[list[tuple[int, Any]], int, int]:
    """(line number, value) of each line, the bytes up to the last whole one, and the torn lines."""
    values: list[tuple[int, Any]] = []
    end = good = 0
    broken: int | None = None
    for number, line in enumerate(data.split(b"\n"), 1):
        end = min(end + len(line) + 1, len(data))
        if not line.strip():
            continue
        if broken is not None:
            raise DataError(f"{path}, line {broken}: is not JSON")
        try:
            values.append((number, json.loads(line, parse_constant=_no_constant)))
            good = end
        except (ValueError, RecursionError):
            broken = number
    return values, good, int(broken is not None)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _plain(value: Any, digits: int | None) -> Any:
    """A copy ready for JSON: no NumPy, no NaN, floats rounded to `digits` (None: as they are)."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        if digits is None:
            return value
        return int(value) if value.is_integer() else float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {str(k): _plain(v, digits) for k, v in value.items()}
    if isinstance(value, Iterable):
        return [_plain(v, digits) for v in value]
    raise DataError(f"a trace holds numbers, strings, lists, mappings; got {type(value).__name__}")


def _check_header(header: Any, where: str) -> None:
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise DataError(f"{where}: is not a gdro trace (no header with schema {SCHEMA!r})")
    if header.get("version") != VERSION:
        raise DataError(
            f"{where}: is a trace of version {header.get('version')}; this gdro reads "
            f"version {VERSION}"
        )
    names, edges = header.get("bin_names"), header.get("boundaries")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(f"{where}: bin_names must be a list of names, got {names!r}")
    if edges is not None and not (
        isinstance(edges, list)
        and len(edges) == len(names) + 1
        and all(map(_is_number, edges))
        and edges == sorted(edges)
    ):
        raise DataError(
            f"{where}: boundaries must be {len(names) + 1} ascending numbers for "
            f"{len(names)} bins, or null, got {edges!r}"
        )
    config = header.get("config", {})
    if not isinstance(config, dict) or not isinstance(config.get("difficulty", {}), dict):
        raise DataError(f"{where}: config must be a mapping of mappings")


def _check_record(record: Any, num_bins: int, where: str) -> None:
    step = record.get("step") if isinstance(record, dict) else None
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**53:
        raise DataError(f"{where}: step must be an integer >= 0, got {step!r}")
    for key, value in record.items():
        if value is None:
            continue
        if key.endswith("_B"):
            parts, right = value, isinstance(value, list) and len(value) == num_bins
            meant = f"{num_bins} numbers or nulls"
        elif key == "time":
            parts, right, meant = value, isinstance(value, dict), "seconds by phase"
        else:
            parts, right, meant = [value], True, "a number or null"
        if isinstance(parts, dict):
            parts = parts.values()
        if not (right and all(v is None or _is_number(v) for v in parts)):
            raise DataError(f"{where}: {key} must be {meant}, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _starts_with_or_absent(path: Path, line: bytes) -> bool:
    """Whether `path` holds only a beginning of `line`: a run died at its first write."""
    return not path.exists() or (
        path.is_file() and path.stat().st_size < len(line) and line.startswith(path.read_bytes())
    )
