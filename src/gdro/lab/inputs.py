"""What a recipe names, made real: the model's path, the prompts, the reward functions."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdro.core.errors import ConfigError, DataError
from gdro.lab.recipe import Recipe, RunArguments

if TYPE_CHECKING:
    from datasets import Dataset

GOLDS_CHECKED = 256
"""Rows of a data set whose golds are checked before training."""

ARITHMETIC = "arithmetic"
"""As a model: the base model of the arithmetic suite."""

Reward = Callable[..., Any]


def model_path(name: str) -> str:
    """Where a recipe's model is: `arithmetic` is the base model that gdro ships."""
    if name == ARITHMETIC:
        from gdro.data import arithmetic

        return str(arithmetic.base_path())
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ConfigError(f"model_name_or_path: no such folder, {name}")
    return name


def init_kwargs(recipe: Recipe) -> dict[str, Any]:
    """What the model is loaded with."""
    model = recipe.model
    return {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(recipe.training.model_init_kwargs or {}),
    }


def reward_function(name: str) -> Reward:
    """`exact`, `math`, or the dotted import path of a TRL reward function."""
    from gdro import rewards

    known = {"exact": rewards.exact_reward, "math": rewards.math_reward}
    if name in known:
        return known[name]
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ConfigError(f"reward_funcs must be {', '.join(known)} or import paths, got {name!r}")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"reward_funcs: cannot import {name!r} ({error})") from None
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise ConfigError(f"reward_funcs: {name!r} is a {type(found).__name__}, not a function")
    return found


def marker_of(recipe: Recipe, rewards: dict[str, Reward]) -> Reward:
    """The function that says right or wrong."""
    run = recipe.run
    if run.correct_func:
        return rewards.get(run.correct_func) or reward_function(run.correct_func)
    if len(rewards) > 1:
        raise ConfigError(
            f"correct_func must name which of reward_funcs = {', '.join(rewards)} "
            "says right or wrong"
        )
    return next(iter(rewards.values()))


def load_data(recipe: Recipe) -> "dict[str, Dataset]":
    """The prompts: `train` and `test`."""
    run = recipe.run
    test = run.dataset_test_name or run.dataset_name
    if run.dataset_test_name is None and Path(test).expanduser().is_file():
        raise ConfigError(
            f"dataset_test_name is missing: {test} is a file, which has no split to evaluate on"
        )
    difficulty = recipe.training.controller_config.difficulty
    source = difficulty.source.removeprefix("column:")
    needed = [source, difficulty.prior_column, difficulty.level_column]
    keep = [c for c in needed if c and c not in ("online", "random")]
    data = {
        "train": _load(run, run.dataset_name, run.dataset_train_split, run.train_prompts, keep),
        "test": _load(run, test, run.dataset_test_split, run.eval_prompts, []),
    }
    if "math" in run.reward_funcs:
        for name, rows in data.items():
            _check_golds(name, rows["answer"][:GOLDS_CHECKED])
    return data


def _check_golds(name: str, golds: list[str]) -> None:
    """A gold that does not verify against itself is one that no completion can meet."""
    from gdro.rewards import check_golds

    bad = check_golds(golds)
    if not bad:
        return
    rows = ", ".join(f"{row} ({golds[row][:40]!r})" for row in bad[:3])
    said = (
        f"{name} data: {len(bad)} of the first {len(golds)} gold answers do not verify against "
        f"themselves, so nothing can be right there: rows {rows}"
    )
    if 2 * len(bad) > len(golds):
        raise DataError(f"{said}; is answer_column the final answer alone?")
    warnings.warn(said, stacklevel=2)


def _load(
    run: RunArguments, name: str, split: str, prompts: int | None, keep: list[str]
) -> "Dataset":
    from gdro.data import load_prompts

    names = {"prompt": run.prompt_column, "answer": run.answer_column, "id": run.id_column}
    data = load_prompts(
        name,
        split=split,
        template=run.prompt_template,
        config=run.dataset_config if name == run.dataset_name else None,
        columns={ours: theirs for ours, theirs in names.items() if theirs},
        keep=list(dict.fromkeys([*run.keep_columns, *keep])),
    )
    return data if prompts is None else data.select(range(min(prompts, len(data))))
