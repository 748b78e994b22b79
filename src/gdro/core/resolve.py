"""From a preset and what a user changed of it to a checked configuration."""

from collections.abc import Mapping, Sized
from typing import Any

from gdro.core.config import ControllerConfig
from gdro.core.errors import ConfigError
from gdro.core.tree import leaves


def resolved(preset: str, given: Mapping[str, Any], n_mean: float) -> ControllerConfig:
    """The configuration that an engine's settings mean.

    Args:
        preset: Name of the method.
        given: Values by dotted path; None is the preset's value.
        n_mean: Mean rollouts of a prompt.

    Returns:
        The preset with what was given. `difficulty.bins` follows `difficulty.edges`, and
        `rollout.n_max` grows to three times the mean (the paper's ratio) where not given.

    Raises:
        ConfigError: if a value is out of its bounds, a path is unknown, or `n_mean` is not within
            `rollout.n_min .. rollout.n_max`.
    """
    values = leaves(ControllerConfig.preset(preset).to_dict())
    changed = {path: value for path, value in given.items() if value is not None}
    edges = changed.get("difficulty.edges")
    if isinstance(edges, Sized) and "difficulty.bins" not in changed:  # what it is is checked below
        changed["difficulty.bins"] = len(edges) + 1
    if "rollout.n_max" not in changed:
        changed["rollout.n_max"] = max(values["rollout.n_max"], round(3 * n_mean))
    config = ControllerConfig.from_dict(values | changed)
    rollout = config.rollout
    if not rollout.n_min <= n_mean <= rollout.n_max:
        raise ConfigError(
            "num_generations (the mean number of rollouts) must be within rollout.n_min .. "
            f"rollout.n_max = {rollout.n_min} .. {rollout.n_max}, got {n_mean}"
        )
    return config


def method_name(preset: str, config: ControllerConfig) -> str:
    """The preset, with ", changed" where other settings than `rollout.n_max` are not the preset's.

    Args:
        preset: That the configuration started from.
        config: As `resolved` gave it.
    """
    plain = ControllerConfig.preset(preset).to_dict()
    plain["rollout"]["n_max"] = config.rollout.n_max
    return preset if config.to_dict() == plain else f"{preset}, changed"
