"""Tinker's cookbook with the controller in its loop: `train.main(with_gdro(config))`.

No decision is taken here. The data set is wrapped: `get_batch` asks the controller, each group
makes as many environments as planned, and hands back rewards times its weight. Tinker's advantages
are rewards less their group's mean, so that multiplies them. A batch is learnt from, and the state
written, when its last group has come back: before it is trained on, and so before any checkpoint.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import chz
import numpy as np
from tinker_cookbook.checkpoint_utils import get_last_checkpoint
from tinker_cookbook.rl import types as rl
from tinker_cookbook.rl.rollouts import get_rollout_executor
from tinker_cookbook.rl.train import Config

from gdro.core.checkpoint import load, save
from gdro.core.controller import Controller
from gdro.core.errors import DataError, UnsupportedError
from gdro.core.resolve import method_name, resolved
from gdro.core.trace import TraceWriter, header_of, keep_aside
from gdro.core.types import Outcome, Plan


@chz.chz
class GDRODatasetBuilder(rl.RLDatasetBuilder):
    """Builds the data set of `inner` with a controller around it: see `with_gdro`.

    Attributes:
        preset: Name of the method; the memory of the general default is refused here.
        settings: What differs from it, by dotted path: `{"rollout.n_max": 24}`.
        seed: Of the controller's generator.
        correct: What says correct: `reward`, where the total reward is 0 or 1, or the name of a
            0/1 metric of the group or the last transition (ProblemEnv's is `correct`). Without it,
            a rollout that a limit has ended is wrong.
        size: Field of the groups' builders with their number of environments: the mean number.
        prompt_id: Id of a builder's prompt; by default its row, so rows must keep their place.
    """

    inner: rl.RLDatasetBuilder
    log_path: str
    cadence: tuple[int, int]
    preset: str = "rollout"
    settings: Mapping[str, Any] | None = None
    seed: int = 0
    correct: str = "reward"
    size: str = "num_envs"
    prompt_id: Callable[[rl.EnvGroupBuilder], str] | None = None

    async def __call__(self) -> tuple[rl.RLDataset, rl.RLDataset | None]:
        training, test = await self.inner()
        last = get_last_checkpoint(self.log_path)
        return GDRODataset(training, self, start=(last and last.batch) or 0), test


def with_gdro(config: Config, **options: Any) -> Config:
    """The configuration with the controller around its data set.

    Args:
        config: Of `tinker_cookbook.rl.train`.
        options: Fields of `GDRODatasetBuilder`, `preset` and those after it.

    Raises:
        UnsupportedError: if a field of `config` does not go together with a controller.
    """
    policy = config.effective_termination()
    if config.async_config is not None:
        raise UnsupportedError("async_config is not supported with gdro: a checkpoint does not say "
                               "which groups are in flight, so no run could resume")  # fmt: skip
    if policy is not None and policy.zero_reward_on_limit:
        raise UnsupportedError("termination.zero_reward_on_limit=True is not supported with gdro: "
                               "it changes rewards after they were seen; set it False")  # fmt: skip
    where = {"log_path": config.log_path, "cadence": (config.save_every, config.rolling_save_every)}
    builder = GDRODatasetBuilder(inner=config.dataset_builder, **where, **options)
    return chz.replace(config, dataset_builder=builder)


class GDRODataset(rl.RLDataset):
    """Batches as the controller plans them, one at a time; `lost` counts what never came back."""

    def __init__(self, inner: rl.RLDataset, options: GDRODatasetBuilder, *, start: int) -> None:
        batches = [inner.get_batch(i) for i in range(len(inner))]
        self._builders = [builder for batch in batches for builder in batch]
        self._ends = np.cumsum([0, *map(len, batches)])
        name = options.prompt_id
        self._ids = np.array([i if name is None else name(b) for i, b in enumerate(self._builders)])
        sizes = {getattr(builder, options.size, None) for builder in self._builders}
        if len(sizes) != 1 or not isinstance(n_mean := sizes.pop(), int):
            raise DataError(f"size={options.size} must name a field that holds the same integer in "
                            "all builders of the data set")  # fmt: skip
        config = resolved(options.preset, options.settings or {}, n_mean)
        self.controller = Controller(config, n_mean=n_mean, seed=options.seed, std_scaled=False)
        for what, asked in config.required.items():
            raise UnsupportedError(f"{asked} needs {what}, which Tinker does not tell")
        if self.controller.rounds > 1 or config.replay.successes:
            raise UnsupportedError(f"preset={options.preset}: neither rounds of generation nor "
                                   "replay.successes are supported on Tinker")  # fmt: skip
        self.controller.bind(self._ids)
        self.options, self.lost, self.came = options, 0, {}
        self._plan: Plan | None = None
        self._waiting: set[int] = set()
        self._batch = self._start = start
        self._folder = Path(options.log_path) / "gdro"
        trace = self._folder / "trace.jsonl"
        if start:
            state = load(self._state(start), fingerprint=self.controller.fingerprint)
            self.controller.load_state_dict(state["controller"])
            self.lost = int(state["lost"])
        elif trace.exists():
            keep_aside(trace)
        header = header_of(self.controller) | {"method": method_name(options.preset, config)}
        self._trace = TraceWriter(trace, header)
        self._trace.truncate_after(start)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def get_batch(self, index: int) -> list[rl.EnvGroupBuilder]:
        if self._plan is not None:
            raise DataError(f"batch {self._batch} was not learnt from, see the errors before this")
        if get_rollout_executor() is not None:
            raise UnsupportedError("rollout_executor is not supported with gdro: groups would come "
                                   "back to copies of their builders")  # fmt: skip
        begin, end = self._ends[index : index + 2]
        drawn = self.controller.selects
        rows = self.controller.select(end - begin) if drawn else np.arange(begin, end)
        self._plan = plan = self.controller.plan(self._ids[rows])
        self._waiting, self.came = set(range(len(rows))), {}
        inner = [copy.copy(self._builders[row]) for row in rows]
        for builder, n in zip(inner, plan.n_P.tolist(), strict=True):
            object.__setattr__(builder, self.options.size, n)  # they may be frozen
        parts = zip(inner, plan.n_P.tolist(), plan.weight_P.tolist(), strict=True)
        return [_Group(self, slot, *part) for slot, part in enumerate(parts)]

    def finished(self, slot: int) -> None:
        """A group came back, or failed; after the last of a batch all that came is learnt from."""
        self._waiting.discard(slot)
        if self._waiting or (plan := self._plan) is None:
            return
        found = [(slot, *one) for slot, came in self.came.items() for one in came]
        self.lost += int(plan.n_P.sum()) - len(found)
        if found:
            slot_R, correct_R, tokens_R = map(np.array, zip(*found, strict=True))
            if None in correct_R:
                raise DataError(f"correct={self.options.correct} is not a metric of every rollout")
            ids = np.asarray(plan.prompt_P)[slot_R]
            outcome = Outcome(prompt_R=ids, slot_R=slot_R, correct_R=correct_R, tokens_R=tokens_R)
            record = self.controller.observe(plan, outcome)
            self._trace.append(record.to_dict() | {"step": self._batch, "lost": self.lost})
        state = {"controller": self.controller.state_dict(), "lost": self.lost}
        save(self._state(self._batch + 1), state, fingerprint=self.controller.fingerprint)
        # Tinker resumes where its cadence has it, at the last batch, or once more where it did.
        before, self._batch, self._plan = self._batch, self._batch + 1, None
        if before != self._start and all(not n or before % n for n in self.options.cadence):
            self._state(before).unlink(missing_ok=True)

    def _state(self, batch: int) -> Path:
        return self._folder / f"{batch:06d}.npz"


class _Group(rl.EnvGroupBuilder):
    """One slot of the plan: `inner` with n environments and a weight."""

    def __init__(self, owner: GDRODataset, slot: int, inner: Any, n: int, weight: float) -> None:
        self.owner, self.slot, self.inner, self.n, self.weight = owner, slot, inner, n, weight

    async def make_envs(self) -> Sequence[rl.Env]:
        envs = await self.inner.make_envs()
        if len(envs) != self.n:
            raise DataError(f"{self.inner} made {len(envs)} environments, not {self.n}")
        return envs

    async def compute_group_rewards(
        self, trajectory_group: list[rl.Trajectory], env_group: Sequence[rl.Env]
    ) -> list[tuple[float, rl.Metrics]]:
        graded = await self.inner.compute_group_rewards(trajectory_group, env_group)
        came, weighted, correct = [], [], self.owner.options.correct
        for trajectory, (final, metrics) in zip(trajectory_group, graded, strict=True):
            total = sum(t.reward for t in trajectory.transitions) + final
            known = {**trajectory.transitions[-1].metrics, **metrics, "reward": total}
            unjudged = None if trajectory.stop_reason in (None, "completed") else 0.0
            tokens = sum(len(t.ac.tokens) for t in trajectory.transitions)
            came.append((known.get(correct, unjudged), tokens))
            # With the transitions' rewards it adds up to weight * total; at weight 1 it is `final`.
            told = {**metrics, "gdro/reward": total, "gdro/weight": self.weight}
            weighted.append((final + (self.weight - 1) * total, told))
        self.owner.came[self.slot] = came
        return weighted

    async def cleanup(self) -> None:
        await self.inner.cleanup()
        self.owner.finished(self.slot)

    def logging_tags(self) -> list[str]:
        return self.inner.logging_tags()
