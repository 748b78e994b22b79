"""What a GDROTrainer is given, checked and brought into shape before anything runs."""

import warnings
from typing import Any

import numpy as np
import trl
from datasets import Dataset
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import get_callable_name

from gdro.core.controller import Controller
from gdro.core.errors import ConfigError, DataError, UnsupportedError
from gdro.data.identity import identify
from gdro.trainers.config import GDROConfig

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


def check_supported(args: Any, dataset: Any, kwargs: dict[str, Any]) -> None:
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
    for name in ("rollout_func", "environment_factory"):
        if kwargs.get(name) is not None:
            raise UnsupportedError(f"{name} is not supported: it may assume groups of equal size")
    config = args.controller_config
    if args.loss_type not in CLIPPED_LOSSES and Controller.loss_needed_by(config):
        raise UnsupportedError(
            f"loss_type={args.loss_type} has no clipped surrogate, which "
            f"{Controller.loss_needed_by(config)} needs; use one of {', '.join(CLIPPED_LOSSES)}"
        )


def with_correct(reward_funcs: Any, correct: Any, args: GDROConfig) -> tuple[list[Any], int]:
    """The reward functions, and which of them says correct; a separate one is added at weight 0."""
    funcs = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    if correct is None:
        if len(funcs) != 1:
            raise ConfigError(
                f"correct_func must be given with {len(funcs)} reward functions: the name of the "
                "one that returns 0 and 1, or a function"
            )
        return funcs, 0
    if isinstance(correct, str):
        names = [f if isinstance(f, str) else get_callable_name(f) for f in funcs]
        if names.count(correct) != 1:
            raise ConfigError(f"correct_func must be one of {', '.join(names)}, got {correct!r}")
        return funcs, names.index(correct)
    if correct in funcs:
        return funcs, funcs.index(correct)
    args.reward_weights = [*(args.reward_weights or [1.0] * len(funcs)), 0.0]
    return [*funcs, correct], len(funcs)


def identified(dataset: Dataset, id_column: str | None) -> tuple[Dataset, np.ndarray]:
    """The data set with its rows numbered, and the id of each row."""
    for name in ("prompt", id_column):
        if name is not None and name not in dataset.column_names:
            have = ", ".join(dataset.column_names)
            raise DataError(f"the training set has no column {name!r}; it has {have}")
    given = None if id_column is None else list(dataset[id_column])
    ids, keep = identify(list(dataset["prompt"]), given, id_column or "id")
    if len(keep) < len(dataset):
        warnings.warn(
            f"{len(dataset) - len(keep)} rows repeat another row's prompt and are left out "
            f"({len(keep)} of {len(dataset)} are kept)",
            stacklevel=3,
        )
        dataset = dataset.select(keep)
    if ROW in dataset.column_names:
        dataset = dataset.remove_columns(ROW)
    return dataset.add_column(ROW, list(range(len(dataset)))), ids  # type: ignore[call-arg]


def columns(dataset: Dataset, config: Any) -> dict[str, list[Any]]:
    """The columns that the difficulty classifier was told to use."""
    wanted = {"prior": config.difficulty.prior_column}
    if config.difficulty.source.startswith("column:"):
        wanted["group"] = config.difficulty.source.removeprefix("column:")
    for name in filter(None, wanted.values()):
        if name not in dataset.column_names:
            have = ", ".join(dataset.column_names)
            raise DataError(f"the training set has no column {name!r}; it has {have}")
    return {key: list(dataset[name]) for key, name in wanted.items() if name is not None}
