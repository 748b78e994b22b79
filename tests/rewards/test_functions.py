"""Reward functions in TRL's signature."""

import pytest

from gdro.core.errors import DataError
from gdro.rewards import exact_reward, math_reward


def chat(text):
    return [{"role": "assistant", "content": text}]


def test_texts_and_chats():
    texts = [r"\boxed{5}", r"\boxed{6}", "5"]
    rewards = math_reward(texts, answer=["5"] * 3, prompts=["p"] * 3, completion_ids=[[1]] * 3)
    assert rewards == [1.0, 0.0, 0.0]
    assert all(type(r) is float for r in rewards)
    assert math_reward([chat(t) for t in texts], answer=["5"] * 3) == rewards
    assert exact_reward(completions=["5", " 5\n", "5."], answer=["5"] * 3) == [1.0, 1.0, 0.0]
    assert exact_reward([chat("5"), chat(None), []], ["5"] * 3) == [1.0, 0.0, 0.0]


def test_last_message_counts_and_parts_are_joined():
    turns = [*chat(r"\boxed{5}"), {"role": "user", "content": "sure?"}, *chat(r"\boxed{6}")]
    parts = chat([{"type": "text", "text": r"\boxed"}, {"type": "text", "text": "{5}"}])
    assert math_reward([turns, parts], ["5", "5"]) == [0.0, 1.0]


def test_shares_of_verdicts_are_logged():
    logged = {}
    texts = [r"\boxed{5}", "none", r"\boxed{9^{9^9}}", r"\boxed{4}"]
    math_reward(texts, ["5"] * 4, log_metric=logged.__setitem__)
    assert logged == {"verify/right": 0.25, "verify/wrong": 0.5, "verify/unparsed": 0.25,
                      "verify/timeout": 0.0}  # fmt: skip


def test_no_completion():
    with pytest.raises(DataError, match="a completion must be text or a list of messages, got 5"):
        math_reward([5], ["5"])  # type: ignore[list-item]
    with pytest.raises(DataError, match="equal lengths, got 2 and 1"):
        math_reward(["5"], ["5", "5"])
