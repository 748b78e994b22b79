"""Rollouts where they most likely make a group mixed: water-filling on that probability."""

import numpy as np

from gdro.core.allocate.base import Allocator
from gdro.core.budget import concave
from gdro.core.policy import Batch
from gdro.core.types import FloatArray, IntArray


class Signal(Allocator):
    """Maximises the expected number of groups that are neither all right nor all wrong (D13).

    Only those have a gradient. The probability is concave in n, so the exact integer optimum takes
    the largest marginals. The uncertainty about p is integrated out, which favours prompts of which
    little is known over those known to be lost.
    """

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        last = int(batch.hi_P.max(initial=1))
        marginal_PK = signal_marginals(batch.a_P, batch.b_P, last)
        variance_P = batch.p_P * (1 - batch.p_P)
        return concave(marginal_PK, 1, batch.lo_P, batch.hi_P, batch.budget, rng, variance_P)


def signal_marginals(a_P: FloatArray, b_P: FloatArray, n_max: int) -> FloatArray:
    """What the steps n -> n + 1 add to 1 - E[p^n] - E[(1 - p)^n] under p ~ Beta(a, b).

    The step makes a group mixed that was not: E[p^n (1 - p)] + E[(1 - p)^n p], with
    E[p^n] = prod_{i<n} (a + i) / (a + b + i) and E[p^n (1 - p)] = E[p^n] b / (a + b + n).

    Returns:
        (P, n_max - 1), column n - 1 for the step from n; the sum over the first n - 1 columns is
        the probability that a group of n is mixed.
    """
    marginal_KP = np.empty((n_max - 1, a_P.size))
    total_P = a_P + b_P
    shape_2P = np.stack([a_P, b_P])
    mixed_2P = shape_2P / total_P * shape_2P[::-1]  # E[p^n] b and E[(1 - p)^n] a, from n = 1 on
    for n in range(1, n_max):  # all prompts at once: numpy accumulates slowly
        inverse_P = 1.0 / (total_P + n)
        np.multiply(mixed_2P[0] + mixed_2P[1], inverse_P, out=marginal_KP[n - 1])
        shape_2P += 1.0
        mixed_2P *= shape_2P
        mixed_2P *= inverse_P
    return marginal_KP.T
