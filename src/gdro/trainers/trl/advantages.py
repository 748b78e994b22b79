"""Group-relative advantages of ragged groups."""

import torch
from torch import Tensor
from trl.trainer.utils import nanstd


def group_advantages(rewards_R: Tensor, n_P: Tensor, scale_rewards: str) -> tuple[Tensor, Tensor]:
    """Advantages A = (r - mean) / (std + 1e-4) of groups of different sizes, as TRL computes them.

    Groups of one size are reduced together as a matrix, in TRL's own order of operations: where
    all groups are alike the result is TRL's to the last bit, which a segment sum is not.

    Args:
        rewards_R: float, shape (R,), groups one after the other; NaN marks an unscorable rollout,
            which counts in no mean and gets advantage 0.
        n_P: int64, shape (P,), sizes of the groups; they sum to R.
        scale_rewards: group (unbiased std of the group), batch (std of all), or none.

    Returns:
        advantages_R, shape (R,), and the std of each group, shape (P,).
    """
    mean_R, std_R = torch.empty_like(rewards_R), torch.empty_like(rewards_R)
    std_P = torch.empty(len(n_P), dtype=rewards_R.dtype, device=rewards_R.device)
    size_R = torch.repeat_interleave(n_P, n_P)
    for n in n_P.unique().tolist():
        rows = size_R == n
        groups = rewards_R[rows].view(-1, n)
        std = nanstd(groups, dim=1)
        mean_R[rows] = torch.nanmean(groups, dim=1).repeat_interleave(n)
        std_R[rows] = std.repeat_interleave(n)
        std_P[n_P == n] = std
    advantages = rewards_R - mean_R
    if scale_rewards == "group":
        advantages = advantages / (std_R + 1e-4)
    elif scale_rewards == "batch":
        advantages = advantages / (nanstd(rewards_R).expand_as(rewards_R) + 1e-4)
    return torch.nan_to_num(advantages, nan=0.0), std_P
