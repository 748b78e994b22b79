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

_NEVER = -60.0  # log-odds

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
        (0.8223, 0.2065, 0.07604, 0.006775, 0.00237),
        "success rate of each tier at first",
        gt=0,
        lt=1,
    )
    families: int = setting(7, "families of prompts, each with every tier", ge=1, le=1000)
    facts: int = setting(24, "facts of a family at a tier", ge=5, le=10_000)
    choices: int = setting(8, "words that a step chooses among", ge=3, le=1000)
    misconception: float = setting(
        0.5, "share of what is wrong at first that is the fact's one misconception", gt=0, lt=1
    )
    spread: float = setting(0.5, "standard deviation of the facts' log-odds in a tier", ge=0, le=10)
    slip: float = setting(0.0147, "share of steps that go wrong whatever is known", ge=0, le=0.5)
    share: float = setting(
        0.322, "mean over families of what the features of a class have in common", ge=0, le=0.5
    )
    clash: float = setting(
        0.7221,
        "part of that which the tiers of a family have in common, up to a sign: what is right at "
        "one is right or wrong at another",
        ge=0,
        le=1,
    )
    width: int = setting(
        192, "features; the fewer, the more facts disturb each other", ge=1, le=4096
    )
    memory: float = setting(
        0.3481, "share of a step's features that is its prompt's own: learnt by heart", ge=0, lt=1
    )
    sharpen: float = setting(
        0.6075, "Adam's rate for the sharpness of what is known, in rates of the rest", ge=0, le=100
    )
    drift: float = setting(
        3.02,
        "random walk of how sharply a class is known: its deviation a step, in lr times rates of "
        "Adam",
        ge=0,
        le=100,
    )
    speed: float = setting(0.02096, "Adam's rate at training.lr = 1", gt=0, le=10)
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
        base_NLC: float32, log-odds of the choices of every step before training; a step that a
            shorter prompt has not is right with certainty.
        step_NLD: float32, features of every step: its fact's and, on top, its prompt's own;
            squared lengths are about 1. Zeros where there is no step.
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
        self.base_NLC = self._base(rng, class_F).astype(np.float32)[self.fact_NL]
        there_NL1 = (self.fact_NL < num_facts)[..., None]
        self.slip_NL1 = np.float32(population.slip) * there_NL1
        self.step_NLD = features_FD[self.fact_NL] + own_ND[:, None] * there_NL1

    def _features(self, rng: np.random.Generator, class_F: IntArray) -> np.ndarray:
        """A fact's own and its class's: random directions, weighed by what is shared.

        Families differ in it: their `share` is spread evenly over 0 .. 2 `share`.
        """
        p = self.population
        own, group, family = (
            self._directions(rng, n) for n in (class_F.size, p.families * p.tiers, p.families)
        )
        family = np.repeat(family, p.tiers, 0) * rng.choice((-1, 1), len(group))[:, None]
        group = math.sqrt(1 - p.clash) * group + math.sqrt(p.clash) * family.astype(np.float32)
        place = (np.arange(p.families) + 0.5) / p.families
        share_F = (2 * p.share * place)[class_F // p.tiers, None].astype(np.float32)
        return np.sqrt(1 - share_F) * own + np.sqrt(share_F) * group[class_F]

    def _directions(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random, of squared length about 1."""
        width = self.population.width
        return rng.standard_normal((count, width), np.float32) / np.float32(math.sqrt(width))

    def _base(self, rng: np.random.Generator, class_F: IntArray) -> np.ndarray:
        """Log-odds such that the prompts of every tier have its rate in the mean."""
        p = self.population
        base_FC = np.zeros((class_F.size + 1, p.choices))
        base_FC[:-1, 1:] = math.log((1 - p.misconception) / (p.choices - 2))
        believed_F = rng.integers(1, p.choices, class_F.size)
        base_FC[np.arange(class_F.size), believed_F] = math.log(p.misconception)
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
        base_FC[:-1, RIGHT] = own_F + low_T[tier_F]  # the wrong ones sum to 1
        base_FC[-1] = [0.0] + [_NEVER] * (p.choices - 1)
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
