"""Evaluation: sample k completions of each prompt, verify them, score them.

`evaluate` scores a model in memory, as training does along the way; `gdro eval` is `run`, which
keeps what it samples: `plan` says what is asked, `engines` answer, `store` keeps, `score` scores,
and `compare` sets two evaluations side by side.
"""

from typing import TYPE_CHECKING, Any

from gdro.evals.evaluation import Evaluation

if TYPE_CHECKING:
    from gdro.evals.sampling import evaluate

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    """`evaluate` on first use: it loads torch, which scoring saved samples does without."""
    if name == "evaluate":
        from gdro.evals.sampling import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
