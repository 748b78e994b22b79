"""How many rollouts each prompt of a step gets (paper 3.3; method D11-D16): one method a file."""

from gdro.core.allocate.base import Allocator, Batch, Feedback
from gdro.core.allocate.exp3p import Exp3P
from gdro.core.allocate.hard_first import HardFirst
from gdro.core.allocate.neyman import Neyman, price_form
from gdro.core.allocate.price import AdditivePrice, LogPrice
from gdro.core.allocate.signal import Signal, signal_marginals
from gdro.core.allocate.uniform import Uniform
from gdro.core.config import RolloutConfig

__all__ = [
    "AdditivePrice", "Allocator", "Batch", "Exp3P", "Feedback", "HardFirst", "LogPrice", "Neyman",
    "Signal", "Uniform", "make_allocator", "price_form", "signal_marginals",
]  # fmt: skip


def make_allocator(
    config: RolloutConfig, num_bins: int, n_mean: float, std_scaled: bool
) -> Allocator:
    """The allocator named by `config.allocator`.

    Args:
        config: The checked configuration.
        num_bins: B, the number of difficulty bins.
        n_mean: Mean rollouts per prompt, the right side of Eq. 19.
        std_scaled: Whether the engine divides advantages by the group's standard deviation (D18).
    """
    match config.allocator:
        case "uniform":
            return Uniform()
        case "hard_first":
            return HardFirst(config.power)
        case "neyman":
            return Neyman(config, n_mean, std_scaled)
        case "signal":
            return Signal()
        case "exp3p":
            return Exp3P(config, num_bins, n_mean)
