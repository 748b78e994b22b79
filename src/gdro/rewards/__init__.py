"""The verifier: was the answer right?

`verify` marks completions, by formula; `numeric_match` and `exact_match` by number and by letter.
`math_reward`, `numeric_reward` and `exact_reward` are reward functions for TRL, `compute_score` is
verl's, and `reward_function` finds those and the user's by name. `check_golds` tells before
training which golds no completion could meet. Importing this loads no sympy: that lives in worker
processes which start at the first answer that needs them.
"""

from gdro.rewards.functions import (
    compute_score,
    exact_reward,
    math_reward,
    numeric_reward,
    reward_function,
)
from gdro.rewards.verdict import Verdict
from gdro.rewards.verify import check_golds, check_numbers, exact_match, numeric_match, verify

__all__ = [
    "Verdict",
    "check_golds",
    "check_numbers",
    "compute_score",
    "exact_match",
    "exact_reward",
    "math_reward",
    "numeric_match",
    "numeric_reward",
    "reward_function",
    "verify",
]
