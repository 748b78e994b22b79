r"""How a problem is put to the model. The id of a prompt does not depend on it."""

from typing import Any, Literal

Template = Literal["raw", "boxed", "chat"]
Prompt = str | list[dict[str, Any]]

BOXED = r"Please reason step by step, and put your final answer within \boxed{}."
"""Qwen's instruction; the verifier's default policy reads what it asks for."""

TEMPLATES: tuple[str, ...] = ("raw", "boxed", "chat")


def apply(template: str, problem: str) -> Prompt:
    """The prompt for a problem.

    Args:
        template: ``raw`` (the problem as it is), ``boxed`` (with the instruction, for a base
            model), or ``chat`` (the same as one user message, to which the tokenizer's chat
            template is then applied).
        problem: its text.
    """
    if template == "raw":
        return problem
    text = f"{problem}\n{BOXED}"
    return text if template == "boxed" else [{"role": "user", "content": text}]
