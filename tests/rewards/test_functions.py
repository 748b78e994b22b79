"""Reward functions in TRL's and verl's signatures, and those of users."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gdro.core.errors import ConfigError, DataError
from gdro.rewards import (
    compute_score,
    exact_reward,
    math_reward,
    numeric_reward,
    reward_function,
)


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
    assert numeric_reward([chat(" 5.0"), "05", "five"], ["5"] * 3) == [1.0, 1.0, 0.0]


def test_last_message_counts_and_parts_are_joined():
    turns = [*chat(r"\boxed{5}"), {"role": "user", "content": "sure?"}, *chat(r"\boxed{6}")]
    parts = chat([{"type": "text", "text": r"\boxed"}, {"type": "text", "text": "{5}"}])
    assert math_reward([turns, parts], ["5", "5"]) == [0.0, 1.0]


def test_policy_and_tolerance_of_the_math_reward():
    assert math_reward(["Answer: 5"], ["5"], policy="answer_line") == [1.0]
    assert math_reward([r"\boxed{500.01}"], ["500"]) == [0.0]
    assert math_reward([r"\boxed{500.01}"], ["500"], tolerance=1e-4) == [1.0]


def test_shares_of_verdicts_are_logged():
    logged = {}
    texts = [r"\boxed{5}", "none", r"\boxed{9^{9^9}}", r"\boxed{4}"]
    math_reward(texts, ["5"] * 4, log_metric=logged.__setitem__)
    assert logged == {"verify/right": 0.25, "verify/wrong": 0.5, "verify/unparsed": 0.25,
                      "verify/timeout": 0.0}  # fmt: skip


def test_verdicts_are_logged_by_the_name_of_the_function():
    texts, logged = [r"\boxed{5}", "5", r"\boxed{9^{9^9}}"], {}
    column = {"name": ["a"] * 3, "verdict_R": [0] * 3}  # columns of the user's
    math_reward(texts, ["5"] * 3, log_extra=logged.__setitem__, **column)
    exact_reward(texts, ["5"] * 3, log_extra=logged.__setitem__, **column)
    assert logged == {
        "verdict/math_reward": ["right", "wrong", "unparsed"],
        "verdict/exact_reward": ["wrong", "right", "wrong"],
    }


def test_no_completion():
    with pytest.raises(DataError, match="a completion must be text or a list of messages, got 5"):
        math_reward([5], ["5"])  # type: ignore[list-item]
    with pytest.raises(DataError, match="equal lengths, got 2 and 1"):
        math_reward(["5"], ["5", "5"])


def test_verls_calls():
    assert not inspect.iscoroutinefunction(compute_score)
    # verl 0.9.1: by keyword from the reward managers, by position from its offline evaluation.
    by_keyword = compute_score(
        data_source="math",
        solution_str=r"\boxed{\frac{2}{4}}",
        ground_truth=r"\frac12",
        extra_info={"index": 3, "num_turns": None, "rollout_reward_scores": {}},
        reward_router_address=None,
        reward_model_tokenizer=None,
    )
    assert type(by_keyword) is float
    assert by_keyword == 1.0
    assert compute_score("math", r"\boxed{5}", "6") == 0.0
    golds: list[Any] = [7, np.int64(7), "8"]
    scores = [compute_score("m", "Answer: 7", gold, policy="answer_line") for gold in golds]
    assert scores == [1.0, 1.0, 0.0]
    with ThreadPoolExecutor(8) as threads:
        scores = threads.map(lambda n: compute_score("m", rf"\boxed{{{n}x+x}}", "5x"), range(8))
    assert list(scores) == [float(n == 4) for n in range(8)]


@pytest.mark.parametrize("gold", ["", None, True, ["5"]])
def test_verls_gold_must_be_an_answer(gold):
    with pytest.raises(DataError, match=r"gold_R\[0\]"):
        compute_score("m", r"\boxed{5}", gold)


def test_functions_by_import_path():
    assert reward_function("math") is math_reward
    assert reward_function("numeric") is numeric_reward
    assert reward_function("gdro.rewards.exact_reward") is exact_reward
    assert reward_function("gdro.rewards:exact_reward") is exact_reward


def test_function_of_a_file_beside_which_others_lie(tmp_path, monkeypatch):
    (tmp_path / "helper_of_mine.py").write_text("BONUS = 0.5\n")
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from helper_of_mine import BONUS\n"
        "@dataclass\nclass Shape:\n    bonus: float = BONUS\n"
        "def shaped(completions, **kwargs):\n"
        "    return [Shape().bonus * len(c) for c in completions]\n"
    )
    found = reward_function(f"{tmp_path}/mine.py:shaped")
    assert found(completions=["ab"]) == [1.0]
    assert found.__name__ == "shaped"
    monkeypatch.chdir(tmp_path)
    assert reward_function("mine.py:shaped") is found, "the file is run once"
    assert reward_function("mine:shaped")(completions=["a"]) == [0.5]
    assert reward_function("mine.shaped")(completions=["a"]) == [0.5]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("maths", "must be exact, numeric, math, import paths .*, got 'maths'"),
        ("mine.py:", "got 'mine.py:'"),
        ("nothing.here", "cannot import 'nothing.here' .*No module named 'nothing'"),
        ("gdro.rewards:nothing", "has no attribute 'nothing'"),
        ("missing.py:f", "FileNotFoundError"),
        ("broken.py:f", "SyntaxError"),
        ("raises.py:f", r"\(ZeroDivisionError: division by zero\)"),
        ("fine.py:NUMBER", "is a int, not a function"),
        ("fine.py:partial", "has no __name__"),
    ],
)
def test_what_is_no_function_is_named(name, message, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "fine.py").write_text(
        "from functools import partial as p\nNUMBER = 5\npartial = p(print, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        reward_function(name)
