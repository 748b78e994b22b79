"""A small classifier for the tests of its parts."""

import numpy as np

from gdro.core.config import DifficultyConfig
from gdro.core.difficulty import Difficulty

FIXED = {"prior": "fixed", "prior_a": 0.3, "prior_b": 0.6}


def one(estimates=None, **config):
    """A classifier of one prompt; with `estimates`, its pass@k is read from there."""
    difficulty = Difficulty(DifficultyConfig(**config))
    row = difficulty.rows([0])
    if estimates is not None:
        it = iter(estimates)
        difficulty.pass_at_k = lambda rows: np.full(len(rows), next(it))
    return difficulty, row


def visit(difficulty, rows, n, correct):
    rows = np.atleast_1d(rows)
    difficulty.observe(rows, np.full(len(rows), n), np.full(len(rows), correct))
