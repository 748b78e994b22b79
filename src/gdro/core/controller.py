"""The controller: plan, observe, state. It knows nothing of the engine."""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gdro.core import checkpoint
from gdro.core.aggregation import aggregation_weight_P, units_P
from gdro.core.allocate import Batch, Feedback, make_allocator
from gdro.core.config import ControllerConfig
from gdro.core.difficulty import Difficulty
from gdro.core.errors import BudgetError, CheckpointError, ConfigError, DataError
from gdro.core.outcome import checked
from gdro.core.record import Record, make_record
from gdro.core.select.mixture import draw_by_bin
from gdro.core.signal import signal_P
from gdro.core.types import UNSEEN, FloatArray, IntArray, Outcome, Plan, PromptIds
from gdro.core.variance import VarianceMonitor
from gdro.core.weigh.adversary import Adversary

_PLANS_REMEMBERED = 64
"""Plans whose outcome may still come: an outcome of an older one is refused."""


class Controller:
    """Composes the difficulty classifier, Prompt-GDRO and Rollout-GDRO.

    Args:
        config: The method; None takes the documented default (both adversaries).
        n_mean: Mean number of rollouts a prompt: a step of P prompts gets exactly P * n_mean.
        seed: Of the one generator that breaks ties and draws.
        std_scaled: Whether the engine divides advantages by the std of their group (D16, D18).

    Raises:
        ConfigError: if `n_mean` is not within `rollout.n_min .. rollout.n_max`.

    Example:
        >>> controller = Controller(n_mean=4, seed=0)
        >>> plan = controller.plan(["a", "b", "c"])
        >>> int(plan.n_P.sum())
        12
        >>> ids = np.repeat(plan.prompt_P, plan.n_P)      # an engine generates and verifies
        >>> record = controller.observe(plan, Outcome(prompt_R=ids, correct_R=np.ones(12)))
    """

    def __init__(
        self,
        config: ControllerConfig | None = None,
        *,
        n_mean: float = 4,
        seed: int = 0,
        std_scaled: bool = True,
    ) -> None:
        self.config = config = ControllerConfig() if config is None else config
        rollout = config.rollout
        if not rollout.n_min <= n_mean <= rollout.n_max:
            raise ConfigError(
                f"n_mean must be within rollout.n_min .. rollout.n_max = {rollout.n_min} .. "
                f"{rollout.n_max}, got {n_mean}"
            )
        self.n_mean = n_mean
        self.std_scaled = std_scaled
        self._rng = np.random.default_rng(seed)
        self._step = 0
        self._observed = 0
        self._open: dict[int, np.ndarray] = {}
        self._refused = 0
        self._ids_N: PromptIds = np.zeros(0, np.int64)
        self._rows_N: IntArray = np.zeros(0, np.int64)
        self._visits_N: IntArray = np.zeros(0, np.int64)
        self._last_N: IntArray = np.zeros(0, np.int64)
        self.difficulty = Difficulty(config.difficulty)
        self._make_parts()

    def _make_parts(self) -> None:
        """The parts whose size is the number of bins, which a column of groups sets late."""
        num_bins, rollout = self.difficulty.num_bins, self.config.rollout
        self.adversary = Adversary(self.config.prompt, num_bins)
        self.allocator = make_allocator(rollout, num_bins, self.n_mean, self.std_scaled)
        self.variance = VarianceMonitor(rollout, num_bins, self.n_mean, self.std_scaled)

    # -- what is known beforehand ---------------------------------------------------------------

    def bind(
        self,
        prompt_ids: PromptIds,
        *,
        group: Sequence[Any] | None = None,
        prior: Sequence[float] | None = None,
        level: Sequence[Any] | None = None,
    ) -> None:
        """Makes the data set known: needed by `select`, static groups, and a prior by column.

        Args:
            prompt_ids: The id of each row.
            group: Label of each row, for `difficulty.source=column:<name>`.
            prior: Pass rate of each row known beforehand, for `difficulty.prior_column`.
            level: Level of each row, for `difficulty.level_column`.

        Raises:
            ConfigError: if the configuration names a column that is not given.
            DataError: if an id stands twice, or a column cannot be used.
        """
        rows_N = self.difficulty.rows(prompt_ids)
        if len(np.unique(rows_N)) < len(rows_N):
            raise DataError("prompt_ids must be distinct")
        self._ids_N = prompt_ids
        self._rows_N, self._visits_N = rows_N, np.zeros(len(rows_N), np.int64)
        self._last_N = np.zeros(len(rows_N), np.int64)
        source = self.config.difficulty.source
        if source.startswith("column:"):
            if group is None:
                raise ConfigError(f"difficulty.source={source} needs the groups: bind(group=...)")
            self.difficulty.set_groups(rows_N, group)
            if self.adversary.num_bins != self.difficulty.num_bins:
                self._make_parts()
        if self.config.difficulty.prior_column is not None:
            if prior is None:
                raise ConfigError("difficulty.prior_column needs the rates: bind(prior=...)")
            self.difficulty.set_prior(rows_N, np.asarray(prior, np.float64))
        if self.config.difficulty.level_column is not None:
            if level is None:
                raise ConfigError("difficulty.level_column needs the levels: bind(level=...)")
            self.difficulty.set_levels(rows_N, level)

    @property
    def selects(self) -> bool:
        """Whether `select` chooses the rows of a step."""
        return self.config.prompt.realisation == "sample"

    # -- decide ---------------------------------------------------------------------------------

    def select(self, num_prompts: int) -> IntArray:
        """Chooses the data-set rows of the next step (`prompt.realisation=sample`).

        Args:
            num_prompts: P.

        Returns:
            int64 [P], distinct positions in the ids given to `bind`.

        Raises:
            ConfigError: if the method does not select, or `bind` was not called.
            DataError: if the data set has fewer rows.
        """
        if not self.selects:
            raise ConfigError("select needs prompt.realisation=sample, got "
                              f"{self.config.prompt.realisation}")  # fmt: skip
        if len(self._rows_N) == 0:
            raise ConfigError("select needs the data set: call bind(prompt_ids) first")
        chosen = draw_by_bin(
            self.difficulty.bin_P(self._rows_N),
            self._visits_N,
            self._last_N,
            self.adversary.q_B(self._population_share()),
            num_prompts,
            self.config.prompt.max_repeat,
            self.config.prompt.max_gap,
            self._rng,
        )
        self._visits_N[chosen] += 1
        self._last_N[chosen] = self._visits_N.sum()
        return chosen

    def plan(self, prompt_ids: PromptIds) -> Plan:
        """Decides the rollouts and the weight of each prompt of a step.

        Args:
            prompt_ids: P ids; one that stands twice is two slots.

        Returns:
            The plan; `sum(n_P)` is exactly P * n_mean.

        Raises:
            BudgetError: if P * n_mean is not an integer, or there are no prompts.
            DataError: if an id cannot be used.
        """
        rows_P = self.difficulty.rows(prompt_ids)
        budget = self.n_mean * len(rows_P)
        if budget != int(budget) or budget == 0:
            raise BudgetError(
                f"the budget must be a positive integer, got {len(rows_P)} prompts x {self.n_mean}"
            )
        bin_P = self._bins(rows_P)
        a_P, b_P = self.difficulty.posterior(rows_P)
        rollout, unseen = self.config.rollout, bin_P == UNSEEN
        n_P = self.allocator.allocate(
            Batch(
                bin_P=bin_P,
                p_P=a_P / (a_P + b_P),
                a_P=a_P,
                b_P=b_P,
                weight_P=self.adversary.weight_P(bin_P, np.ones(len(rows_P))),
                variance_B=self.variance.variance_B,
                # An unseen prompt gets the mean (method D4), rounded where it is no integer.
                lo_P=np.where(unseen, int(np.floor(self.n_mean)), rollout.n_min),
                hi_P=np.where(unseen, int(np.ceil(self.n_mean)), rollout.n_max),
                budget=int(budget),
            ),
            self._rng,
        )
        factor_P = aggregation_weight_P(
            rollout.aggregation, n_P, self.n_mean, a_P / (a_P + b_P), self.std_scaled
        )
        weight_P = self.adversary.weight_P(bin_P, units_P(rollout.aggregation, n_P))
        plan = Plan(
            step=self._step,
            prompt_P=prompt_ids,
            bin_P=bin_P,
            n_P=n_P,
            weight_P=weight_P * factor_P,
            adversary_P=weight_P,
            propensity_P=self.allocator.propensity_P,
        )
        self._step += 1
        self._open[plan.step] = np.zeros(len(rows_P), bool)
        self._open.pop(plan.step - _PLANS_REMEMBERED, None)
        return plan

    def _bins(self, rows_P: IntArray) -> IntArray:
        bin_P = self.difficulty.bin_P(rows_P)
        if self.config.difficulty.source.startswith("column:") and (bin_P == UNSEEN).any():
            raise DataError("a prompt of the plan has no group: call bind(prompt_ids, group=...)")
        return bin_P

    def _population_share(self) -> FloatArray:
        known_B = self.difficulty.population_B().astype(np.float64)
        return known_B / known_B.sum() if known_B.any() else np.full_like(known_B, 1 / len(known_B))

    # -- learn ----------------------------------------------------------------------------------

    def observe(self, plan: Plan, outcome: Outcome) -> Record:
        """Learns from what came back of a plan: late, out of order, or with prompts missing.

        A slot's second outcome is refused: counted, and warned of once.

        Returns:
            The step's record, for a trace and a logger.

        Raises:
            DataError: if the outcome is not of this plan, has arrays of different lengths, a
                `correct_R` other than 0 and 1, or lacks what the configuration needs.
        """
        # Everything is checked before anything is learnt: a mended call may follow an error.
        rollouts = checked(plan, outcome, self.config.required)
        kept_R = self._first_outcomes(plan, rollouts.slot_R)
        slots, n_P, correct_P, loss_P, score_P, tokens = rollouts.by_slot(kept_R, len(plan.n_P))
        bin_P = plan.bin_P[slots]
        rows_P = self.difficulty.rows(plan.prompt_P)[slots]
        unit_P = units_P(self.config.rollout.aggregation, plan.n_P[slots])

        self.difficulty.observe(rows_P, n_P, correct_P)
        self.adversary.observe(
            signal_P(
                self.config.prompt.signal if self.config.prompt.realisation != "none" else "error",
                n_P=n_P,
                correct_P=correct_P,
                loss_P=loss_P,
                pass_at_k_P=self.difficulty.pass_at_k(rows_P),
            ),
            bin_P,
        )
        self.variance.observe(
            bin_P, n_P, p_P=self.difficulty.success(rows_P), loss_P=loss_P, score_P=score_P
        )
        propensity_P = None if plan.propensity_P is None else plan.propensity_P[slots]
        self.allocator.observe(
            Feedback(
                bin_P=bin_P,
                n_P=n_P,
                correct_P=correct_P,
                loss_P=loss_P,
                propensity_P=propensity_P,
            )
        )
        self._observed = max(self._observed, plan.step + 1)
        return make_record(
            step=plan.step,
            num_bins=self.difficulty.num_bins,
            bin_P=bin_P,
            planned_P=plan.n_P[slots],
            weight_P=plan.adversary_P[slots],
            unit_P=unit_P,
            n_P=n_P,
            correct_P=correct_P,
            tokens=tokens,
            q_B=self.adversary.q_B(self._population_share()),
            score_B=self.adversary.score_B,
            variance_B=self.variance.variance_B,
            population_B=self.difficulty.population_B(),
            extra=self.allocator.metrics()
            | self.variance.metrics(bin_P, n_P, unit_P)
            | self.difficulty.metrics(),
        )

    def _first_outcomes(self, plan: Plan, slot_R: IntArray) -> np.ndarray:
        """Which rollouts are of slots that had no outcome yet."""
        if plan.step not in self._open:
            raise DataError(
                f"the outcome is of plan {plan.step}, which is not among the last "
                f"{_PLANS_REMEMBERED} plans that this controller made and still waits for"
            )
        seen_S = self._open[plan.step]
        kept_R = ~seen_S[slot_R]
        refused = len(np.unique(slot_R[~kept_R]))
        if refused and not self._refused:
            warnings.warn(
                f"plan {plan.step}: {refused} slots had an outcome before; their second is refused",
                stacklevel=3,
            )
        self._refused += refused
        seen_S[slot_R] = True
        if seen_S.all():
            del self._open[plan.step]
        return kept_R

    # -- state ----------------------------------------------------------------------------------

    @property
    def steps_observed(self) -> int:
        """One past the last plan that had an outcome."""
        return self._observed

    @property
    def fingerprint(self) -> str:
        """Of everything that a state depends on: configuration, n_mean, scaling."""
        setting = {"n_mean": self.n_mean, "std_scaled": self.std_scaled}
        return checkpoint.fingerprint(self.config.to_dict() | setting)

    def header(self) -> dict[str, Any]:
        """The part of a trace's header that the controller knows."""
        bounds = self.config.difficulty.boundaries
        static = self.config.difficulty.source != "online"
        names = [f"{a:g}-{b:g}" for a, b in pairwise(bounds)]
        if static:
            names = self.difficulty.labels or [str(b) for b in range(self.difficulty.num_bins)]
        return {
            "boundaries": None if static else list(bounds),
            "bin_names": names,
            "config": self.config.to_dict(),
            "n_mean": self.n_mean,
        }

    def state_dict(self) -> dict[str, Any]:
        """All state as arrays and JSON values, for `checkpoint.save`; the generator is in it."""
        return {
            "step": self._step,
            "observed": self._observed,
            "refused": self._refused,
            "open": {str(step): seen_S.copy() for step, seen_S in self._open.items()},
            "rows_N": self._rows_N.copy(),
            "visits_N": self._visits_N.copy(),
            "last_N": self._last_N.copy(),
            "rng": self._rng.bit_generator.state,
            "difficulty": self.difficulty.state_dict(),
            "adversary": self.adversary.state_dict(),
            "allocator": self.allocator.state_dict(),
            "variance": self.variance.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state of the same configuration.

        Raises:
            CheckpointError: if it is of another number of bins, or of another data set.
        """
        if len(state["visits_N"]) != len(self._rows_N):
            raise CheckpointError(
                f"the state is of a data set of {len(state['visits_N'])} rows, this one has "
                f"{len(self._rows_N)}"
            )
        self.difficulty.load_state_dict(state["difficulty"])
        if self.adversary.num_bins != self.difficulty.num_bins:
            self._make_parts()
        self.adversary.load_state_dict(state["adversary"])
        self.allocator.load_state_dict(state["allocator"])
        self.variance.load_state_dict(state["variance"])
        self._rng.bit_generator.state = state["rng"]
        self._step, self._observed = int(state["step"]), int(state["observed"])
        self._refused = int(state["refused"])
        self._open = {int(step): seen_S.copy() for step, seen_S in state["open"].items()}
        known = len(self.difficulty)
        self._rows_N = self.difficulty.rows(self._ids_N)
        if len(self.difficulty) > known:
            raise CheckpointError("the state is of a data set with other prompt ids than this one")
        # By prompt, not by position: the data set may come in another order.
        for name in ("visits_N", "last_N"):
            values = np.zeros(known, np.int64)
            values[state["rows_N"]] = state[name]
            setattr(self, f"_{name}", values[self._rows_N])
