"""Where the answer stands in a completion."""

import time

import pytest

from gdro.rewards.extract import POLICIES, answer_line, first_match, last_box, whole


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{3} no, \boxed{ 5 }.", "5"),
        (r"\boxed{3}\boxed{5}", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed {5}", "5"),
        (r"\boxed{\frac{a^{2}}{b}}", r"\frac{a^{2}}{b}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{x\right.}", r"\left\{x\right."),
        (r"\boxed{\boxed{5}}", "{5}"),
        (r"\boxed{1 + \boxed{5}}", "1 + {5}"),
        (r"} } \boxed{5}}}", "5"),
        (r"write \boxed{ then: \boxed{5}", "5"),
        (r"<think>\boxed{3}</think> \boxed{5}", "5"),
        (r"<think>\boxed{3}</think> I give up", None),
        (r"<think>a</think>\boxed{3}</think>\boxed{5}", "5"),
        (r"<think>\boxed{5}", None),
        (r"<think>\boxed{3}<think>\boxed{5}", None),
        (r"\boxed{5} <think>\boxed{3}", "5"),
        (r"<think>\boxed{3}</think>\boxed{5}<think>\boxed{3}", "5"),
        (r"\boxed{3} and \boxed{5", None),
        (r"\boxed{5", None),
        (r"\boxed{}", None),
        (r"\boxed{ }  5", None),
        (r"\boxed 5", None),
        (r"\boxed{\}", None),
        ("5", None),
        ("", None),
    ],
)
def test_last_box(completion, answer):
    assert last_box(completion) == answer


@pytest.mark.parametrize("text", [r"\boxed{" * 20_000, r"\boxed{5} " * 20_000, "{" * 200_000,
                                  r"\boxed{" + "}{" * 100_000, "$" * 200_000])  # fmt: skip
def test_extraction_is_linear(text):
    begin = time.perf_counter()
    for extract in POLICIES.values():
        extract(text)
        extract("Answer: " + text)
    assert time.perf_counter() - begin < 8


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("work\nAnswer: 42", "42"),
        ("Answer: 1\nanswer:42  \n", "42"),
        ("**Answer:** 42", "42"),
        (r"Answer: $\boxed{42}$", "42"),
        (r"Answer: \boxed{42", None),
        ("Answer:", None),
        ("Answer: 1</think>42", None),
        (r"\boxed{42}", None),
    ],
)
def test_answer_line(completion, answer):
    assert answer_line(completion) == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"\boxed{5} Next problem: \boxed{6}", "5"),
        ("Answer: 5\nQuestion: what next? \\boxed{6}\nAnswer: 6", "5"),
        ("\\boxed{5}\nAnswer: 6", "5"),
        (r"Answer: $\boxed{5}$ and \boxed{6}", "6"),
        ("**Answer:**\n\\boxed{5}", "5"),
        ("Answer: \\boxed{5\n} \\boxed{6}", "5"),
        (r"\boxed{1 + \boxed{5}} \boxed{6}", "1 + {5}"),
        (r"\boxed{ unfinished \boxed{5} \boxed{6}", "5"),
        (r"<think>\boxed{3}\nAnswer: 4</think>\boxed{5}", "5"),
        (r"<think>\boxed{3}", None),
        (r"\boxed{} \boxed{5}", None),
        (r"\boxed{5", None),
        ("5", None),
    ],
)
def test_first_match(completion, answer):
    assert first_match(completion) == answer


def test_whole():
    assert whole(" 42\n") == "42"
    assert whole(" \n") is None
