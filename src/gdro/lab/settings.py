"""A method from a preset and flat settings, without an engine's flags."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from gdro.core.config import ControllerConfig
from gdro.core.errors import ConfigError
from gdro.core.presets import PRESETS
from gdro.core.resolve import resolved

PATHS = {f"gdro_{path.replace('.', '_')}": path for path, _, _ in ControllerConfig.fields()}
"""The path of each flag: gdro_rollout_n_min -> rollout.n_min."""


def method(preset: str, changes: Mapping[str, Any], n_mean: float = 4) -> ControllerConfig:
    """A preset with changes, as `gdro train` builds it (`rollout.n_max` grows with the mean).

    Args:
        preset: A name of `PRESETS`.
        changes: Values by path (`rollout.n_min`) or flag (`gdro_rollout_n_min`); None is the
            preset's.
        n_mean: Mean rollouts of a prompt.

    Raises:
        ConfigError: if the preset or a setting is unknown, or a value is out of its bounds.
    """
    return resolved(preset, {path_of(name): value for name, value in changes.items()}, n_mean)


def preset_paths(preset: str) -> set[str]:
    """Paths of what a preset says; the rest is the default."""
    said = PRESETS[preset]
    rooms = {room: part for room, part in said.items() if isinstance(part, dict)}
    return (said.keys() - rooms.keys()) | {f"{r}.{n}" for r, part in rooms.items() for n in part}


def path_of(name: str) -> str:
    """The path of a controller's setting, given as path or flag.

    Raises:
        ConfigError: if there is none; the message names the nearest.
    """
    path = PATHS.get(name.replace("-", "_"), name)
    if path not in PATHS.values():
        near = difflib.get_close_matches(name, [*PATHS, *PATHS.values()], n=2, cutoff=0.6)
        raise ConfigError(
            f"{name} is unknown" + (f"; did you mean {' or '.join(near)}?" * bool(near))
        )
    return path


def value_of(text: str) -> Any:
    """A value as in YAML, and 1e-4 is a number."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def plain(value: Any) -> Any:
    """The value of a text, and any other as it is: YAML reads 1e-4 as a text."""
    return value_of(value) if isinstance(value, str) else value


def from_flags(flags: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """`--gdro_preset rollout --gdro_rollout_n_max=8` -> the preset (or None) and the changes.

    Raises:
        ConfigError: if a flag is unknown or has no value.
    """
    changes: dict[str, Any] = {}
    words, preset = list(flags), None
    while words:
        word = words.pop(0)
        name, given, value = word.partition("=")
        if not name.startswith("--gdro"):
            raise ConfigError(f"{word} is no flag of this command; settings are --gdro_name value")
        if not given:
            if not words:
                raise ConfigError(f"{name} needs a value")
            value = words.pop(0)
        name = name[2:].replace("-", "_")
        if name == "gdro_preset":
            if value not in PRESETS:
                raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {value!r}")
            preset = value
        else:
            changes[path_of(name)] = value_of(value)
    return preset, changes
