"""Prompts to difficulty bins (paper 3.1, Eq. 10-11; method D1-D5, D17).

Counts of a prompt's visits are remembered, its pass@k is estimated from them, and it moves between
bins with hysteresis. Bin 0 is the hardest; -1 is a prompt about which nothing is known.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gdro.core.config import DifficultyConfig
from gdro.core.errors import CheckpointError, DataError
from gdro.core.index import PromptIndex, grown, normalised, turns
from gdro.core.memory import CountMemory, Memory, WindowMemory
from gdro.core.passk import posterior_pass_at_k, posterior_pass_at_k_interval
from gdro.core.prior import FittedPrior, FixedPrior, LevelPriors
from gdro.core.types import UNSEEN, FloatArray, IntArray, PromptIds

_TOLERANCE = 1e-9
"""Estimates this close to a margin have crossed it: .7 - .03 is below .67 in floats."""


class Difficulty:
    """The difficulty classifier.

    With `source="online"` bins are intervals of pass@k. Otherwise they are static groups, from a
    column (`set_groups`) or drawn by a hash of the id ("random"); counts are kept all the same.

    A step's cost does not depend on the size of the data set. The discounted memory takes 14 bytes
    a prompt with integer ids: 8 of counts, 2 of bin, 4 of index.

    Attributes:
        num_bins: B; for groups of a column, the number of labels once `set_groups` was called.
        labels: Names of the groups of a column by bin, sorted; empty otherwise.
    """

    def __init__(self, config: DifficultyConfig) -> None:
        self.config = config
        self.num_bins = 0 if config.source.startswith("column:") else config.bins
        self.labels: list[str] = []
        self._inner = np.asarray(config.boundaries[1:-1])
        # Edges by bin, open at both ends; the last entry is that of bin -1, which all leave.
        self._lower = np.concatenate([[-np.inf], self._inner, [np.inf]])
        self._upper = np.concatenate([self._inner, [np.inf, -np.inf]])
        self._index = PromptIndex()
        self._memory: Memory
        if config.memory == "window":
            self._memory = WindowMemory(config.window)
        else:
            factor = 2.0 ** (-1.0 / config.half_life) if config.memory == "discounted" else 1.0
            self._memory = CountMemory(factor, flags=config.estimator == "any")
        prior = FittedPrior if config.prior == "fit" else FixedPrior
        self._prior = prior(config.prior_a, config.prior_b)
        self._bin: np.ndarray = np.zeros(0, np.int16)
        self._rate: np.ndarray = np.zeros(0, np.float32)  # set_prior; nan where it was not
        self._level: np.ndarray = np.zeros(0, np.int16)  # set_levels; -1 where it was not
        self._level_names: list[str] = []
        self._levels = LevelPriors(0, config.prior_a, config.prior_b)
        self._population = np.zeros(self.num_bins, np.int64)
        self._moved = self._visits = 0  # of the last observe

    def __len__(self) -> int:
        """Number of prompts that have a row."""
        return len(self._index)

    # --- rows ---

    def rows(self, prompt_ids: PromptIds) -> IntArray:
        """Row of each prompt id; new ids are added.

        Raises:
            DataError: for ids that are not all integers in [0, 2**31) or all strings.
        """
        before = len(self._index)
        rows_P = self._index.rows(prompt_ids)
        size = len(self._index)
        if size == before:
            return rows_P
        self._memory.grow(size)
        self._bin = grown(self._bin, size, UNSEEN)
        if len(self._rate):
            self._rate = grown(self._rate, size, np.nan)
        if len(self._level):
            self._level = grown(self._level, size, UNSEEN)
        if self.config.source == "random":
            new, first = np.unique(rows_P, return_index=True)
            fresh = new >= before
            ids = normalised(prompt_ids)
            drawn = [_hash(ids[i]) % self.num_bins for i in first[fresh]]
            self._assign(new[fresh], np.array(drawn, np.int64))
        return rows_P

    def set_groups(self, rows_P: IntArray, labels: Sequence[Any]) -> None:
        """Makes static groups the bins: bin b is the b-th label in sorted order.

        Numbers sort by value, anything else as text. The first call must name every label; later
        calls may add prompts of the same groups.

        Raises:
            DataError: if a label is missing (None or nan), or unknown to the first call.
        """
        assert self.config.source.startswith("column:"), "groups are for difficulty.source=column:"
        if any(_missing(label) for label in labels):
            raise DataError(f"{self.config.source} has rows without a value; fill or drop them")
        names = np.asarray([_name(label) for label in labels])
        if not self.labels:
            distinct = set(labels)
            numeric = all(isinstance(x, int | float | np.number) for x in distinct)
            found = [_name(x) for x in sorted(distinct, key=None if numeric else str)]
            _check_few(found, self.config.source, "groups")
            self.labels, self.num_bins = found, len(found)
            self._population = np.zeros(self.num_bins, np.int64)
        bin_of = {name: b for b, name in enumerate(self.labels)}
        if unknown := set(names.tolist()) - bin_of.keys():
            raise DataError(
                f"{self.config.source}: {sorted(unknown)[0]!r} is not among the groups "
                f"set first ({', '.join(self.labels[:5])}, ...)"
            )
        rows_P, first = np.unique(rows_P, return_index=True)
        self._assign(rows_P, np.array([bin_of[name] for name in names.tolist()], np.int64)[first])

    def set_prior(self, rows_P: IntArray, rate_P: FloatArray) -> None:
        """Success rates known beforehand, as `prior_strength` pseudo-rollouts each.

        They count in addition to the population's prior, and give a prompt that has no bin yet
        the bin of its estimate.

        Raises:
            DataError: if a rate is not in [0, 1].
        """
        rate_P = np.asarray(rate_P, np.float64)
        if not np.all((rate_P >= 0) & (rate_P <= 1)):
            raise DataError(
                f"difficulty.prior_column={self.config.prior_column} must hold pass rates in [0, 1]"
            )
        self._rate = grown(self._rate, len(self._index), np.nan)
        self._rate[rows_P] = rate_P
        if self.config.source == "online":
            fresh = np.unique(rows_P[self._bin[rows_P] == UNSEEN])
            self._assign(fresh, self._bin_of(self.pass_at_k(fresh)))

    def set_levels(self, rows_P: IntArray, labels: Sequence[Any]) -> None:
        """Levels whose prompts share a prior, fitted to their visits (method D4).

        Once a level has had 16 visits, it stands in for the population's prior, and its unvisited
        prompts are in the bin of its estimate. Later calls may add prompts and levels.

        Args:
            rows_P: Row of each prompt.
            labels: Its level, of any kind; None and nan are no level.

        Raises:
            DataError: if no prompt has a level, or there are more than 32767 levels.
        """
        column = f"difficulty.level_column={self.config.level_column}"
        given = {_name(label) for label in labels if not _missing(label)}
        if not given:
            raise DataError(f"{column} holds no level")
        names = self._level_names + sorted(given.difference(self._level_names))
        _check_few(names, column, "levels")
        place = {name: i for i, name in enumerate(names)}
        self._level = grown(self._level, len(self._bin), UNSEEN)
        self._level[rows_P] = [UNSEEN if _missing(x) else place[_name(x)] for x in labels]
        self._level_names = names
        self._levels.grow(len(names))

    # --- reading ---

    def evidence(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        """(rollouts, correct) remembered of each prompt, real-valued; 0 where there is none."""
        return self._memory.counts(rows_P)

    def posterior(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        """Beta(a, b) of each prompt's success rate."""
        n, c = self._memory.counts(rows_P)
        a, b = self._prior.a + c, self._prior.b + (n - c)
        if len(self._level):
            level_a, level_b, known = self._levels.lookup(self._level[rows_P])
            a, b = np.where(known, level_a + c, a), np.where(known, level_b + (n - c), b)
        if len(self._rate):
            rate, strength = self._rate[rows_P].astype(np.float64), self.config.prior_strength
            given = ~np.isnan(rate)
            a += np.where(given, strength * rate, 0.0)
            b += np.where(given, strength * (1 - rate), 0.0)
        return a, b

    def success(self, rows_P: IntArray) -> FloatArray:
        """Posterior mean of each prompt's success rate, in (0, 1)."""
        a, b = self.posterior(rows_P)
        return a / (a + b)

    def pass_at_k(self, rows_P: IntArray) -> FloatArray:
        """Estimate of each prompt's pass@k, in [0, 1].

        The posterior mean; with `estimator="any"` the share of visits with any correct rollout,
        and the posterior mean where there was no visit.
        """
        estimate = posterior_pass_at_k(*self.posterior(rows_P), self.config.k)
        if self.config.estimator == "any":
            visits, hits = self._memory.flags(rows_P)
            estimate = np.where(visits > 0, hits / np.maximum(visits, _TOLERANCE), estimate)
        return estimate

    def bin_P(self, rows_P: IntArray) -> IntArray:
        """Bin of each prompt, -1 for those that nothing is known of.

        An unvisited prompt whose level is known has the bin of its estimate, which moves with it.
        """
        bin_P = self._bin[rows_P].astype(np.int64)
        if len(self._level) and self.config.source == "online":
            known = self._levels.lookup(self._level[rows_P])[2] & (bin_P == UNSEEN)
            bin_P[known] = self._bin_of(self.pass_at_k(rows_P[known]))
        return bin_P

    def class_P(self, rows_P: IntArray) -> IntArray:
        """Class of each prompt, of which `bin_C` tells the bin: its bin, B if it has none, or
        B + 1 + i if it has none but the i-th level. Changes by visits only.
        """
        class_P = self._bin[rows_P].astype(np.int64)
        none = class_P == UNSEEN
        level = self._level[rows_P[none]].astype(np.int64) if len(self._level) else UNSEEN
        class_P[none] = self.num_bins + 1 + level
        return class_P

    @property
    def bin_C(self) -> IntArray:
        """Bin of the prompts of each class, -1 where nothing is known of them.

        As in `bin_P`, the level of unvisited prompts tells their bin where bins are intervals.
        """
        bin_C = np.arange(self.num_bins + 1 + len(self._levels))
        bin_C[self.num_bins :] = UNSEEN
        if len(self._levels) and self.config.source == "online":
            known, estimate = self._levels.estimates(self.config.k)
            bin_C[self.num_bins + 1 :][known] = self._bin_of(estimate[known])
        return bin_C

    def population_B(self) -> IntArray:
        """Number of prompts in each bin; unseen prompts are in none."""
        return self._population.copy()

    # --- learning ---

    def observe(self, rows_P: IntArray, n_P: IntArray, correct_P: IntArray) -> None:
        """Records one visit per entry, then moves the prompts between bins.

        Args:
            rows_P: Row of each visited prompt. One that stands twice had two visits, in order.
            n_P: Rollouts of each visit; entries of 0 are no visit.
            correct_P: Right ones among them.

        Raises:
            DataError: if a count of right rollouts is not in 0..n.
        """
        rows_P, n_P, correct_P = (np.asarray(x, np.int64) for x in (rows_P, n_P, correct_P))
        if not np.all((correct_P >= 0) & (correct_P <= n_P)):
            raise DataError("correct rollouts of a visit must lie between 0 and its rollouts")
        visited = n_P > 0
        if not visited.all():
            rows_P, n_P, correct_P = rows_P[visited], n_P[visited], correct_P[visited]
        self._moved, self._visits = 0, len(rows_P)
        if len(rows_P) == 0:
            return
        self._prior.observe(n_P, correct_P)
        if len(self._level):
            self._levels.observe(self._level[rows_P], n_P, correct_P)
        for now in turns(rows_P):
            self._visit(rows_P[now], n_P[now], correct_P[now])

    def _visit(self, rows_P: IntArray, n_P: IntArray, correct_P: IntArray) -> None:
        """One visit of each row, all distinct."""
        self._memory.add(rows_P, n_P, correct_P)
        if self.config.source == "online":
            self._rebin(rows_P)

    def _rebin(self, rows_P: IntArray) -> None:
        """Moves prompts whose estimate has left its bin by enough.

        A prompt stays while [low, high] touches its bin. With `binning="estimate"` that is the
        estimate -+ delta, and a prompt that leaves goes to the nearest bin that [low, high]
        touches: the furthest bin whose every boundary on the way is crossed by the margin (method
        D3; the configuration keeps delta below half the narrowest bin, hence below min(a, 1 - a)
        of every inner boundary a). With `binning="interval"` it is the equal-tailed credible
        interval of pass@k: a prompt leaves when pass@k lies beyond the boundary with probability
        (1 + credibility) / 2, and goes to the bin of its estimate (of the interval's nearer end,
        where a skewed posterior has its mean outside). The first visit places by the estimate.
        """
        old = self._bin[rows_P].astype(np.int64)
        estimate = self.pass_at_k(rows_P)
        if self.config.binning == "interval":
            low, high = posterior_pass_at_k_interval(
                *self.posterior(rows_P), self.config.k, self.config.credibility
            )
        else:
            low, high = estimate - self.config.delta, estimate + self.config.delta
        low, high = low + _TOLERANCE, high - _TOLERANCE
        # Few leave; an unseen prompt, whose bin has no edges, does.
        leaves = (low >= self._upper[old]) | (high < self._lower[old])
        rows_P, old, estimate = rows_P[leaves], old[leaves], estimate[leaves]
        lowest = self._bin_of(low[leaves])
        highest = np.maximum(lowest, self._bin_of(high[leaves]))
        target = self._bin_of(estimate)
        aim = target if self.config.binning == "interval" else old
        new = np.where(old == UNSEEN, target, np.minimum(np.maximum(aim, lowest), highest))
        self._moved += int(np.count_nonzero((new != old) & (old != UNSEEN)))
        self._assign(rows_P, new)

    def _bin_of(self, estimate_P: FloatArray) -> IntArray:
        """Bin b holds a_b <= estimate < a_{b+1}; the last one holds 1 as well."""
        return np.searchsorted(self._inner, estimate_P, side="right")

    def _assign(self, rows_P: IntArray, bin_P: IntArray) -> None:
        """Sets the bins of distinct rows, and keeps `population_B`."""
        size = self.num_bins + 1  # the first place is that of unseen prompts
        gained = np.bincount(bin_P + 1, minlength=size)
        lost = np.bincount(self._bin[rows_P].astype(np.int64) + 1, minlength=size)
        self._population += (gained - lost)[1:]
        self._bin[rows_P] = bin_P

    # --- reporting and state ---

    def metrics(self) -> dict[str, float]:
        """Prompts that have a bin, the fitted prior, and the share of last visits that moved."""
        return {
            "gdro/known": float(self._population.sum()),
            "gdro/prior_a": self._prior.a,
            "gdro/prior_b": self._prior.b,
            "gdro/moved": self._moved / max(self._visits, 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything but the configuration, as arrays and JSON values."""
        size = len(self._index)
        return {
            "index": self._index.state_dict(),
            "memory": self._memory.state_dict(size),
            "prior": self._prior.state_dict(),
            "bin": self._bin[:size].copy(),
            "rate": self._rate[:size].copy(),
            "level": self._level[:size].copy(),
            "levels": self._levels.state_dict(),
            "level_names": list(self._level_names),
            "labels": list(self.labels),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state of the same configuration.

        Raises:
            CheckpointError: if its bins are not those of this configuration.
        """
        labels = list(state["labels"])
        num_bins = len(labels) if self.config.source.startswith("column:") else self.config.bins
        bins = state["bin"]
        if len(bins) and (bins.min() < UNSEEN or bins.max() >= num_bins):
            raise CheckpointError(f"the state's prompts lie in other bins than the {num_bins} here")
        self.labels, self.num_bins = labels, num_bins
        self._index.load_state_dict(state["index"])
        self._memory.load_state_dict(state["memory"])
        self._prior.load_state_dict(state["prior"])
        self._bin, self._rate = state["bin"].copy(), state["rate"].copy()
        self._level = state["level"].copy()
        fresh = LevelPriors(
            len(state["levels"]["visits"]), self.config.prior_a, self.config.prior_b
        )
        fresh.load_state_dict(state["levels"])
        self._levels = fresh
        # Older states do not name their levels: those that set_levels was given, sorted as here.
        self._level_names = list(state.get("level_names", self._level_names))
        held = self._bin[self._bin != UNSEEN]
        self._population = np.bincount(held, minlength=num_bins).astype(np.int64)
        self._moved = self._visits = 0


def _hash(prompt_id: Any) -> int:
    """The same on every machine and in every process, unlike Python's."""
    return int.from_bytes(hashlib.blake2b(str(prompt_id).encode(), digest_size=8).digest(), "big")


def _missing(label: Any) -> bool:
    return label is None or label != label


def _check_few(names: Sequence[str], column: str, what: str) -> None:
    most = np.iinfo(np.int16).max
    if len(names) > most:
        raise DataError(
            f"{column} has {len(names)} distinct values; a column of {what} has at most {most}"
        )


def _name(label: Any) -> str:
    return str(label.item() if isinstance(label, np.generic) else label)
