"""Fields that are checked when a configuration is built: by type, by choice, by bound."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from gdro.core.errors import ConfigError


def setting(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Mapping[str, str] | None = None,
) -> Any:
    bounds = {
        name: b for name, b in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt)) if b is not None
    }
    metadata = {"help": help, "bounds": bounds} | ({"choices": choices} if choices else {})
    return dataclasses.field(default=default, metadata=metadata)


_BOUNDS = {
    "ge": (">=", lambda v, b: v >= b), "gt": (">", lambda v, b: v > b),
    "le": ("<=", lambda v, b: v <= b), "lt": ("<", lambda v, b: v < b),
}  # fmt: skip


class Checked:
    """A frozen dataclass whose fields are checked by type, choice and bound."""

    _room = ""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = _check_type(f"{self._room}{f.name}", getattr(self, f.name), hints[f.name])
            object.__setattr__(self, f.name, value)
            choices = f.metadata.get("choices", (value,))
            if value not in choices and ":" not in str(value):
                raise _not_a_choice(f"{self._room}{f.name}", [*choices, "module:Class"], value)
            values = value if isinstance(value, tuple) else () if value is None else (value,)
            for kind, bound in f.metadata.get("bounds", {}).items():
                sign, holds = _BOUNDS[kind]
                for v in values:
                    if not holds(v, bound):
                        raise ConfigError(f"{self._room}{f.name} must be {sign} {bound}, got {v}")


def _not_a_choice(path: str, choices: Any, value: Any) -> ConfigError:
    return ConfigError(f"{path} must be one of {', '.join(map(str, choices))}, got {value!r}")


def _check_type(path: str, value: Any, hint: Any) -> Any:
    """Returns `value` as `hint`; an int is taken where a float is meant, nothing else changes."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        arms = typing.get_args(hint)
        if value is None and type(None) in arms:
            return None
        rest = [a for a in arms if a is not type(None)]
        assert len(rest) == 1, f"{path}: only T | None is supported"
        return _check_type(path, value, rest[0])
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise _not_a_choice(path, choices, value)
        return value
    if origin is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{path} must be a list of numbers, got {value!r}")
        return tuple(_check_type(path, v, typing.get_args(hint)[0]) for v in value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, hint):  # type: ignore[arg-type]
            raise ConfigError(f"{path} must be a {hint.__name__}, got {type(value).__name__}")  # type: ignore[union-attr]
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path} must be of type {hint.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} must be finite, got {value}")
    return value
