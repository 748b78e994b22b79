"""A small data set, and a controller that is run on it."""

from typing import Any

import numpy as np

from gdro import Controller, ControllerConfig, Outcome

NAMES = np.array([f"p{i}" for i in range(60)])
RATES = np.random.default_rng(0).beta(0.4, 0.6, len(NAMES))


def run(controller: Controller, steps: int, seed: int = 0, size: int = 20) -> list[Any]:
    """A loop with prompts of fixed success rates."""
    rng, plans = np.random.default_rng(seed), []
    for _ in range(steps):
        rows = (
            controller.select(size)
            if controller.selects
            else rng.choice(len(NAMES), size, replace=False)
        )
        plan = controller.plan(NAMES[rows])
        slot_R = np.repeat(np.arange(size), plan.n_P)
        correct_R = rng.random(len(slot_R)) < RATES[rows][slot_R]
        record = controller.observe(
            plan,
            Outcome(prompt_R=NAMES[rows][slot_R], slot_R=slot_R, correct_R=correct_R,
                    loss_R=rng.normal(0, 0.01, len(slot_R))),
        )  # fmt: skip
        plans.append((plan, record))
    return plans


def make(config: Any = None, preset: str | None = None, **kwargs: Any) -> Controller:
    nested = ControllerConfig.preset(preset or "rollout").to_dict()
    for path, value in (({} if preset else {"prompt.weigh": "gdro"}) | (config or {})).items():
        room, name = path.split(".")
        nested[room][name] = value
    controller = Controller(ControllerConfig.from_dict(nested), **kwargs)
    group = [int(r * 5) for r in RATES] if "column:" in nested["difficulty"]["source"] else None
    level = list(np.round(RATES)) if nested["difficulty"]["level_column"] else None
    controller.bind(NAMES, group=group, level=level)
    return controller
