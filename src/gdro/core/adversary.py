"""Bins to weights: the adversary of Prompt-GDRO (paper 3.2, Eq. 12-16; method D6-D10)."""

from typing import Any, Literal

import numpy as np

from gdro.core.config import PromptConfig
from gdro.core.errors import CheckpointError, DataError
from gdro.core.types import UNSEEN, FloatArray, IntArray

Signal = Literal["error", "surrogate", "failure", "learnability"]


class Adversary:
    """Scores of the bins, the mixture that answers them, and the weights that realise it.

    Attributes:
        score_B: Smoothed loss S of each bin (Eq. 12), nan for a bin never observed.
    """

    def __init__(self, config: PromptConfig, num_bins: int) -> None:
        self.config = config
        self.score_B: FloatArray = np.full(num_bins, np.nan)

    @property
    def num_bins(self) -> int:
        """B."""
        return len(self.score_B)

    # --- Eq. 12-13 ---

    def observe(self, loss_P: FloatArray, bin_P: IntArray) -> None:
        """Moves the scores of the bins present towards their mean loss.

        A bin starts at its first mean (method D8) and is left alone while absent.

        Args:
            loss_P: Signal of each prompt (`signal_P`); nan where it could not be measured.
            bin_P: Bin of each prompt *when it was weighted*; unseen ones are ignored.

        Raises:
            DataError: if a loss is infinite.
        """
        if np.isinf(loss_P).any():
            raise DataError("the adversary's signal is infinite; look at loss_R of the outcome")
        used = (bin_P != UNSEEN) & ~np.isnan(loss_P)
        count_B = np.bincount(bin_P[used], minlength=self.num_bins)
        total_B = np.bincount(bin_P[used], weights=loss_P[used], minlength=self.num_bins)
        present = count_B > 0
        mean_B = total_B[present] / count_B[present]
        if self.config.share_normalize:
            mean_B = mean_B / (count_B[present] / count_B.sum())
        old = self.score_B[present]
        old = np.where(np.isnan(old), mean_B, old)
        self.score_B[present] = old + self.config.beta * (mean_B - old)

    # --- Eq. 14-15 ---

    def q_B(self, share_B: FloatArray) -> FloatArray:
        """The adversary's mixture over all bins.

        Bins without a score are neutral: they keep their base measure, and the others play for
        the rest of the mass.

        Args:
            share_B: Share of each bin in the data (any scale); the base measure where
                `base="share"`, uniform while no prompt is known; otherwise unused.

        Returns:
            float64 [B], non-negative, summing to 1.
        """
        base_B = self._base(share_B)
        scored = ~np.isnan(self.score_B)
        q_B = base_B.copy()
        mass = base_B[scored].sum()
        if mass > 0:
            q_B[scored] = mass * self._mixture(self._clipped(scored), base_B[scored] / mass)
        return q_B

    def _base(self, share_B: FloatArray) -> FloatArray:
        if self.config.base == "share" and np.sum(share_B) > 0:
            return np.asarray(share_B, np.float64) / np.sum(share_B)
        return np.full(self.num_bins, 1.0 / self.num_bins)

    def _clipped(self, which_B: np.ndarray) -> FloatArray:
        return np.clip(self.score_B[which_B], -self.config.clip, self.config.clip)

    def _mixture(self, score_B: FloatArray, base_B: FloatArray) -> FloatArray:
        """Best response of the ambiguity set, mixed with gamma of its base measure (Eq. 15)."""
        config = self.config
        if config.ambiguity == "entropic":
            best_B = entropic(score_B, base_B, config.eta)
        elif config.ambiguity == "cvar":
            best_B = cvar(score_B, base_B, config.alpha)
        else:
            best_B = chi_square(score_B, base_B, config.rho)
        return (1 - config.gamma) * best_B + config.gamma * base_B

    # --- Eq. 16 and the other realisations ---

    def weight_P(self, bin_P: IntArray, unit_P: FloatArray | IntArray) -> FloatArray:
        """What the advantages of each prompt are multiplied by.

        `omega`: min(s * omega(b), cap). For the entropic set omega(b) = exp(eta * clip(S(b))), for
        the others the density q(b) / base(b). `mass`: min(s * q(b) / share(b), cap), with q the
        adversary's answer over the bins present, so that below the cap the batch's gradient is
        the mixture of Eq. 26. With `normalize="mean"`, s makes the mean weight of the seen
        prompts 1 after the cap (method D7); with "none" s = 1. `sample` realises q by drawing
        prompts, so it weighs all alike, as does `none`.

        Prompts that are unseen, or in a bin without a score, weigh 1.

        Args:
            bin_P: Bin of each prompt, -1 for unseen.
            unit_P: What each prompt counts for where means and shares are taken (method D16): its
                rollouts where the loss averages over rollouts, 1 where it averages over prompts.

        Returns:
            float64 [P]; exactly 1 everywhere if the bins present weigh alike.
        """
        weight_P = np.ones(len(bin_P))
        if self.config.realisation in ("sample", "none"):
            return weight_P
        seen_P = bin_P != UNSEEN
        seen_P[seen_P] = ~np.isnan(self.score_B[bin_P[seen_P]])
        unit_B = np.bincount(
            bin_P[seen_P], weights=np.asarray(unit_P, np.float64)[seen_P], minlength=self.num_bins
        )
        present = unit_B > 0
        if not present.any():
            return weight_P
        weight_B = np.ones(self.num_bins)
        weight_B[present] = self._weights(present, unit_B[present] / unit_B[present].sum())
        weight_P[seen_P] = weight_B[bin_P[seen_P]]
        return weight_P

    def _weights(self, present: np.ndarray, share_B: FloatArray) -> FloatArray:
        """Weight of each present bin, given its share of the units."""
        config = self.config
        score_B = self._clipped(present)
        base_B = share_B if config.base == "share" else np.full(len(share_B), 1.0 / len(share_B))
        if config.realisation == "mass":
            ratio_B, scale = self._mixture(score_B, base_B) / share_B, 1.0
        elif config.ambiguity == "entropic":
            # relative to the largest, whose logarithm is kept apart: nothing overflows
            log_B = config.eta * score_B
            ratio_B = np.exp(log_B - log_B.max())
            scale = np.exp(min(log_B.max(), 700.0))
        else:
            ratio_B, scale = self._mixture(score_B, base_B) / base_B, 1.0
        if config.normalize == "none":
            return np.minimum(scale * ratio_B, config.cap)
        return capped_mean_one(ratio_B, share_B, config.cap)

    # --- state ---

    def state_dict(self) -> dict[str, Any]:
        """The scores."""
        return {"score_B": self.score_B.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state of the same configuration.

        Raises:
            CheckpointError: if it has another number of bins.
        """
        if len(state["score_B"]) != self.num_bins:
            raise CheckpointError(
                f"the state has {len(state['score_B'])} bins, this configuration {self.num_bins}"
            )
        self.score_B = state["score_B"].copy()


def signal_P(
    signal: Signal,
    *,
    n_P: IntArray,
    correct_P: IntArray,
    loss_P: FloatArray | None,
    pass_at_k_P: FloatArray,
) -> FloatArray:
    """Loss of each prompt that the adversary sees (method D6). Its expectation is free of n.

    `error` 1 - m; `failure` 1 - pass@k, from the posterior; `learnability` m(1 - m) n / (n - 1),
    unbiased for p(1 - p), nan at n = 1; `surrogate` the prompt's mean loss (Eq. 6-7).

    Args:
        signal: Its name.
        n_P: Rollouts that came back, >= 1.
        correct_P: Right ones among them.
        loss_P: Mean prompt loss; needed by `surrogate` only.
        pass_at_k_P: Posterior mean of pass@k.

    Raises:
        DataError: if `surrogate` lacks finite losses.
    """
    mean_P = correct_P / n_P
    if signal == "error":
        return 1.0 - mean_P
    if signal == "failure":
        return 1.0 - pass_at_k_P
    if signal == "learnability":
        pairs_P = np.where(n_P > 1, n_P - 1, np.nan)
        return mean_P * (1.0 - mean_P) * n_P / pairs_P
    if loss_P is None or not np.isfinite(loss_P).all():
        raise DataError(
            "prompt.signal=surrogate needs a finite loss_R in every outcome; pass it, "
            "or choose prompt.signal=error"
        )
    return np.asarray(loss_P, np.float64)


# --- ambiguity sets (method D10): best mixture against a score, around a base measure ---


def entropic(score_B: FloatArray, base_B: FloatArray, eta: float) -> FloatArray:
    """argmax_q q.S - KL(q | base) / eta: base * exp(eta S), normalised (Eq. 14, 24)."""
    top = score_B[base_B > 0].max()
    q_B = base_B * np.exp(np.minimum(eta * (score_B - top), 0.0))
    return q_B / q_B.sum()


def cvar(score_B: FloatArray, base_B: FloatArray, alpha: float) -> FloatArray:
    """argmax of q.S over q <= base / alpha: the worst mass alpha; ties share by base measure."""
    order = np.argsort(-score_B, kind="stable")
    full = np.searchsorted(np.cumsum(base_B[order]), alpha * (1 - 1e-12))
    edge = score_B[order[min(int(full), len(order) - 1)]]
    above, tied = score_B > edge, score_B == edge
    q_B = np.where(above, base_B / alpha, 0.0)
    q_B[tied] = max(1.0 - q_B.sum(), 0.0) * base_B[tied] / base_B[tied].sum()
    return q_B / q_B.sum()


def chi_square(score_B: FloatArray, base_B: FloatArray, rho: float) -> FloatArray:
    """argmax of q.S over sum_b (q - base)^2 / base <= rho.

    q = base * (S - x)_+ up to scale. The divergence grows with x, so x is found by bisection;
    once rho admits it, the mass is on the largest score alone.
    """
    held = base_B > 0
    spread = np.ptp(score_B[held])
    if rho == 0 or spread == 0:
        return base_B.copy()
    top_B = _argmax(score_B, base_B)
    if _divergence(top_B, base_B) <= rho:
        return top_B
    score_B = np.where(held, (score_B - score_B[held].max()) / spread, 0.0)
    mean = base_B @ score_B
    # With nothing cut off the answer is exact here; cutting lowers the divergence.
    low, high = mean - np.sqrt(base_B @ (score_B - mean) ** 2) / np.sqrt(rho), 0.0
    while low < (x := (low + high) / 2) < high:
        if _divergence(_tilted(score_B, base_B, x), base_B) <= rho:
            low = x
        else:
            high = x
    return _tilted(score_B, base_B, low)


def _tilted(score_B: FloatArray, base_B: FloatArray, x: float) -> FloatArray:
    q_B = base_B * np.maximum(score_B - x, 0.0)
    return q_B / q_B.sum()


def _divergence(q_B: FloatArray, base_B: FloatArray) -> float:
    held = base_B > 0
    return float(np.sum((q_B[held] - base_B[held]) ** 2 / base_B[held]))


def _argmax(score_B: FloatArray, base_B: FloatArray) -> FloatArray:
    """All mass on the largest score that has base measure; ties share by base measure."""
    q_B = np.where(score_B == score_B[base_B > 0].max(), base_B, 0.0)
    return q_B / q_B.sum()


def capped_mean_one(ratio_B: FloatArray, share_B: FloatArray, cap: float) -> FloatArray:
    """min(s * ratio, cap) with s such that the mean over shares is 1 (method D7), in closed form.

    Where the bins with a positive ratio hold less than 1 / cap of the units, they get the cap and
    the others share the rest alike.

    Args:
        ratio_B: Relative weights, >= 0, some > 0.
        share_B: Share of the units, > 0, summing to 1.
        cap: Largest weight, >= 1.

    Returns:
        float64 [B]; exactly ones where the ratios are alike to rounding.
    """
    if np.ptp(ratio_B) <= 1e-12 * ratio_B.max():
        return np.ones(len(ratio_B))
    order = np.argsort(-ratio_B, kind="stable")
    ratio, share = ratio_B[order], share_B[order]
    # With the j largest at the cap, the others carry 1 - cap * (their shares) in proportion; j is
    # the first for which that leaves the (j + 1)-th at or below the cap.
    held = np.r_[0.0, np.cumsum(share)[:-1]]
    rest = np.cumsum((share * ratio)[::-1])[::-1]
    j = int(np.argmax(np.r_[(1.0 - cap * held) * ratio <= cap * rest, True]))
    weight = np.full(len(ratio), cap)
    if j < len(ratio):
        tail = ratio[j:] / ratio[j] if ratio[j] > 0 else np.ones(len(ratio) - j)
        weight[j:] = (1.0 - cap * held[j]) * tail / (share[j:] @ tail)
    weight_B = np.empty(len(ratio))
    weight_B[order] = weight
    return weight_B


# --- theory (paper 4; method section 5) ---


def entropy(q_B: FloatArray) -> float:
    """-sum q log q in nats; its exponential is the effective support, in bins."""
    held = q_B[q_B > 0]
    return float(-(held * np.log(held)).sum())


def lead_lag(weight_B: FloatArray, share_B: FloatArray) -> float:
    """Mean bin index of the weights minus that of the data (Eq. 32), in bins.

    Negative: the adversary works on harder bins than the data's average.

    Args:
        weight_B: Weights of the bins alone, normalised here.
        share_B: Shares of the bins in the data, normalised here.
    """
    index = np.arange(len(weight_B))
    return float(index @ weight_B / np.sum(weight_B) - index @ share_B / np.sum(share_B))


def robust_value(loss_B: FloatArray, eta: float) -> float:
    """R_eta = max_q {q.L + H(q) / eta} = log(sum_b exp(eta L_b)) / eta (Eq. 22-24), eta > 0.

    Attained at `entropic` with a uniform base measure; max L <= R_eta <= max L + log(B)/eta (25).
    """
    top = float(np.max(loss_B))
    return top + float(np.log(np.sum(np.exp(eta * (loss_B - top))))) / eta
