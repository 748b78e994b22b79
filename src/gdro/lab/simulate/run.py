"""One simulated training run: GRPO's update under the decisions of the real controller."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from gdro.core.config import ControllerConfig
from gdro.core.controller import Controller
from gdro.core.errors import ConfigError
from gdro.core.fields import Checked, setting
from gdro.core.replay import Success
from gdro.core.trace import TraceWriter, header_of
from gdro.core.types import FloatArray, IntArray, Outcome, Plan
from gdro.lab.simulate.policy import Look, Policy
from gdro.lab.simulate.population import LENGTHS, RIGHT, Population, World

K = 8
"""k of mean@k and pass@k."""

Loss = Literal["dapo", "dr_grpo"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


@dataclass(frozen=True, kw_only=True)
class Training(Checked):
    """What a simulated run is, whatever its method."""

    _room = "training."

    steps: int = setting(150, "steps of training, at most", ge=1, le=1_000_000)
    prompts: int = setting(64, "prompts of a step", ge=1, le=100_000)
    n_mean: float = setting(4.0, "mean rollouts of a prompt", ge=2, le=4096)
    lr: float = setting(1.0, "learning rate, relative to the population's speed", gt=0, le=1000)
    scale_rewards: bool = setting(
        True, "divide advantages by the deviation of their group, as TRL's default does"
    )
    loss: Loss = setting(
        "dapo",
        "what the tokens' loss is divided by, in TRL's terms: the tokens of the step (dapo), or a "
        "constant (dr_grpo)",
    )
    equal: Literal["rollouts", "steps"] = setting(
        "rollouts",
        "what runs have in common: rollouts (a method that generates more than the budget stops "
        "earlier) or steps",
    )


def simulate(
    config: ControllerConfig,
    population: Population,
    training: Training,
    seed: int,
    trace: Path | None = None,
) -> dict[str, Any]:
    """Trains once.

    Every draw comes from `seed`: the same world, the same epochs and the same samples for every
    method, as far as they ask for the same.

    Args:
        config: The method.
        population: What is learnt.
        training: Steps, batch, learning rate.
        seed: Of the world, the epochs, the rollouts and the controller.
        trace: File to record the run in, as a real one.

    Returns:
        `before` and `after`: expected mean@8, pass@8, worst family's mean@8 and both by tier on
        the held-out prompts (no sampling error); `rollouts`, `trained`, `tokens` (steps of
        rollouts), `steps`; `reward` and `mixed`, lists by step; `seconds`, and
        `processor`, seconds of this process's time.

    Raises:
        ConfigError: if the prompts of a step are more than there are, or the configuration names
            a column other than `family` and `level`.
    """
    if training.prompts > population.train:
        raise ConfigError(
            f"training.prompts must be <= population.train = {population.train}, got "
            f"{training.prompts}"
        )
    started, processor = time.perf_counter(), time.process_time()
    run = _Run(config, population, training, seed, trace).train()
    spent = {"processor": time.process_time() - processor}
    return run | {"seconds": time.perf_counter() - started} | spent


@lru_cache(maxsize=4)
def world(population: Population, seed: int) -> World:
    """The world of a seed, which no run changes: kept for the next method on it."""
    return World(population, seed)


class _Run:
    def __init__(
        self,
        config: ControllerConfig,
        population: Population,
        training: Training,
        seed: int,
        trace: Path | None,
    ) -> None:
        self.training, self.trace = training, trace
        self.world = world(population, seed)
        self.policy = Policy(self.world, training.lr)
        self.controller = Controller(
            config, n_mean=training.n_mean, seed=seed, std_scaled=training.scale_rewards
        )
        self.rng = np.random.default_rng([seed, 1])
        self.epochs = np.random.default_rng([seed, 2])
        self.left: IntArray = np.zeros(0, np.int64)
        self.reward: list[float] = []
        self.mixed: list[float] = []
        self._bind(config)

    def _bind(self, config: ControllerConfig) -> None:
        """Makes the training prompts known; their ids are their positions."""
        difficulty, size = config.difficulty, self.world.population.train
        columns = {"family": self.world.family_N[:size], "level": self.world.tier_N[:size]}
        given: dict[str, Any] = {}
        if difficulty.source.startswith("column:"):
            name = difficulty.source.removeprefix("column:")
            if name not in columns:
                raise ConfigError(f"difficulty.source: a simulation has no column {name!r}")
            given["group"] = columns[name].tolist()
        if difficulty.level_column is not None:
            if difficulty.level_column not in columns:
                raise ConfigError(
                    f"difficulty.level_column: a simulation has no {difficulty.level_column!r}"
                )
            given["level"] = columns[difficulty.level_column].tolist()
        if difficulty.prior_column is not None:  # what a perfect pass-rate column would say
            given["prior"] = self.policy.success(np.arange(size))
        self.controller.bind(np.arange(size), **given)

    def train(self) -> dict[str, Any]:
        training, controller = self.training, self.controller
        before = self.evaluate()
        budget = training.steps * training.prompts * training.n_mean
        with nullcontext() if self.trace is None else self._writer(self.trace) as writer:
            for _ in range(training.steps):
                if training.equal == "rollouts" and controller.ledger.rollouts >= budget:
                    break
                record = controller.observe(*self._step())
                if writer is not None:
                    writer.append(record.to_dict())
        return {
            "before": before,
            "after": self.evaluate(),
            "rollouts": int(controller.ledger.rollouts),
            "trained": int(controller.ledger.trained),
            "tokens": int(controller.ledger.tokens),
            "steps": len(self.reward),
            "reward": self.reward,
            "mixed": self.mixed,
        }

    def _writer(self, path: Path) -> TraceWriter:
        return TraceWriter(path, header_of(self.controller) | {"method": "simulated"})

    def _step(self) -> tuple[Plan, Outcome]:
        """Generates what is planned and updates the policy; what the controller is to learn."""
        controller, policy = self.controller, self.policy
        plan = controller.plan(self._rows())
        slot_R, look = plan.slot_R, self._look(plan)
        drawn_RL = self._drawn(slot_R)
        while controller.rounds > 1:
            more = controller.refill(plan, self._outcome(plan, look, slot_R, drawn_RL))
            if more is None:
                break
            missing_P = more.n_P.copy()
            missing_P[: len(plan.n_P)] -= plan.n_P
            fresh_R = np.repeat(np.arange(len(missing_P)), missing_P)
            plan, look, slot_R = more, self._look(more), np.concatenate([slot_R, fresh_R])
            drawn_RL = np.concatenate([drawn_RL, self._drawn(fresh_R)])
        outcome = self._outcome(plan, look, slot_R, drawn_RL)
        reward_R = np.array(outcome.correct_R, np.float64)
        right_P = np.bincount(slot_R, reward_R, len(plan.n_P))
        self.reward.append(float(right_P.sum()) / len(slot_R))
        mixed_P = (right_P > 0) & (right_P < plan.n_P)
        self.mixed.append(np.count_nonzero(mixed_P) / len(mixed_P))
        if controller.config.replay.successes:
            self._recall(plan, outcome, drawn_RL, reward_R)
        advantage_R = _advantages(slot_R, reward_R, len(plan.n_P), self.training.scale_rewards)
        if controller.config.required:  # on policy the ratio is 1
            missed_RL = 1 - look.probability(slot_R, drawn_RL)
            score_R = advantage_R**2 * (missed_RL**2).sum(1)
            outcome = replace(outcome, loss_R=-advantage_R, score_R=score_R)
        kept = controller.settle(plan, outcome) if controller.rounds > 1 else slice(None)
        tokens = self.training.prompts * self.training.n_mean * max(LENGTHS)
        if self.training.loss == "dapo":
            tokens = self.world.length_N[np.asarray(plan.prompt_P)][slot_R[kept]].sum()
        weight_R = (advantage_R * plan.weight_P[slot_R])[kept] / tokens
        policy.ascend(*look.gradient(slot_R[kept], drawn_RL[kept], weight_R))
        return plan, outcome

    def _rows(self) -> IntArray:
        """The prompts of a step: the controller's choice, or the next of a shuffled epoch."""
        count = self.training.prompts
        if self.controller.selects:
            return self.controller.select(count)
        if len(self.left) < count:  # the rest of an epoch is dropped, as trainers do
            self.left = self.epochs.permutation(self.world.population.train)
        rows, self.left = np.split(self.left, [count])
        return rows

    def _look(self, plan: Plan) -> Look:
        return Look(self.policy, np.asarray(plan.prompt_P))

    def _drawn(self, slot_R: IntArray) -> FloatArray:
        """A rollout is the uniform numbers that make its choices: few are ever looked up."""
        return self.rng.random((len(slot_R), self.world.fact_NL.shape[1]))

    def _outcome(self, plan: Plan, look: Look, slot_R: IntArray, drawn_RL: FloatArray) -> Outcome:
        prompt_R = np.asarray(plan.prompt_P)[slot_R]
        return Outcome(
            prompt_R=prompt_R,
            slot_R=slot_R,
            correct_R=np.asarray(look.right(slot_R, drawn_RL).all(1), np.float64),
            tokens_R=self.world.length_N[prompt_R],
        )

    def _recall(
        self, plan: Plan, outcome: Outcome, drawn_RL: FloatArray, reward_R: FloatArray
    ) -> None:
        """Puts successes in the place of rollouts, and remembers new ones."""
        recalled, wanted = self.controller.recall(plan, outcome)
        success = Success((RIGHT,), (1.0,), plan.step)  # all are alike
        self.controller.remember(plan, dict.fromkeys(wanted.values(), success))
        for r, success in recalled.items():
            drawn_RL[r], reward_R[r] = 0.0, success.rewards[0]

    def evaluate(self) -> dict[str, Any]:
        """Expected scores on the held-out prompts."""
        test = self.world.test_N
        mean_N = self.policy.success(test)
        passed_N = 1 - (1 - mean_N) ** K
        by_family = _means(self.world.family_N[test], mean_N)
        tier_N = self.world.tier_N[test]
        return {
            f"mean@{K}": float(mean_N.mean()),
            f"pass@{K}": float(passed_N.mean()),
            f"worst_family_mean@{K}": float(by_family.min()),
            f"tier_mean@{K}": _means(tier_N, mean_N).tolist(),
            f"tier_pass@{K}": _means(tier_N, passed_N).tolist(),
        }


def _means(group_N: IntArray, value_N: FloatArray) -> FloatArray:
    count = np.bincount(group_N)
    return np.bincount(group_N, value_N)[count > 0] / count[count > 0]


def _advantages(
    slot_R: IntArray, reward_R: FloatArray, size: int, scale: bool = True
) -> FloatArray:
    """Centred by group, and divided by TRL's unbiased deviation; 0 where a group has one reward."""
    n_P = np.maximum(np.bincount(slot_R, minlength=size), 1)
    right_P = np.bincount(slot_R, reward_R, size)
    mean_P = right_P / n_P
    if not scale:
        return reward_R - mean_P[slot_R]
    variance_P = right_P * (1 - mean_P) / np.maximum(n_P - 1, 1)  # rewards are 0 and 1
    return (reward_R - mean_P[slot_R]) / (np.sqrt(variance_P) + 1e-4)[slot_R]
