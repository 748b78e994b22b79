"""Named methods: what each changes of the default configuration."""

from typing import Any

_PAPER_DIFFICULTY = {"memory": "window", "window": 100, "estimator": "any"}
_GRPO = {"rollout.allocator": "uniform"}
_DRAWN = {"prompt.weigh": "gdro", "select.policy": "sample", "prompt.base": "share",
          "prompt.eta": 1.0, "difficulty.k": 1}  # fmt: skip
"""Half of a bin's push by drawing its prompts, half by weight (docs/method.md)."""
DEFAULT = "rollout_replay"
"""What the study found best: docs/results."""

PRESETS: dict[str, dict[str, Any]] = {
    "grpo": _GRPO,
    "prompt": _DRAWN | _GRPO,
    "rollout": {},
    "joint": _DRAWN,
    "paper": {
        "difficulty": _PAPER_DIFFICULTY,
        "prompt": {"weigh": "gdro", "signal": "surrogate", "eta": .65, "share_normalize": True,
                   "normalize": "none"},
        "rollout": {"allocator": "exp3p", "choice": "argmax", "utility": "surrogate"},
    },
    # a memory of rare successes beside them: not from the paper
    "replay": _GRPO | {"replay.successes": True},
    "rollout_replay": {"replay.successes": True},
    "joint_replay": _DRAWN | {"replay.successes": True},
    "second_look": {"rollout.allocator": "second_look"},
    "second_look_replay": {"rollout.allocator": "second_look", "replay.successes": True},
    # the peers, alone; dapo and reinforce_ada are not compute-neutral
    "per_prompt": _GRPO | {"prompt.weigh": "per_prompt"},
    "pass_at_k": _GRPO | {"prompt.weigh": "pass_at_k"},
    "dapo": _GRPO | {"select.policy": "dapo"},
    "greso": _GRPO | {"select.policy": "greso"},
    "mopps": _GRPO | {"select.policy": "mopps"},
    "sec": _GRPO | {"select.policy": "sec"},
    "adarft": _GRPO | {"select.policy": "adarft"},
    "knapsack": _GRPO | {"rollout.allocator": "knapsack"},
    "reinforce_ada": _GRPO | {"rollout.allocator": "reinforce_ada"},
}  # fmt: skip
