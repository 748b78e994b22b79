"""Where the pressure went: the lead of the weights, and the budget of the unsolved third."""

from typing import Any

import numpy as np

from gdro.core.trace import Trace
from gdro.core.types import FloatArray

HARD = 1 / 3
"""Prompts whose pass@k is below this are the unsolved third."""
STAGES = 4
_BY_STEP = {
    "lead_lag": "lead_lag",
    "effective_support": "effective_support",
    "mixed_groups": "mixed_fraction",
}
"""Numbers of a stage that are means of a column of the trace."""


def hard_part(trace: Trace, limit: float = HARD) -> FloatArray | None:
    """float64[B], the part of each bin's pass@k range that lies in [0, limit].

    With ten equal bins: 1, 1, 1, 1/3, 0, ... None for static groups, which have no such order.
    """
    if trace.boundaries is None:
        return None
    low, high = np.array(trace.boundaries[:-1]), np.array(trace.boundaries[1:])
    return np.clip((limit - low) / np.maximum(high - low, 1e-12), 0, 1)


def curriculum_numbers(trace: Trace) -> dict[str, Any]:
    """The curriculum at four stages (quarters of the recorded steps).

    Returns:
        `hard_limit`, and lists with one entry per stage, None where nothing defines it:

        - `stages`: first and last step, (0, 24), ...
        - `lead_lag`: mean over the stage's steps (Eq. 32); below 0, the weights are harder.
        - `effective_support`: of the adversary's q, exp(entropy), in bins; likewise.
        - `mixed_groups`: share of the groups that were neither all right nor all wrong; likewise.
        - `hard_prompts`, `hard_budget`: share of the unsolved third in the prompts and in the
          rollouts (unseen prompts count in the whole).
        - `hard_rollouts`, `hard_weight`: its rollouts per prompt, and its mean weight.

        The `hard_` lists are None for static groups.
    """
    part_B = hard_part(trace)
    prompts = np.nan_to_num(trace.per_bin("prompts_B"))
    rollouts = np.nan_to_num(trace.per_bin("rollouts_B"))
    weight = trace.per_bin("weight_B")
    unseen_prompts = np.nan_to_num(trace.column("unseen_prompts"))
    unseen_rollouts = np.nan_to_num(trace.column("unseen_rollouts"))
    steps = trace.steps
    quarters = np.array_split(np.arange(len(steps)), STAGES)

    def hard(q: np.ndarray) -> tuple[float | None, ...]:
        if part_B is None:
            return None, None, None, None
        hard_prompts, hard_rollouts = (prompts[q] * part_B).sum(), (rollouts[q] * part_B).sum()
        weighed = prompts[q] * part_B * ~np.isnan(weight[q])
        return (
            _ratio(hard_prompts, prompts[q].sum() + unseen_prompts[q].sum()),
            _ratio(hard_rollouts, rollouts[q].sum() + unseen_rollouts[q].sum()),
            _ratio(hard_rollouts, hard_prompts),
            _ratio((weighed * np.nan_to_num(weight[q])).sum(), weighed.sum()),
        )

    names = ("hard_prompts", "hard_budget", "hard_rollouts", "hard_weight")
    columns = zip(*map(hard, quarters), strict=True)
    return {
        "hard_limit": HARD,
        "stages": [(int(steps[q[0]]), int(steps[q[-1]])) if len(q) else None for q in quarters],
        **{
            name: [_mean(trace.column(column)[q]) for q in quarters]
            for name, column in _BY_STEP.items()
        },
        **{
            name: None if part_B is None else list(column)
            for name, column in zip(names, columns, strict=True)
        },
    }


def _mean(value: FloatArray) -> float | None:
    return _ratio(np.nansum(value), (~np.isnan(value)).sum())


def _ratio(top: float, bottom: float) -> float | None:
    return float(top / bottom) if bottom > 0 else None
