"""Fabricated runs: plausible enough to look at, and quick to make."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdro.core.config import ControllerConfig
from gdro.core.trace import TraceWriter, _line

FAMILIES = (
    "addition",
    "subtraction",
    "multiplication",
    "division",
    "fractions",
    "linear equations",
    "modular arithmetic",
    "base conversion",
)


def fabricate(
    folder: Path,
    *,
    steps: int = 60,
    bins: int = 10,
    method: str = "joint",
    name: str | None = None,
    seed: int = 0,
    price: bool = True,
    families: tuple[str, ...] = FAMILIES,
) -> Path:
    """Writes a run folder in which a policy learns from the easy bins to the hard ones."""
    rng = np.random.default_rng(seed)
    config = ControllerConfig.from_dict(
        {"difficulty.bins": bins, "difficulty.delta": min(0.03, 0.4 / bins), "prompt.eta": 1.5}
    ).to_dict()
    edges = [i / bins for i in range(bins + 1)]
    header = {
        "boundaries": edges,
        "bin_names": [f"bin {b}" for b in range(bins)],
        "config": config,
        "n_mean": 4,
        "method": method,
    }
    strength = {"grpo": 0.0, "prompt": 0.8, "rollout": 1.0}.get(method, 1.5)
    center, P = (np.arange(bins) + 0.5) / bins, 64
    lines = []
    for t in range(steps):
        skill = 1 - np.exp(-(1.2 if strength else 0.8) * t / steps * (1 + 0.3 * strength))
        share = np.exp(-((center - 0.15 - 0.8 * skill) ** 2) / 0.09)
        unseen = int(max(0, P * (0.5 - 3 * t / steps)))
        prompts = rng.multinomial(P - unseen, share / share.sum())
        demand = prompts * (1.15 - center) ** strength
        n_mean = 4 * (P - unseen)
        rollouts = np.where(prompts > 0, np.round(n_mean * demand / max(demand.sum(), 1e-9)), 0)
        weight = (1.3 - center) ** strength * (1 + 0.05 * rng.standard_normal(bins))
        weight = np.where(
            prompts > 0, weight / max((weight * prompts).sum() / prompts.sum(), 1e-9), np.nan
        )
        q = np.exp(strength * (1 - center))
        q /= q.sum()
        entropy = float(-(q * np.log(q)).sum())
        known = np.nan_to_num(weight)
        index = np.arange(bins)
        lag = float(known @ index / known.sum() - prompts @ index / prompts.sum())
        generation = 2 + 0.2 * rng.random() + t / steps
        reward = float(np.clip(0.1 + 0.6 * skill + 0.05 * rng.standard_normal(), 0, 1))
        lines.append(
            {
                "step": t,
                "prompts_B": prompts,
                "rollouts_B": rollouts,
                "weight_B": weight,
                "q_B": q,
                "score_B": 1 - center,
                "correct_B": center,
                "variance_B": center * (1 - center),
                "population_B": prompts * 20,
                "unseen_prompts": unseen,
                "unseen_rollouts": 4 * unseen,
                "unseen_correct": 0.2 if unseen else None,
                "budget": 4 * P,
                "price": 0.02 * (1 + np.exp(-8 * t / steps)) if price else None,
                "entropy": entropy,
                "effective_support": np.exp(entropy),
                "lead_lag": lag,
                "wse": 0.8 + 0.02 * rng.random(),
                "wse_uniform": 1.0,
                "varproxy": 0.045,
                "varproxy_uniform": 0.05,
                "mixed_fraction": 0.5 + 0.1 * rng.random(),
                "mixed_weight": 1.1,
                "reward": reward,
                "rollouts": rollouts.sum() + 4 * unseen,
                "trained": rollouts.sum() + 4 * unseen,
                "tokens": 256 * 40,
                "time": {
                    "plan": 0.0021,
                    "generation": generation,
                    "update": 1.5,
                    "observe": 0.0032,
                    "step": generation + 1.6,
                },
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    with TraceWriter(folder / "trace.jsonl", header) as trace:
        if steps <= 100:
            for record in lines:
                trace.append(record)
    if steps > 100:  # append forces each line to disk; a thousand of them is slow on some disks
        from gdro.core.trace import _plain

        with open(folder / "trace.jsonl", "ab") as file:
            file.writelines(_line(_plain(record, 5)) for record in lines)
    _evaluations(folder, steps, strength, families)
    _prompts(folder, steps, families, rng)
    about = {
        "name": name or f"arith-{method}-{seed}",
        "method": method,
        "model": "Qwen3-0.6B-Base",
        "seed": seed,
    }
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def _evaluations(folder: Path, steps: int, strength: float, families: tuple[str, ...]) -> None:
    def score(done: float, easy: float) -> dict[str, Any]:
        mean = round(easy * (0.2 + 0.7 * done * (0.7 + 0.2 * strength)), 4)
        return {"mean@8": mean, "pass@8": round(1 - (1 - mean) ** 3, 4), "prompts": 64}

    with open(folder / "evals.jsonl", "w") as file:
        for step in sorted({*range(0, steps, max(1, steps // 6)), steps}):
            done = step / steps
            value = {
                "step": step,
                "split": "test",
                "k": 8,
                **score(done, 0.6),
                "rollouts": 256 * step,
                "tokens": 256 * 40 * step,
            }
            value["by_family"] = {
                f: score(done, 0.95 - 0.8 * i / len(families)) for i, f in enumerate(families)
            }
            value["by_level"] = {str(i): score(done, 0.9 - 0.15 * i) for i in range(5)}
            del value["prompts"]
            file.write(json.dumps(value) + "\n")


def _prompts(folder: Path, steps: int, families: tuple[str, ...], rng: np.random.Generator) -> None:
    """Evaluations by prompt, and training samples."""
    (folder / "evals").mkdir(exist_ok=True)
    (folder / "samples").mkdir(exist_ok=True)
    for step, level in ((0, 0.3), (steps, 0.6)):
        value = {
            "k": 8,
            "id_N": [f"prompt-{i}" for i in range(64)],
            "correct_N": [int(rng.binomial(8, level * (i % 5) / 4)) for i in range(64)],
            "groups": {"family": [families[i % len(families)] for i in range(64)]},
        }
        (folder / "evals" / f"{step:06d}-test.json").write_text(json.dumps(value))
    with open(folder / "samples" / "000000.jsonl", "w") as file:
        for step in range(min(steps, 100)):
            a = step % 20
            row = {"step": step, "prompt": f"{a} + 1 =", "completion": f"{a}+1 is {a + step // 40}"}
            row |= {"rewards": {"exact": float(step // 40 == 1)}, "advantage": 0.0}
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """`run_folder("name", steps=..., method=...)` fabricates a run below the test's own folder."""
    return lambda folder, **options: fabricate(tmp_path / folder, **options)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A run of four steps and two bins, worked out by hand."""
    folder = tmp_path / "small"
    header = {
        "boundaries": [0, 0.5, 1],
        "bin_names": ["hard", "easy"],
        "n_mean": 4,
        "method": "joint",
        "config": {"difficulty": {"k": 4}},
    }
    steps: list[dict[str, Any]] = [
        {
            "prompts_B": [3, 1],
            "rollouts_B": [13, 3],
            "weight_B": [1.2, 0.4],
            "correct_B": [0, 1],
            "reward": 0.25,
            "price": 0.02,
            "lead_lag": -0.125,
            "unseen_prompts": 4,
            "rollouts": 32,
        },
        {
            "prompts_B": [0, 4],
            "rollouts_B": [0, 16],
            "weight_B": [None, 1],
            "correct_B": [None, 0.5],
            "reward": 0.5,
            "price": 0.03,
            "lead_lag": 0,
            "rollouts": 16,
        },
        {
            "prompts_B": [1, 3],
            "rollouts_B": [8, 8],
            "weight_B": [2.5, 0.5],
            "correct_B": [0.25, 0.5],
            "reward": 0.75,
            "price": 0.04,
            "lead_lag": -0.25,
            "rollouts": 16,
            "time": {"plan": 0.01, "step": 2},
        },
        {
            "prompts_B": [2, 2],
            "rollouts_B": [11, 5],
            "weight_B": [1.5, 0.5],
            "correct_B": [0, 0.8],
            "reward": 0.5,
            "price": 0.03,
            "lead_lag": -0.25,
            "rollouts": 16,
            "time": {"plan": 0.03, "step": 4},
        },
    ]
    with TraceWriter(folder / "trace.jsonl", header) as trace:
        for step, record in enumerate(steps):
            trace.append({"step": step, "variance_B": [0.04, 0.16], **record})
    return folder
