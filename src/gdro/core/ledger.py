"""What a run has spent, as far as its outcomes have come back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gdro.core.types import IntArray


@dataclass
class Ledger:
    """Sums since the first plan.

    Attributes:
        rollouts: Rollouts that came back, an engine's padding included.
        trained: Rollouts that train; fewer only where a step generates in rounds.
        replayed: Those of them that are remembered successes in the place of a generated one.
        tokens: Completion tokens of all rollouts, nan once an outcome did not say.
    """

    rollouts: int = 0
    trained: int = 0
    replayed: int = 0
    tokens: float = 0.0

    def add(
        self, n_P: IntArray, train_P: IntArray, tokens: float, padding: int, padding_tokens: int
    ) -> None:
        """Books an outcome: rollouts that came back of each slot, those that train, all tokens."""
        self.rollouts += int(n_P.sum()) + padding
        self.trained += int(train_P.sum())
        self.tokens += tokens + padding_tokens

    def metrics(self) -> dict[str, float]:
        """The sums, as `spent/...`."""
        return {
            "spent/rollouts": float(self.rollouts),
            "spent/trained": float(self.trained),
            "spent/replayed": float(self.replayed),
            "spent/tokens": self.tokens,
        }

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
