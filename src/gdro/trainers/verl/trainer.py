"""verl's V1 trainers with five methods (and the constructor) overridden; nothing is decided here.

`_next_train_batch`: rollouts of each prompt (`__rollout_n__`); rows where the method selects.
`_balance_batch`: reads what came back before rows are padded and reordered; remembered successes.
`_compute_advantage`: multiplies advantages by the weights; the controller learns.
`_save_checkpoint`, `_load_checkpoint`: the controller, and what is in flight.
"""

import os
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import open_dict
from verl.trainer.ppo.v1 import (
    PPOTrainerColocateAsync,
    PPOTrainerSeparateAsync,
    PPOTrainerSync,
    register_trainer,
)
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

from gdro.core.checkpoint import load, save
from gdro.core.errors import CheckpointError
from gdro.trainers.verl import border, replay, rows
from gdro.trainers.verl.driver import Came, Driver
from gdro.trainers.verl.identity import batch_ids, columns, dataset_ids

STATE_FILE = "gdro_controller.npz"


class GDROMixin:
    """The hooks, for any of verl's V1 trainers; `mode` is verl's name of it.

    Attributes:
        driver: The controller, and what is in flight.
    """

    mode: str
    config: Any
    global_steps: int
    timing_raw: dict[str, float]
    train_dataset: Any
    replay_buffer: Any

    def __init__(self, config: Any) -> None:
        border.check_engine(type(self))
        settings = border.settings_of(config)
        border.check(config, settings)
        with open_dict(config):  # verl's replay buffer goes by its own names
            config.trainer.v1.trainer_mode = self.mode
        super().__init__(config)  # type: ignore[call-arg]
        self.driver = Driver(
            settings,
            n_mean=config.actor_rollout_ref.rollout.n,
            std_scaled=border.std_scaled(config),
        )
        self._gdro = settings
        self._came: Came | None = None
        self._replaced: dict[str, float] = {}  # key of a row -> score of what was generated
        self._seconds = {"plan": 0.0, "hook": 0.0}
        self._since: float | None = None
        self._generated = 0.0

    def _next_train_batch(self, num_prompts: int | None = None) -> Any:
        controller = self.driver.controller
        if controller.selects:
            started = time.perf_counter()
            size = num_prompts or self.config.data.train_batch_size
            batch = self._fetch(controller.select(size))
        else:
            batch = super()._next_train_batch(num_prompts)  # type: ignore[misc]
            started = time.perf_counter()
        infos = list(batch["extra_info"])
        sources = list(batch["data_source"]) if "data_source" in batch else [None] * len(infos)
        ids = batch_ids(sources, infos)
        plan = self.driver.plan(list(batch["uid"]), ids)
        tu.assign_non_tensor_stack(batch, "__rollout_n__", plan.n_P.tolist())
        self._spent("plan", started)
        return batch

    def _fetch(self, chosen: np.ndarray) -> Any:
        """Rows of the training data as verl's loader would give them."""
        fetched = collate_fn([self.train_dataset[row] for row in chosen.tolist()])
        fetched["uid"] = np.array([str(uuid.uuid4()) for _ in chosen], dtype=object)
        batch = tu.get_tensordict(fetched)
        tu.assign_non_tensor_data(batch, "global_steps", self.global_steps)
        return batch

    def _balance_batch(
        self, batch: Any, metrics: Any, logging_prefix: str = "global_seqlen",
        keep_minibatch: bool = False,
    ) -> Any:  # fmt: skip
        started = time.perf_counter()
        self._came = rows.came_back(batch, self._gdro.correct)
        if self._gdro.controller.replay.successes:
            self._replaced = replay.put_successes(batch, self._came, self.driver)
        self._spent("hook", started)
        return super()._balance_batch(  # type: ignore[misc]
            batch, metrics, logging_prefix=logging_prefix, keep_minibatch=keep_minibatch
        )

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        if self._replaced and self.config.actor_rollout_ref.rollout.calculate_log_probs:
            metrics |= replay.as_if_sampled(batch, list(self._replaced))
        batch = super()._compute_advantage(batch, metrics)  # type: ignore[misc]
        started = time.perf_counter()
        came, driver = self._came, self.driver
        assert came is not None
        replay.restore_scores(batch, self._replaced)
        learnt: dict[str, Any] = {}
        actor = self.config.actor_rollout_ref.actor
        if driver.controller.config.required:
            beta = actor.kl_loss_coef if actor.use_kl_loss else 0.0
            learnt = rows.loss_and_score(batch, came, beta=beta, kl=actor.kl_loss_type)
        weights = dict(zip(came.uid_R, driver.weight_R(came.uid_R).tolist(), strict=True))
        uids = (rows.session(key)[0] for key in batch.keys)
        rows.weigh(batch, [weights.get(uid, 1.0) for uid in uids])  # padding is masked anyway

        known = driver.lost
        record, lost = driver.observe(came, self._live(), **learnt)
        if lost and not known:
            warnings.warn(
                f"step {self.global_steps}: {lost} rollouts were dispatched and did not come back "
                "(failed, or dropped as stale); learning goes by what came, alloc/lost counts them",
                stacklevel=2,
            )
        mini_batch = actor.ppo_mini_batch_size * driver.controller.n_mean
        metrics |= record.metrics
        metrics |= {
            "alloc/lost": float(lost),
            "alloc/padding": float(sum(map(rows.is_padding, batch.tags))),
            "alloc/updates": actor.ppo_epochs * len(batch.keys) / mini_batch,
            "spent/lost": float(driver.lost),
        }
        self._came, self._replaced = None, {}
        self._spent("hook", started)
        driver.write(record, self._times())
        return batch

    def _live(self) -> Any:
        """Uids of which something may still come.

        The replay buffer's snapshot is of just before this batch was sampled, and nothing was
        dispatched since; where trainer and rollout take turns, nothing is in flight now.
        """
        if self.mode == "sync":
            return ()
        return self.replay_buffer.prompt_global_steps["train"]

    def _spent(self, what: str, started: float) -> None:
        took = time.perf_counter() - started
        for name in {what, "hook"}:
            self._seconds[name] += took

    def _times(self) -> dict[str, float]:
        """Seconds since the last record, which is one turn of the loop, and their parts."""
        now, generated = time.perf_counter(), float(self.timing_raw.get("gen", 0.0))
        # verl sums generation up where a step trains on several batches
        more = generated - self._generated if generated > self._generated else generated
        self._generated = generated
        found = self._seconds | {"generation": more}
        if self._since is not None:
            step = now - self._since
            found |= {"step": step, "update": step - more - self._seconds["hook"]}
        self._since = now
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        return found

    def _save_checkpoint(self) -> None:
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
        folder.mkdir(parents=True, exist_ok=True)
        state, mark = self.driver.state_dict(), self.driver.controller.fingerprint
        save(folder / STATE_FILE, state, fingerprint=mark)  # before verl's tracker names the folder
        super()._save_checkpoint()  # type: ignore[misc]
        if not (folder / "actor").exists():
            return  # models are on other nodes' disks: which are gone cannot be seen
        for other in folder.parent.glob(f"global_step_*/{STATE_FILE}"):
            if other.parent != folder and not (other.parent / "actor").exists():
                other.unlink()  # verl has removed its model (max_actor_ckpt_to_keep)

    def _load_checkpoint(self) -> None:
        controller = self.driver.controller
        controller.bind(
            dataset_ids(self.train_dataset), **columns(self.train_dataset, controller.config)
        )
        super()._load_checkpoint()  # type: ignore[misc]
        if self.global_steps:
            path = self._loaded_from() / STATE_FILE
            if not path.exists():
                raise CheckpointError(f"{path} is missing: the checkpoint is not of a gdro run")
            self.driver.load_state_dict(load(path, fingerprint=controller.fingerprint))
            self.driver.branched = self.config.trainer.resume_mode == "resume_path"

    def _loaded_from(self) -> Path:
        trainer = self.config.trainer
        if trainer.resume_mode == "resume_path":
            return Path(os.path.abspath(trainer.resume_from_path))
        return Path(os.path.abspath(trainer.default_local_dir)) / f"global_step_{self.global_steps}"


@register_trainer("gdro_sync")
class GDROTrainerSync(GDROMixin, PPOTrainerSync):
    """Trainer and rollout take turns: a step is one dispatch, `train_batch_size * rollout.n`."""

    mode = "sync"


@register_trainer("gdro_colocate_async")
class GDROTrainerColocateAsync(GDROMixin, PPOTrainerColocateAsync):
    """Generation runs ahead of training on the same devices; the budget is exact by dispatch."""

    mode = "colocate_async"


@register_trainer("gdro_separate_async")
class GDROTrainerSeparateAsync(GDROMixin, PPOTrainerSeparateAsync):
    """Generation runs ahead on devices of its own; the budget is exact by dispatch."""

    mode = "separate_async"


MODES = ("gdro_sync", "gdro_colocate_async", "gdro_separate_async")
