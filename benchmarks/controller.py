"""Time of plan + observe on one core, and of `import gdro` over `import numpy`.

    python benchmarks/controller.py [--steps 200]

Prints a table and writes it to docs/results/controller.json.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from gdro import Controller, ControllerConfig, Outcome

SIZES = {"512 x 4": (512, 4, 12), "4096 x 8": (4096, 8, 24)}
METHODS = {
    "grpo": {"prompt.realisation": "none", "rollout.allocator": "uniform"},
    "prompt": {"rollout.allocator": "uniform"},
    "joint (hard_first)": {},
    "joint (neyman)": {"rollout.allocator": "neyman", "rollout.aggregation": "prompt"},
    "joint (signal)": {"rollout.allocator": "signal"},
    "joint (exp3p, sample)": {"rollout.allocator": "exp3p"},
    "joint (exp3p, argmax)": {"rollout.allocator": "exp3p", "rollout.choice": "argmax"},
}


def measure(method: dict[str, str], prompts: int, n_mean: int, n_max: int, steps: int) -> dict:
    """Milliseconds of plan and of observe, median over the second half of `steps`."""
    config = ControllerConfig.from_dict({**method, "rollout.n_max": n_max})
    controller = Controller(config, n_mean=n_mean, seed=0)
    rng = np.random.default_rng(0)
    rate_N = rng.beta(0.4, 0.6, 4 * prompts)
    taken: dict[str, list[float]] = {"plan": [], "observe": []}
    for _ in range(steps):
        ids = rng.choice(len(rate_N), prompts, replace=False)
        start = time.perf_counter()
        plan = controller.plan(ids)
        taken["plan"].append(time.perf_counter() - start)
        slot_R = np.repeat(np.arange(prompts), plan.n_P)
        outcome = Outcome(
            prompt_R=ids[slot_R],
            slot_R=slot_R,
            correct_R=rng.random(len(slot_R)) < rate_N[ids][slot_R],
        )
        start = time.perf_counter()
        controller.observe(plan, outcome)
        taken["observe"].append(time.perf_counter() - start)
    return {k: 1e3 * statistics.median(v[steps // 2 :]) for k, v in taken.items()}


def import_seconds(module: str) -> float:
    """Of a fresh interpreter, median of 7."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    run = [sys.executable, "-c", code]
    found = [float(subprocess.run(run, capture_output=True, check=True).stdout) for _ in range(7)]
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    rows = []
    print(f"{'plan + observe, ms, median':34}" + "".join(f"{size:>22}" for size in SIZES))
    for name, method in METHODS.items():
        row: dict = {"method": name}
        for size, (prompts, n_mean, n_max) in SIZES.items():
            row[size] = measure(method, prompts, n_mean, n_max, steps if prompts < 1000 else 60)
        rows.append(row)
        cells = [f"{r['plan']:.2f} + {r['observe']:.2f}" for r in (row[s] for s in SIZES)]
        print(f"{name:34}" + "".join(f"{cell:>22}" for cell in cells))
    imports = {name: import_seconds(name) for name in ("numpy", "gdro")}
    print(f"import numpy {imports['numpy']:.3f} s, import gdro {imports['gdro']:.3f} s")
    out = Path(__file__).parents[1] / "docs" / "results" / "controller.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    host = {"python": platform.python_version(), "numpy": np.__version__}
    out.write_text(json.dumps({"milliseconds": rows, "import": imports, **host}, indent=1) + "\n")


if __name__ == "__main__":
    main()
