"""The verifier: was the answer right?

`verify` marks completions, `math_reward` and `exact_reward` are reward functions for TRL, and
`check_golds` tells before training which golds no completion could meet. Importing this loads no
sympy: that lives in a worker process which starts at the first answer that needs it.
"""

from gdro.rewards.functions import exact_reward, math_reward
from gdro.rewards.verdict import Verdict
from gdro.rewards.verify import check_golds, exact_match, verify

__all__ = ["Verdict", "check_golds", "exact_match", "exact_reward", "math_reward", "verify"]
