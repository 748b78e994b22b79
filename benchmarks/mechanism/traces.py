"""What recorded runs say: WSE and VarProxy, mixed groups, lead-lag, slopes, regret."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gdro.core.seeds import paired_difference
from gdro.core.theory import Hedge, hedge_bound, moving_average_bound
from gdro.core.trace import Trace, read_trace
from gdro.core.types import FloatArray
from gdro.core.variance import log_slope, var_proxy, wse

LEARNING_RATE = 8e-4
NEAR = {"base": ("grpo", 0, 5)} | {
    f"{run}, {step}": (run, step - 10, step + 10)
    for run in ("grpo", "rollout")
    for step in (50, 150)
}
"""Recorded steps that a stage is compared with: the first five, or ten on either side."""


def interval(gaps: Sequence[float]) -> dict[str, Any]:
    """Mean with its 95% t interval; no interval for a single value."""
    gap = paired_difference(gaps, [0.0] * len(gaps))
    return {"mean": gap.mean, "low": gap.low, "high": gap.high, "runs": gap.pairs}


def method_of(trace: Trace, run: Path) -> str:
    """The preset; of a changed one the method that names the run; or allocator and aggregation,
    where rollouts do not count alike."""
    rollout, method = trace.header["config"]["rollout"], trace.header["method"]
    if rollout["aggregation"] != "rollout":
        return f"{rollout['allocator']}, {rollout['aggregation']}"
    return run.name.partition("-seed")[0] if method.endswith(", changed") else method


def bins_of(trace: Trace) -> str:
    """What the bins of a run are made of: pass@k, or a column."""
    difficulty = trace.header["config"]["difficulty"]
    online = difficulty["source"] == "online"
    return f"pass@{difficulty['k']}" if online else difficulty["source"]


def of_trace(trace: Trace) -> dict[str, float]:
    """Means over the steps where the quantity is defined."""
    found: dict[str, Any] = defaultdict(list)
    every = zip(*(trace.per_bin(k) for k in ("prompts_B", "rollouts_B", "variance_B")), strict=True)
    for prompts_B, rollouts_B, v_B in every:
        on = prompts_B > 0
        if not on.any():
            continue
        share_B, n_B, v_B = prompts_B[on] / prompts_B.sum(), rollouts_B[on] / prompts_B[on], v_B[on]
        even = np.full(n_B.size, rollouts_B.sum() / prompts_B.sum())
        # The paper's: shares of prompts. The trace's own are of what the aggregation averages.
        found["wse_prompts"].append(wse(share_B, v_B, n_B) / wse(share_B, v_B, even) - 1)
        found["varproxy_prompts"].append(
            var_proxy(share_B, v_B, n_B) / var_proxy(share_B, v_B, even) - 1
        )
        found["slope"].append(log_slope(v_B, n_B))
        found["n_hardest"].append(n_B[0])
        found["n_easiest"].append(n_B[-1])
    for name in ("wse", "varproxy"):
        found[name] = trace.column(name) / trace.column(f"{name}_uniform") - 1
    for name in ("mixed_fraction", "lead_lag", "rollout_lead_lag"):
        found[name] = trace.column(name)
    return {name: float(np.nanmean(values)) for name, values in found.items()}


def regret(trace: Trace) -> dict[str, float]:
    """Of the adversary's q against the best single bin in hindsight, on the bins' recorded errors.

    q is that of before the step. A bin without a prompt in a step has its last error, and before
    its first the mean of the others.
    """
    config = trace.header["config"]["prompt"]
    error_TB = 1 - trace.per_bin("correct_B")
    q_TB = np.vstack([np.full((1, trace.num_bins), 1 / trace.num_bins), trace.per_bin("q_B")[:-1]])
    started = ~np.isnan(error_TB).all(axis=1)
    error_TB, q_TB = error_TB[started], q_TB[started]
    filled_TB = np.empty_like(error_TB)
    last_B: FloatArray = np.full(trace.num_bins, np.nan)
    for t, error_B in enumerate(error_TB):
        last_B = np.where(np.isnan(error_B), last_B, error_B)
        filled_TB[t] = np.where(np.isnan(last_B), np.nanmean(last_B), last_B)
    rounds, bins = filled_TB.shape
    best = float(filled_TB.sum(axis=0).max())
    rate = float(np.sqrt(8 * np.log(bins) / rounds))
    player = Hedge(bins, rate)
    for error_B in filled_TB:
        player.observe(error_B)
    return {
        "rounds": rounds, "eta": config["eta"],
        "regret": (best - float((q_TB * filled_TB).sum())) / rounds,
        "bound": moving_average_bound(bins, rounds, config["eta"], config["beta"], config["gamma"])
        / rounds,
        "uniform": (best - float(filled_TB.mean(axis=1).sum())) / rounds,
        "hedge": player.regret / rounds, "hedge_bound": hedge_bound(bins, rounds, rate) / rounds,
        "entropy": float(trace.column("entropy")[started].mean()),
    }  # fmt: skip


def near(run: Path, low: int, high: int) -> dict[str, float]:
    """Recorded around a checkpoint: mixed groups, and the root mean square gradient norm."""
    trace = read_trace(run / "trace.jsonl")
    around = (trace.steps >= low) & (trace.steps < high)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    norms = [x["grad_norm"] for x in lines if "grad_norm" in x and low < x["step"] <= high]
    tokens = trace.column("tokens")[around].sum() / trace.column("rollouts")[around].sum()
    return {
        "mixed": float(trace.column("mixed_fraction")[around].mean()), "tokens": float(tokens),
        "grad_norm": float(np.sqrt(np.mean(np.square(norms)))), "steps": len(norms),
    }  # fmt: skip


def replayed(run: Path) -> dict[str, float]:
    """Share of rollouts that an earlier success took the place of: of all, and of the last
    quarter's."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [x for x in lines if "spent/replayed" in x]
    last = steps[-len(steps) // 4 :]
    return {
        "share": steps[-1]["spent/replayed"] / steps[-1]["spent/rollouts"],
        "last_quarter": (last[-1]["spent/replayed"] - last[0]["spent/replayed"])
        / (last[-1]["spent/rollouts"] - last[0]["spent/rollouts"]),
    }


def of_runs(runs: Path, folders: list[Path]) -> dict[str, Any]:
    """All that is read of finished runs at the recipe's learning rate.

    Args:
        runs: Folder of the runs whose checkpoints are measured.
        folders: More runs, or folders of them.
    """
    stages = {stage: near(runs / run, low, high) for stage, (run, low, high) in NEAR.items()}
    return {"near": stages} | recorded(folders)


def recorded(folders: list[Path]) -> dict[str, Any]:
    """What is read of runs, or of all in a folder; those of another suite than the recipe's say so.

    An adversary that does not play on errors has no regret in them.
    """
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    regrets: dict[str, list[dict[str, float]]] = defaultdict(list)
    memory: dict[str, list[dict[str, float]]] = defaultdict(list)
    bins: dict[str, str] = {}
    files = (f for x in folders for f in (*x.glob("trace.jsonl"), *x.glob("*/trace.jsonl")))
    for file in sorted(files):
        recipe = yaml.safe_load((file.parent / "recipe.yaml").read_text())
        trace = read_trace(file)
        finished = len(trace.records) == recipe["max_steps"]
        if not finished or float(recipe["learning_rate"]) != LEARNING_RATE:
            continue
        method, suite = method_of(trace, file.parent), recipe["dataset_name"]
        name = method if suite == "arithmetic" else f"{method}, {suite.partition('/')[2]}"
        rows[name].append(of_trace(trace))
        bins[name] = bins_of(trace)
        prompt = trace.header["config"]["prompt"]
        if prompt["weigh"] == "gdro" and prompt["signal"] == "error":
            regrets[name].append(regret(trace))
        if trace.header["config"]["replay"]["successes"]:
            memory[name].append(replayed(file.parent))
    return {
        "traces": {name: {"bins": bins[name]} | row for name, row in _means(rows).items()},
        "memory": _means(memory),
        "regret": {
            name: {"runs": len(own)}
            | {key: float(np.mean([row[key] for row in own])) for key in own[0]}
            for name, own in regrets.items()
        },
    }


def _means(rows: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    return {
        name: {key: interval([row[key] for row in own]) for key in own[0]}
        for name, own in sorted(rows.items())
    }
