"""Knapsack RL: rollouts where a mixed group would teach most (Li et al. 2025, arXiv 2509.25849)."""

import numpy as np

from gdro.core.allocate.base import Allocator
from gdro.core.budget import concave
from gdro.core.policy import Batch
from gdro.core.types import IntArray


class Knapsack(Allocator):
    """Maximises sum (1 - p^n - (1 - p)^n) p (1 - p)^2: chance of a gradient times what it is worth.

    The source fills its knapsack by dynamic programming; the value is concave in n, so taking
    the largest marginals, [p^n (1 - p) + (1 - p)^n p] p (1 - p)^2 at n -> n + 1, does as well.
    p is the posterior mean where the source takes the last epoch's rate and needs special cases
    for 0 and 1.
    """

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        n_K = np.arange(1, int(batch.hi_P.max(initial=2)))
        p = batch.p_P[:, None]
        mixes_PK = p**n_K * (1 - p) + (1 - p) ** n_K * p
        marginal_PK = mixes_PK * p * (1 - p) ** 2
        return concave(marginal_PK, 1, batch.lo_P, batch.hi_P, batch.budget, rng)
