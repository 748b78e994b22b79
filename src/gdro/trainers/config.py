"""`GDROConfig`: every field of TRL's GRPOConfig, and every leaf of ControllerConfig, flattened."""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from trl.trainer.grpo_config import GRPOConfig

from gdro.core.config import ControllerConfig
from gdro.core.errors import ConfigError
from gdro.core.presets import DEFAULT, PRESETS


def flag(path: str) -> str:
    """Name on the command line and in GDROConfig of a path: rollout.n_min -> gdro_rollout_n_min."""
    return "gdro_" + path.replace(".", "_")


def _controller_fields() -> list[tuple[str, Any, Any]]:
    fields = []
    for path, f, hint in ControllerConfig.fields():
        optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
        kind = next(a for a in typing.get_args(hint) if a is not type(None)) if optional else hint
        if typing.get_origin(kind) is tuple:  # a command line gives a list
            kind = list[typing.get_args(kind)[0]]
        help = f"{f.metadata['help']} (default: {f.default})".replace("%", "%%")
        fields.append((flag(path), kind | None, field(default=None, metadata={"help": help})))
    help = f"method: {', '.join(PRESETS)}"
    preset = field(default=DEFAULT, metadata={"help": help})
    return [("gdro_preset", Literal[tuple(PRESETS)], preset), *fields]


_ControllerFields: Any = dataclasses.make_dataclass("_ControllerFields", _controller_fields())


@dataclass
class GDROConfig(_ControllerFields, GRPOConfig):
    """GRPOConfig plus the controller's configuration.

    A `gdro_*` field left at None takes the preset's value; after construction every field holds
    the value in force.

    Args:
        gdro_preset: The method that the other `gdro_*` fields change: grpo, prompt (Prompt-GDRO),
            rollout (Rollout-GDRO), joint (both), joint_replay (with a memory of rare successes),
            paper (to the letter), or a peer's (docs/policies.md).
        gdro_id_column: Column with the prompts' ids; None takes a hash of each prompt's content.

    Raises:
        ConfigError: if a field is out of its bounds, or `num_generations` is not within
            `rollout.n_min .. rollout.n_max` (whose default grows to three times the mean).
    """

    gdro_id_column: str | None = field(
        default=None, metadata={"help": "column of prompt ids (default: a hash of the content)"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        preset = ControllerConfig.preset(self.gdro_preset).to_dict()
        values: dict[str, dict[str, Any]] = {}
        for path, _, _ in ControllerConfig.fields():
            room, name = path.split(".")
            given = getattr(self, flag(path))
            values.setdefault(room, {})[name] = preset[room][name] if given is None else given
        if self.gdro_difficulty_edges is not None and self.gdro_difficulty_bins is None:
            values["difficulty"]["bins"] = len(self.gdro_difficulty_edges) + 1
        assert self.num_generations is not None  # TRL's default is 8
        if self.gdro_rollout_n_max is None:  # the paper's ratio, for any mean
            values["rollout"]["n_max"] = max(preset["rollout"]["n_max"], 3 * self.num_generations)
        config = ControllerConfig.from_dict(values)
        for path, _, _ in ControllerConfig.fields():
            room, name = path.split(".")
            setattr(self, flag(path), config.to_dict()[room][name])
        rollout = config.rollout
        if not rollout.n_min <= self.num_generations <= rollout.n_max:
            raise ConfigError(
                "num_generations (the mean number of rollouts) must be within rollout.n_min .. "
                f"rollout.n_max = {rollout.n_min} .. {rollout.n_max}, got {self.num_generations}"
            )

    @property
    def controller_config(self) -> ControllerConfig:
        """The controller's configuration, of the fields as they stand.

        Raises:
            ConfigError: if a field was set out of its bounds.
        """
        paths = [path for path, _, _ in ControllerConfig.fields()]
        return ControllerConfig.from_dict({path: getattr(self, flag(path)) for path in paths})

    @property
    def method(self) -> str:
        """The preset, with "changed" where other fields than n_max are not the preset's."""
        preset = ControllerConfig.preset(self.gdro_preset).to_dict()
        preset["rollout"]["n_max"] = self.gdro_rollout_n_max
        same = self.controller_config.to_dict() == preset
        return self.gdro_preset if same else f"{self.gdro_preset}, changed"
