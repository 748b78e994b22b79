"""What the verifier said of each rollout, counted by bin for the trace."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdro.core.types import Plan
from gdro.rewards.verdict import VERDICTS, Verdict

COUNTED = (Verdict.unparsed, Verdict.timeout)
"""Right ones are in `correct_B`, and what is neither is wrong."""

_CODES = {verdict.value: code for code, verdict in enumerate(Verdict)}
UNKNOWN = -1


def lengths_of(
    completion_ids: Sequence[Sequence[int]], tool_mask: Sequence[Sequence[int]] | None
) -> list[int]:
    """Tokens that the model has said, as TRL counts them: without what tools put in between."""
    return [len(ids) for ids in completion_ids] if tool_mask is None else list(map(sum, tool_mask))


def gathered(trainer: Any, name: str, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Tokens and verdicts, both int64[rollouts of all processes].

    Args:
        trainer: The trainer, whose reward functions have just been called.
        name: Of the function that says correct; ours log their verdicts, others' are unknown (-1).
        lengths: Tokens of each rollout of this process.

    Returns:
        Tokens of each rollout; the place in `Verdict` of what was said of it.
    """
    said = trainer._pending_extra_logs.get(VERDICTS.format(name), [])
    codes = [_CODES.get(verdict, UNKNOWN) for verdict in said]
    if len(codes) != len(lengths):
        codes = [UNKNOWN] * len(lengths)
    acc = trainer.accelerator
    found = acc.gather(torch.tensor([lengths, codes], device=acc.device).T.contiguous())
    return found[:, 0], found[:, 1]


def by_bin(verdict_R: Tensor, plan: Plan, num_bins: int) -> dict[str, Any]:
    """`unparsed_B`, `timeout_B`, and their sums over all rollouts, the unseen prompts' too.

    Args:
        verdict_R: As `gathered` gives it, by slot of the plan.
        plan: What was generated.
        num_bins: B.

    Returns:
        Nothing where nobody gave a verdict.
    """
    codes, bin_R = verdict_R.cpu().numpy(), plan.bin_P[plan.slot_R]
    found: dict[str, Any] = {}
    if (codes == UNKNOWN).all():
        return found
    for verdict in COUNTED:
        hit = codes == _CODES[verdict]
        counts_B = np.bincount(bin_R[hit & (bin_R >= 0)], minlength=num_bins)
        found |= {verdict.value: int(hit.sum()), f"{verdict}_B": counts_B.tolist()}
    return found
