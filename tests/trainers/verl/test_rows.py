"""Rows of a batch, read and replaced: in a queue that is a dict, without Ray."""

import types
from typing import Any

import pytest
import torch
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from gdro.trainers.verl import replay, rows

Row = dict[str, Any]


class Queue:
    """verl's transfer queue, as far as a batch's rows go."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def kv_batch_get(
        self, keys: list[str], partition_id: str, select_fields: list[str] | None = None
    ) -> Any:
        found = [self.rows[key] for key in keys]
        return list_of_dict_to_tensordict(
            [{n: row[n] for n in select_fields or row} for row in found]
        )

    def kv_batch_put(
        self, keys: list[str], partition_id: str, fields: Any, tags: Any = None
    ) -> None:
        for key, row in zip(keys, fields, strict=True):
            self.rows[key] |= {name: row[name] for name in row.keys()}  # noqa: SIM118


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    found = Queue()
    for module in (rows, replay):
        monkeypatch.setattr(module, "tq", found)
    return found


def row(response: list[int], score: float, **more: Any) -> Row:
    """A prompt of two tokens, a completion, and its score."""
    said, spoken = torch.tensor(response), torch.tensor([1, 2, *response])
    scores = torch.zeros(len(response))
    scores[-1] = score
    return {
        "prompts": spoken[:2], "responses": said, "response_mask": torch.ones_like(said),
        "loss_mask": torch.ones_like(said), "input_ids": spoken, "rm_scores": scores,
        "position_ids": torch.arange(len(spoken)), "multi_modal_inputs": {},
    } | more  # fmt: skip


def put(queue: Queue, found: dict[str, Row]) -> Any:
    """A batch of these rows."""
    queue.rows |= found
    tags = [{"response_len": len(r["responses"]), "seq_len": len(r["input_ids"])}
            for r in found.values()]  # fmt: skip
    return types.SimpleNamespace(keys=list(found), tags=tags, partition_id="train")


def test_tokens_are_those_that_the_model_has_said(queue: Queue) -> None:
    """Of all outputs of a rollout; what a tool put in between is not."""
    tool = row([3, 4, 5, 6], 1.0, response_mask=torch.tensor([1, 0, 0, 1]))
    batch = put(queue, {"a_0_0": row([3, 4, 5], 0.0), "a_0_1": row([7], 1.0), "a_1_0": tool})
    came = rows.came_back(batch, "score")
    assert came.key_R == ["a_0_1", "a_1_0"]
    assert came.tokens_R.tolist() == [4, 2]
