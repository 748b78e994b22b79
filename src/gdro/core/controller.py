"""The controller: select, plan, observe, state. It knows nothing of the engine."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdro.core import checkpoint, rounds
from gdro.core.config import ControllerConfig
from gdro.core.difficulty import Difficulty
from gdro.core.errors import BudgetError, CheckpointError, ConfigError, DataError
from gdro.core.index import owned
from gdro.core.learn import learn
from gdro.core.ledger import Ledger
from gdro.core.method import Method
from gdro.core.observed import observed
from gdro.core.outcome import checked
from gdro.core.pending import Pending
from gdro.core.presets import DEFAULT
from gdro.core.record import Record
from gdro.core.replay import Success, Successes
from gdro.core.select.pool import Pool, distinct_rows
from gdro.core.types import UNSEEN, IntArray, Outcome, Plan, PromptIds

_NO_ROWS: IntArray = np.zeros(0, np.int64)


class Controller:
    """Composes the difficulty classifier, the three ports and the variance monitor.

    A step is `select` (where the method chooses prompts), `plan`, generation by an engine, and
    `observe`. Methods that generate in rounds (`rounds` > 1) put `refill` and `settle` in between:

        plan = controller.plan(ids)
        outcome = generate(plan)
        while (more := controller.refill(plan, outcome)) is not None:
            outcome, plan = generate_what_is_missing(more, outcome), more
        train_on(controller.settle(plan, outcome))
        controller.observe(plan, outcome)

    Args:
        config: The method; None takes the default preset, whose memory an engine asks with `recall`
            and fills with `remember`.
        n_mean: Mean number of rollouts a prompt: a step of P prompts gets exactly P * n_mean.
        seed: Of the one generator that breaks ties and draws.
        std_scaled: Whether the engine divides advantages by the std of their group (D16, D18).

    Attributes:
        ledger: What the outcomes so far have spent.

    Raises:
        ConfigError: if `n_mean` is not within `rollout.n_min .. rollout.n_max`, or a method that
            generates in rounds is combined with another, or needs what such a step does not give.

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
        self.config = config = ControllerConfig.preset(DEFAULT) if config is None else config
        rollout = config.rollout
        if not rollout.n_min <= n_mean <= rollout.n_max:
            raise ConfigError(
                f"n_mean must be within rollout.n_min .. rollout.n_max = {rollout.n_min} .. "
                f"{rollout.n_max}, got {n_mean}"
            )
        # of one type for one value: a fingerprint depends on it (engines give integers)
        self.n_mean = n_mean = int(n_mean) if n_mean == int(n_mean) else float(n_mean)
        self.std_scaled = std_scaled
        self._rng = np.random.default_rng(seed)
        self._step = 0
        self._observed = 0
        self._pending = Pending(config.outcome.max_staleness)
        self.ledger = Ledger()
        self._successes = Successes(config.replay)
        self._ids_N: PromptIds = _NO_ROWS
        self.difficulty = Difficulty(config.difficulty)
        self.pool = Pool(self.difficulty, _NO_ROWS)
        self.method = Method(config, self.difficulty, n_mean, std_scaled)
        if config.replay.successes and self.method.surplus:
            raise ConfigError("replay.successes must be False where more is generated than trains")

    @property
    def rounds(self) -> int:
        """Most times that a step generates."""
        return self.method.rounds

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
        config = self.config.difficulty
        for name, values, setting, wanted in (
            ("group", group, "source=column:<name>", config.source.startswith("column:")),
            ("prior", prior, "prior_column", config.prior_column is not None),
            ("level", level, "level_column", config.level_column is not None),
        ):
            if (values is not None) != wanted:
                raise ConfigError(
                    f"bind({name}=...) and difficulty.{setting} go together: one of them is missing"
                )
            if values is not None and len(values) != len(prompt_ids):
                raise DataError(f"{name} has {len(values)} entries for {len(prompt_ids)} prompts")
        rows_N = distinct_rows(self.difficulty, prompt_ids)
        self._ids_N, self.pool = prompt_ids, Pool(self.difficulty, rows_N)
        if group is not None:
            self.difficulty.set_groups(rows_N, group)
            self._fit_bins()
        if prior is not None:
            self.difficulty.set_prior(rows_N, np.asarray(prior, np.float64))
        if level is not None:
            self.difficulty.set_levels(rows_N, level)

    def _fit_bins(self) -> None:
        """A column of groups sets the number of bins late."""
        if self.method.adversary.num_bins != self.difficulty.num_bins:
            self.method = Method(self.config, self.difficulty, self.n_mean, self.std_scaled)

    # -- decide ---------------------------------------------------------------------------------

    @property
    def selects(self) -> bool:
        """Whether the method chooses the prompts of a step, and not the engine's own sampler."""
        return self.config.select.policy != "uniform"

    def select(self, num_prompts: int) -> IntArray:
        """Chooses the data-set rows of the next step.

        Args:
            num_prompts: P.

        Returns:
            int64 [P], distinct positions in the ids given to `bind`.

        Raises:
            ConfigError: if `bind` was not called.
            DataError: if the data set has fewer rows.
        """
        if not self.pool.size:
            raise ConfigError("select needs the data set: call bind(prompt_ids) first")
        if num_prompts > self.pool.size:
            raise DataError(
                f"a step takes {num_prompts} prompts, the data set has {self.pool.size} rows"
            )
        chosen = self.method.selector.select(self.pool, num_prompts, self._rng)
        self.pool.took(chosen)
        return chosen

    def plan(self, prompt_ids: PromptIds) -> Plan:
        """Decides the rollouts and the weight of each prompt of a step.

        Args:
            prompt_ids: P ids; one that stands twice is two slots.

        Returns:
            The plan; `sum(n_P)` is exactly P * n_mean, at the latest as `refill` extends it.

        Raises:
            BudgetError: if P * n_mean is not an integer, or there are no prompts.
            DataError: if an id cannot be used.
        """
        if isinstance(prompt_ids, str) or not hasattr(prompt_ids, "__len__"):
            raise DataError(
                f"prompt_ids must be a list or an array, got {type(prompt_ids).__name__}"
            )
        exact = self.n_mean * len(prompt_ids)
        budget = round(exact)
        if budget == 0 or abs(budget - exact) > 1e-6:
            raise BudgetError(
                f"the budget must be a positive integer, got {len(prompt_ids)} prompts x "
                f"{self.n_mean}"
            )
        rows_P = self.difficulty.rows(prompt_ids)
        static = self.config.difficulty.source.startswith("column:")
        if static and (self.difficulty.bin_P(rows_P) == UNSEEN).any():
            raise DataError("a prompt of the plan has no group: call bind(prompt_ids, group=...)")
        plan = self.method.plan(owned(prompt_ids), rows_P, budget, self._step, self._rng)
        self._step += 1
        self._pending.add(plan)
        return plan

    # -- rounds ---------------------------------------------------------------------------------

    def refill(self, plan: Plan, outcome: Outcome) -> Plan | None:
        """What more to generate before the step trains, for methods that work in rounds.

        What comes on top of the budget is in the ledger; `second_look` stays within it.

        Args:
            plan: The step's plan as it stands.
            outcome: *Everything* that has come back of the step so far.

        Returns:
            The plan to go on with, or None if the step is ready. Its first slots are the old ones;
            `n_P` counts all rollouts of a prompt, so what is missing is the difference. Slots that
            no longer train have `train_P` 0. `sum(train_P)` stays the budget.

        Raises:
            ConfigError: if the method takes fresh prompts and `bind` was not called.
            DataError: if the outcome is not of this plan.
        """
        self._pending.check(plan)
        rollouts = checked(plan, outcome, {})
        if not self.pool.size and self.method.selector.rounds > 1:
            raise ConfigError("refill needs the data set: call bind(prompt_ids) first")
        n_P, correct_P = rounds.groups_so_far(plan, rollouts)
        extended = self.method.extended(plan, n_P, correct_P, self.pool, self._ids_N, self._rng)
        if extended is not None:
            self._pending.add(extended)
        return extended

    def settle(self, plan: Plan, outcome: Outcome) -> IntArray:
        """Which rollouts train: positions in the outcome's arrays, by slot of the plan.

        `train_P[i]` of slot i; all of them, ordered, for methods that generate once. May draw: call
        it once.

        Raises:
            DataError: if the outcome is not of this plan.
        """
        rollouts = checked(plan, outcome, {})
        return rounds.trained(
            plan, rollouts.slot_R, rollouts.correct_R, self.method.allocator.pick, self._rng
        )

    # -- rare successes -------------------------------------------------------------------------

    def recall(self, plan: Plan, outcome: Outcome) -> tuple[dict[int, Success], dict[int, int]]:
        """What trains in place of what was generated, with `replay.successes`.

        Call it once a round; successes take their places in the last.

        Args:
            plan: The step's plan as it stands.
            outcome: All that was generated so far, the last round's last.

        Returns:
            The success that takes the place of a rollout, by the rollout's position in the
            outcome; and the positions of the rollouts to hand to `remember`, with their slots.

        Raises:
            DataError: if the outcome is not of this plan.
        """
        self._pending.check(plan)
        rollouts = checked(plan, outcome, {})
        rows_P = self.difficulty.rows(plan.prompt_P)
        slot_R, correct_R = rollouts.slot_R, rollouts.correct_R
        recalled = {}
        if plan.round + 1 == self.rounds:
            recalled = self._successes.recalled(rows_P, slot_R, correct_R, plan.step)
        self.ledger.replayed += len(recalled)
        return recalled, self._successes.wanted(slot_R, correct_R)

    def remember(self, plan: Plan, successes: Mapping[int, Success]) -> None:
        """Keeps right rollouts, given by the slot of their prompt."""
        rows_P = self.difficulty.rows(plan.prompt_P)
        for slot, success in sorted(successes.items()):
            self._successes.keep(int(rows_P[slot]), success)

    # -- learn ----------------------------------------------------------------------------------

    def observe(self, plan: Plan, outcome: Outcome) -> Record:
        """Learns from what came back of a plan: late, out of order, in parts, or incomplete.

        Taken: any subset of a plan's slots, with fewer rollouts than planned, in any order of
        calls, up to `outcome.max_staleness` plans late. A slot has one outcome: a second is
        refused, counted (`gdro/refused`), and warned of once. The counts of a prompt depend on the
        order in which its own outcomes come (with `difficulty.memory=all` not even on that), not
        on what comes between them, nor on how an outcome is cut into parts. Moving averages, fitted
        priors, bandits, prices and targets do: to them each call is one step.

        Returns:
            The step's record, for a trace and a logger.

        Raises:
            DataError: if the outcome is not of a plan that is waited for, has arrays of different
                lengths, a `correct_R` other than 0 and 1, or lacks what the configuration needs.
        """
        return self._learn([(plan, outcome)])

    def observe_together(self, parts: Sequence[tuple[Plan, Outcome]]) -> Record:
        """As `observe`, of parts of several plans that train in one update.

        To moving averages, bandits, prices and targets all of it is one step, as one plan's outcome
        is: an asynchronous engine trains on whatever has come back.

        Args:
            parts: Each plan once; at least one.

        Returns:
            One record; its `step` is the newest plan's.

        Raises:
            DataError: as `observe`; or if there is no part, or a plan stands twice.
        """
        return self._learn(parts)

    def _learn(self, parts: Sequence[tuple[Plan, Outcome]]) -> Record:
        steps = [plan.step for plan, _ in parts]
        if not steps or len(set(steps)) < len(steps):
            raise DataError(f"outcomes must be of at least one plan, each once, got plans {steps}")
        # Everything is checked before anything is learnt: a mended call may follow an error.
        rollouts = [checked(plan, outcome, self.config.required) for plan, outcome in parts]
        for plan, _ in parts:
            self._pending.check(plan)
        pairs = [(plan, one) for (plan, _), one in zip(parts, rollouts, strict=True)]
        seen = observed(pairs, self._pending, self.difficulty)
        self._observed = max(self._observed, max(steps) + 1)
        return learn(
            seen,
            step=max(steps),
            config=self.config,
            difficulty=self.difficulty,
            method=self.method,
            ledger=self.ledger,
            padding=sum(outcome.padding_rollouts for _, outcome in parts),
            padding_tokens=sum(outcome.padding_tokens for _, outcome in parts),
            refused=self._pending.refused,
        )

    def abandon(self, plan: Plan, slots: IntArray) -> None:
        """Nothing will come back of these slots: they are no longer waited for, nor saved."""
        self._pending.close(plan.step, slots)

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

    def _parts(self) -> dict[str, Any]:
        return {
            "pending": self._pending,
            "ledger": self.ledger,
            "successes": self._successes,
            "pool": self.pool,
            "method": self.method,
        }

    def state_dict(self) -> dict[str, Any]:
        """All state as arrays and JSON values, for `checkpoint.save`; the generator is in it."""
        return {
            "step": self._step,
            "observed": self._observed,
            "rng": self._rng.bit_generator.state,
            "difficulty": self.difficulty.state_dict(),
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state of the same configuration.

        Raises:
            CheckpointError: if it is of another number of bins, or of another data set.
        """
        if len(state["pool"]["rows"]) != self.pool.size:
            raise CheckpointError(
                f"the state is of a data set of {len(state['pool']['rows'])} rows, this one has "
                f"{self.pool.size}"
            )
        self.difficulty.load_state_dict(state["difficulty"])
        self._fit_bins()
        known = len(self.difficulty)
        self.pool = Pool(self.difficulty, self.difficulty.rows(self._ids_N))
        if len(self.difficulty) > known:
            raise CheckpointError("the state is of a data set with other prompt ids than this one")
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._rng.bit_generator.state = state["rng"]
        self._step, self._observed = int(state["step"]), int(state["observed"])
