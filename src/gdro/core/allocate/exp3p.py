"""The paper's bandit: one a bin over rollout counts, tied by the budget and a shadow price."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdro.core.allocate.base import Allocator
from gdro.core.allocate.price import AdditivePrice, LogPrice, Price
from gdro.core.budget import best_totals, check_feasible, draw_totals, separable
from gdro.core.errors import DataError
from gdro.core.policy import Batch, Feedback, Setting
from gdro.core.types import FloatArray, IntArray


class Exp3P(Allocator):
    """Exponential weights over the arms n_min..n_max of each bin (paper 3.3; D11-D14).

    A bin keeps the running *mean* utility J(n) of each arm, fed by the groups that had n rollouts:
    minus the prompt loss (`surrogate`, the paper's), minus the unbiased estimate of p(1-p) over n
    (`variance`), or whether the group was mixed (`signal`). At decision time an arm has probability
    (1 - gamma) softmax(eta (J(n) - mu n)) + gamma / K; the joint choice meets the budget exactly:

    * `argmax`: largest summed log-probability; ties by the variance proxy (smallest
      sum_b count_b v_b / n_b), then by lot.
    * `sample`: drawn from the product of the bins' distributions given the budget.

    A bin whose total falls between two arms is split: prompts drawn by lot take the upper one, and
    both arms are credited by their share of the bin's prompts.

    *Unvisited arms* take the utility of the visited ones next to them (linear in n, level beyond
    the outermost); a bin without any, the mean of the other bins. Nothing is optimistic: what finds
    better arms is the draw.

    *Importance weights.* An arm moves at rate beta * share / propensity (at most 1), propensity
    being the share that was to be expected given the budget; so every arm's mean has, in
    expectation, the same memory in steps, however seldom it is drawn. `argmax` has propensity 1.
    """

    def __init__(self, setting: Setting) -> None:
        config, n_mean, num_bins = setting.config.rollout, setting.n_mean, setting.num_bins
        self._config, self._n_mean = config, n_mean
        self._arm_K = np.arange(config.n_min, config.n_max + 1)
        self._mean_BK = np.full((num_bins, self._arm_K.size), np.nan)
        self._filled_BK: FloatArray | None = None  # _utility_BK of the present means
        price = AdditivePrice if config.utility == "surrogate" else LogPrice
        self._price: Price = price(config.price_alpha, n_mean)
        self._demand = n_mean

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        check_feasible(batch.lo_P, batch.hi_P, batch.budget)
        seen_P = batch.bin_P >= 0
        lo, hi = int(self._arm_K[0]), int(self._arm_K[-1])
        assert np.all((batch.lo_P[seen_P] == lo) & (batch.hi_P[seen_P] == hi))
        n_P = self._unseen_at_the_mean(batch, seen_P, rng)
        self.propensity_P = np.ones(n_P.size)
        count_B = np.bincount(batch.bin_P[seen_P], minlength=self._mean_BK.shape[0])
        budget = batch.budget - int(n_P[~seen_P].sum())
        log_p_BK = self._log_probability_BK()
        if self._config.choice == "sample":
            total_B, propensity_BK = draw_totals(count_B, log_p_BK, lo, budget, rng)
        else:
            tie_BK = -(count_B * batch.variance_B)[:, None] / self._arm_K
            total_B = best_totals(count_B, log_p_BK, lo, budget, rng, tie_BK)
            propensity_BK = np.ones_like(log_p_BK)
        base_B, extra_B = np.divmod(total_B, np.maximum(count_B, 1))
        bin_P = batch.bin_P[seen_P]
        n_P[seen_P] = base_B[bin_P]
        for b in np.flatnonzero(extra_B):
            mine = np.flatnonzero(batch.bin_P == b)
            n_P[rng.permutation(mine)[: extra_B[b]]] += 1
        self.propensity_P[seen_P] = propensity_BK[bin_P, n_P[seen_P] - lo]
        return n_P

    def _unseen_at_the_mean(
        self, batch: Batch, seen_P: NDArray[np.bool_], rng: np.random.Generator
    ) -> IntArray:
        """Counts of the unseen prompts, in sum as near n_mean each as the others' bounds allow."""
        n_P = batch.lo_P.copy()
        if seen_P.all():
            return n_P
        lo_P, hi_P = batch.lo_P[~seen_P], batch.hi_P[~seen_P]
        low = max(int(lo_P.sum()), batch.budget - int(batch.hi_P[seen_P].sum()))
        high = min(int(hi_P.sum()), batch.budget - int(batch.lo_P[seen_P].sum()))
        budget = min(max(round(self._n_mean * lo_P.size), low), high)
        n_P[~seen_P] = separable(np.ones(lo_P.size), lo_P, hi_P, budget, rng)
        return n_P

    def observe(self, feedback: Feedback) -> None:
        n_P = feedback.n_P
        # A group cut short may lie outside the arms; it is no observation of any of them.
        known_P = (feedback.bin_P >= 0) & (n_P >= self._arm_K[0]) & (n_P <= self._arm_K[-1])
        if not known_P.any():
            return
        bins, arms = self._mean_BK.shape
        bin_P, n_P = feedback.bin_P[known_P], n_P[known_P]
        cell_P = bin_P * arms + n_P - self._arm_K[0]

        def by_cell(x_P: FloatArray | None) -> FloatArray:
            return np.bincount(cell_P, x_P, bins * arms).reshape(bins, arms).astype(np.float64)

        count_BK = by_cell(None)
        seen_BK = count_BK > 0
        count_B = count_BK.sum(axis=1)
        per_BK = np.where(seen_BK, count_BK, 1)
        utility_BK = by_cell(self._utility_P(feedback)[known_P]) / per_BK
        propensity_BK = np.ones_like(per_BK)
        if feedback.propensity_P is not None:
            propensity_BK = np.where(seen_BK, by_cell(feedback.propensity_P[known_P]) / per_BK, 1.0)
        share_BK = count_BK / np.maximum(count_B, 1)[:, None]
        rate_BK = np.minimum(1.0, self._config.bandit_beta * share_BK / propensity_BK)
        first_BK = np.isnan(self._mean_BK)
        rate_BK = np.where(first_BK, 1.0, rate_BK)  # the first value starts (D8)
        old_BK = np.where(first_BK, 0.0, self._mean_BK)
        moved_BK = (1 - rate_BK) * old_BK + rate_BK * utility_BK
        self._mean_BK, self._filled_BK = np.where(seen_BK, moved_BK, self._mean_BK), None

        self._demand = float(count_B @ self._demand_B() / count_B.sum())
        self._price.move(self._demand)

    def _utility_P(self, feedback: Feedback) -> FloatArray:
        """Utility of each group, observed at the n that it had."""
        n_P = np.maximum(feedback.n_P, 2)
        mean_P = feedback.correct_P / n_P
        match self._config.utility:
            case "surrogate":
                assert feedback.loss_P is not None  # the configuration requires it
                return -feedback.loss_P
            case "variance":  # E[m (1 - m)] = p (1 - p) (n - 1) / n
                return -mean_P * (1 - mean_P) / (n_P - 1)
            case "signal":
                return ((mean_P > 0) & (mean_P < 1)).astype(float)

    def _utility_BK(self) -> FloatArray:
        """J(n) of every arm, unvisited ones filled from their neighbours (see the class)."""
        if self._filled_BK is not None:
            return self._filled_BK
        filled_BK = self._mean_BK.copy()
        known_BK = ~np.isnan(filled_BK)
        visited_B, whole_B = known_BK.any(axis=1), known_BK.all(axis=1)
        for b in np.flatnonzero(visited_B & ~whole_B):
            known_K = known_BK[b]
            filled_BK[b] = np.interp(self._arm_K, self._arm_K[known_K], filled_BK[b, known_K])
        if not visited_B.all():
            filled_BK[~visited_B] = filled_BK[visited_B].mean(axis=0) if visited_B.any() else 0.0
        self._filled_BK = filled_BK
        return filled_BK

    def _priced_BK(self) -> FloatArray:
        """J(n) - mu n, the negative of Eq. 18; the price enters at decision time only (D12)."""
        return self._utility_BK() - self._price.value * self._arm_K

    def _demand_B(self) -> FloatArray:
        """Unconstrained best response of each bin; among equals, their mean."""
        priced_BK = self._priced_BK()
        top_B = priced_BK.max(axis=1, keepdims=True)
        best_BK = priced_BK >= top_B - 1e-12 * (np.abs(priced_BK).max() or 1.0)
        return best_BK @ self._arm_K / best_BK.sum(axis=1)

    def _log_probability_BK(self) -> FloatArray:
        """Log-probability of each arm, without the budget; finite at any size of the scores."""
        score_BK = self._config.bandit_eta * self._priced_BK()
        score_BK -= score_BK.max(axis=1, keepdims=True)
        log_p_BK = score_BK - np.log(np.exp(score_BK).sum(axis=1, keepdims=True))
        gamma = self._config.bandit_gamma
        with np.errstate(divide="ignore"):  # gamma 0 or 1: log 0 = -inf drops out
            return np.logaddexp(np.log1p(-gamma) + log_p_BK, np.log(gamma / self._arm_K.size))

    def state_dict(self) -> dict[str, Any]:
        return {
            "mean_BK": self._mean_BK.copy(), "price": self._price.state, "demand": self._demand,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        mean_BK = np.array(state["mean_BK"], dtype=np.float64)
        if mean_BK.shape != self._mean_BK.shape:
            raise DataError(
                f"the bandit's table is {mean_BK.shape}, this configuration's {self._mean_BK.shape}"
            )
        self._mean_BK, self._filled_BK = mean_BK, None
        self._price.state, self._demand = float(state["price"]), float(state["demand"])

    def metrics(self) -> dict[str, float]:
        return {
            "alloc/price": self._price.value,
            "alloc/demand": self._demand,
            "alloc/arms_visited": float(np.mean(~np.isnan(self._mean_BK))),
        }
