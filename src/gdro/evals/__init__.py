"""Evaluation: sample k completions of each prompt, verify them, score them."""

from gdro.evals.evaluation import Evaluation
from gdro.evals.sampling import evaluate

__all__ = ["Evaluation", "evaluate"]
