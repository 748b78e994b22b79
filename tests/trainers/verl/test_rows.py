"""Rows of a batch, read and replaced: in a queue that is a dict, without Ray."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from gdro.core.errors import UnsupportedError
from gdro.core.resolve import resolved
from gdro.trainers.verl import replay, rows
from gdro.trainers.verl.border import Settings
from gdro.trainers.verl.driver import Driver

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


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    """With a memory, of two prompts."""
    settings = Settings(controller=resolved("replay", {}, 3), method="replay", seed=0,
                        correct="score", trace=str(tmp_path / "trace.jsonl"))  # fmt: skip
    found = Driver(settings, n_mean=3, std_scaled=True)
    found.controller.bind(["a", "b"])
    return found


def remembers(driver: Driver, batch: Any) -> dict[str, float]:
    """What a step on this batch, of rollouts of the prompts a and b, puts successes in for."""
    uids = sorted({key.split("_")[0] for key in batch.keys})
    driver.plan(uids, np.array([uid[0] for uid in uids]))
    return replay.put_successes(batch, rows.came_back(batch, "score"), driver)


def group(uid: str, *found: Row) -> dict[str, Row]:
    return {f"{uid}_{i}_0": row for i, row in enumerate(found)}


WRONG = row([5], 0.0)


def test_a_success_takes_the_place_of_the_last_rollout_of_an_all_wrong_group(
    queue: Queue, driver: Driver
) -> None:
    right = row([7, 8, 9], 1.0)
    assert not remembers(driver, put(queue, group("a0", WRONG, right, WRONG)))
    batch = put(queue, group("a1", WRONG, WRONG, row([6, 6], 0.0)))
    assert remembers(driver, batch) == {"a1_2_0": 0.0}
    for name in ("responses", "input_ids", "position_ids", "rm_scores", "response_mask"):
        assert queue.rows["a1_2_0"][name].tolist() == right[name].tolist()
    assert batch.tags[2] == {"response_len": 3, "seq_len": 5}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"multi_modal_inputs": {"pixel_values": torch.zeros(1)}}, "multimodal inputs"),
        ({"position_ids": torch.zeros(4, 3)}, "multimodal inputs"),
        ({"routed_experts": torch.zeros(3, 1, 2)}, "routed_experts"),
        ({"response_mask": torch.tensor([0])}, "tools and several turns"),
    ],
)
def test_what_the_memory_cannot_take_is_refused_at_once(
    queue: Queue, driver: Driver, more: Row, words: str
) -> None:
    """In the first batch, of which nothing is remembered or recalled."""
    other = row([5], 0.0, **more)
    with pytest.raises(UnsupportedError, match=words):
        remembers(driver, put(queue, group("a0", other, other, other)))


def test_one_row_with_an_image_is_refused_where_it_would_be_replaced(
    queue: Queue, driver: Driver
) -> None:
    seen = row([5], 0.0, multi_modal_inputs={"pixel_values": torch.zeros(1)})
    right = row([5], 1.0, multi_modal_inputs={"pixel_values": torch.zeros(1)})
    remembers(driver, put(queue, group("a0", WRONG, WRONG) | group("b0", right, seen)))
    with pytest.raises(UnsupportedError, match="multimodal inputs"):
        remembers(driver, put(queue, group("a1", WRONG, WRONG) | group("b1", seen, seen)))
