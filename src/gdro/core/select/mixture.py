"""Draws by the adversary's mixture: `prompt.realisation=sample` (method D9)."""

import numpy as np

from gdro.core.policy import Setting
from gdro.core.select.base import Selector
from gdro.core.select.pool import Pool
from gdro.core.select.queues import Eligible, Queues
from gdro.core.types import UNSEEN, FloatArray, IntArray


class Mixture(Selector):
    """Draws prompts without replacement so that bin b has the expected mass q(b) in the step.

    Unseen prompts keep their share of the data set; what empty bins have of q goes to the others
    in proportion. Counts by bin are drawn systematically, so they differ from their expectation by
    less than one; what a bin has too few eligible prompts for goes to the others likewise. Within
    a bin those drawn longest ago come first, undrawn ones by lot.

    Two bounds hold for every prompt: it is drawn at most `prompt.max_repeat` times as often as the
    average one, rounded up (unless too few others are left), and once it has waited for
    `prompt.max_gap` epochs it comes before all others (the longest wait first), so that a mixture
    that has left it cannot forget it. A step costs what it draws, whatever the data set's size.
    """

    def __init__(self, setting: Setting) -> None:
        self._adversary, self._config = setting.adversary, setting.config.prompt

    def select(self, pool: Pool, num_prompts: int, rng: np.random.Generator) -> IntArray:
        queues = pool.queues(rng)
        overdue = queues.longest(pool.draws, self._config.max_gap * pool.size, num_prompts)
        limit = np.ceil(self._config.max_repeat * (pool.draws + num_prompts) / pool.size)
        mass_C = self._mass_C(pool, queues.size_C)

        def within_limit(chosen: IntArray) -> np.ndarray:
            return pool.visits_N[chosen] < limit

        missing = num_prompts - len(overdue)
        drawn = draw_by_class(queues, mass_C, missing, rng, within_limit)
        missing -= len(drawn)
        rest = draw_by_class(queues, mass_C, missing, rng)
        return rng.permutation(np.concatenate([overdue, drawn, rest]))

    def _mass_C(self, pool: Pool, size_C: IntArray) -> FloatArray:
        """Mass of each class: q of its bin, by its part of the bin's prompts; unseen: its share."""
        bin_C = pool.bin_C
        seen_C, num_bins = bin_C != UNSEEN, self._adversary.num_bins
        room_B = np.bincount(bin_C[seen_C], size_C[seen_C], num_bins)
        mass_B = _over_present(self._adversary.q_B(pool.population_B), room_B)
        share_C = size_C / size_C.sum()
        mass_C = np.where(seen_C, 0.0, share_C)
        per_prompt_B = mass_B / np.maximum(room_B, 1)
        mass_C[seen_C] = share_C[seen_C].sum() * size_C[seen_C] * per_prompt_B[bin_C[seen_C]]
        return mass_C


def draw_by_class(
    queues: Queues, mass_C: FloatArray, num_prompts: int, rng: np.random.Generator,
    eligible: Eligible | None = None,
) -> IntArray:  # fmt: skip
    """Draws prompts by classes, each in proportion to its mass as far as it has prompts.

    Args:
        queues: Where they stand.
        mass_C: Mass of each class, >= 0, on any scale.
        num_prompts: How many; fewer come only if fewer are eligible.
        rng: Rounds the counts of the classes.
        eligible: Who may be drawn; all if left out.
    """
    drawn, spent_C = np.zeros(0, np.int64), np.zeros(len(mass_C), bool)
    while missing := num_prompts - len(drawn):
        room_C = np.where(spent_C, 0, queues.size_C)
        missing = min(missing, int(room_C.sum()))
        if not missing:
            break
        found, short_C = queues.draw(systematic(within(mass_C, room_C, missing), rng), eligible)
        drawn, spent_C = np.concatenate([drawn, found]), spent_C | short_C
    return drawn


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
    counts = np.floor(ends + rng.random() * (1 - 1e-9)).astype(np.int64)
    counts[1:] -= counts[:-1].copy()
    return counts
