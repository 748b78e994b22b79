"""The paper's prompt loss, per rollout, from what an update computes anyway."""

from typing import Any

import torch
from torch import Tensor


def prompt_loss_and_score(
    logps: Tensor,
    inputs: dict[str, Any],
    *,
    epsilon: tuple[float, float],
    delta: float | None,
    beta: float,
    bias_correction_kl: bool,
    sequence_level: bool,
) -> tuple[Tensor, Tensor]:
    """Eq. 6-7 with the *raw* advantages, averaged over tokens, and the gradient-norm proxy.

    The loss is the negative clipped surrogate plus beta KL as TRL has it (what TRL multiplies it by
    on top, vLLM's importance ratio and masks by entropy or drift, is left out). The score is
    A^2 * sum_t (1 - pi(y_t))^2.

    Args:
        logps: Log-probabilities of the completion tokens, shape (rows, tokens), detached.
        inputs: A batch as TRL's loss takes it, with `gdro_raw_advantages`.
        epsilon: Clip range, low and high.
        delta: Upper bound of the ratio of the unclipped branch, or None.
        beta: Weight of the KL to the reference.
        bias_correction_kl: Whether the KL is multiplied by the ratio.
        sequence_level: Whether the ratio is that of the sequence (its geometric mean).

    Returns:
        Loss and score of each row.
    """
    mask = inputs["completion_mask"]
    if "tool_mask" in inputs:
        mask = mask * inputs["tool_mask"]
    length = mask.sum(dim=1).clamp(min=1)
    advantages = inputs["gdro_raw_advantages"].unsqueeze(1)

    old = inputs.get("old_per_token_logps")
    log_ratio = torch.zeros_like(logps) if old is None else logps - old
    if sequence_level:
        log_ratio = ((log_ratio * mask).sum(dim=1) / length).unsqueeze(1)
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - epsilon[0], 1 + epsilon[1])
    capped = ratio if delta is None else torch.clamp(ratio, max=delta)
    losses = -torch.min(capped * advantages, clipped * advantages).expand_as(logps)
    if beta != 0.0:
        gap = inputs["ref_per_token_logps"] - logps
        kl = torch.exp(gap) - gap - 1
        losses = losses + beta * (kl * ratio if bias_correction_kl else kl)
    loss = (losses * mask).sum(dim=1) / length
    score = advantages.squeeze(1) ** 2 * ((1 - logps.exp()) ** 2 * mask).sum(dim=1)
    return loss, score
