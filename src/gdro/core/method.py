"""What a configuration makes of the three ports, and the step that they decide together."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gdro.core import registry, rounds
from gdro.core.aggregation import aggregation_weight_P, units_P
from gdro.core.allocate.base import Allocator
from gdro.core.config import ControllerConfig
from gdro.core.difficulty import Difficulty
from gdro.core.errors import BudgetError, ConfigError
from gdro.core.policy import Batch, Feedback, Setting
from gdro.core.select.base import Selector
from gdro.core.select.pool import Pool
from gdro.core.types import UNSEEN, FloatArray, IntArray, Plan, PromptIds
from gdro.core.variance import VarianceMonitor
from gdro.core.weigh.adversary import Adversary
from gdro.core.weigh.base import Weigher


class Method:
    """Selector, allocator and weigher, with the adversary and the variance monitor they read.

    Raises:
        ConfigError: if a policy that generates in rounds is combined with another, or with what
            needs to see every rollout train.
    """

    def __init__(
        self, config: ControllerConfig, difficulty: Difficulty, n_mean: float, std_scaled: bool
    ) -> None:
        self._config, self._difficulty = config, difficulty
        self._n_mean, self._std_scaled = n_mean, std_scaled
        num_bins = difficulty.num_bins
        self.adversary = Adversary(config.prompt, num_bins)
        self.variance = VarianceMonitor(config.rollout, num_bins, n_mean, std_scaled)
        setting = Setting(
            config=config,
            num_bins=num_bins,
            n_mean=n_mean,
            std_scaled=std_scaled,
            adversary=self.adversary,
        )

        def made(port: dict[str, str], name: str) -> Any:
            return registry.load(port.get(name, name))(setting)

        self.selector: Selector = made(registry.SELECT, config.select.policy)
        self.allocator: Allocator = made(registry.ALLOCATE, config.rollout.allocator)
        self.weigher: Weigher = made(registry.WEIGH, config.prompt.weigh)
        self._check_rounds()

    def _check_rounds(self) -> None:
        select, allocate = self.selector.rounds > 1, self.allocator.rounds > 1
        if select and allocate:
            raise ConfigError(
                f"select.policy={self._config.select.policy} and rollout.allocator="
                f"{self._config.rollout.allocator} both generate in rounds; choose one"
            )
        if not (select or allocate):
            return
        policy = f"rollout.allocator={self._config.rollout.allocator}"
        if select:
            policy = f"select.policy={self._config.select.policy}"
        if self._config.required and self.surplus:
            raise ConfigError(
                f"{next(iter(self._config.required.values()))} needs to see every rollout train, "
                f"and {policy} generates in rounds and does not train on every one"
            )
        if self._config.rollout.aggregation == "neutral":
            raise ConfigError(
                "rollout.aggregation must be rollout or prompt with "
                f"{policy}, got neutral: which rollouts train, and how many, depends on their "
                "outcome, so h(n, p) is not what a rollout does there"
            )

    @property
    def rounds(self) -> int:
        """Most times that a step generates."""
        return max(self.selector.rounds, self.allocator.rounds)

    @property
    def surplus(self) -> bool:
        """Whether more is generated than trains: the method is then not compute-neutral."""
        return self.selector.rounds > 1 or (self.allocator.rounds > 1 and self.allocator.surplus)

    def plan(
        self, ids: PromptIds, rows_P: IntArray, budget: int, step: int, rng: np.random.Generator
    ) -> Plan:
        """Rollouts and weights of prompts, given by id and by the classifier's row."""
        batch = self._batch(rows_P, budget)
        if self.allocator.reads_weights:
            weight_P = self.weigher.weigh(batch, batch.weight_P)
            batch = replace(batch, weight_P=weight_P)
        n_P = self.allocator.allocate(batch, rng)
        if self.allocator.rounds == 1 or self.allocator.surplus:
            self._check_budget(n_P, budget)
        adversary_P, weight_P = self._weights(batch, n_P)
        return Plan(
            step=step,
            prompt_P=ids,
            bin_P=batch.bin_P,
            n_P=n_P,
            weight_P=weight_P,
            adversary_P=adversary_P,
            propensity_P=self.allocator.propensity_P,
            train_P=n_P,
        )

    def _check_budget(self, n_P: IntArray, budget: int) -> None:
        if int(n_P.sum()) != budget:
            raise BudgetError(
                f"rollout.allocator={self._config.rollout.allocator} gave {n_P.sum()} rollouts, "
                f"the budget is {budget}"
            )

    def _batch(self, rows_P: IntArray, budget: int) -> Batch:
        bin_P = self._difficulty.bin_P(rows_P)
        a_P, b_P = self._difficulty.posterior(rows_P)
        rollout, unseen = self._config.rollout, bin_P == UNSEEN
        # An unseen prompt gets the mean (method D4), rounded where it is no integer.
        lo_P = np.where(unseen, int(np.floor(self._n_mean)), rollout.n_min)
        hi_P = np.where(unseen, int(np.ceil(self._n_mean)), rollout.n_max)
        if not lo_P.sum() <= budget <= hi_P.sum():  # in a later round, whose mean is another
            lo_P, hi_P = np.full_like(lo_P, rollout.n_min), np.full_like(hi_P, rollout.n_max)
        return Batch(
            bin_P=bin_P, p_P=a_P / (a_P + b_P), a_P=a_P, b_P=b_P, weight_P=np.ones(len(rows_P)),
            variance_B=self.variance.variance_B, lo_P=lo_P, hi_P=hi_P, budget=budget,
        )  # fmt: skip

    def _weights(self, batch: Batch, train_P: IntArray) -> tuple[FloatArray, FloatArray]:
        """The weigher's answer, and that times the factor of the aggregation (D16)."""
        aggregation = self._config.rollout.aggregation
        adversary_P = self.weigher.weigh(batch, units_P(aggregation, train_P))
        factor_P = aggregation_weight_P(
            aggregation, train_P, self._n_mean, batch.p_P, self._std_scaled
        )
        return adversary_P, adversary_P * factor_P

    def extended(
        self, plan: Plan, n_P: IntArray, correct_P: IntArray, pool: Pool, ids_N: PromptIds,
        rng: np.random.Generator,
    ) -> Plan | None:  # fmt: skip
        """The plan with another round of generation, or None if the step is ready.

        Args:
            plan: As it stands.
            n_P: Rollouts of each slot that have come back.
            correct_P: Right ones among them.
            pool: The data set, where fresh prompts come from.
            ids_N: Its ids.
            rng: Chooses them, and breaks ties.
        """
        if plan.round + 1 >= self.rounds:
            return None
        present_P = self._difficulty.rows(plan.prompt_P)
        if self.allocator.rounds > 1:
            groups = Feedback(row_P=present_P, bin_P=plan.bin_P, n_P=n_P, correct_P=correct_P)
            budget = round(self._n_mean * len(present_P))
            batch = replace(self._batch(present_P, budget), bin_P=plan.bin_P)
            more_P = self.allocator.more(batch, groups, plan.train_P, rng)
            if self.allocator.surplus:
                return rounds.with_more(plan, more_P) if more_P.any() else None
            self._check_budget(plan.n_P + more_P, budget)
            return rounds.grown(plan, more_P, *self._weights(batch, plan.n_P + more_P))
        live = np.flatnonzero(plan.train_P)
        groups = Feedback(
            row_P=present_P[live], bin_P=plan.bin_P[live], n_P=n_P[live], correct_P=correct_P[live]
        )
        dropped = live[self.selector.replaces(groups)]
        chosen = pool.next(len(dropped), rng, without=pool.positions(present_P))
        dropped = dropped[: len(chosen)]  # no more than the data set has
        if not len(dropped):
            return None
        pool.took(chosen)
        rows, budget = pool.rows_N[chosen], int(plan.train_P[dropped].sum())
        ids: Any = [ids_N[i] for i in chosen]
        joined = rounds.with_prompts(
            plan, dropped, self.plan(ids, rows, budget, plan.step, rng), chosen, ids
        )
        live = np.flatnonzero(joined.train_P)  # means of weights are over what trains
        batch = self._batch(np.concatenate([present_P, rows])[live], int(plan.train_P.sum()))
        batch = replace(batch, bin_P=joined.bin_P[live])  # those that the outcome will be booked on
        weights = self._weights(batch, joined.train_P[live])
        for name, weight in zip(("adversary_P", "weight_P"), weights, strict=True):
            getattr(joined, name)[live] = weight
        return joined

    # -- learn and keep -------------------------------------------------------------------------

    def observe(self, feedback: Feedback) -> None:
        """Hands an outcome to the three policies."""
        for policy in (self.selector, self.allocator, self.weigher):
            policy.observe(feedback)

    def metrics(self) -> dict[str, float]:
        """What the three policies log."""
        return self.selector.metrics() | self.allocator.metrics() | self.weigher.metrics()

    def _parts(self) -> dict[str, Any]:
        names = ("adversary", "variance", "selector", "allocator", "weigher")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """Of every part."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state of the same configuration."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
