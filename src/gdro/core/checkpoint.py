"""State to one file and back: an .npz whose header is JSON. No pickle; written atomically.

The file is an ordinary .npz (`numpy.load` reads it). Its header holds the tree of the state with
each array replaced by a reference, the format's name and version, and the fingerprint of the
configuration. Its zip comment is a SHA-256 of all bytes before it, so any damage shows.
"""

import hashlib
import io
import json
import os
import secrets
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gdro.core.errors import CheckpointError

SCHEMA = "gdro-state"
VERSION = 1

_REFERENCE = "__array__"
_MARK = b"sha256:"
_SEAL = len(_MARK) + 64


def fingerprint(config: Any) -> str:
    """Fingerprint of a configuration given as JSON-able values (`ControllerConfig.to_dict()`)."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def save(path: str | os.PathLike[str], state: dict[str, Any], *, fingerprint: str) -> None:
    """Writes a state: the old file stays whole until the new one is on disk.

    Args:
        path: The file; its folder must exist.
        state: Nested dicts and lists of NumPy arrays and JSON values, with string keys. Integers
            may be of any size (a generator's `bit_generator.state` fits).
        fingerprint: Of the configuration that the state belongs to.

    Raises:
        CheckpointError: if the state holds anything else, naming where.
    """
    path = Path(path)
    blob = _pack(state, fingerprint)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:  # with the mode that the umask leaves
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the renaming itself
    finally:
        os.close(folder)


def load(path: str | os.PathLike[str], *, fingerprint: str) -> dict[str, Any]:
    """Reads what `save` wrote, bit for bit.

    Args:
        path: The file.
        fingerprint: Of the configuration at hand.

    Raises:
        CheckpointError: if the file is damaged, of another version, or of another configuration.
        FileNotFoundError: if there is none.
    """
    blob = Path(path).read_bytes()
    body, seal = blob[:-_SEAL], blob[-_SEAL:]
    if seal != _seal(body):
        sealed = seal.startswith(_MARK)
        what = "is damaged" if sealed else "is truncated, damaged or not a checkpoint"
        raise CheckpointError(f"{path} {what} (its checksum does not match); use an older one")
    with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].tobytes())
        if header["schema"] != SCHEMA or header["version"] != VERSION:
            raise CheckpointError(
                f"{path} is of version {header['schema']} {header['version']}, this is "
                f"{SCHEMA} {VERSION}; load it with the gdro that wrote it"
            )
        if header["fingerprint"] != fingerprint:
            raise CheckpointError(
                f"{path} is of another configuration ({header['fingerprint']}, here "
                f"{fingerprint}); use the one it was written with"
            )
        return _decode(header["state"], arrays)


def _pack(state: dict[str, Any], fingerprint: str) -> bytes:
    arrays: list[np.ndarray] = []
    header = {
        "schema": SCHEMA,
        "version": VERSION,
        "fingerprint": fingerprint,
        "state": _encode(state, arrays, "state"),
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, header=text, **{str(i): a for i, a in enumerate(arrays)})  # type: ignore[arg-type]
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(_SEAL)
    body = buffer.getvalue()[:-_SEAL]
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return _MARK + hashlib.sha256(body).hexdigest().encode()


def _encode(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    """`value` with its arrays moved to `arrays`."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcUS":
        arrays.append(value)
        return {_REFERENCE: len(arrays) - 1}
    if isinstance(value, dict) and _REFERENCE not in value:
        for key in value:
            if not isinstance(key, str):
                raise CheckpointError(f"{where} has the key {key!r}; keys must be strings")
        return {key: _encode(item, arrays, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_encode(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str):
        return value
    dtype = f" of dtype {value.dtype}" if isinstance(value, np.ndarray) else ""
    raise CheckpointError(
        f"{where} is a {type(value).__name__}{dtype}; a checkpoint holds arrays, dicts, "
        "lists, and plain numbers, strings and None"
    )


def _decode(value: Any, arrays: Any) -> Any:
    if isinstance(value, dict):
        if _REFERENCE in value:
            return arrays[str(value[_REFERENCE])]
        return {key: _decode(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    return value
