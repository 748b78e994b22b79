"""What the three ports share: what a policy is made from, what it sees, and what it owes.

A port is one decision on explicit state: *select* the prompts of a step, *allocate* its rollouts,
*weigh* its prompts. A policy decides from what it is handed, learns from `observe`, and keeps
nothing that `state_dict` does not return; the generator is the controller's.
"""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdro.core.config import ControllerConfig
from gdro.core.types import FloatArray, IntArray
from gdro.core.weigh.adversary import Adversary


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """What a policy is made from.

    Attributes:
        config: The checked configuration.
        num_bins: B, the number of difficulty bins.
        n_mean: Mean rollouts per prompt, the right side of Eq. 19.
        std_scaled: Whether the engine divides advantages by the group's standard deviation (D18).
        adversary: Prompt-GDRO's scores and mixture, which the controller keeps up to date.
    """

    config: ControllerConfig
    num_bins: int
    n_mean: float
    std_scaled: bool
    adversary: Adversary


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The prompts of one step, as known before anything is generated (D15).

    Attributes:
        bin_P: int64, difficulty bin; -1 for unseen prompts, whose bounds the caller has closed
            to floor(n_mean)..ceil(n_mean) (D4).
        p_P: Success rate of one rollout: the posterior mean.
        a_P: Beta posterior of that rate: pseudo-count of successes (the prior included), > 0.
        b_P: The same for failures, > 0.
        weight_P: What the weigh policy gives, every prompt counting alike (Eq. 16), >= 0; ones
            where the allocator does not read it.
        variance_B: Running variance proxy of each bin (4.3), > 0.
        lo_P: int64, fewest rollouts.
        hi_P: int64, most rollouts.
        budget: Rollouts of the step, to be met exactly (D11).
    """

    bin_P: IntArray
    p_P: FloatArray
    a_P: FloatArray
    b_P: FloatArray
    weight_P: FloatArray
    variance_B: FloatArray
    lo_P: IntArray
    hi_P: IntArray
    budget: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Feedback:
    """What became of the prompts of one plan: those that came back, in any order.

    Attributes:
        row_P: int64, the classifier's row of each prompt, its name in a policy's own arrays.
        bin_P: int64, the bin at plan time; unseen prompts (-1) teach no bin anything.
        n_P: int64, rollouts that came back.
        correct_P: How many of them were correct.
        loss_P: Mean prompt loss (Eq. 6-7); needed by the utility `surrogate`.
        propensity_P: `allocator.propensity_P` of that plan; ones if left out.
    """

    row_P: IntArray
    bin_P: IntArray
    n_P: IntArray
    correct_P: FloatArray | IntArray
    loss_P: FloatArray | None = None
    propensity_P: FloatArray | None = None

    @property
    def mixed_P(self) -> np.ndarray:
        """bool: groups with right and wrong rollouts, the only ones with a gradient."""
        return (self.correct_P > 0) & (self.correct_P < self.n_P)


class Policy(ABC):  # noqa: B024 - the ports have the abstract methods
    """One policy behind one port.

    Attributes:
        rounds: Most times that a step generates; 1 for all that decide before generation.
    """

    rounds: int = 1

    def __init__(self, setting: Setting) -> None:  # noqa: B027 - most take nothing
        """Takes what it needs of the setting."""

    def observe(self, feedback: Feedback) -> None:  # noqa: B027 - most policies learn nothing
        """Learns from the outcome of a plan."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that deciding and `observe` have changed: arrays and JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restores what `state_dict` of the same configuration returned."""

    def metrics(self) -> dict[str, float]:
        """What is worth logging, by name (`select/...`, `alloc/...`, `gdro/...`)."""
        return {}
