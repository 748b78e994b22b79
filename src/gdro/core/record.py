"""What a step looked like: one record for the trace, and the same as metrics for a logger."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gdro.core.theory import entropy, lead_lag
from gdro.core.types import UNSEEN, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Record:
    """One step.

    Attributes:
        values: By the keys of the trace's schema (`gdro.core.trace`); nan where undefined.
        metrics: Scalars by metric name: `gdro/...` of bins and weights, `alloc/...` of rollouts.
    """

    values: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The values, as the trace takes them."""
        return dict(self.values)


def make_record(
    *,
    step: int,
    num_bins: int,
    bin_P: IntArray,
    planned_P: IntArray,
    trained_P: IntArray,
    weight_P: FloatArray,
    unit_P: FloatArray,
    n_P: IntArray,
    correct_P: IntArray,
    tokens: float,
    q_B: FloatArray,
    score_B: FloatArray,
    variance_B: FloatArray,
    population_B: IntArray,
    extra: dict[str, float],
) -> Record:
    """Puts a record together from a plan and what came back of it.

    Args:
        step: Of the plan.
        num_bins: B.
        bin_P: Bins when the step was planned.
        planned_P: Rollouts planned.
        trained_P: Rollouts that train; 0 where a later round dropped the prompt.
        weight_P: The adversary's weights (without the factor of the aggregation).
        unit_P: What each prompt counts for in means of weights (method D16).
        n_P: Rollouts that came back.
        correct_P: Right ones among them.
        tokens: Completion tokens, nan if unknown.
        q_B: The adversary's mixture.
        score_B: Smoothed losses.
        variance_B: Running variances.
        population_B: Known prompts by bin.
        extra: Metrics of the parts, under their own names.
    """
    seen = bin_P != UNSEEN

    def by_bin(values_P: Any) -> FloatArray:
        values = np.asarray(values_P, np.float64)[seen]
        return np.bincount(bin_P[seen], weights=values, minlength=num_bins).astype(np.float64)

    prompts_B, rollouts_B, came_B = by_bin(np.ones(len(bin_P))), by_bin(planned_P), by_bin(n_P)
    trains = trained_P > 0
    with np.errstate(invalid="ignore"):
        weight_B = by_bin(np.where(trains, weight_P, 0.0)) / by_bin(trains)
        correct_B = by_bin(correct_P) / came_B
    mixed = (correct_P > 0) & (correct_P < n_P)
    present = prompts_B > 0
    lead = rollout_lead = np.nan
    if present.any():
        lead = lead_lag(np.nan_to_num(weight_B), prompts_B) if by_bin(trains).any() else np.nan
        rollout_lead = lead_lag(rollouts_B, prompts_B)
    values: dict[str, Any] = {
        "step": step,
        "prompts_B": prompts_B.astype(int),
        "rollouts_B": rollouts_B.astype(int),
        "weight_B": weight_B,
        "q_B": q_B,
        "score_B": score_B,
        "correct_B": correct_B,
        "variance_B": variance_B,
        "population_B": population_B,
        "unseen_prompts": int((~seen).sum()),
        "unseen_rollouts": int(planned_P[~seen].sum()),
        "unseen_correct": correct_P[~seen].sum() / n_P[~seen].sum() if not seen.all() else np.nan,
        "budget": int(planned_P.sum()),
        "rollouts": int(n_P.sum()),
        "trained": int(trained_P.sum()),
        "tokens": tokens,
        "reward": correct_P.sum() / max(n_P.sum(), 1),
        "price": extra.get("alloc/price", np.nan),
        "entropy": entropy(q_B),
        "effective_support": float(np.exp(entropy(q_B))),
        "lead_lag": lead,
        "rollout_lead_lag": rollout_lead,
        "mixed_fraction": mixed.mean() if len(mixed) else np.nan,
        "mixed_weight": np.average(weight_P[mixed & trains], weights=unit_P[mixed & trains])
        if (mixed & trains).any()
        else np.nan,
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
        "alloc/budget": float(planned_P.sum()),
        "alloc/n_min": float(planned_P.min()) if len(planned_P) else np.nan,
        "alloc/n_max": float(planned_P.max()) if len(planned_P) else np.nan,
    }
    for b in np.flatnonzero(present):
        metrics[f"gdro/share/{b}"] = float(prompts_B[b] / len(bin_P))
        metrics[f"gdro/weight/{b}"] = float(weight_B[b])
        metrics[f"alloc/rollouts/{b}"] = float(rollouts_B[b] / prompts_B[b])
    return Record(values=values, metrics={k: v for k, v in (metrics | extra).items() if v == v})
