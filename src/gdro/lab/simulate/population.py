"""Prompts with latent difficulties that share skills.

A prompt belongs to a family and a tier of difficulty, and is worked out in several steps. Each step
needs one of the facts that its family owns at its tier, and chooses among a few words, one of them
right (called choice 0). A prompt is solved when every step is. So prompts of a class share facts,
and how far learning one fact helps with another is what `share` and `common` say.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gdro.core.errors import ConfigError
from gdro.core.fields import Checked, setting
from gdro.core.types import FloatArray, IntArray

RIGHT = 0
"""The right choice of every fact; what the others are called does not matter."""


@dataclass(frozen=True, kw_only=True)
class Population(Checked):
    """What prompts are drawn from; the defaults are fitted (docs/simulation.md)."""

    _room = "population."

    shares: tuple[float, ...] = setting(
        (0.2988, 0.1035, 0.0977, 0.1777, 0.3223), "share of each tier among the prompts", gt=0, le=1
    )
    rates: tuple[float, ...] = setting(
        (0.837, 0.187, 0.0561, 0.00617, 0.00189), "success rate of each tier at first", gt=0, lt=1
    )
    families: int = setting(7, "families of prompts, each with every tier", ge=1, le=1000)
    facts: int = setting(24, "facts of a family at a tier", ge=5, le=10_000)
    choices: int = setting(8, "words that a step chooses among", ge=2, le=1000)
    spread: float = setting(0.0, "standard deviation of the facts' log-odds in a tier", ge=0, le=10)
    slip: float = setting(0.0131, "share of steps that go wrong whatever is known", ge=0, le=0.5)
    share: float = setting(
        0.5, "mean over families of what the facts of a class have in common", ge=0, le=0.5
    )
    near: float = setting(
        0.3, "of what a class shares: the part that is common to the next tier of its family",
        ge=0, lt=1,
    )
    memory: float = setting(
        0.65, "share of what is learnt at a step that is its prompt's own: by heart", ge=0, lt=1
    )
    gain: float = setting(
        0.35, "how much faster known facts change: by the power of their odds at first", ge=0, le=2
    )
    drift: float = setting(
        0.068, "random walk of all log-odds: its deviation a step at training.lr = 1", ge=0, le=10
    )
    speed: float = setting(0.5, "of learning, at training.lr = 1", gt=0, le=1000)
    train: int = setting(960, "prompts to train on", ge=1, le=1_000_000)
    test: int = setting(512, "held-out prompts, of the same facts", ge=1, le=1_000_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.shares) != len(self.rates):
            raise ConfigError(
                f"population.rates must have one entry per share, {len(self.shares)}, got "
                f"{len(self.rates)}"
            )
        if not math.isclose(sum(self.shares), 1, abs_tol=1e-6):
            raise ConfigError(f"population.shares must sum to 1, got {sum(self.shares):g}")

    @property
    def tiers(self) -> int:
        """T."""
        return len(self.shares)


LENGTHS = (3, 4, 5)
"""Steps of a prompt, equally often."""


class World:
    """Facts and prompts, drawn from a population.

    Args:
        population: What they are drawn from.
        seed: Of the draw.

    Attributes:
        population, seed: As given.
        base_FC: float32, log-odds of each fact's choices before training; the last row, for steps
            that a shorter prompt has not, is right with certainty.
        gain_F1: float32, how fast each fact changes, 1 in the mean; the last is 0.
        slip_NL1: float32, share of every step that goes wrong whatever is known.
        fact_NL: int64, the facts of each prompt, training prompts first.
        family_N, tier_N, length_N: int64.
    """

    def __init__(self, population: Population, seed: int) -> None:
        self.population, self.seed = population, seed
        rng = np.random.default_rng([seed, 0x51])
        classes = population.families * population.tiers
        num_facts = classes * population.facts
        class_F = np.repeat(np.arange(classes), population.facts)
        size = population.train + population.test
        size = population.train + population.test
        # Families take turns, and tiers come in their shares within either part.
        self.family_N = np.arange(size) % population.families
        places = [_spread_evenly(n, rng) for n in (population.train, population.test)]
        bounds = np.cumsum(population.shares)[:-1]
        self.tier_N = np.searchsorted(bounds, np.concatenate(places), side="right")
        class_N = self.family_N * population.tiers + self.tier_N
        length_N = rng.choice(LENGTHS, size)
        drawn_NL = class_N[:, None] * population.facts + rng.integers(
            population.facts, size=(size, max(LENGTHS))
        )
        self.fact_NL = np.where(np.arange(max(LENGTHS)) < length_N[:, None], drawn_NL, num_facts)
        self.length_N = length_N
        odds_F = self._odds(rng, class_F)
        self.base_FC = self._base(rng, odds_F).astype(np.float32)
        gain_F = np.exp(population.gain * odds_F)
        self.gain_F1 = np.append(gain_F / gain_F.mean(), 0).astype(np.float32)[:, None]
        there_NL1 = (self.fact_NL < num_facts)[..., None]
        self.slip_NL1 = np.float32(population.slip) * there_NL1

    def _odds(self, rng: np.random.Generator, class_F: IntArray) -> FloatArray:
        """Log-odds of being right such that the prompts of every tier have its mean rate."""
        p = self.population
        own_F = p.spread * rng.normal(size=class_F.size)
        tier_F = class_F % p.tiers
        kept_F = np.append(np.full(class_F.size, 1 - p.slip), 1.0)
        low_T, high_T = np.full(p.tiers, -30.0), np.full(p.tiers, 30.0)
        count_T = np.maximum(np.bincount(self.tier_N, minlength=p.tiers), 1)
        for _ in range(30):
            middle_T = (low_T + high_T) / 2
            odds_F = np.append(own_F + middle_T[tier_F], np.inf)
            solved_N = (kept_F * _sigmoid(odds_F))[self.fact_NL].prod(1)
            above_T = np.bincount(self.tier_N, solved_N, p.tiers) / count_T > p.rates
            high_T = np.where(above_T, middle_T, high_T)
            low_T = np.where(above_T, low_T, middle_T)
        return own_F + low_T[tier_F]

    def _base(self, rng: np.random.Generator, odds_F: FloatArray) -> FloatArray:
        """Log-odds of every choice; the wrong ones' are random."""
        base_FC = np.zeros((odds_F.size + 1, self.population.choices))
        base_FC[:-1, 1:] = rng.normal(size=(odds_F.size, self.population.choices - 1))
        base_FC[:-1, RIGHT] = odds_F + np.logaddexp.reduce(base_FC[:-1, 1:], axis=1)
        base_FC[-1] = [0.0] + [-np.inf] * (self.population.choices - 1)
        return base_FC

    @cached_property
    def share_K1(self) -> np.ndarray:
        """float32, what the facts of each class share: spread evenly over 0 .. 2 `share`."""
        p = self.population
        place = (np.arange(p.families) + 0.5) / p.families
        share_F = 2 * p.share * place
        return np.repeat(share_F, p.tiers).astype(np.float32)[:, None]

    @cached_property
    def test_N(self) -> IntArray:
        """The held-out prompts."""
        return np.arange(self.population.train, len(self.fact_NL))


def _spread_evenly(size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` numbers in [0, 1) with nearly as many in any two stretches of one length, shuffled."""
    return rng.permutation((np.arange(size) + rng.random()) / size)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
