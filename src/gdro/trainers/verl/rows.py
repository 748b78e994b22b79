"""Rows of a training batch in verl's transfer queue: reading what came back, weighing it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict

from gdro.core.errors import DataError
from gdro.core.types import FloatArray
from gdro.trainers.verl.driver import Came

SCORE = "score"
"""The setting `gdro.correct` that takes the score itself for right or wrong."""


def session(key: str) -> tuple[str, int, int]:
    """Uid, number of the rollout and of its output: a row's key is `{uid}_{rollout}_{output}`."""
    uid, rollout, output = key.rsplit("_", 2)
    return uid, int(rollout), int(output)


def is_padding(tag: dict[str, Any]) -> bool:
    """Whether a row only fills the batch."""
    return bool(tag.get("is_padding", False))


def read(batch: Any, *fields: str) -> Any:
    """Fields of all rows of a batch."""
    return tq.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=list(fields)
    )


def row_sums(values: Any) -> FloatArray:
    """float64[rows], of a nested or a padded tensor."""
    if not values.is_nested:
        return values.double().sum(dim=-1).numpy()
    flat, lengths = values.values().double(), values.offsets().diff()
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return torch.zeros(len(lengths), dtype=torch.float64).index_add_(0, rows, flat).numpy()


def came_back(batch: Any, correct: str) -> Came:
    """What came back, read before verl pads, reorders or (we) replace anything of it.

    Args:
        batch: As the replay buffer gave it.
        correct: The setting `gdro.correct`.

    Raises:
        DataError: if what says correct is not there, or says other than 0 and 1.
    """
    more = () if correct == SCORE else ("extra_fields",)
    data = read(batch, "rm_scores", "response_mask", *more)
    score, spoken = row_sums(data["rm_scores"]), row_sums(data["response_mask"])
    last: dict[tuple[str, int], tuple[int, int]] = {}  # rollout -> output, row
    tokens: dict[tuple[str, int], int] = {}
    for row, key in enumerate(batch.keys):
        uid, rollout, output = session(key)
        name = uid, rollout
        last[name] = max(last.get(name, (-1, -1)), (output, row))
        tokens[name] = tokens.get(name, 0) + int(spoken[row])
    names = sorted(last)  # the order of arrival is chance
    rows = [last[name][1] for name in names]
    score_R = score[rows]
    said_R = score_R
    if correct != SCORE:
        infos = [getattr(info, "data", info) for info in data["extra_fields"]]
        said_R = np.array([_said(infos[row], correct) for row in rows], np.float64)
    bad = np.flatnonzero((said_R != 0) & (said_R != 1))
    if len(bad):
        raise DataError(
            f"gdro.correct={correct} says {said_R[bad[0]]:g} of a rollout: it must say 0 or 1. "
            "Where the score is shaped, return what says correct beside it from the reward "
            "function ({'score': ..., 'acc': ...}) and set gdro.correct=acc"
        )
    return Came(
        key_R=[batch.keys[row] for row in rows],
        uid_R=[uid for uid, _ in names],
        score_R=score_R,
        correct_R=said_R,
        tokens_R=np.array([tokens[name] for name in names], np.int64),
    )


def _said(extra: dict[str, Any], name: str) -> float:
    info = extra.get("reward_extra_info", {})
    if name not in info:
        raise DataError(
            f"gdro.correct={name}: the reward function returned no {name!r}, it returned "
            f"{', '.join(map(repr, info)) or 'a bare score'}"
        )
    return float(info[name])


def weigh(batch: Any, weight: Sequence[float]) -> None:
    """Multiplies the advantages of every row by its weight; writes nothing where all are 1.

    Args:
        batch: With advantages.
        weight: One per row.
    """
    if all(w == 1.0 for w in weight):
        return
    advantages = read(batch, "advantages")["advantages"]
    factors = torch.tensor(weight, dtype=advantages.dtype)
    if advantages.is_nested:
        lengths = advantages.offsets().diff()
        values = advantages.values() * factors.repeat_interleave(lengths)
        weighed = torch.nested.nested_tensor_from_jagged(values, offsets=advantages.offsets())
    else:
        weighed = advantages * factors[:, None]
    fields = TensorDict({"advantages": weighed}, batch_size=len(batch.keys))
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def loss_and_score(batch: Any, came: Came, *, beta: float, kl: str) -> dict[str, FloatArray]:
    """Prompt loss (Eq. 6-7) and gradient-norm proxy of each rollout, by the policy before the step.

    The ratio of the surrogate is 1 there, so the loss is minus the raw advantage plus beta KL.

    Args:
        batch: With raw advantages and old log-probabilities.
        came: Whose rollouts.
        beta: Weight of the KL to the reference; 0 where there is none.
        kl: verl's name of its estimator.

    Returns:
        `loss_R` and `score_R`, as `Outcome` takes them.
    """
    from verl.trainer.ppo.core_algos import kl_penalty

    names = ["advantages", "old_log_probs", "response_mask"] + ["ref_log_prob"] * (beta != 0)
    data = read(batch, *names)
    lengths = data["response_mask"].offsets().diff()
    flat = {name: data[name].values().double() for name in names}
    mask, advantages, logps = (flat[n] for n in ("response_mask", "advantages", "old_log_probs"))
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return total(values) / total(torch.ones_like(mask)).clamp(min=1)

    def total(values: torch.Tensor) -> torch.Tensor:
        sums = torch.zeros(len(lengths), dtype=torch.float64)
        return sums.index_add_(0, row, values * mask)

    losses = -advantages
    if beta != 0:
        losses = losses + beta * kl_penalty(logps, flat["ref_log_prob"], kl)
    loss, score = mean(losses), mean(advantages) ** 2 * total((1 - logps.exp()) ** 2)
    place = {key: row for row, key in enumerate(batch.keys)}
    rows = [place[key] for key in came.key_R]
    return {"loss_R": loss[rows].numpy(), "score_R": score[rows].numpy()}
