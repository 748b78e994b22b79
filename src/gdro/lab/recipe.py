"""Recipes: flat settings from YAML and flags, checked and turned into configurations.

A setting has one name everywhere: `learning_rate` in YAML, `--learning_rate` (or
`--learning-rate`) on the command line. They are the fields of `RunArguments` below, of TRL's
ModelConfig and of `GDROConfig`, that is every TRL flag. In YAML the controller's may be nested:

    gdro: {preset: joint, rollout: {n_min: 2}}      # gdro_preset, gdro_rollout_n_min
"""

import argparse
import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml

from gdro.core.errors import ConfigError
from gdro.core.presets import DEFAULT
from gdro.rewards.extract import POLICIES

RECIPES = Path(__file__).parents[1] / "recipes"
DEFAULT_RECIPE = "arithmetic"


def _help(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class RunArguments:
    """What to train on and how to evaluate; everything else is TRL's or the controller's."""

    dataset_name: str = _help("arithmetic", "a built-in suite, a file or folder, or a hub id")
    dataset_config: str | None = _help(None, "configuration of a hub data set")
    dataset_train_split: str = _help("train", "split to train on; a file has none")
    dataset_test_name: str | None = _help(None, "data set to evaluate on (default: dataset_name)")
    dataset_test_split: str = _help("test", "split to evaluate on; a file has none")
    dataset_layout: str | None = _help(
        None, "hub id of a known data set whose columns the data have (docs/data.md)"
    )
    prompt_template: str = _help(
        "raw", "how a problem is put: raw, boxed, chat, think or answer_line"
    )
    prompt_column: str | None = _help(None, "column of the problems, where it is not prompt")
    answer_column: str | None = _help(None, "column of the gold answers, where it is not answer")
    id_column: str | None = _help(None, "column of the ids, where it is not id")
    keep_columns: list[str] = field(
        default_factory=list, metadata={"help": "further columns that your reward functions take"}
    )
    drop_cjk: bool = _help(False, "drop prompts with Chinese, Japanese or Korean letters")
    max_prompt_tokens: int | None = _help(None, "drop prompts of more tokens")
    train_prompts: int | None = _help(None, "use only the first so many training prompts")
    reward_funcs: list[str] = field(
        default_factory=lambda: ["math"],
        metadata={
            "help": "exact, numeric, math, or your own TRL reward functions: "
            "package.module:function or path/to/file.py:function"
        },
    )
    correct_func: str | None = _help(
        None, "which of reward_funcs says right (1) or wrong (0); needed where there are several"
    )
    verify_policy: str = _help("last_box", "math: where the answer stands: " + ", ".join(POLICIES))
    verify_tolerance: float = _help(0.0, "math: relative difference up to which numbers agree")
    allow_bad_golds: bool = _help(
        False, "drop rows whose gold answer does not verify against itself, instead of stopping"
    )
    max_rollouts: int | None = _help(
        None, "stop after the step that brings all rollouts to so many (max_steps stays a bound)"
    )
    eval_k: int = _help(8, "completions per prompt of an evaluation: k of mean@k and pass@k")
    eval_prompts: int | None = _help(None, "evaluate on the first so many prompts")
    eval_before: bool = _help(True, "evaluate the base model too")
    eval_after: bool = _help(True, "evaluate the trained model")
    eval_every: int = _help(0, "evaluate every so many steps; 0 is only before and after")
    eval_base: str | None = _help(None, "evaluation of the base model made by an earlier run")
    eval_temperature: float = _help(1.0, "sampling temperature of an evaluation")
    eval_top_p: float = _help(1.0, "nucleus sampling of an evaluation; 1 is off")
    eval_top_k: int = _help(0, "sampling among so many tokens in an evaluation; 0 is off")
    eval_max_tokens: int | None = _help(None, "completion length (default: max_completion_length)")
    eval_batch: int = _help(512, "completions that an evaluation generates at a time")
    eval_seed: int = _help(0, "seed of an evaluation's samples")
    samples_per_step: int = _help(4, "completions of each step kept in samples/")
    heatmap_every: int = _help(
        50, "report_to tensorboard: heat maps of the bins every so many steps; 0 is none"
    )

    def __post_init__(self) -> None:
        if self.verify_policy not in POLICIES:
            raise ConfigError(
                f"verify_policy must be one of {', '.join(POLICIES)}, got {self.verify_policy!r}"
            )
        if not 0 <= self.verify_tolerance < 1:
            raise ConfigError(f"verify_tolerance must be in [0, 1), got {self.verify_tolerance}")
        for name, low in (("train_prompts", 1), ("max_prompt_tokens", 1), ("max_rollouts", 1),
                          ("eval_k", 1), ("eval_prompts", 1), ("eval_every", 0), ("eval_top_k", 0),
                          ("eval_max_tokens", 1), ("eval_batch", 1),
                          ("samples_per_step", 0), ("heatmap_every", 0)):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{name} must be >= {low}, got {value}")
        if self.eval_temperature <= 0:
            raise ConfigError(f"eval_temperature must be > 0, got {self.eval_temperature}")
        if not self.reward_funcs:
            raise ConfigError("reward_funcs must name at least one reward function, got none")
        if not 0 < self.eval_top_p <= 1:
            raise ConfigError(f"eval_top_p must be in (0, 1], got {self.eval_top_p}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked configuration.

    Attributes:
        name: What the run folder and the report call it.
        run: Data and evaluation.
        model: TRL's ModelConfig.
        training: The GDROConfig.
        settings: The flat settings in force: what was given, every field of `run` and the
            controller's; the contents of recipe.yaml.
    """

    name: str
    run: RunArguments
    model: Any
    training: Any
    settings: dict[str, Any]

    @property
    def output_dir(self) -> Path:
        """The run folder."""
        return Path(self.training.output_dir)


def read_settings(recipe: str | Path) -> dict[str, Any]:
    """Flat settings of a recipe: a YAML file, the name of one shipped with gdro, or a run folder.

    Raises:
        ConfigError: if there is none, or it is not a YAML mapping.
    """
    path = Path(recipe)
    within, shipped = path / "recipe.yaml", RECIPES / f"{recipe}.yaml"
    if within.is_file():
        path = within
    elif not path.is_file() and shipped.is_file():  # a folder of its name hides it not
        path = shipped
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise ConfigError(f"{recipe}: no such recipe file; shipped with gdro are {names}")
    settings = flat_settings(read_mapping(path), str(path))
    if path == within:  # the run that is named, wherever it was begun
        settings["output_dir"] = str(recipe)
    return settings


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, in which no key stands twice.

    Raises:
        ConfigError: if it is none.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Unique)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of settings, got {type(values).__name__}")
    return {str(key): value for key, value in values.items()}


def flat_settings(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings by their flat names: `gdro: {rollout: {n_min: 2}}` -> `gdro_rollout_n_min: 2`.

    Args:
        values: The settings.
        where: What an error says of where they stand.

    Raises:
        ConfigError: if one is given twice, or `gdro` is no mapping.
    """
    flat = dict(values)
    nested = flat.pop("gdro", None) or {}
    if not isinstance(nested, dict):
        raise ConfigError(f"{where}: gdro must be a mapping, got {nested!r}")
    inner = _flatten("gdro", nested)
    if twice := sorted(flat.keys() & inner.keys()):
        raise ConfigError(f"{where}: {twice[0]} is given twice, flat and under gdro")
    return flat | inner


def read_flags(flags: Sequence[str]) -> dict[str, Any]:
    """Settings given by command-line flags; later ones win."""
    return _Parser().flags(flags)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name."""
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


class _Unique(yaml.SafeLoader):
    """A key that stands twice is an error, not the last one's."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key} stands twice")
        return super().construct_mapping(node, deep=deep)


def _flatten(prefix: str, values: Mapping[Any, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}_{key}".replace(".", "_")
        flat |= _flatten(name, value) if isinstance(value, Mapping) else {name: value}
    return flat


class _Parser:
    """HfArgumentParser's reading of flags, with errors of one line."""

    def __init__(self) -> None:
        from transformers import HfArgumentParser
        from trl import ModelConfig  # type: ignore[attr-defined]

        from gdro.trainers.trl.config import GDROConfig

        class Parser(HfArgumentParser):
            def error(self, message: str) -> Any:
                raise ConfigError(_plain_argparse(message))

        self.classes: list[Any] = [RunArguments, ModelConfig, GDROConfig]
        self.parser = Parser(self.classes, allow_abbrev=False, add_help=False)
        self.known = {a.dest for a in self.parser._actions}
        hints = [hint for kind in self.classes for hint in get_type_hints(kind).items()]
        self.nullable = {name for name, kind in hints if NoneType in get_args(kind)}
        self.negations = {
            option.lstrip("-").replace("-", "_"): a.dest
            for a in self.parser._actions
            for option in a.option_strings
            if isinstance(a, argparse._StoreFalseAction)
        }

    def check_known(self, name: str) -> None:
        if name not in self.known and name not in self.negations:
            raise ConfigError(f"{name} is unknown{did_you_mean(name, self.known)}")

    def flags(self, flags: Sequence[str]) -> dict[str, Any]:
        """Settings given by flags; later ones win."""
        for flag in flags:
            if flag.startswith("--"):
                self.check_known(flag[2:].partition("=")[0].replace("-", "_"))
        blank = argparse.Namespace(**dict.fromkeys(self.known, ...))
        space, rest = self.parser.parse_known_args(list(flags), namespace=blank)
        if rest:
            raise ConfigError(f"{rest[0]} is no flag: settings are given as --name value")
        return {name: value for name, value in vars(space).items() if value is not ...}

    def typed(self, name: str, value: Any) -> Any:
        """A YAML value read as the flag of that name would be: `1e-4` is a number there too."""
        if value is None and self.negations.get(name, name) not in self.nullable:
            raise ConfigError(f"{name} must have a value, got null")
        if value is None or value == []:
            return value
        if isinstance(value, Mapping):
            value = json.dumps(value)
        items = value if isinstance(value, list) else [value]
        words = [str(v) for v in items]
        one = len(words) == 1
        return self.flags([f"--{name}={words[0]}"] if one else [f"--{name}", *words])[name]

    def build(self, values: Mapping[str, Any]) -> list[Any]:
        built = []
        for kind in self.classes:
            names = {f.name for f in dataclasses.fields(kind) if f.init}
            try:
                built.append(kind(**{k: v for k, v in values.items() if k in names}))
            except ConfigError:
                raise
            except (ValueError, TypeError) as error:
                raise ConfigError(" ".join(str(error).split())) from error
        return built


def _plain_argparse(message: str) -> str:
    """`argument --a_b/--a-b: invalid int value: 'x'` -> `a_b: invalid int value: 'x'`."""
    argument, colon, rest = message.partition(": ")
    name = argument.removeprefix("argument --").partition("/")[0]
    return f"{name}: {rest}" if colon and argument.startswith("argument --") else message


def resolve(settings: Mapping[str, Any], flags: Sequence[str] = (), name: str = "run") -> Recipe:
    """Checks settings and builds the configurations.

    Args:
        settings: Flat settings, as `read_settings` gives them.
        flags: Command-line flags; they win.
        name: What to call the run; also names the default `output_dir`.

    Raises:
        ConfigError: if a setting is unknown (naming the nearest), of the wrong type or out of its
            bounds.
    """
    from gdro.core.config import ControllerConfig
    from gdro.trainers.trl.config import flag

    parser = _Parser()
    for key in settings:
        parser.check_known(key)
    given = {key: parser.typed(key, value) for key, value in settings.items()}
    given |= parser.flags(flags)
    given = {"gdro_id_column": "id"} | _hardware_defaults(parser.known, given) | given
    if not given.get("output_dir"):
        method, seed = given.get("gdro_preset", DEFAULT), given.get("seed", 42)
        given["output_dir"] = str(Path("runs") / f"{name}-{method}-seed{seed}")
    if not given.get("model_name_or_path"):
        raise ConfigError("model_name_or_path is missing: a model folder or hub id to start from")
    if given.get("resume_from_checkpoint"):
        raise ConfigError(
            "resume_from_checkpoint is not for gdro train: use gdro train RUN --resume"
        )
    run, model, training = parser.build(given)

    leaves = {flag(path) for path, _, _ in ControllerConfig.fields()}
    in_force = {k: v for k, v in given.items() if k not in leaves} | dataclasses.asdict(run)
    in_force |= {"gdro_preset": training.gdro_preset}
    in_force["gdro"] = training.controller_config.to_dict()
    return Recipe(name=name, run=run, model=model, training=training, settings=in_force)


def default_settings() -> dict[str, Any]:
    """What `Recipe.settings` always has, as it is where nothing else is given."""
    from gdro.core.config import ControllerConfig

    return dataclasses.asdict(RunArguments()) | {"gdro": ControllerConfig().to_dict()}


def _hardware_defaults(known: set[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """On a machine without a GPU, what TRL's defaults take for granted is off."""
    import torch

    if torch.cuda.is_available():
        return {}
    # transformers renamed it; TRL still switches the old name on.
    names = ("activation_checkpointing", "gradient_checkpointing")
    checkpointing = next(name for name in names if name in known)
    chosen = any(name in given for name in names)
    return {"bf16": False, "use_cpu": True} | ({} if chosen else {checkpointing: False})


def recipe_name(recipe: str | Path) -> str:
    """What a recipe is called: its file's name, or that of the run folder it lies in."""
    path = Path(recipe)
    return path.parent.name if path.name == "recipe.yaml" else path.stem


def recipe_first(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe stands first if it is given: any later bare word belongs to a flag."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    if arguments[:1] == ["--config"] and len(arguments) > 1:  # as TRL's scripts have it
        return arguments[1], list(arguments[2:])
    return DEFAULT_RECIPE, list(arguments)
