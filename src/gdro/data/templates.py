r"""How a problem is put to the model. The id of a prompt does not depend on it."""

from typing import Any, Literal

Template = Literal["raw", "boxed", "chat", "think", "answer_line"]
Prompt = str | list[dict[str, Any]]

BOXED = r"Please reason step by step, and put your final answer within \boxed{}."
"""Qwen's instruction; the verifier's default policy reads what it asks for."""

R1_ZERO = (
    "A conversation between User and Assistant. The User asks a question, and the Assistant "
    "solves it. The Assistant first thinks about the reasoning process in the mind and then "
    "provides the User with the answer. The reasoning process is enclosed within <think> </think> "
    "and answer is enclosed within <answer> </answer> tags, respectively, i.e., <think> reasoning "
    "process here </think> <answer> answer here </answer>."
)
"""DeepSeek-R1-Zero's (arXiv:2501.12948, table 1), as sail-sg/understand-r1-zero words it."""

DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem."
)
DAPO_AFTER = 'Remember to put your answer on its own line after "Answer:".'
"""DAPO's (arXiv:2503.14476); the verifier's policy `answer_line` reads what it asks for."""

AROUND: dict[str, tuple[str, str]] = {
    "raw": ("", ""),
    "boxed": ("", f"\n{BOXED}"),
    "think": (f"{R1_ZERO}\nUser: ", f"\n{BOXED}\nAssistant: <think>"),
    "answer_line": (f"{DAPO_BEFORE}\n\n", f"\n\n{DAPO_AFTER}"),
}
"""What stands before and after the problem."""

TEMPLATES: tuple[str, ...] = ("raw", "boxed", "chat", "think", "answer_line")

_VERL = "Let's think step by step and output the final answer"
_KNOWN = [
    *AROUND.values(),
    ("", f' {_VERL} after "####".'),  # verl's GSM8K
    ("", rf" {_VERL} within \boxed{{}}."),  # verl's MATH
    ("", f" {BOXED}"),
]


def apply(template: str, problem: str) -> Prompt:
    r"""The prompt for a problem.

    Args:
        template: ``raw`` (the problem as it is); ``boxed`` (with Qwen's instruction, for a base
            model); ``chat`` (the same as one user message, to which the trainer applies the
            tokenizer's chat template); ``think`` (R1-Zero's text for a base model, asking for the
            box besides; it ends in ``<think>``); ``answer_line`` (DAPO's).
        problem: its text.
    """
    if template == "chat":
        return [{"role": "user", "content": apply("boxed", problem)}]
    before, after = AROUND[template]
    return f"{before}{problem}{after}"


def problem_of(prompt: Prompt) -> str:
    """The problem of a prompt: what its user messages say, without an instruction known here.

    For comparing problems only: prompts that come as messages are trained on as they are.
    """
    if not isinstance(prompt, str):
        prompt = "\n".join(m["content"] for m in prompt if m["role"] == "user")
    text = prompt.strip()
    for before, after in sorted(_KNOWN, key=lambda pair: -sum(map(len, pair))):
        before, after = before.strip(), after.strip()
        if len(text) >= len(before + after) and text.startswith(before) and text.endswith(after):
            return text[len(before) : len(text) - len(after)].strip()
    return text
