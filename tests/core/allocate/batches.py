"""Allocators, and batches of prompts for them."""

import numpy as np

from gdro.core import registry
from gdro.core.config import ControllerConfig, PromptConfig, RolloutConfig
from gdro.core.policy import Batch, Feedback, Setting
from gdro.core.weigh.adversary import Adversary

RNG = np.random.default_rng
NAMES = [name for name in registry.ALLOCATE if name != "second_look"]
"""Allocators that give out the budget at once."""


def setting(rollout, num_bins=10, n_mean=4, std_scaled=True):
    return Setting(
        config=ControllerConfig(rollout=rollout), num_bins=num_bins, n_mean=n_mean,
        std_scaled=std_scaled, adversary=Adversary(PromptConfig(), num_bins),
    )  # fmt: skip


def make_allocator(rollout, num_bins, n_mean, std_scaled):
    made = registry.load(registry.ALLOCATE[rollout.allocator])
    return made(setting(rollout, num_bins, n_mean, std_scaled))


def config(**fields):
    return RolloutConfig(**{"aggregation": "prompt", **fields})


def make_batch(p, bins=None, *, n_min=2, n_max=12, mean=4, num_bins=10, strength=6.0, **fields):
    """A batch of prompts with rates p, all seen unless `bins` says -1."""
    p = np.asarray(p, dtype=float)
    if bins is None:
        bins = np.minimum((p * num_bins).astype(int), num_bins - 1)
    bins = np.asarray(bins)
    lo = np.where(bins < 0, int(np.floor(mean)), n_min)
    hi = np.where(bins < 0, int(np.ceil(mean)), n_max)
    values = {
        "bin_P": bins, "p_P": p, "a_P": strength * p + 1e-3, "b_P": strength * (1 - p) + 1e-3,
        "weight_P": np.ones(p.size), "variance_B": np.linspace(0.01, 0.25, num_bins),
        "lo_P": lo, "hi_P": hi, "budget": int(mean * p.size),
    }  # fmt: skip
    return Batch(**{**values, **fields})


def feedback(bins, n, correct=None, **fields):
    n = np.asarray(n)
    correct = np.asarray(correct) if correct is not None else n // 2
    return Feedback(
        row_P=np.arange(len(n)), bin_P=np.asarray(bins), n_P=n, correct_P=correct, **fields
    )
