"""The evaluations of a run: which step, which split, and what of them is kept."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from transformers import TrainerCallback

from gdro.core.errors import DataError, UnsupportedError
from gdro.core.files import write_json
from gdro.evals import Evaluation, evaluate
from gdro.evals.plan import ARITHMETIC
from gdro.lab.folder import RunFolder, append_jsonl, read_jsonl
from gdro.lab.inputs import (
    init_kwargs,
    load_data,
    marker_of,
    model_source,
    reward_functions,
)
from gdro.lab.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset


class Evaluator(TrainerCallback):
    """Evaluates before, after and along the way, each step once, also over a resumption."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        trainer: Any,
        prompts: "Dataset",
        reward: Callable[..., Any],
        console: Console,
    ) -> None:
        self._recipe, self._run, self._folder, self._trainer = recipe, recipe.run, folder, trainer
        self._prompts, self._reward, self._console = prompts, reward, console
        if (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled) and (
            self._run.eval_before or self._run.eval_after or self._run.eval_every
        ):
            raise UnsupportedError(
                "evaluation within a run needs the whole model on a device, and FSDP and DeepSpeed "
                "shard it: give --eval_before false --eval_after false, and evaluate model/ later"
            )
        self._base: Evaluation | None = None
        self._evaluated: int | None = None
        self._edges = [(b + 0.5) / recipe.run.eval_k for b in range(recipe.run.eval_k)]

    def base(self) -> None:
        """Evaluates the base model, or takes over the evaluation an earlier run made of it."""
        given = self._run.eval_base
        path = self._path(0)
        source = path if path.exists() else Path(given) if given else None
        if source is not None:
            self._base = _read(self._recipe, source, self._prompts)
        # The model of a resumed run is still the base here: its checkpoint is loaded by train().
        found = self._base or _named(self._recipe, self._sample())
        self._base = found
        if not path.exists() or not self._recorded(0):
            self._record(0, found, {"rollouts": 0, "tokens": 0})

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trackers have been opened: they get the base's scores."""
        if state.global_step == 0 and self._base is not None:
            self._tell(self._base)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last evaluation, if this stands before the trackers' callbacks, which close them."""
        if self._run.eval_after:
            self.evaluate(state.global_step)

    def evaluate(self, step: int) -> None:
        """Evaluates the policy as it is, unless this step has been evaluated."""
        # Other processes than the main one may be here before it has recorded the step.
        if step != self._evaluated and not self._recorded(step):
            self._evaluated = step
            found = self._sample()
            self._record(step, found, self._trainer.spent)
            self._tell(found)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Every `eval_every` steps; before the checkpoint of the step, so that it implies this."""
        every = self._run.eval_every
        if every and state.global_step % every == 0:
            self.evaluate(state.global_step)

    def _tell(self, found: Evaluation) -> None:
        """Hands the scores to the progress line and the trackers: there `eval/test/pass@8`."""
        trainer, split = self._trainer, self._run.dataset_test_split
        scores = {"mean": found.mean, "pass": found.passed}
        logs = {f"eval_{split}/{name}@{found.k}": score for name, score in scores.items()}
        # Not trainer.log, which would take the step's own metrics along.
        trainer.callback_handler.call_event(
            "on_log", trainer.args, trainer.state, trainer.control, logs=logs
        )

    def _sample(self) -> Evaluation:
        trainer = self._trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        tokenizer = trainer.processing_class
        return _sample(self._recipe, model, tokenizer, self._prompts, self._reward, self._console)

    def _path(self, step: int) -> Path:
        split = self._run.dataset_test_split
        return self._folder.path / "evals" / f"{step:06d}-{split}.json"

    def _recorded(self, step: int) -> bool:
        return any(line["step"] == step for line in read_jsonl(self._folder.evals))

    def _record(self, step: int, found: Evaluation, spent: dict[str, int]) -> None:
        if not self._trainer.accelerator.is_main_process:
            return
        if self._base is not None:
            found = found.binned_by(self._base, self._edges)
        write_json(self._path(step), found.to_dict())
        line = {"step": step, "split": self._run.dataset_test_split, **spent, **found.summary()}
        append_jsonl(self._folder.evals, line)
        k = found.k
        self._console.print(
            f"step {step} {self._run.dataset_test_split}: mean@{k} {found.mean:.3f}  "
            f"pass@{k} {found.passed:.3f}"
        )


def evaluate_base(recipe: Recipe, path: Path, console: Console) -> Evaluation:
    """The evaluation of a recipe's base model, from `path` if it is there, else made and put there.

    Runs take it over by `eval_base`.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prompts = load_data(recipe).test
    if path.exists():
        return _read(recipe, path, prompts)
    rewards = reward_functions(recipe)
    source = model_source(recipe)
    model = AutoModelForCausalLM.from_pretrained(source, **init_kwargs(recipe))
    model.to(recipe.training.device)
    tokenizer = AutoTokenizer.from_pretrained(source)
    marker = marker_of(recipe, rewards)
    found = _named(recipe, _sample(recipe, model, tokenizer, prompts, marker, console))
    write_json(path, found.to_dict())
    k = found.k
    console.print(f"base: mean@{k} {found.mean:.3f}  pass@{k} {found.passed:.3f}")
    return found


