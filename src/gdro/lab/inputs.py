"""What a recipe names, made real: the model's path, the prompts, the reward functions."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list

from gdro.core.errors import ConfigError, DataError
from gdro.evals.plan import load_tokenizer, model_path
from gdro.lab.recipe import Recipe, RunArguments
from gdro.rewards import check_golds, check_numbers, math_reward, reward_function

if TYPE_CHECKING:
    from datasets import Dataset

    from gdro.data import Report

BAD_SHOWN = 10
"""Bad golds that are listed, of all that there are."""

GOLD_CHECKS = {"math": check_golds, "numeric": check_numbers}
"""What tells for a reward function which golds can never be met."""

Reward = Callable[..., Any]


def model_source(recipe: Recipe) -> str:
    """Where the recipe's model is."""
    return model_path(recipe.model.model_name_or_path, "model_name_or_path")


def init_kwargs(recipe: Recipe) -> dict[str, Any]:
    """What the model is loaded with."""
    model = recipe.model
    return {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(recipe.training.model_init_kwargs or {}),
    }


def reward_functions(recipe: Recipe) -> dict[str, Reward]:
    """The recipe's reward functions by their names."""
    rewards = {name: reward_function(name) for name in recipe.run.reward_funcs}
    if "math" in rewards:
        rewards["math"] = _configured_math(recipe.run)
    return rewards


def _configured_math(run: RunArguments) -> Reward:
    @functools.wraps(math_reward)
    def reward(*args: Any, **kwargs: Any) -> list[float]:
        given = {"policy": run.verify_policy, "tolerance": run.verify_tolerance}
        return math_reward(*args, **given, **kwargs)

    return reward


def marker_of(recipe: Recipe, rewards: dict[str, Reward]) -> Reward:
    """The function that says right or wrong."""
    run = recipe.run
    if run.correct_func:
        if run.correct_func == "math":
            return rewards.get("math") or _configured_math(run)
        return rewards.get(run.correct_func) or reward_function(run.correct_func)
    if len(rewards) > 1:
        raise ConfigError(
            f"correct_func must name which of reward_funcs = {', '.join(rewards)} "
            "says right or wrong"
        )
    return next(iter(rewards.values()))


@dataclass(frozen=True)
class Data:
    """Prompts of a run.

    Attributes:
        train: to train on.
        test: to evaluate on.
        table: what was read and left out of both.
    """

    train: "Dataset"
    test: "Dataset"
    table: str


def load_data(recipe: Recipe) -> Data:
    """The prompts, filtered and checked as the recipe says.

    Raises:
        DataError: if a gold answer can never be met, and the recipe does not say
            `allow_bad_golds`.
    """
    from gdro.data import table

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
    trained, of_train = _load(
        recipe, "train", run.dataset_name, run.dataset_train_split, run.train_prompts, keep
    )
    tested, of_test = _load(recipe, "test", test, run.dataset_test_split, run.eval_prompts, [])
    return Data(trained, tested, table([of_train, of_test]))


def _load(
    recipe: Recipe, part: str, name: str, split: str, prompts: int | None, keep: list[str]
) -> "tuple[Dataset, Report]":
    from gdro.data import inspect_prompts

    run = recipe.run
    names = {"prompt": run.prompt_column, "answer": run.answer_column, "id": run.id_column}
    data, report = inspect_prompts(
        name,
        split=split,
        template=run.prompt_template,
        layout=run.dataset_layout,
        config=run.dataset_config if name == run.dataset_name else None,
        columns={ours: theirs for ours, theirs in names.items() if theirs},
        keep=list(dict.fromkeys([*run.keep_columns, *keep])),
        drop_cjk=run.drop_cjk,
        max_prompt_tokens=run.max_prompt_tokens,
        tokenizer=(
            load_tokenizer(model_source(recipe), recipe.model.model_revision)
            if run.max_prompt_tokens
            else None
        ),
    )
    if prompts is not None and prompts < len(data):
        report = replace(report, unused=len(data) - prompts)
        data = data.select(range(prompts))
    bad = _bad_golds(recipe, f"{part} data", data)
    if bad:
        data = data.select(sorted(set(range(len(data))) - set(bad)))
    about = {"spec": f"{part}: {report.spec}", "bad_golds": len(bad), "kept": len(data)}
    return data, replace(report, **about)


def _bad_golds(recipe: Recipe, name: str, rows: "Dataset") -> list[int]:
    """The rows to drop, if the recipe allows that the golds of some cannot be met."""
    run = recipe.run
    funcs = {*run.reward_funcs, run.correct_func}
    checks = [check for func, check in GOLD_CHECKS.items() if func in funcs]
    if not checks:
        return []
    golds = list(rows["answer"])
    found: list[Any] = [[]]
    if recipe.training.process_index == 0:  # one says it for all: which rows are in must not differ
        found = [sorted({row for check in checks for row in check(golds)})]
    (bad,) = broadcast_object_list(found)
    if bad and not run.allow_bad_golds:
        said = bad_golds(name, bad, golds, rows["id"])
        raise DataError(f"{said}\nMend or remove them, or drop them with --allow_bad_golds.")
    if len(bad) == len(rows):
        raise DataError(f"{bad_golds(name, bad, golds, rows['id'])}\nNothing is left without them.")
    return bad


def bad_golds(
    what: str, bad: Sequence[int], golds: Sequence[Any], ids: Sequence[Any] | None = None
) -> str:
    """Says which golds cannot be met.

    Args:
        what: the data's name.
        bad: rows, as `gdro.rewards.check_golds` finds them, of those that were kept: from 0.
        golds: all golds.
        ids: ids of all rows, if there are any.
    """
    lines = [
        f"{what}: {len(bad)} of {len(golds)} gold answers do not verify against themselves, so "
        "nothing can be right there"
    ]
    if 2 * len(bad) > len(golds):
        lines.append("  is answer_column the final answer alone?")
    for row in bad[:BAD_SHOWN]:
        named = "" if ids is None else f" (id {ids[row]})"
        lines.append(f"  kept row {row}{named}: {golds[row]!r:.80}")
    if len(bad) > BAD_SHOWN:
        lines.append(f"  and {len(bad) - BAD_SHOWN} more")
    return "\n".join(lines)
