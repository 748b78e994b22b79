"""Draws by the adversary's mixture: `prompt.realisation=sample` (method D9)."""

import numpy as np

from gdro.core.policy import Setting
from gdro.core.select.base import Selector
from gdro.core.select.pool import Pool
from gdro.core.types import UNSEEN, FloatArray, IntArray


class Mixture(Selector):
    """Draws prompts so that bin b has mass q(b) in the step: `draw_by_bin`."""

    def __init__(self, setting: Setting) -> None:
        self._adversary, self._config = setting.adversary, setting.config.prompt

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        return draw_by_bin(
            pool.bin_N,
            pool.visits_N,
            pool.last_N,
            self._adversary.q_B(pool.share_B),
            num_prompts,
            self._config.max_repeat,
            self._config.max_gap,
            rng,
        )


def draw_by_bin(
    bin_N: IntArray,
    visits_N: IntArray,
    last_N: IntArray,
    q_B: FloatArray,
    num_prompts: int,
    max_repeat: float,
    max_gap: float,
    rng: np.random.Generator,
) -> IntArray:
    """Draws rows without replacement so that bin b has the expected mass q(b).

    Unseen prompts keep their share of the data set; what empty bins have of q goes to the others
    in proportion. Counts by bin are drawn systematically, so they differ from their expectation by
    less than one; what a bin has too few eligible prompts for goes to the others likewise. Within
    a bin the least visited come first, equal ones by lot.

    Two bounds hold for every prompt: it is drawn at most `max_repeat` times as often as the average
    one, rounded up, and once it has waited for `max_gap` epochs it comes before all others (the
    longest wait first), so that a mixture that has left it cannot forget it.

    Args:
        bin_N: Bin of each row, -1 for unseen.
        visits_N: How often each row was drawn before.
        last_N: Number of draws (of any row) when each row was drawn last; 0 if never.
        q_B: The mixture over bins.
        num_prompts: Rows to draw.
        max_repeat: Bound on a prompt's share of the draws, >= 1.
        max_gap: Longest wait, in epochs of len(bin_N) draws, > 1.
        rng: Rounding, ties, and the order of the result.

    Returns:
        Rows, in random order.
    """
    size, num_bins = len(bin_N), len(q_B)
    limit = np.ceil(max_repeat * (visits_N.sum() + num_prompts) / size)
    eligible = visits_N < limit
    if eligible.sum() < num_prompts:  # the average prompt is always within the limit
        eligible = np.ones(size, bool)
    waited = visits_N.sum() - last_N
    overdue = np.flatnonzero(waited > max_gap * size)
    overdue = overdue[np.argsort(-waited[overdue], kind="stable")][:num_prompts]
    eligible[overdue] = False
    num_prompts -= len(overdue)
    class_N = np.where(bin_N == UNSEEN, num_bins, bin_N)
    room = np.bincount(class_N[eligible], minlength=num_bins + 1)
    unseen = np.count_nonzero(bin_N == UNSEEN) / size
    mass = np.append((1.0 - unseen) * _over_present(q_B, room[:-1]), unseen)
    count = systematic(within(mass, room, num_prompts), rng)

    rows = by_class(np.where(eligible, class_N, -1), count, visits_N, rng)
    return rng.permutation(np.concatenate([overdue, rows]))


def by_class(
    class_N: IntArray, count_C: IntArray, visits_N: IntArray, rng: np.random.Generator
) -> IntArray:
    """`count` positions of each class: the least visited first, equal ones by lot."""
    lot = rng.random(len(class_N))
    chosen = [
        of_class[np.lexsort((lot[of_class], visits_N[of_class]))[: count_C[c]]]
        for c in np.flatnonzero(count_C)
        for of_class in [np.flatnonzero(class_N == c)]
    ]
    return np.concatenate([np.zeros(0, np.int64), *chosen])


def _over_present(q_B: FloatArray, room_B: IntArray) -> FloatArray:
    present = np.where(room_B > 0, q_B, 0.0)
    return present / present.sum() if present.sum() > 0 else present


def within(mass: FloatArray, room: IntArray, total: int) -> FloatArray:
    """Expected counts in proportion to `mass`, none above its room; they sum to `total`."""
    count = np.zeros(len(mass))
    free = room > 0
    while (left := total - count.sum()) > 1e-9:
        weight = np.where(free, mass, 0.0)
        if weight.sum() == 0:  # only classes without mass have room left
            weight = np.where(free, room - count, 0.0)
        count = np.minimum(count + left * weight / weight.sum(), room)
        free &= count < room - 1e-9
    return count


def systematic(expected: FloatArray, rng: np.random.Generator) -> IntArray:
    """Integers that sum to the total, each the floor or the ceiling of its expectation."""
    ends = np.cumsum(expected)
    ends[-1] = round(ends[-1])
    return np.diff(np.floor(ends + rng.random() * (1 - 1e-9)), prepend=0.0).astype(np.int64)