def _sample(
    recipe: Recipe,
    model: Any,
    tokenizer: Any,
    prompts: "Dataset",
    reward: Callable[..., Any],
    console: Console,
) -> Evaluation:
    with console.status("evaluating"):
        return evaluate(
            model,
            tokenizer,
            prompts,
            reward,
            k=recipe.run.eval_k,
            batch_size=recipe.run.eval_batch,
            chat_template_kwargs=recipe.training.chat_template_kwargs,
            **_sampling(recipe),
        )


def _sampling(recipe: Recipe) -> dict[str, Any]:
    run = recipe.run
    return {
        "max_new_tokens": run.eval_max_tokens or recipe.training.max_completion_length,
        "temperature": run.eval_temperature,
        "top_p": run.eval_top_p,
        "top_k": run.eval_top_k,
        "seed": run.eval_seed,
    }


UNSAID = ("correct_func", "verify_policy", "verify_tolerance", "chat_template_kwargs")
"""Settings that evaluations of earlier versions do not say; they are taken to be the recipe's."""


def _named(recipe: Recipe, found: Evaluation) -> Evaluation:
    """Adds of what it is: the recipe's base model, data set and split, and who says right."""
    return replace(found, settings=found.settings | _sources(recipe))


def _sources(recipe: Recipe) -> dict[str, Any]:
    run = recipe.run
    return {
        "model": _absolute(recipe.model.model_name_or_path),
        "revision": recipe.model.model_revision,
        "dataset": _absolute(run.dataset_test_name or run.dataset_name),
        "split": run.dataset_test_split,
        "prompt_template": run.prompt_template,
        "chat_template_kwargs": recipe.training.chat_template_kwargs,
        "correct_func": [run.correct_func] if run.correct_func else run.reward_funcs,
        "verify_policy": run.verify_policy,
        "verify_tolerance": run.verify_tolerance,
    }


def _absolute(name: str) -> str:
    """A file or folder by its whole path, another name as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name != ARITHMETIC and path.exists() else name


def terms(recipe: Recipe) -> dict[str, Any]:
    """What an evaluation must have in common with another to be comparable."""
    wanted = {"k": recipe.run.eval_k, "eval_prompts": recipe.run.eval_prompts}
    return _sampling(recipe) | _sources(recipe) | wanted


def _read(recipe: Recipe, path: Path, prompts: "Dataset") -> Evaluation:
    """An evaluation made earlier, if it is the one that the recipe asks for."""
    try:
        found = Evaluation.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not an evaluation ({error})") from None
    expected = _sampling(recipe) | _sources(recipe)
    expected |= {"k": recipe.run.eval_k, "prompts": len(prompts)}
    stored = found.settings | {"k": found.k, "prompts": len(found.id_N)}
    for key, value in expected.items():
        if stored.get(key) != value and (key in stored or key not in UNSAID):
            raise DataError(f"{path} has {key} = {stored.get(key)}, the recipe {value}")
    ids = list(prompts["id"]) if "id" in prompts.column_names else list(range(len(prompts)))
    if list(found.id_N) != ids:
        raise DataError(f"{path} is of other prompts than the recipe's")
    return found
