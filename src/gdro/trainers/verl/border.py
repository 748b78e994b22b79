"""What a verl command asks for, checked before anything starts."""

import inspect
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gdro.core.config import ControllerConfig
from gdro.core.controller import Controller
from gdro.core.errors import ConfigError, UnsupportedError
from gdro.core.resolve import method_name, resolved

SUPPORTED = ((0, 9), (0, 10))
"""Versions of verl from the first on, to below the second."""

HOOKS = {
    "_next_train_batch": ("self", "num_prompts"),
    "_balance_batch": ("self", "batch", "metrics", "logging_prefix", "keep_minibatch"),
    "_compute_advantage": ("self", "batch", "metrics"),
    "_save_checkpoint": ("self",),
    "_load_checkpoint": ("self",),
}
"""verl's methods that are overridden, with the parameters that they are called with."""

ESTIMATORS = ("grpo",)
"""Advantages by group, of groups of any size, whose expectation is known (method D16)."""

OTHER_PROGRAMS = ("verl.experimental.", "verl/experimental/", "main_ppo_v0")
MAIN_PROGRAM = ("verl.trainer.main_ppo", "verl/trainer/main_ppo.py")
MODE = "trainer_mode="
OUR_MODE = f"{MODE}gdro_"

USAGE = "hydra.searchpath=[pkg://gdro.trainers.verl.config] +gdro=default"

_PLAIN = ("preset", "seed", "correct", "trace")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The hydra group `gdro`, checked.

    Attributes:
        controller: The controller's configuration.
        method: Its name: the preset, or that it was changed.
        seed: Of the controller's generator.
        correct: What says correct: `score`, or a name among what the reward function returns.
        trace: The trace's path.
    """

    controller: ControllerConfig
    method: str
    seed: int
    correct: str
    trace: str


def settings_of(config: Any) -> Settings:
    """The group `gdro` of a verl configuration.

    Raises:
        ConfigError: if it is missing, has an unknown key, or a value out of its bounds.
    """
    group = config.get("gdro", None)
    if not isinstance(group, Mapping):
        raise ConfigError(f"the configuration has no group gdro: add {USAGE}")
    given: dict[str, Any] = {}
    for room, values in group.items():
        if isinstance(values, Mapping):
            given |= {f"{room}.{name}": _plain(value) for name, value in values.items()}
        elif room not in _PLAIN:
            if room in ControllerConfig.__dataclass_fields__:
                raise ConfigError(f"gdro.{room} must be a mapping, got {values!r}")
            rooms = dict.fromkeys(path.split(".")[0] for path, _, _ in ControllerConfig.fields())
            known = ", ".join([*_PLAIN, *rooms])
            raise ConfigError(f"gdro.{room} is unknown; known are {known}")
    preset, seed, correct = (group.get(name, None) for name in _PLAIN[:3])
    for name, value, kind in (
        ("preset", preset, str),
        ("seed", seed, int),
        ("correct", correct, str),
    ):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"gdro.{name} must be of type {kind.__name__}, got {value!r}")
    assert isinstance(preset, str)
    if seed < 0:
        raise ConfigError(f"gdro.seed must be >= 0, got {seed}")
    controller = resolved(preset, _in_flight(config, given), config.actor_rollout_ref.rollout.n)
    folder = str(config.trainer.default_local_dir)
    return Settings(
        controller=controller,
        method=method_name(preset, controller),
        seed=int(seed),  # type: ignore[arg-type]
        correct=str(correct),
        trace=str(group.get("trace", None) or os.path.join(folder, "trace.jsonl")),
    )


def _plain(value: Any) -> Any:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value


def _in_flight(config: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What is late is verl's to say where generation runs ahead; we are told what will not come.

    A refill of a single prompt is a plan of its own, so that no count of plans says what is late.
    """
    if str(config.trainer.v1.trainer_mode).endswith("_sync"):
        return given
    if given.get("outcome.max_staleness") is not None:
        raise ConfigError(
            "gdro.outcome.max_staleness must be null where generation runs ahead, got "
            f"{given['outcome.max_staleness']}: trainer.v1.sampler.max_off_policy_threshold decides"
        )
    return given | {"outcome.max_staleness": 1_000_000}


def std_scaled(config: Any) -> bool:
    """Whether advantages are divided by the standard deviation of their group."""
    return bool(config.algorithm.get("norm_adv_by_std_in_grpo", True))


def check_engine(trainer: type) -> None:
    """That verl is of a version that was tried, and has the methods that are overridden.

    Raises:
        UnsupportedError: naming what is not as expected.
    """
    import verl

    version = tuple(map(int, re.findall(r"\d+", verl.__version__)[:2]))
    if not SUPPORTED[0] <= version < SUPPORTED[1]:
        low, high = (".".join(map(str, bound)) for bound in SUPPORTED)
        raise UnsupportedError(f"verl must be >={low},<{high}, got {verl.__version__}")
    for name, expected in HOOKS.items():
        theirs = (c for c in trainer.__mro__ if c.__module__.startswith("verl."))
        method = next((c.__dict__[name] for c in theirs if name in c.__dict__), None)
        found = tuple(inspect.signature(method).parameters) if method else ()
        if found != expected:
            raise UnsupportedError(
                f"verl {verl.__version__}: {trainer.__name__}.{name} takes {found or 'nothing'}, "
                f"expected {expected}: this gdro does not know that verl"
            )


