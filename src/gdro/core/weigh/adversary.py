"""Bins to weights: the adversary of Prompt-GDRO (paper 3.2, Eq. 12-16; method D6-D10)."""

from typing import Any

import numpy as np

from gdro.core.config import PromptConfig
from gdro.core.errors import CheckpointError, DataError
from gdro.core.types import UNSEEN, FloatArray, IntArray
from gdro.core.weigh.cap import capped_mean_one
from gdro.core.weigh.chi_square import chi_square
from gdro.core.weigh.cvar import cvar
from gdro.core.weigh.entropic import entropic


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
        if not used.all():
            bin_P, loss_P = bin_P[used], loss_P[used]
        count_B = np.bincount(bin_P, minlength=self.num_bins)
        total_B = np.bincount(bin_P, weights=loss_P, minlength=self.num_bins)
        present = count_B > 0
        mean_B = total_B[present] / count_B[present]
        if self.config.share_normalize:
            mean_B = mean_B / (count_B[present] / count_B.sum())
        old = self.score_B[present]
        old = np.where(np.isnan(old), mean_B, old)
        score_B = self.score_B.copy()
        score_B[present] = old + self.config.beta * (mean_B - old)
        self.score_B = score_B  # never written to in place: a record may hold the old one

    # --- Eq. 14-15 ---

    def q_B(self, share_B: FloatArray | IntArray) -> FloatArray:
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

    def _base(self, share_B: FloatArray | IntArray) -> FloatArray:
        if self.config.base == "share" and (total := share_B.sum()) > 0:
            return share_B / total
        return np.full(self.num_bins, 1.0 / self.num_bins)

    def _clipped(self, which_B: np.ndarray) -> FloatArray:
        clip = self.config.clip
        return np.minimum(np.maximum(self.score_B[which_B], -clip), clip)

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
        prompts, so it weighs all alike.

        Prompts that are unseen, or in a bin without a score, weigh 1.

        Args:
            bin_P: Bin of each prompt, -1 for unseen.
            unit_P: What each prompt counts for where means and shares are taken (method D16): its
                rollouts where the loss averages over rollouts, 1 where it averages over prompts.

        Returns:
            float64 [P]; with `normalize="mean"` exactly 1 everywhere if the bins present weigh
            alike.
        """
        weight_P = np.ones(len(bin_P))
        if self.config.realisation == "sample":
            return weight_P
        place_P = bin_P - UNSEEN  # unseen prompts first, then the bins
        unit_B = np.bincount(place_P, unit_P, self.num_bins + 1)[1:]
        present = (unit_B > 0) & ~np.isnan(self.score_B)
        if not present.any():
            return weight_P
        weight_B = np.ones(self.num_bins + 1)
        weight_B[1:][present] = self._weights(present, unit_B[present] / unit_B[present].sum())
        return weight_B[place_P]

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
