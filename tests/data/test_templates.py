"""The bytes of the templates, and taking them off again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gdro.data import arithmetic
from gdro.data.templates import TEMPLATES, apply, problem_of
from gdro.rewards import verify

BYTES = {
    "raw": "1+1?",
    "boxed": "1+1?\nPlease reason step by step, and put your final answer within \\boxed{}.",
    "think": "A conversation between User and Assistant. The User asks a question, and the "
    "Assistant solves it. The Assistant first thinks about the reasoning process in the mind and "
    "then provides the User with the answer. The reasoning process is enclosed within <think> "
    "</think> and answer is enclosed within <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>.\nUser: 1+1?\nPlease reason "
    "step by step, and put your final answer within \\boxed{}.\nAssistant: <think>",
    "answer_line": "Solve the following math problem step by step. The last line of your response "
    "should be of the form Answer: $Answer (without quotes) where $Answer is the answer to the "
    'problem.\n\n1+1?\n\nRemember to put your answer on its own line after "Answer:".',
}
BYTES["chat"] = [{"role": "user", "content": BYTES["boxed"]}]


def test_the_bytes_of_every_template():
    assert {name: apply(name, "1+1?") for name in TEMPLATES} == BYTES


QWEN = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_chat_goes_through_the_chat_template_of_the_tokenizer():
    tokenizer = AutoTokenizer.from_pretrained(arithmetic.base_path())
    text = tokenizer.apply_chat_template(
        apply("chat", "1+1?"), chat_template=QWEN, tokenize=False, add_generation_prompt=True
    )
    assert text == f"<|im_start|>user\n{BYTES['boxed']}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("template", TEMPLATES)
@given(problem=st.text("ab .$\n", max_size=9))
def test_the_problem_comes_off_its_template(template, problem):
    assert problem_of(apply(template, problem)) == problem.strip()


@pytest.mark.parametrize(
    "prompt",
    [
        'A? Let\'s think step by step and output the final answer after "####".',
        r"A? Let's think step by step and output the final answer within \boxed{}.",
        r"A? Please reason step by step, and put your final answer within \boxed{}.",
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": BYTES["boxed"]}],
    ],
)
def test_instructions_that_others_use_come_off(prompt):
    assert problem_of(prompt) in ("A?", "1+1?")


@pytest.mark.parametrize(
    ("completion", "policy"),
    [
        ("one and one</think> <answer>\\boxed{2}</answer>", "last_box"),  # after think
        ("So \\boxed{2}.", "last_box"),  # after boxed and chat
        ("One and one.\nAnswer: 2", "answer_line"),
    ],
)
def test_the_verifier_reads_what_the_templates_ask_for(completion, policy):
    assert verify(["2"], [completion], policy=policy) == ["right"]
