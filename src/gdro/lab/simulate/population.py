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
        (0.30859375, 0.09765625, 0.10546875, 0.1796875, 0.30859375),
        "share of each tier among the prompts",
        gt=0,
        le=1,
    )
    rates: tuple[float, ...] = setting(
        (
            0.8222748815165877,
            0.2064676616915423,
            0.07603686635944701,
            0.006775067750677507,
            0.002369668246445498,
        ),
        "success rate of each tier at first",
        gt=0,
        lt=1,
    )
    families: int = setting(7, "families of prompts, each with every tier", ge=1, le=1000)
    facts: int = setting(24, "facts of a family at a tier", ge=5, le=10_000)
    choices: int = setting(8, "words that a step chooses among", ge=2, le=1000)
    spread: float = setting(
        1.61, "deviation of the log-odds of a prompt's steps, beside their facts'", ge=0, le=10
    )
    slip: float = setting(0.02262, "share of steps that go wrong whatever is known", ge=0, le=0.5)
    near: float = setting(
        0.09996, "what tiers of a family have in common, for each that they are apart", ge=0, le=1
    )
    novelty: float = setting(
        2.501,
        "updates on a prompt until half of what the next one teaches is by heart",
        gt=0,
        le=1e6,
    )
    gain: float = setting(
        0.5027,
        "how much faster known facts change: by the power of their odds at first",
        ge=0,
        le=2,
    )
    drift: float = setting(
        0.0923, "random walk of all log-odds: its deviation a step at training.lr = 1", ge=0, le=10
    )
    speed: float = setting(0.932, "of learning, at training.lr = 1", gt=0, le=1000)
    train: int = setting(960, "prompts to train on", ge=1, le=1_000_000)
    test: int = setting(256, "held-out prompts, of the same facts", ge=1, le=1_000_000)

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
        own_NL: float32, log-odds of being right at a step, beside its fact's.
        family_N, tier_N, length_N: int64.
    """

    def __init__(self, population: Population, seed: int) -> None:
        self.population, self.seed = population, seed
        rng = np.random.default_rng([seed, 0x51])
        num_facts = population.families * population.tiers * population.facts
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
        there_NL1 = (self.fact_NL < num_facts)[..., None]
        self.slip_NL1 = np.float32(population.slip) * there_NL1
        self.own_NL = population.spread * rng.standard_normal(self.fact_NL.shape, np.float32)
        odds_F = self._odds()
        self.base_FC = self._base(rng, odds_F).astype(np.float32)
        gain_F = np.exp(population.gain * odds_F)
        self.gain_F1 = np.append(gain_F / gain_F.mean(), 0).astype(np.float32)[:, None]

    def _odds(self) -> FloatArray:
        """Log-odds of being right of the facts, such that prompts of a tier have its mean rate."""
        p = self.population
        tier_F = np.arange(p.families * p.tiers * p.facts) // p.facts % p.tiers
        kept_NL = 1 - self.slip_NL1[..., 0].astype(np.float64)
        low_T, high_T = np.full(p.tiers, -30.0), np.full(p.tiers, 30.0)
        count_T = np.maximum(np.bincount(self.tier_N, minlength=p.tiers), 1)
        for _ in range(30):
            middle_T = (low_T + high_T) / 2
            odds_F = np.append(middle_T[tier_F], np.inf)
            solved_N = (kept_NL * _sigmoid(odds_F[self.fact_NL] + self.own_NL)).prod(1)
            above_T = np.bincount(self.tier_N, solved_N, p.tiers) / count_T > p.rates
            high_T = np.where(above_T, middle_T, high_T)
            low_T = np.where(above_T, low_T, middle_T)
        return low_T[tier_F]

    def _base(self, rng: np.random.Generator, odds_F: FloatArray) -> FloatArray:
        """Log-odds of every choice; the wrong ones' are random."""
        base_FC = np.zeros((odds_F.size + 1, self.population.choices))
        base_FC[:-1, 1:] = rng.normal(size=(odds_F.size, self.population.choices - 1))
        base_FC[:-1, RIGHT] = odds_F + np.logaddexp.reduce(base_FC[:-1, 1:], axis=1)
        base_FC[-1] = [0.0] + [-np.inf] * (self.population.choices - 1)
        return base_FC

    @cached_property
    def share_K1(self) -> np.ndarray:
        """float32, what the facts of each class share: the families' are even over 0 .. 1."""
        p = self.population
        share_J = (np.arange(p.families) + 0.5) / p.families
        return np.repeat(share_J, p.tiers).astype(np.float32)[:, None]

    @cached_property
    def test_N(self) -> IntArray:
        """The held-out prompts."""
        return np.arange(self.population.train, len(self.fact_NL))


def _spread_evenly(size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` numbers in [0, 1) with nearly as many in any two stretches of one length, shuffled."""
    return rng.permutation((np.arange(size) + rng.random()) / size)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
