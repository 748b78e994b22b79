"""What a step looked like: one record for the trace, and the same as metrics for a logger."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gdro.core.theory import entropy, lead_lag
from gdro.core.types import UNSEEN, FloatArray, IntArray
from gdro.core.variance import VarianceMonitor
from gdro.core.weigh.adversary import Adversary

Numbers = tuple[dict[str, Any], dict[str, float]]


class Record:
    """One step; its numbers are worked out when first read, so that logs cost who reads them."""

    def __init__(self, build: Callable[[], Numbers]) -> None:
        self._build: Callable[[], Numbers] | None = build
        self._built: Numbers = ({}, {})

    def _numbers(self) -> Numbers:
        if self._build is not None:
            self._built, self._build = self._build(), None
        return self._built

    @property
    def values(self) -> dict[str, Any]:
        """By the keys of the trace's schema (`gdro.core.trace`); nan where undefined."""
        return self._numbers()[0]

    @property
    def metrics(self) -> dict[str, float]:
        """Scalars by name: `gdro/...` of bins and weights, `alloc/...` of rollouts."""
        return self._numbers()[1]

    def to_dict(self) -> dict[str, Any]:
        """The values, as the trace takes them."""
        return dict(self.values)


def numbers(
    *,
    step: int,
    bin_P: IntArray,
    planned_P: IntArray,
    trained_P: IntArray,
    weight_P: FloatArray,
    unit_P: FloatArray,
    n_P: IntArray,
    correct_P: IntArray,
    tokens: float,
    padding: int,
    adversary: Adversary,
    variance: VarianceMonitor,
    population_B: IntArray,
    extra: dict[str, float],
) -> Numbers:
    """Values and metrics of a plan and what came back of it.

    Args:
        step: Of the plan.
        bin_P: Bins when the step was planned.
        planned_P: Rollouts planned.
        trained_P: Rollouts that train; 0 where a later round dropped the prompt.
        weight_P: The adversary's weights (without the factor of the aggregation).
        unit_P: What each prompt counts for in means of weights (method D16).
        n_P: Rollouts that came back.
        correct_P: Right ones among them.
        tokens: Completion tokens, nan if unknown.
        padding: Rollouts that the engine generated beside the plan.
        adversary: As it was after the outcome.
        variance: The monitor, likewise.
        population_B: Known prompts by bin.
        extra: Metrics of the parts, under their own names.
    """
    num_bins, q_B = len(population_B), adversary.q_B(population_B)
    trains = trained_P > 0
    extra = extra | variance.metrics(bin_P[trains], trained_P[trains], unit_P[trains])
    place_P = bin_P - UNSEEN  # unseen prompts first, then the bins

    def sums(values_P: Any) -> tuple[float, FloatArray]:
        """Of the unseen prompts, and by bin."""
        found = np.bincount(place_P, values_P, num_bins + 1).astype(np.float64, copy=False)
        return float(found[0]), found[1:]

    unseen, prompts_B = sums(np.ones(len(bin_P)))
    unseen_planned, rollouts_B = sums(planned_P)
    unseen_came, came_B = sums(n_P)
    unseen_correct, right_B = sums(correct_P)
    planned, came = unseen_planned + rollouts_B.sum(), unseen_came + came_B.sum()
    trains_B = sums(trains)[1]
    with np.errstate(invalid="ignore"):
        weight_B = sums(trains * weight_P)[1] / trains_B
        correct_B = right_B / came_B
    mixed = (correct_P > 0) & (correct_P < n_P)
    mixed_unit_P = (mixed & trains) * unit_P
    mixed_units = float(mixed_unit_P.sum())
    present, trained = prompts_B > 0, trains_B > 0
    spread = entropy(q_B)
    lead = rollout_lead = np.nan
    if present.any():
        lead = lead_lag(np.where(trained, weight_B, 0), prompts_B) if trained.any() else np.nan
        rollout_lead = lead_lag(rollouts_B, prompts_B)
    values: dict[str, Any] = {
        "step": step,
        "prompts_B": prompts_B.astype(int),
        "rollouts_B": rollouts_B.astype(int),
        "weight_B": weight_B,
        "q_B": q_B,
        "score_B": adversary.score_B,
        "correct_B": correct_B,
        "variance_B": variance.variance_B,
        "population_B": population_B,
        "unseen_prompts": int(unseen),
        "unseen_rollouts": int(unseen_planned),
        "unseen_correct": unseen_correct / unseen_came if unseen else np.nan,
        "budget": int(planned),
        "rollouts": int(came) + padding,
        "trained": int(trained_P.sum()),
        "tokens": tokens,
        "reward": (unseen_correct + right_B.sum()) / max(came, 1),
        "price": extra.get("alloc/price", np.nan),
        "entropy": spread,
        "effective_support": float(np.exp(spread)),
        "lead_lag": lead,
        "rollout_lead_lag": rollout_lead,
        "mixed_fraction": np.count_nonzero(mixed) / len(mixed) if len(mixed) else np.nan,
        "mixed_weight": mixed_unit_P @ weight_P / mixed_units if mixed_units else np.nan,
    }
    for name in ("wse", "wse_uniform", "var_proxy", "var_proxy_uniform"):
        values[name.replace("var_proxy", "varproxy")] = extra.get(f"alloc/{name}", np.nan)
    names = ("unseen_prompts", "entropy", "effective_support", "lead_lag", "mixed_fraction",
             "mixed_weight")  # fmt: skip
    metrics = {f"gdro/{name}": float(values[name]) for name in names}
    metrics |= {
        "alloc/lead_lag": float(rollout_lead),
        "gdro/correct": float(values["reward"]),
        "gdro/weight_max": float(weight_P.max()) if len(weight_P) else np.nan,
        "alloc/budget": float(planned),
        "alloc/n_min": float(planned_P.min()) if len(planned_P) else np.nan,
        "alloc/n_max": float(planned_P.max()) if len(planned_P) else np.nan,
    }
    known = max(int(population_B.sum()), 1)
    for b, count in enumerate(population_B.tolist()):
        metrics[f"gdro/population/{b}"] = count / known
    prompts, weights, rollouts = prompts_B.tolist(), weight_B.tolist(), rollouts_B.tolist()
    for b in np.flatnonzero(present).tolist():
        metrics[f"gdro/share/{b}"] = prompts[b] / len(bin_P)
        metrics[f"gdro/weight/{b}"] = weights[b]
        metrics[f"alloc/rollouts/{b}"] = rollouts[b] / prompts[b]
    return values, {k: v for k, v in (metrics | extra).items() if v == v}
