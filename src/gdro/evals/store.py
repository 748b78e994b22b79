"""The folder of an evaluation: what is in it, and that a crash leaves nothing half-written.

settings.json      what is sampled and how; who continues must ask for the same
problems.jsonl.gz  the problems as they are put, with their gold answers
samples.jsonl.gz   one line a completion, appended in the order in which they came
verdicts.jsonl.gz  one line a completion: its answer and the verdict
summary.json       the scores, and all that is needed to get them again

Each write to ``samples.jsonl.gz`` is a gzip member of its own, which ``zcat`` reads through. One
that a crash cut off is dropped and written anew.
"""

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from gdro.core.errors import ConfigError, DataError
from gdro.core.files import write_bytes, write_json
from gdro.core.tree import leaves
from gdro.evals.engines.base import Key, Sample

PIECE = 1 << 14
"""Bytes unpacked at a time: members are small."""

SESSIONS = "sessions"
"""Of settings.json: one entry for each time somebody sampled; no part of what must be equal."""


class Store:
    """Paths and files of one evaluation."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._settings = self.path / "settings.json"
        self._problems = self.path / "problems.jsonl.gz"
        self._samples = self.path / "samples.jsonl.gz"
        self._verdicts = self.path / "verdicts.jsonl.gz"
        self.summary = self.path / "summary.json"
        self._file: IO[bytes] | None = None
        self._session: dict[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What settings.json says.

        Raises:
            DataError: if there is none.
        """
        if not self._settings.is_file():
            raise DataError(f"{self.path} holds no evaluation: there is no {self._settings.name}")
        with _reading(self._settings):
            return json.loads(self._settings.read_text(encoding="utf-8"))

    def check(self, settings: Mapping[str, Any]) -> None:
        """That the folder is free, or holds an evaluation with these settings.

        Raises:
            ConfigError: naming the first setting that differs.
        """
        if self._is_free():
            return
        if not self._settings.exists():
            raise ConfigError(f"out: {self.path} holds something else than an evaluation")
        if differs := self._difference(settings):
            name, stored, given = differs
            raise ConfigError(
                f"{self.path} holds an evaluation with {name} = {stored}, got {given}: one is "
                "continued as it began; name another --out"
            )

    def _difference(self, settings: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
        """The first setting that differs from what is stored, with both values."""
        given = leaves(json.loads(json.dumps(settings)))
        stored = leaves({k: v for k, v in self.settings.items() if k != SESSIONS})
        for name in {**stored, **given}:
            if stored.get(name) != given.get(name):
                return name, stored.get(name), given.get(name)
        return None

    def _is_free(self) -> bool:
        """Whether nothing is lost here: there is nothing but what a start leaves that drew none."""
        if not self.path.exists():
            return True
        if not self.path.is_dir():
            return False
        ours = {self._problems.name, self._samples.name, self._settings.name}
        here = {file.name.removesuffix(".tmp") for file in self.path.iterdir()}
        begun = self._samples.exists() and self._samples.stat().st_size > 0
        return here <= ours and not begun

    def open(
        self, settings: Mapping[str, Any], problems: Iterable[Mapping[str, Any]]
    ) -> dict[Key, Sample]:
        """Begins or continues; the folder is this process's until `close`.

        Returns:
            The samples that are there.

        Raises:
            ConfigError: as `check`, or if another process writes the folder, or this one cannot.
            DataError: if the samples are damaged.
        """
        self.check(settings)
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._file = open(self._samples, "ab")  # noqa: SIM115 - until `close`
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.check(settings)  # another process may have begun one meanwhile
            if not self._settings.exists() or self._difference(settings):
                _write(self._problems, _packed(problems))
                _write_json(self._settings, {**settings, SESSIONS: []})
            found, whole = _samples(self._samples)
            self._file.truncate(whole)
            return found
        except BlockingIOError:
            self.close()
            raise ConfigError(f"{self.path} is being written by another process") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets others write the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, samples: Sequence[Sample]) -> None:
        """Keeps samples: all of them, or none if the machine fails now."""
        assert self._file is not None, "open first"
        if samples:
            with _writing(self._samples):
                self._file.write(_packed(map(asdict, samples)))
                self._file.flush()
                os.fsync(self._file.fileno())

    def note(self, **values: Any) -> None:
        """Notes who samples since the last start and what happens: versions, device, retries."""
        earlier = self.settings[SESSIONS]
        if self._session:
            earlier.pop()
        self._session |= values
        _write_json(self._settings, self.settings | {SESSIONS: [*earlier, self._session]})

    def problems(self) -> list[dict[str, Any]]:
        """The problems, with their golds."""
        return _read(self._problems)

    def samples(self) -> dict[Key, Sample]:
        """The samples that are there.

        Raises:
            DataError: if they are damaged, or one is there twice.
        """
        return _samples(self._samples)[0] if self._samples.exists() else {}

    def write_scores(
        self, summary: Mapping[str, Any], verdicts: Iterable[Mapping[str, Any]]
    ) -> None:
        """Writes what was made of the samples."""
        _write(self._verdicts, _packed(verdicts))
        _write_json(self.summary, summary)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What cannot be read is an error that names the file."""
    try:
        yield
    except DataError:
        raise
    except (OSError, EOFError, ValueError, TypeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """So is what cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _samples(path: Path) -> tuple[dict[Key, Sample], int]:
    """The samples of a file, and how many of its bytes are whole members."""
    found: dict[Key, Sample] = {}
    with _reading(path):
        rows, whole = _members(path)
        samples = [Sample(**row) for row in rows]
    for sample in samples:
        if sample.key in found:
            raise DataError(f"{path}: {sample.key} is there twice")
        found[sample.key] = sample
    return found, whole


def _packed(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)


def _members(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows of the whole members, and where the last of these ends."""
    data, whole, rows = path.read_bytes(), 0, []
    while whole < len(data):
        member, text, position = zlib.decompressobj(wbits=31), b"", whole
        try:
            while not member.eof and position < len(data):
                text += member.decompress(data[position : position + PIECE])
                position += PIECE
        except zlib.error as error:
            raise DataError(
                f"{path} is damaged at byte {whole} of {len(data)} ({error}); cut there "
                f"(truncate -s {whole}), the rest is sampled anew"
            ) from None
        if not member.eof:  # cut off
            break
        rows += map(json.loads, text.splitlines())
        whole = min(position, len(data)) - len(member.unused_data)
    return rows, whole


def _read(path: Path) -> list[dict[str, Any]]:
    with _reading(path):
        return list(map(json.loads, gzip.decompress(path.read_bytes()).splitlines()))


def _write(path: Path, data: bytes) -> None:
    with _writing(path):
        write_bytes(path, data)


def _write_json(path: Path, value: Any) -> None:
    with _writing(path):
        write_json(path, value)
