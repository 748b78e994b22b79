"""What a GDROTrainer is given, checked and brought into shape before anything runs."""

import inspect
import warnings
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import get_callable_name

from gdro.core.errors import ConfigError, DataError, UnsupportedError
from gdro.data.identity import identify
from gdro.trainers.trl.config import GDROConfig

HOOKS = (
    "_generate_and_score_completions", "_generate", "_calculate_rewards",
    "_get_per_token_logps_and_entropies", "_compute_loss", "training_step", "_get_train_sampler",
    "_save_optimizer_and_scheduler", "_load_optimizer_and_scheduler",
    "_set_signature_columns_if_needed",
)  # fmt: skip
"""Methods of TRL that are overridden; their absence is found at start, not in mid-run."""

CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")
"""Loss types whose prompt loss is the clipped surrogate of Eq. 6."""

ROW = "gdro_row"
"""Column that carries the index of a row of the training set."""


def by_name(more: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """GRPOTrainer's arguments after `train_dataset`, however they were given.

    Raises:
        TypeError: for one too many, an unknown one, or one given twice.
    """
    ours = (None,) * 5  # self, model, reward_funcs, args, train_dataset
    bound = inspect.signature(GRPOTrainer.__init__).bind_partial(*ours, *more, **kwargs)
    return dict(list(bound.arguments.items())[len(ours) :])


def check_supported(args: Any, dataset: Any, given: dict[str, Any]) -> None:
    """What does not go together with a controller.

    Args:
        args: Of the trainer.
        dataset: To train on.
        given: The trainer's other arguments, by name.

    Raises:
        ConfigError: if `args` is no GDROConfig.
        UnsupportedError: naming the argument, and why.
    """
    missing = [name for name in HOOKS if not hasattr(GRPOTrainer, name)]
    if missing:
        raise UnsupportedError(f"trl {trl.__version__} lacks {', '.join(missing)} of GRPOTrainer")
    if not isinstance(args, GDROConfig):
        raise ConfigError(f"args must be a GDROConfig, got {type(args).__name__}")
    if not isinstance(dataset, Dataset):
        raise UnsupportedError(
            "train_dataset must be a map-style datasets.Dataset, got "
            f"{type(dataset).__name__}: rows are fetched by index when a step is planned"
        )
    if args.multi_objective_aggregation != "sum_then_normalize":
        raise UnsupportedError(
            "multi_objective_aggregation must be sum_then_normalize, got "
            f"{args.multi_objective_aggregation}: the other normalises over the batch, and a "
            "prompt's weight would mean nothing"
        )
    if args.enable_jit_checkpoint:
        raise UnsupportedError(
            "enable_jit_checkpoint=True is not supported: it saves after the controller has learnt "
            "of a step and before the optimizer has made it, and a resumed run would go on between "
            "the two; use save_strategy=steps"
        )
    for name in ("rollout_func", "environment_factory"):
        if given.get(name) is not None:
            raise UnsupportedError(f"{name} is not supported: it may assume groups of equal size")
    config = args.controller_config
    if config.replay.successes:
        lacking = {
            "tools": given.get("tools"),
            "off_policy_mask_threshold": getattr(args, "off_policy_mask_threshold", None),
        }
        if named := [name for name, value in lacking.items() if value]:
            raise UnsupportedError(
                f"replay.successes is not supported with {named[0]}: a remembered rollout has "
                "neither tool calls nor the log-probabilities of its sampling; "
                "gdro_preset=rollout has no memory"
            )
    if args.loss_type not in CLIPPED_LOSSES and config.loss_needed_by:
        raise UnsupportedError(
            f"loss_type={args.loss_type} has no clipped surrogate, which "
            f"{config.loss_needed_by} needs; use one of {', '.join(CLIPPED_LOSSES)}"
        )


def with_correct(reward_funcs: Any, correct: Any) -> tuple[list[Any], int, bool]:
    """The reward functions, which of them says correct, and whether it was added (at weight 0)."""
    funcs = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    if not funcs or any(func is None for func in funcs):
        raise ConfigError("reward_funcs must name at least one reward function, got none")
    if correct is None:
        if len(funcs) != 1:
            raise ConfigError(
                f"correct_func must be given with {len(funcs)} reward functions: the name of the "
                "one that returns 0 and 1, or a function"
            )
        return funcs, 0, False
    if isinstance(correct, str):
        names = [f if isinstance(f, str) else get_callable_name(f) for f in funcs]
        if names.count(correct) != 1:
            raise ConfigError(f"correct_func must be one of {', '.join(names)}, got {correct!r}")
        return funcs, names.index(correct), False
    if correct in funcs:
        return funcs, funcs.index(correct), False
    return [*funcs, correct], len(funcs), True


def with_processing_class(given: dict[str, Any]) -> dict[str, Any]:
    """Makes room in `reward_processing_classes` for the function that was added."""
    classes = given.get("reward_processing_classes")
    if classes is None:
        return given
    classes = classes if isinstance(classes, list) else [classes]
    return given | {"reward_processing_classes": [*classes, None]}


def check_enough(dataset: Dataset, args: GDROConfig) -> None:
    """A data set smaller than a step would train nothing, without a word."""
    needed = (args.generation_batch_size or 0) // int(args.num_generations or 1)
    if len(dataset) < needed:
        raise DataError(
            f"a step takes {needed} prompts (generation_batch_size / num_generations), the "
            f"training set has {len(dataset)}"
        )


def check_neutral(args: GDROConfig, reward_weights: Any, correct: int) -> None:
    """h(n, p) of the neutral aggregation is that of 0/1 rewards (method D16)."""
    others = any(w != 0 for i, w in enumerate(reward_weights.tolist()) if i != correct)
    neutral = args.controller_config.rollout.aggregation == "neutral"
    if neutral and args.scale_rewards == "group" and others:
        raise UnsupportedError(
            "rollout.aggregation=neutral with scale_rewards=group holds for 0/1 rewards only; with "
            "shaped ones use scale_rewards=none, or aggregation=prompt"
        )


def identified(dataset: Dataset, id_column: str | None) -> tuple[Dataset, np.ndarray]:
    """The data set with its rows numbered, and the id of each row.

    Raises:
        DataError: if it is empty, lacks a column, holds an id twice, or hides the rows' numbers.
    """
    for name in ("prompt", id_column):
        if name is not None and name not in dataset.column_names:
            have = ", ".join(dataset.column_names)
            raise DataError(f"the training set has no column {name!r}; it has {have}")
    prompts = list(dataset["prompt"])
    if id_column is None:
        ids, keep = identify(prompts, row=dataset.__getitem__)
    else:
        ids, keep = identify(prompts, list(dataset[id_column]), column=id_column)
    if len(keep) < len(dataset):
        warnings.warn(
            f"{len(dataset) - len(keep)} rows repeat another row and are left out "
            f"({len(keep)} of {len(dataset)} are kept)",
            stacklevel=3,
        )
        dataset = dataset.select(keep)
    if ROW in dataset.column_names:
        dataset = dataset.remove_columns(ROW)
    numbered: Dataset = dataset.add_column(ROW, list(range(len(dataset))))  # type: ignore[call-arg]
    if ROW not in numbered[0]:
        raise DataError(
            f"the training set has a transform that leaves out {ROW!r}, the column by which rows "
            "are known again; use map, or return the columns that it does not know too"
        )
    return numbered, ids


def columns(dataset: Dataset, config: Any) -> dict[str, list[Any]]:
    """The columns that the difficulty classifier was told to use."""
    difficulty = config.difficulty
    wanted = {"prior": difficulty.prior_column, "level": difficulty.level_column}
    if config.difficulty.source.startswith("column:"):
        wanted["group"] = config.difficulty.source.removeprefix("column:")
    for name in filter(None, wanted.values()):
        if name not in dataset.column_names:
            have = ", ".join(dataset.column_names)
            raise DataError(f"the training set has no column {name!r}; it has {have}")
    return {key: list(dataset[name]) for key, name in wanted.items() if name is not None}


def checked_correct(correct_R: torch.Tensor, name: str) -> torch.Tensor:
    """The column of the rewards that says correct, if it is 0 and 1 throughout."""
    bad = ~((correct_R == 0) | (correct_R == 1))
    if bad.any():
        row = int(bad.nonzero()[0])
        if torch.isnan(correct_R[row]):
            raise DataError(
                f"reward function {name!r} returned nan for rollout {row}: what says correct "
                "must say 0 or 1 of every rollout"
            )
        raise DataError(
            f"reward function {name!r} returned {correct_R[row].item()} for rollout {row}, but "
            "correct must be 0 or 1: pass correct_func (a reward function, or its name)"
        )
    return correct_R
