"""Generation in rounds on TRL: several batches of rollouts, of which the trained rows make one.

TRL's method generates, scores and pads one batch. For methods that generate in rounds it is called
once a round; the rows that train are then taken from all rounds and dealt out anew, so that every
process keeps the number of rows that TRL planned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from gdro.core.errors import UnsupportedError
from gdro.core.types import FloatArray, IntArray, Outcome, Plan
from gdro.rewards.verdict import Verdict

_LEFT = ("prompt_ids", "prompt_mask")
_RIGHT = (
    "completion_ids", "completion_mask", "tool_mask", "old_per_token_logps",
    "ref_per_token_logps", "sampling_per_token_logps", "importance_sampling_ratio",
)  # fmt: skip
_FLAT = ("advantages",)
_COUNT = "num_items_in_batch"
_METRICS = (
    "reward", "reward_std", "frac_reward_zero_std", *(f"verify/{v}" for v in Verdict),
    *(f"completions/{kind}_{of}length" for kind in ("mean", "min", "max")
      for of in ("", "terminated_")), "completions/clipped_ratio",
)  # fmt: skip
"""What TRL logs once a round, beside the rewards of each function."""


def padded_size(size: int, num_generations: int, num_processes: int) -> int:
    """The least number of rows >= size that TRL can group and that the processes can share."""
    step = math.lcm(num_generations, num_processes)
    return -(-size // step) * step


@dataclass(frozen=True)
class Round:
    """What is generated at once.

    Attributes:
        plan: As it stands.
        slot_R: int64, slot of every row of all processes; those that only pad come last, -1.
        inputs: Rows of the training set, one for each row of this process.
        earlier: Slot, and whether it is correct, of every rollout of the step's earlier rounds.
    """

    plan: Plan
    slot_R: IntArray
    inputs: list[dict[str, Any]]
    earlier: tuple[IntArray, FloatArray] = (np.zeros(0, np.int64), np.zeros(0))


def in_rounds(
    trainer: Any, generate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    plan: Plan, rows_P: np.ndarray, local: int,
) -> tuple[Plan, Tensor, dict[str, Any], tuple[int, int]]:  # fmt: skip
    """Generates until the controller has what the step needs.

    Leaves the trainer's `_correct_R`, `_tokens_R`, `_verdict_R` and `_rewards_RF` with everything
    that was generated, by slot of the plan.

    Args:
        trainer: The trainer; its controller decides on the main process.
        generate: TRL's method that generates and scores rows of the training set.
        plan: Of the first round.
        rows_P: Row of the training set of each of its prompts.
        local: Rows of this process that train.

    Returns:
        The last plan, the positions that train in what was generated, this process's batch of
        them, and the rollouts and tokens of rows that only filled a batch.
    """
    acc, device = trainer.accelerator, trainer.accelerator.device
    rounds, slots = Rounds(trainer), plan.slot_R
    while True:
        size = padded_size(len(slots), trainer.num_generations, acc.num_processes)
        every_R = np.append(slots, np.full(size - len(slots), -1))
        mine = np.split(every_R, acc.num_processes)[acc.process_index]
        inputs = trainer._fetch(rows_P[np.where(mine < 0, slots[-1], mine)])
        trainer._round = Round(plan, every_R, inputs, rounds.so_far)
        rounds.add(generate(inputs), torch.as_tensor(every_R, device=device))
        slot_R, correct_R, *rest = rounds.generated()
        trainer._tokens_R, trainer._verdict_R, trainer._rewards_RF = rest
        decided: list[Any] = [None]
        if acc.is_main_process:
            decided = [_decide(trainer.controller, plan, slot_R, correct_R)]
        more, kept_R = broadcast_object_list(decided)[0]
        if more is None:
            break
        more_P = more.n_P.copy()
        more_P[: len(plan.n_P)] -= plan.n_P
        if more.row_P is not None:
            rows_P = np.concatenate([rows_P, more.row_P[len(rows_P) :]])
        slots, plan = np.repeat(np.arange(len(more_P)), more_P), more
    trainer._correct_R = correct_R
    kept_R = torch.as_tensor(kept_R, device=device)
    batch = rounds.taken(kept_R, acc.process_index * local, local)
    return plan, kept_R, batch, rounds.padding


def _decide(controller: Any, plan: Plan, slot_R: Tensor, correct_R: Tensor) -> tuple[Any, Any]:
    """The extended plan, or None and what trains."""
    slots = slot_R.cpu().numpy()
    outcome = Outcome(
        prompt_R=np.asarray(plan.prompt_P)[slots],
        slot_R=slots,
        correct_R=correct_R.double().cpu().numpy(),
    )
    more = controller.refill(plan, outcome)
    return more, None if more is not None else controller.settle(plan, outcome)


class Rounds:
    """Collects the batches of a step's rounds, gathered over the processes.

    Args:
        trainer: The trainer, whose logs are kept in line with what trains.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._acc = trainer.accelerator
        self._batches: list[dict[str, Tensor]] = []
        self._slot_R: list[Tensor] = []
        self._correct_R: list[Tensor] = []
        self._tokens_R: list[Tensor] = []
        self._verdict_R: list[Tensor] = []
        self._rewards_RF: list[Tensor] = []
        self._logged: list[dict[str, list[Any]]] = []
        self._order = torch.empty(0, dtype=torch.long)

    def add(self, output: dict[str, Any], slot_R: Tensor) -> None:
        """Takes in a round just generated.

        Args:
            output: What TRL made of this process's rows.
            slot_R: The plan's slot of every row of all processes; -1 for rows that only pad.

        Raises:
            UnsupportedError: for images, whose tensors have no row a rollout.
        """
        known = (*_LEFT, *_RIGHT, *_FLAT, _COUNT)
        if other := sorted(set(output) - set(known)):
            raise UnsupportedError(
                f"methods that generate in rounds do not support {', '.join(other)} in a batch"
            )
        trainer = self._trainer
        self._batches.append(
            {name: self._gathered(name, output[name]) for name in output if name != _COUNT}
        )
        self._slot_R.append(slot_R)
        self._correct_R.append(trainer._correct_R)
        self._tokens_R.append(trainer._tokens_R)
        self._verdict_R.append(trainer._verdict_R)
        self._rewards_RF.append(trainer._rewards_RF)
        self._logged.append(
            {name: list(entries)[-len(slot_R) :] for name, entries in _logs(trainer).items()}
        )

    def _gathered(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.dim() > 1:
            tensor = self._acc.pad_across_processes(
                tensor, dim=1, pad_index=self._fill(name), pad_first=name in _LEFT
            )
        return self._acc.gather(tensor)

    def _fill(self, name: str) -> int:
        if name in ("prompt_ids", "completion_ids"):
            return self._trainer._tokenizer.pad_token_id
        return int(name in ("tool_mask", "importance_sampling_ratio"))  # as TRL pads: a ratio is 1

    def generated(self) -> list[Tensor]:
        """Slot, correct, tokens, verdict and rewards of all rollouts by slot, without padding."""
        every_R = torch.cat(self._slot_R)
        order = torch.argsort(every_R, stable=True)
        self._order = order[every_R[order] >= 0]
        parts = (
            self._slot_R, self._correct_R, self._tokens_R, self._verdict_R, self._rewards_RF
        )  # fmt: skip
        return [torch.cat(part)[self._order] for part in parts]

    @property
    def so_far(self) -> tuple[IntArray, FloatArray]:
        """Slot, and whether it is correct, of all rollouts in the order in which they came."""
        if not self._slot_R:
            return Round.earlier
        slot_R = torch.cat(self._slot_R).cpu().numpy()
        correct_R = torch.cat(self._correct_R).double().cpu().numpy()
        return slot_R[slot_R >= 0], correct_R[slot_R >= 0]

    @property
    def padding(self) -> tuple[int, int]:
        """Rollouts that only filled a batch, and their tokens."""
        fills_R = torch.cat(self._slot_R) < 0
        return int(fills_R.sum()), int(torch.cat(self._tokens_R)[fills_R].sum())

    def taken(self, kept_R: Tensor, first: int, local: int) -> dict[str, Any]:
        """The batch of the rollouts that train, as one call of TRL's method would give it.

        Args:
            kept_R: Their positions in what `generated` returned.
            first: Of these, the first row of this process.
            local: Rows of this process.
        """
        rows = self._order[kept_R]
        output: dict[str, Any] = {}
        for name in self._batches[0]:
            parts = [batch[name] for batch in self._batches]
            if parts[0].dim() > 1:
                parts = [_widened(p, parts, name in _LEFT, self._fill(name)) for p in parts]
            output[name] = torch.cat(parts)[rows]
        mask = output["completion_mask"] * output.get("tool_mask", 1)
        count = mask.sum()
        output = {name: tensor[first : first + local] for name, tensor in output.items()}
        self._relog(rows.tolist())
        return output | {_COUNT: count}

    def _relog(self, rows: list[int]) -> None:
        """Logs the rows that train, and means over everything that was generated."""
        trainer = self._trainer
        for name, entries in _logs(trainer).items():
            every = []
            for logged, slot_R in zip(self._logged, self._slot_R, strict=True):
                found = logged.get(name, [])  # a column of the user's may start in a later round
                every += [None] * (len(slot_R) - len(found)) + found
            for _ in range(min(len(rows), len(entries))):
                entries.pop()
            entries.extend(every[row] for row in rows)
        metrics, rounds = trainer._metrics["train"], len(self._batches)
        taken = {n: metrics[n][-rounds:] for n in metrics if n in _METRICS or n[:8] == "rewards/"}
        scored = [float((slot_R >= 0).sum()) for slot_R in self._slot_R]
        whole = [float(len(slot_R)) for slot_R in self._slot_R]  # lengths count padding rows too
        clipped = taken["completions/clipped_ratio"]
        ended = [s * (1 - c) for s, c in zip(whole, clipped, strict=True)]
        for name, values in taken.items():
            sizes = ended if "_terminated_" in name else whole
            sizes = scored if "reward" in name else sizes
            metrics[name][-rounds:] = [_merged(name, values, sizes)]


def _merged(name: str, values: list[float], sizes: list[float]) -> float:
    """A metric of several rounds as one: the least, the most, or the mean over all rows."""
    held = [(v, s) for v, s in zip(values, sizes, strict=True) if s > 0]
    if "/min_" in name or "/max_" in name:
        return (min if "/min_" in name else max)((v for v, _ in held), default=0.0)
    return sum(v * s for v, s in held) / sum(s for _, s in held) if held else 0.0


def _logs(trainer: Any) -> dict[str, Any]:
    """TRL's logs of completions, one entry a row."""
    logs = trainer._logs
    found = {name: logs[name] for name in ("prompt", "completion", "advantages")}
    found |= {f"rewards/{name}": entries for name, entries in logs["rewards"].items()}
    return found | {f"extra/{name}": entries for name, entries in logs["extra"].items()}


def _widened(tensor: Tensor, parts: list[Tensor], left: bool, fill: int) -> Tensor:
    """Padded to the widest of the parts."""
    missing = max(p.shape[1] for p in parts) - tensor.shape[1]
    pad = (missing, 0) if left else (0, missing)
    return torch.nn.functional.pad(tensor, pad, value=fill)