def check(config: Any, settings: Settings) -> None:
    """What does not go together with a controller.

    Raises:
        UnsupportedError: naming the field, and why.
    """
    algorithm, refusals = config.algorithm, []
    if algorithm.adv_estimator not in ESTIMATORS:
        refusals.append((
            f"algorithm.adv_estimator={algorithm.adv_estimator}",
            f"weights are of groups; use one of {', '.join(ESTIMATORS)}",
        ))  # fmt: skip
    if (algorithm.get("filter_groups", None) or {}).get("enable", False):
        refusals.append((
            "algorithm.filter_groups.enable=True",
            "it throws groups away before their outcome is seen, so difficulty would be learnt "
            "from what is left",
        ))  # fmt: skip
    if config.skip.rollout_tq.enable:
        refusals.append(("skip.rollout_tq.enable=True", "recorded rollouts were planned otherwise"))
    controller = Controller(settings.controller, n_mean=config.actor_rollout_ref.rollout.n)
    if controller.rounds > 1:
        refusals.append((
            f"gdro.preset={settings.method}",
            "it generates in rounds, which verl's trainer does not; TRL's does",
        ))  # fmt: skip
    sampler = config.trainer.v1.sampler.get("custom_sampler", None) or {}
    if sampler.get("path", None):
        refusals.append((
            f"trainer.v1.sampler.custom_sampler.path={sampler['path']}",
            "what is lost is read off verl's own replay buffer",
        ))  # fmt: skip
    model = config.reward.reward_model
    if settings.correct != "score" and model.enable and not model.enable_resource_pool:
        refusals.append((
            f"gdro.correct={settings.correct}",
            "a colocated reward model says nothing but a score; use gdro.correct=score, or "
            "reward.reward_model.enable_resource_pool=True",
        ))  # fmt: skip
    mode, slices = str(config.trainer.v1.trainer_mode), config.trainer.v1.separate_async
    uniform = settings.controller.rollout.allocator == "uniform"
    if mode.endswith("separate_async") and slices.parameter_sync_step > 1 and not uniform:
        refusals.append((
            f"trainer.v1.separate_async.parameter_sync_step={slices.parameter_sync_step}",
            "a dispatch is exact as a whole, and its slices would be padded to another number of "
            "updates than plain verl's; use 1, or gdro.rollout.allocator=uniform",
        ))  # fmt: skip
    if settings.controller.replay.successes:
        correction = algorithm.get("rollout_correction", None) or {}
        distillation = config.get("distillation", None) or {}
        routing = "enable_rollout_routing_replay"
        rollout = config.actor_rollout_ref.rollout
        for name, on in (
            (f"actor_rollout_ref.rollout.{routing}", rollout.get(routing, False)),
            ("algorithm.rollout_correction.bypass_mode", correction.get("bypass_mode", False)),
            ("algorithm.use_kl_in_reward", algorithm.use_kl_in_reward),
            ("distillation.enabled", distillation.get("enabled", False)),
        ):
            if on:
                refusals.append((
                    f"{name}=True",
                    "a remembered rollout is not what the policy has just said; "
                    "gdro.replay.successes=false or gdro.preset=joint has no memory",
                ))  # fmt: skip
    if refusals:
        field, why = refusals[0]
        raise UnsupportedError(f"{field} is not supported with gdro: {why}")


def check_command(words: list[str]) -> None:
    """Stops a command that would train without a controller and never say so.

    verl's experimental trainers and its old one have main programs of their own, which know no
    trainer modes and expand every prompt to `rollout.n` rows. Of a program that is not verl's, it
    is said what it must do.

    Args:
        words: The command, the interpreter first (`sys.orig_argv`).

    Raises:
        SystemExit: if such a command asks for gdro (verl swallows any other exception of a plugin).
    """
    program = program_of(words)
    if not asks_for_us(words) or program.startswith("gdro"):
        return
    plain = [word.replace(" ", "").lower() for word in words]
    modes = [word for word in plain if MODE in word]
    grouped = any(re.match(r"\+*gdro=|--config", word) for word in plain)
    other = next((program for name in OTHER_PROGRAMS if name in program), None)
    if any(word.endswith("trainer.use_v1=false") for word in plain):
        other = "trainer.use_v1=False"
    if program.endswith(MAIN_PROGRAM):
        if modes and OUR_MODE not in modes[-1]:
            other = other or modes[-1]
        elif not modes and not grouped:
            other = other or "a command without +gdro=default or trainer.v1.trainer_mode"
    if other:
        raise SystemExit(
            f"gdro: {other} gives every prompt rollout.n rollouts: nothing of gdro would happen; "
            "use verl.trainer.main_ppo with trainer.v1.trainer_mode=gdro_sync, "
            "gdro_colocate_async or gdro_separate_async"
        )
    if not program.endswith(MAIN_PROGRAM):
        print(
            f"gdro: {program} is not verl.trainer.main_ppo; gdro is in the loop only where it "
            "builds verl's V1 trainer by its trainer mode",
            file=sys.stderr,
        )


def program_of(words: list[str]) -> str:
    """The module after -m, or the script; empty if there is none."""
    rest = iter(words[1:])
    for word in rest:
        if word == "-m":
            return next(rest, "")
        if word in ("-X", "-W"):
            next(rest, "")
        elif not word.startswith("-"):
            return word
    return ""


def asks_for_us(words: list[str]) -> bool:
    """Whether a command names our group, our mode or our search path."""
    asked = re.compile(rf"\+*gdro[=.@]|.*({OUR_MODE}|pkg://gdro\.trainers)")
    return any(asked.match(word) for word in words[1:])
