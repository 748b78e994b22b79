"""What is between a plan and its observation, and how it is saved in mid-window."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from gdro.core.errors import CheckpointError
from gdro.core.types import Outcome, Plan


@dataclass
class Window:
    """A generation batch between its plan and its observation (all of it gathered)."""

    plan: Plan
    correct_R: torch.Tensor
    tokens_R: torch.Tensor
    sums_RF: torch.Tensor  # of this process: prompt loss, score, visits
    reward: float
    seconds: dict[str, float]
    padding: tuple[int, int] = (0, 0)  # rollouts and tokens that only filled a batch
    verdicts: dict[str, Any] = field(default_factory=dict)  # for the trace, see verdicts.by_bin

    def outcome(self, sums_RF: torch.Tensor) -> Outcome:
        """What the controller learns from, given the sums of all processes."""
        loss_R, score_R = (sums_RF[:, :2] / sums_RF[:, 2:].clamp(min=1)).double().cpu().numpy().T
        slot_R = self.plan.slot_R
        return Outcome(
            prompt_R=np.asarray(self.plan.prompt_P)[slot_R],
            slot_R=slot_R,
            correct_R=self.correct_R.double().cpu().numpy(),
            loss_R=loss_R,
            score_R=score_R,
            tokens_R=self.tokens_R.cpu().numpy(),
            padding_rollouts=self.padding[0],
            padding_tokens=self.padding[1],
        )

    def save(self, path: Path, buffer: Any, num_processes: int) -> None:
        """Writes the window and TRL's buffered inputs: tensors and plain values, no code.

        Args:
            path: File of this process.
            buffer: `GRPOTrainer._buffered_inputs`.
            num_processes: How many processes share the window.
        """
        plan = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in self.plan.state_dict().items()
            if name != "prompt_P"  # text is no tensor
        } | {"prompt_P": np.asarray(self.plan.prompt_P).tolist()}
        window = vars(self) | {"plan": plan}
        torch.save({"window": window, "buffer": buffer, "num_processes": num_processes}, path)

    @classmethod
    def load(cls, path: Path, num_processes: int, device: torch.device) -> tuple[Self, Any]:
        """Reads a window and its buffered inputs.

        Args:
            path: File of this process.
            num_processes: How many processes share the window.
            device: Of this process now; the file's tensors may be of another's.

        Raises:
            CheckpointError: if it was shared by another number of processes.
        """
        saved = torch.load(path, map_location=device, weights_only=True) if path.exists() else {}
        if saved.get("num_processes") != num_processes:
            raise CheckpointError(
                f"{path.parent} was saved between two updates on one generation batch by "
                f"{saved.get('num_processes', 'fewer')} processes; resume it with as many, not "
                f"{num_processes}"
            )
        plan = {
            name: value.cpu().numpy() if isinstance(value, torch.Tensor) else value
            for name, value in saved["window"]["plan"].items()
        } | {"prompt_P": np.asarray(saved["window"]["plan"]["prompt_P"])}
        return cls(**saved["window"] | {"plan": Plan.from_state(plan)}), saved["buffer"]
