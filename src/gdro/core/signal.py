"""The loss of a prompt that the adversary sees (method D6)."""

from typing import Literal

import numpy as np

from gdro.core.types import FloatArray, IntArray

Signal = Literal["error", "surrogate", "failure", "learnability"]


def signal_P(
    signal: Signal,
    *,
    n_P: IntArray,
    correct_P: IntArray,
    loss_P: FloatArray | None,
    pass_at_k_P: FloatArray | None,
) -> FloatArray:
    """Loss of each prompt that the adversary sees (method D6). Its expectation is free of n.

    `error` 1 - m; `failure` 1 - pass@k, from the posterior; `learnability` m(1 - m) n / (n - 1),
    unbiased for p(1 - p), nan at n = 1; `surrogate` the prompt's mean loss (Eq. 6-7).

    Args:
        signal: Its name.
        n_P: Rollouts that came back, >= 1.
        correct_P: Right ones among them.
        loss_P: Mean prompt loss; needed by `surrogate` only.
        pass_at_k_P: Posterior mean of pass@k; needed by `failure` only.
    """
    mean_P = correct_P / n_P
    if signal == "error":
        return 1.0 - mean_P
    if signal == "failure":
        assert pass_at_k_P is not None
        return 1.0 - pass_at_k_P
    if signal == "learnability":
        pairs_P = np.where(n_P > 1, n_P - 1, np.nan)
        return mean_P * (1.0 - mean_P) * n_P / pairs_P
    assert loss_P is not None  # the configuration requires it of every outcome
    return np.asarray(loss_P, np.float64)
