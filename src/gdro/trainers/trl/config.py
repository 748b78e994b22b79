"""`GDROConfig`: every field of TRL's GRPOConfig, and every leaf of ControllerConfig, flattened."""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from trl.trainer.grpo_config import GRPOConfig

from gdro.core.config import ControllerConfig
from gdro.core.presets import DEFAULT, PRESETS
from gdro.core.resolve import method_name, resolved


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
            rollout (Rollout-GDRO), joint (both), rollout_replay, joint_replay (with a memory of
            rare successes), paper (to the letter), or a peer's (docs/policies.md).
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
        assert self.num_generations is not None  # TRL's default is 8
        given = {path: getattr(self, flag(path)) for path, _, _ in ControllerConfig.fields()}
        config = resolved(self.gdro_preset, given, self.num_generations)
        for path, _, _ in ControllerConfig.fields():
            room, name = path.split(".")
            setattr(self, flag(path), config.to_dict()[room][name])

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
        return method_name(self.gdro_preset, self.controller_config)
