"""`GDROTrainer`: TRL's GRPOTrainer with the controller in its loop.

TRL keeps its sampler, its loader and its batch shapes. Inside
`_generate_and_score_completions` the batch is expanded anew, prompt i to `n_P[i]` rows, so that the
number of rows of each process stays what TRL planned; the advantages are then computed by ragged
group and multiplied by the plan's weights. With equal counts and weights of 1 every number is
TRL's to the last bit. No decision is taken here: rank 0 asks the controller and broadcasts.
"""

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from trl.trainer.grpo_trainer import GRPOTrainer

from gdro.core.checkpoint import load, save
from gdro.core.controller import Controller
from gdro.core.errors import CheckpointError, DataError
from gdro.core.trace import TraceWriter, header_of, keep_aside
from gdro.core.types import Plan
from gdro.trainers.trl.advantages import group_advantages
from gdro.trainers.trl.border import (
    ROW,
    by_name,
    check_enough,
    check_neutral,
    check_supported,
    checked_correct,
    columns,
    identified,
    with_correct,
    with_processing_class,
)
from gdro.trainers.trl.config import GDROConfig
from gdro.trainers.trl.prompt_loss import prompt_loss_and_score
from gdro.trainers.trl.replay import with_successes
from gdro.trainers.trl.rounds import Round, in_rounds
from gdro.trainers.trl.verdicts import by_bin, gathered, lengths_of
from gdro.trainers.trl.vllm import one_request_each
from gdro.trainers.trl.window import Window

PHASES = ("generation", "reward", "hook", "step")
"""Seconds that are summed over a window's training steps (the optimizer's own are not in them)."""

STATE_FILE = "gdro_controller.npz"


