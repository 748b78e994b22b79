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
from gdro.core.types import IntArray

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
        0.5, "mean over families of what the features of a class have in common", ge=0, le=0.5
    )
    common: float = setting(0.00119, "what the features of all facts have in common", ge=0, le=0.5)
    width: int = setting(
        394, "features; the fewer, the more facts disturb each other", ge=1, le=4096
    )
    memory: float = setting(
        0.346, "share of a step's features that is its prompt's own: learnt by heart", ge=0, lt=1
    )
    drift: float = setting(
        3.51,
        "random walk of all log-odds: its deviation a step, in lr times rates of Adam",
        ge=0,
        le=100,
    )
    speed: float = setting(0.0193, "Adam's rate at training.lr = 1", gt=0, le=10)
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
        step_NLD: float32, features of every step: its fact's and, on top, its prompt's own;
            squared lengths add up to about 1.
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
        features_FD = np.zeros((num_facts + 1, population.width), np.float32)
        features_FD[:-1] = math.sqrt(1 - population.memory) * self._features(rng, class_F)
        own_ND = math.sqrt(population.memory) * self._directions(rng, size)
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
        self.base_FC = self._base(rng, class_F).astype(np.float32)
        there_NL1 = (self.fact_NL < num_facts)[..., None]
        self.slip_NL1 = np.float32(population.slip) * there_NL1
        self.step_NLD = features_FD[self.fact_NL] + own_ND[:, None]

    def _features(self, rng: np.random.Generator, class_F: IntArray) -> np.ndarray:
        """Own, of the class, of all: random directions, weighed by what is shared.

        Families differ in it: their `share` is spread evenly over 0 .. 2 `share`.
        """
        p = self.population
        own, group, every = (
            self._directions(rng, n) for n in (class_F.size, p.families * p.tiers, 1)
        )
        place = (np.arange(p.families) + 0.5) / p.families
        share_F = (2 * p.share * (1 - p.common) * place)[class_F // p.tiers, None]
        share_F = share_F.astype(np.float32)
        return (
            np.sqrt(1 - share_F - p.common) * own
            + np.sqrt(share_F) * group[class_F]
            + math.sqrt(p.common) * every
        )

    def _directions(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random, of squared length about 1."""
        width = self.population.width
        return rng.standard_normal((count, width), np.float32) / np.float32(math.sqrt(width))

    def _base(self, rng: np.random.Generator, class_F: IntArray) -> np.ndarray:
        """Log-odds such that the prompts of every tier have its rate in the mean."""
        p = self.population
        base_FC = np.zeros((class_F.size + 1, p.choices))
        base_FC[:-1, 1:] = rng.normal(size=(class_F.size, p.choices - 1))
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
        wrong_F = np.logaddexp.reduce(base_FC[:-1, 1:], axis=1)
        base_FC[:-1, RIGHT] = own_F + low_T[tier_F] + wrong_F
        base_FC[-1] = [0.0] + [-np.inf] * (p.choices - 1)
        return base_FC

    @cached_property
    def test_N(self) -> IntArray:
        """The held-out prompts."""
        return np.arange(self.population.train, len(self.fact_NL))


def _spread_evenly(size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` numbers in [0, 1) with nearly as many in any two stretches of one length, shuffled."""
    return rng.permutation((np.arange(size) + rng.random()) / size)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
