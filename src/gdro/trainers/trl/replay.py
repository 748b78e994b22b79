"""Remembered successes on TRL: they enter between generation and everything that TRL makes of it.

TRL itself then computes old and reference log-probabilities of them, under the policy as it is now:
their importance ratio starts at 1, like that of a rollout just sampled.
"""

from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object

from gdro.core.replay import Success
from gdro.core.types import Outcome
from gdro.trainers.trl.rounds import Round


def with_successes(
    trainer: Any, now: Round, prompts: list[Any], generated: tuple[Any, ...]
) -> tuple[torch.Tensor, tuple[Any, ...]]:  # fmt: skip
    """Puts successes in the place of rollouts, and hands new ones that can train to the controller.

    Leaves the trainer's `_correct_R` and `_tokens_R` with what was generated.

    Args:
        trainer: The trainer; its controller decides on the main process.
        now: What has just been generated.
        prompts: The prompts of this process's rows, as TRL has prepared them.
        generated: What TRL's `_generate` gave for them.

    Returns:
        The rewards of what trains, of all processes, and what trains in the form of `generated`.
    """
    acc, plan = trainer.accelerator, now.plan
    prompt_ids, completion_ids, tool_mask, completions, logprobs, *more = generated
    generated_RF = trainer._calculate_rewards(now.inputs, prompts, completions, completion_ids)
    before = len(now.earlier[0])  # positions of this round's rows come after these
    decided: list[Any] = [None]
    if acc.is_main_process:
        fresh = now.slot_R >= 0
        correct_R = trainer._correct_R.double().cpu().numpy()[fresh]
        slot_R = np.concatenate([now.earlier[0], now.slot_R[fresh]])
        outcome = Outcome(
            prompt_R=np.asarray(plan.prompt_P)[slot_R],
            slot_R=slot_R,
            correct_R=np.concatenate([now.earlier[1], correct_R]),
        )
        found = trainer.controller.recall(plan, outcome)
        decided = [[{r - before: x for r, x in rows.items()} for rows in found]]
    recalled, wanted = broadcast_object_list(decided)[0]

    first = acc.process_index * len(prompts)
    mine = range(first, first + len(prompts))
    found = [
        (
            slot,
            Success(tuple(completion_ids[r - first]), tuple(generated_RF[r].tolist()), plan.step),
        )
        for r, slot in wanted.items()
        if r in mine and _trains(trainer, completion_ids[r - first], generated_RF[r])
    ]
    found = gather_object(found)
    if acc.is_main_process:
        trainer.controller.remember(plan, dict(found))

    rewards_RF = generated_RF.clone()
    completion_ids = list(completion_ids)
    logprobs = logprobs if logprobs is None else list(logprobs)
    for r, success in recalled.items():
        rewards_RF[r] = torch.tensor(success.rewards)
        if r in mine:
            completion_ids[r - first] = list(success.tokens)
            if logprobs is not None:  # None is what TRL takes for no correction
                logprobs[r - first] = [None] * len(success.tokens)
    return rewards_RF, (prompt_ids, completion_ids, tool_mask, completions, logprobs, *more)


def _trains(trainer: Any, completion_ids: list[int], rewards_F: torch.Tensor) -> bool:
    """Whether TRL trains on a rollout: some reward scores it, and it is not masked as truncated."""
    if trainer.mask_truncated_completions:
        tokenizer = trainer._tokenizer
        ends = getattr(trainer, "eos_token_ids", [tokenizer.eos_token_id])  # TRL 1.14 has but one
        if completion_ids[-1] not in (*ends, tokenizer.pad_token_id):
            return False
    return not bool(rewards_F.isnan().all())