class GDROTrainer(GRPOTrainer):
    """GRPO with the difficulty classifier, Prompt-GDRO and Rollout-GDRO in the loop.

    Takes what GRPOTrainer takes, with a `GDROConfig` as `args`, and:

    Args:
        correct_func: What says whether a completion is correct (0 or 1): the name of one of
            `reward_funcs`, or a function of TRL's reward signature, which is called beside them
            with weight 0. Needed unless there is a single reward function that returns 0 and 1.

    Attributes:
        controller: The `Controller`; the one of the main process decides.
        spent: Rollouts generated, tokens that the model said in them, how many of the rollouts
            trained, and the tokens that the loss saw (recalled successes' too), since step 0.

    Raises:
        ConfigError: if `args` is no GDROConfig, or `correct_func` is missing or unknown.
        DataError: if the data set is empty, lacks a column, or holds an id twice.
        UnsupportedError: for what is not supported yet; the message says why.
    """

    _tag_names = ["trl", "grpo", "gdro"]
    _name = "GDRO"
    _paper = {
        "title": "Group Distributionally Robust Optimization-Driven Reinforcement Learning for "
        "LLM Reasoning",
        "id": "2601.19280",
        "citation": "@article{panaganti2026gdro,\n    title = {{Group Distributionally Robust "
        "Optimization-Driven Reinforcement Learning for LLM Reasoning}},\n    author = {Panaganti "
        "and Liang and Yu and Mi and Yu},\n    year = 2026,\n    eprint = {arXiv:2601.19280},\n}",
    }

    args: GDROConfig
    model: Any
    train_dataset: Any
    _sampler: Any
    _buffered_inputs: Any

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GDROConfig | None = None,
        train_dataset: Any = None,
        *more: Any,
        correct_func: Callable[..., list[float]] | str | None = None,
        **kwargs: Any,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else model.config._name_or_path
            args = GDROConfig(f"{name.split('/')[-1]}-GDRO")
        given = by_name(more, kwargs)
        check_supported(args, train_dataset, given)
        reward_funcs, self._correct, self._appended = with_correct(reward_funcs, correct_func)
        dataset, ids = identified(train_dataset, args.gdro_id_column)

        self._ids = ids
        self.spent = {"rollouts": 0, "tokens": 0, "trained": 0, "trained_tokens": 0}
        self.controller = Controller(
            args.controller_config,
            n_mean=int(args.num_generations or 0),
            seed=args.seed,
            std_scaled=args.scale_rewards == "group",
        )
        self.controller.bind(ids, **columns(dataset, self.controller.config))
        self._window: Window | None = None
        self._rewards_RF = torch.empty(0)
        self._trained_RF: torch.Tensor | None = None  # rewards with those of recalled successes
        self._round: Round | None = None
        self._captured: torch.Tensor | None = None
        self._capturing = False
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._correct_R: Any = None
        self._lengths: list[int] = []  # of what this process has just generated
        self._tokens_R: Any = None
        self._verdict_R: Any = None
        self._resumed = False
        self._trace: TraceWriter | None = None
        given_weights = args.reward_weights
        if self._appended:
            args.reward_weights = [*(given_weights or [1.0] * (len(reward_funcs) - 1)), 0.0]
            given = with_processing_class(given)
        try:
            super().__init__(model, reward_funcs, args, dataset, **given)
        finally:
            args.reward_weights = given_weights  # TRL has made its tensor; the user's list stays
        check_enough(dataset, args)
        check_neutral(args, self.reward_weights, self._correct)
        self._window_length = int(args.steps_per_generation or 0) * self.num_iterations
        if getattr(self, "vllm_generation", None) is not None:
            one_request_each(self)
        if args.controller_config.loss_needed_by == "prompt.signal=surrogate":
            warnings.warn(
                "prompt.signal=surrogate: with group-normalised advantages the surrogate loss of a "
                "group is zero on-policy (method D6); what the adversary sees is drift and KL",
                stacklevel=2,
            )

    # -- plan, expand, generate, weigh ----------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        started = time.perf_counter()
        acc, device = self.accelerator, self.accelerator.device
        local = len(inputs)  # rows of this process, before and after
        first = acc.process_index * local
        heads = [x[ROW] for j, x in enumerate(inputs) if (first + j) % self.num_generations == 0]
        plan, rows_P = self._plan(gather_object(heads), acc.num_processes * local)

        mine = slice(first, first + local)
        self._seconds = {"plan": time.perf_counter() - started} | dict.fromkeys(PHASES, 0.0)
        generate = super()._generate_and_score_completions
        if self.controller.rounds > 1:
            plan, kept_R, output, padding = in_rounds(self, generate, plan, rows_P, local)
        else:
            kept_R, padding = slice(None), (0, 0)
            self._round = Round(plan, plan.slot_R, self._fetch(rows_P[plan.slot_R[mine]]))
            output = generate(self._round.inputs)
        slot_R = torch.as_tensor(plan.slot_R, device=device)

        resumed = time.perf_counter()
        rewards_R = self._total(self._rewards_RF)
        trains_P = torch.as_tensor(plan.train_P > 0, device=device)
        rewards_R[~trains_P[slot_R]] = torch.nan  # groups that a later round replaced
        n_P = torch.as_tensor(plan.n_P, device=device)
        raw_R, std_P = group_advantages(rewards_R, n_P, self.scale_rewards)
        weight_P = torch.as_tensor(plan.weight_P, device=device, dtype=raw_R.dtype)
        advantages_R = raw_R * weight_P[slot_R]
        output["advantages"] = advantages_R[kept_R][mine]
        output["gdro_raw_advantages"] = raw_R[kept_R][mine]
        output["gdro_row"] = torch.arange(len(slot_R), device=device)[kept_R][mine]
        self._repair_metrics(advantages_R[kept_R], std_P[trains_P])

        self.spent["rollouts"] += len(slot_R) + padding[0]
        self.spent["tokens"] += int(self._tokens_R.sum()) + padding[1]
        self.spent["trained"] += int(plan.train_P.sum())
        self.spent["trained_tokens"] += int(output["num_items_in_batch"])
        sums = torch.zeros(len(slot_R), 3, device=device)
        mean, seconds = self._metrics["train"]["reward"][-1], self._seconds
        said = by_bin(self._verdict_R, plan, self.controller.difficulty.num_bins)
        seen = (plan, self._correct_R, self._tokens_R, sums)
        self._window = Window(*seen, mean, seconds, padding, said)
        seconds["hook"] += seconds["plan"] + time.perf_counter() - resumed
        return output

    def _total(self, rewards_RF: torch.Tensor) -> torch.Tensor:
        """The weighted sum of each rollout's rewards, nan where no function could say."""
        rewards_R = (rewards_RF * self.reward_weights.to(rewards_RF.device)).nansum(dim=1)
        rewards_R[torch.isnan(rewards_RF).all(dim=1)] = torch.nan
        return rewards_R

    def _fetch(self, rows_R: np.ndarray) -> list[dict[str, Any]]:
        """Rows of the training set as TRL's loader would give them: each rollout its own copy."""
        rows = self.train_dataset.__getitems__(rows_R.tolist())
        return [{name: value for name, value in row.items() if name != ROW} for row in rows]

    def _plan(self, rows: list[int], budget: int) -> tuple[Plan, np.ndarray]:
        """Rank 0 chooses rows (where the method does), plans, and broadcasts."""
        decided: list[Any] = [None]
        if self.accelerator.is_main_process:
            chosen = np.asarray(rows, dtype=np.int64)
            if self.controller.selects:
                chosen = self.controller.select(len(rows))
            decided = [(self.controller.plan(self._ids[chosen]), chosen)]
        plan, chosen = broadcast_object_list(decided)[0]
        assert plan.n_P.sum() <= budget, (plan.n_P.sum(), budget)
        return plan, chosen

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        started, training = time.perf_counter(), self.model.training
        output = super()._generate(*args, **kwargs)
        if self.model.training != training:  # continuous batching leaves it on, in evaluation too
            self.model.train(training)
        if training:
            self._lengths = lengths_of(output[1], output[2])
            self._seconds["generation"] += time.perf_counter() - started
            if self.controller.config.replay.successes:
                assert self._round is not None
                self._trained_RF, output = with_successes(self, self._round, args[0], output)
        return output

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        if self._trained_RF is not None:  # TRL logs what was generated, which was rewarded before
            generated_RF, self._rewards_RF = self._rewards_RF, self._trained_RF
            self._trained_RF = None
            return generated_RF
        started = time.perf_counter()
        try:
            rewards_RF = super()._calculate_rewards(
                inputs, prompts, completions, completion_ids_list
            )
        except ValueError as error:
            if "rewards, but" in str(error):  # TRL's words on a function of the wrong length
                raise DataError(str(error)) from None
            raise
        said_R = rewards_RF[:, self._correct].clone()
        if self._appended:
            # Said by us, not by the user's rewards: it must not make a rollout scorable.
            unscorable = torch.isnan(rewards_RF[:, : self._correct]).all(dim=1)
            rewards_RF[unscorable, self._correct] = torch.nan
        if not self.model.training:
            return rewards_RF
        name = self.reward_func_names[self._correct]
        self._correct_R = checked_correct(said_R, name)
        self._rewards_RF = rewards_RF
        self._tokens_R, self._verdict_R = gathered(self, name, self._lengths)
        self._seconds["reward"] += time.perf_counter() - started
        return rewards_RF

    def _repair_metrics(self, advantages_R: torch.Tensor, std_P: torch.Tensor) -> None:
        """Replaces what TRL logged of groups of equal size."""
        if self.scale_rewards != "batch":  # there it is about the batch, and right
            zero = torch.isclose(std_P, torch.zeros_like(std_P))
            self._metrics["train"]["frac_reward_zero_std"][-1] = zero.float().mean().item()
        logged = self._logs["advantages"]
        for _ in range(min(len(advantages_R), len(logged))):
            logged.pop()
        logged.extend(advantages_R.tolist())

    # -- what the update saw --------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        output = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if self._capturing:
            self._captured = output[0].detach()
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if not self.model.training or self._window is None:
            return super()._compute_loss(model, inputs)
        self._capturing = True
        try:
            loss = super()._compute_loss(model, inputs)
        finally:
            self._capturing = False
        self._accumulate(inputs)
        return loss

    @torch.no_grad()
    def _accumulate(self, inputs: dict[str, Any]) -> None:
        """Adds the prompt loss (Eq. 6-7, raw advantages) and the score proxy of each rollout."""
        started = time.perf_counter()
        assert self._captured is not None
        assert self._window is not None
        loss, score = prompt_loss_and_score(
            self._captured,
            inputs,
            epsilon=(self.epsilon_low, self.epsilon_high),
            delta=self.args.delta,
            beta=self.beta,
            bias_correction_kl=self.args.use_bias_correction_kl,
            sequence_level=self.importance_sampling_level == "sequence",
        )
        self._captured = None
        seen = torch.stack([loss, score, torch.ones_like(loss)], dim=1)
        sums = self._window.sums_RF
        sums.index_add_(0, inputs["gdro_row"], seen.to(sums.dtype))
        self._window.seconds["hook"] += time.perf_counter() - started

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        started = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self._seconds["step"] += time.perf_counter() - started
        if self._window is not None and self._step % self._window_length == 0:
            self._observe(self._window)
            self._window = None
        return loss

    def _observe(self, window: Window) -> None:
        """Ends a window: the controller of rank 0 learns from it, and the trace gets its record."""
        started = time.perf_counter()
        sums: Any = self.accelerator.reduce(window.sums_RF, reduction="sum")
        if not self.accelerator.is_main_process:
            return
        record = self.controller.observe(window.plan, window.outcome(sums))
        observed = time.perf_counter() - started
        took = window.seconds | {"observe": observed}
        took["hook"] += observed
        took["step"] += observed
        took["update"] = took["step"] - took["generation"] - took["reward"] - took["hook"]
        metrics = self._metrics["train"]
        times = {f"time/{name}": seconds for name, seconds in took.items()}
        for name, value in (record.metrics | times).items():
            metrics[name].append(value)
        more = window.verdicts | {"reward": window.reward, "time": took}
        self._tracer().append(record.to_dict() | more)

    def _tracer(self) -> TraceWriter:
        if self._trace is None:
            path = Path(str(self.args.output_dir)) / "trace.jsonl"
            header = header_of(self.controller) | {"method": self.args.method}
            if path.exists() and not self._resumed:
                keep_aside(path)  # a new run in an old folder
            self._trace = TraceWriter(path, header)
        return self._trace

    # -- checkpoints ----------------------------------------------------------------------------

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        os.makedirs(output_dir, exist_ok=True)
        main = self.accelerator.is_main_process  # only its controller learns
        state: list[Any] = [self._state() if main else None]
        if self.args.save_on_each_node:
            broadcast_object_list(state)
        if self.args.should_save:
            path = Path(output_dir) / STATE_FILE
            save(path, state[0], fingerprint=self.controller.fingerprint)
        if self._window is not None:  # saved between the updates of one generation batch
            path = self._buffer(output_dir)
            self._window.save(path, self._buffered_inputs, self.accelerator.num_processes)

    def _state(self) -> dict[str, Any]:
        return {
            "controller": self.controller.state_dict(),
            "micro_step": self._step,
            "window_length": self._window_length,
            "spent": dict(self.spent),
        }

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        path = Path(checkpoint) / STATE_FILE
        if not path.exists():
            raise CheckpointError(
                f"{path} is missing: the checkpoint is not of a GDROTrainer, or was saved with "
                "save_only_model"
            )
        state = load(path, fingerprint=self.controller.fingerprint)
        length = int(state.get("window_length", self._window_length))  # older: none
        if length != self._window_length:
            raise CheckpointError(
                f"{path} is of a run with num_iterations * steps_per_generation = {length}, here "
                f"it is {self._window_length}: generation and learning would fall out of step; "
                "resume it with the same"
            )
        self._resumed = True
        self.controller.load_state_dict(state["controller"])
        self.spent = {name: int(n) for name, n in state["spent"].items()}
        # TRL counts micro-steps from 0 again, and replays the first epoch's order (trl.md, 5).
        self._step = int(state["micro_step"])
        if self._step % self._window_length:
            acc = self.accelerator
            self._window, self._buffered_inputs = Window.load(
                self._buffer(checkpoint), acc.num_processes, acc.device
            )
            self._seconds = self._window.seconds
        if getattr(self._sampler, "shuffle", False):
            for _ in range(int((self.state.epoch or 0) + 1e-6)):
                torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)
        if self.accelerator.is_main_process:
            self._tracer().truncate_after(self.controller.steps_observed)

    def _buffer(self, folder: str) -> Path:
        return Path(folder) / f"gdro_window_{self.accelerator.process_index}.pt"

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        self._sampler = super()._get_train_sampler(*args, **kwargs)
        return self._sampler

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if ROW not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, ROW]
