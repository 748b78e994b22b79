"""Time and memory of the controller on one core: plan, weights and observe of a step.

Times are of the processor, so that other programs do not count; minima and medians of the quickest
of three passes.

    python benchmarks/controller.py [--steps 200] [--large]

Prints its tables and writes them to docs/results/controller.json: every method; the same method
written plainly with dicts and lists (dict_and_list.py), in turn; growth in the rows
of a step and in the size of the data set; bytes a prompt; the time of `import gdro`. `--large`
adds 10^8 integer ids, each observed once (minutes).
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from dict_and_list import DictAndList

from gdro import Controller, ControllerConfig, Outcome
from gdro.core.config import DifficultyConfig
from gdro.core.difficulty import Difficulty
from gdro.core.presets import PRESETS
from gdro.core.replay import Success

SIZES = {"512 x 4": (512, 4, 12), "4096 x 8": (4096, 8, 24)}
METHODS = {
    **{name: PRESETS[name]
       for name in ("grpo", "prompt", "rollout", "rollout_replay", "joint", "joint_replay")},
    "rollout (neyman)": {"rollout.allocator": "neyman", "rollout.aggregation": "prompt"},
    "rollout (signal)": {"rollout.allocator": "signal"},
    "rollout (progress)": {"rollout.allocator": "progress"},
    "rollout (exp3p, sample)": {"rollout.allocator": "exp3p"},
    "rollout (exp3p, argmax)": {"rollout.allocator": "exp3p", "rollout.choice": "argmax"},
}  # fmt: skip
GROWING = ("rollout_replay", "joint", "rollout (exp3p, sample)")
"""Methods whose time is shown against the rows of a step and the known prompts."""
LENGTH = 256
"""Tokens of a remembered success."""
PLAIN = {  # what DictAndList does: no discounting, a given prior
    "prompt.weigh": "gdro", "difficulty.memory": "all", "difficulty.prior": "fixed",
    "difficulty.prior_column": "rate", "rollout.choice": "argmax",
}  # fmt: skip
LARGE = 10**8
PASSES = 3  # the quickest one counts, since a machine's clock may drift


def rates(rng: np.random.Generator, size: int) -> np.ndarray:
    """Success rates whose pass@8 is uniform: all ten bins are active."""
    return 1 - (1 - rng.random(size)) ** (1 / 8)


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds of the second half, when everything is warm."""
    late = 1e3 * np.array(seconds[len(seconds) // 2 :])
    return {"min": float(late.min()), "median": float(np.median(late))}


def step(controller: Controller, ids: np.ndarray, rate_N: np.ndarray, rng: Any) -> tuple:
    """Seconds of plan, of observe, and of reading the record for a trace and a logger.

    A method that draws prompts takes its own, as many as there are ids; the memory is part of
    observing.
    """
    start = time.thread_time()
    if controller.selects:
        ids = controller.select(len(ids))
    plan = controller.plan(ids)
    planned = time.thread_time() - start
    slot_R = np.repeat(np.arange(len(ids)), plan.n_P)
    correct_R = rng.random(len(slot_R)) < rate_N[ids][slot_R]
    outcome = Outcome(prompt_R=ids[slot_R], slot_R=slot_R, correct_R=correct_R)
    start = time.thread_time()
    if controller.config.replay.successes:
        _, wanted = controller.recall(plan, outcome)
        success = Success((0,) * LENGTH, (1.0,), plan.step)
        controller.remember(plan, dict.fromkeys(wanted.values(), success))
    record = controller.observe(plan, outcome)
    observed = time.thread_time() - start
    start = time.thread_time()
    assert record.values
    assert record.metrics
    return planned, observed, time.thread_time() - start


def measure(
    method: dict[str, Any], prompts: int, n_mean: int, n_max: int, steps: int, known: int = 0
) -> dict[str, dict[str, float]]:
    """Of plan, of observe, of both, and of the record; `known` prompts have been visited before."""
    config = ControllerConfig.from_dict({**method, "rollout.n_max": n_max})
    controller = Controller(config, n_mean=n_mean, seed=0)
    rng = np.random.default_rng(0)
    rate_N = rates(rng, max(known, 4 * prompts))
    if controller.selects:
        controller.bind(np.arange(len(rate_N)))
    if known:
        rows = controller.difficulty.rows(np.arange(known))
        once = np.full(known, n_mean)
        controller.difficulty.observe(rows, once, rng.binomial(once, rate_N))
    found = [step(controller, rng.choice(len(rate_N), prompts, replace=False, shuffle=False),
                  rate_N, rng) for _ in range(steps)]  # fmt: skip
    planned, observed, read = (list(times) for times in zip(*found, strict=True))
    both = [p + o for p, o in zip(planned, observed, strict=True)]
    times = {"plan": planned, "observe": observed, "both": both, "record": read}
    return {name: spread(seconds) for name, seconds in times.items()}


def against_plain(allocator: str, prompts: int, n_mean: int, n_max: int, steps: int) -> dict:
    """Ours and the dicts and lists on the same prompts, in turn for `steps` steps each."""
    rng = np.random.default_rng(0)
    rate_N = rates(rng, 4 * prompts)
    utility = rng.normal(0.5, 0.2, (10, n_max - 1))
    config = {**PLAIN, "rollout.allocator": allocator, "rollout.n_max": n_max}
    ours = Controller(ControllerConfig.from_dict(config), n_mean=n_mean, seed=0)
    ours.bind(np.arange(len(rate_N)), prior=rate_N.tolist())
    if allocator == "exp3p":
        bandit = ours.method.allocator
        bandit.load_state_dict({**bandit.state_dict(), "mean_BK": utility})
    arms = {(b, 2 + j): x for (b, j), x in np.ndenumerate(utility)}
    known = dict(enumerate(rate_N.tolist()))
    plain = DictAndList(allocator, n_mean, 2, n_max, known, arms)
    found: dict[str, Any] = {}
    active = []
    for _ in range(PASSES):
        batches = [rng.choice(len(rate_N), prompts, replace=False) for _ in range(steps)]
        taken = {"ours": [sum(step(ours, ids, rate_N, rng)[:2]) for ids in batches]}
        taken["plain"] = [plain_step(plain, ids.tolist(), rate_N, rng) for ids in batches]
        active += [len({plain.bin_of[i] for i in ids.tolist()}) for ids in batches]
        for name, seconds in taken.items():
            times = spread(seconds)
            found[name] = min(found.get(name, times), times, key=lambda t: t["median"])
    found["ratio"] = found["plain"]["median"] / found["ours"]["median"]
    return {"allocator": allocator, "active_bins": min(active), **found}


def plain_step(plain: DictAndList, rows: list[int], rate_N: np.ndarray, rng: Any) -> float:
    """Seconds of plan and observe."""
    start = time.thread_time()
    counts, _ = plain.plan(rows)
    planned = time.thread_time() - start
    prompt_R = [i for i, n in zip(rows, counts, strict=True) for _ in range(n)]
    correct_R = (rng.random(len(prompt_R)) < rate_N[prompt_R]).tolist()
    start = time.thread_time()
    plain.observe(prompt_R, correct_R)
    return planned + time.thread_time() - start


def bytes_a_prompt(**fields: Any) -> float:
    """Of the state after one visit of 10^5 prompts with integer ids (a full window, for one)."""
    size, visits = 10**5, fields.get("window", 1)
    difficulty = Difficulty(DifficultyConfig(**fields))
    rows = difficulty.rows(np.arange(size))
    for _ in range(visits):
        difficulty.observe(rows, np.full(size, 4), np.full(size, 1))
    memory, index = difficulty._memory, difficulty._index
    arrays = [difficulty._bin, index._page, index._table]
    arrays += [x for x in vars(memory).values() if isinstance(x, np.ndarray)]
    return sum(x.nbytes for x in arrays) / size


def bytes_a_string_id(size: int = 10**5) -> float:
    """What the index of string ids takes: a dict's entry (the strings are the data set's own)."""
    ids = [f"prompt-{i:012d}" for i in range(size)]
    difficulty = Difficulty(DifficultyConfig())
    tracemalloc.start()
    difficulty._index.rows(ids)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / size


def large() -> dict[str, float]:
    """10^8 integer ids, all of them observed once, then steps on any of them: peak memory."""
    start = time.perf_counter()
    controller = Controller(n_mean=4, seed=0)
    controller.bind(np.arange(LARGE, dtype=np.int32))
    rng = np.random.default_rng(0)
    for first in range(0, LARGE, 1 << 20):
        rows = controller.difficulty.rows(np.arange(first, min(first + (1 << 20), LARGE)))
        n = np.full(len(rows), 4)
        controller.difficulty.observe(rows, n, rng.integers(0, 5, len(rows)))
    seconds = time.perf_counter() - start
    rate_N = np.full(1, 0.5)
    found = []
    for _ in range(60):
        ids = rng.integers(0, LARGE, 512)
        taken = step(controller, np.unique(ids), np.broadcast_to(rate_N, LARGE), rng)
        found.append(sum(taken[:2]))
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"ids": LARGE, "peak_gib": kib / 2**20, "fill_s": seconds, "step": spread(found)}  # type: ignore[dict-item]


def fresh(code: str) -> str:
    """What a fresh interpreter prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True,
                         cwd=Path(__file__).parent)  # fmt: skip
    return run.stdout


def import_seconds(module: str) -> float:
    """Of a fresh interpreter, median of 7."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(np.median([float(fresh(code)) for _ in range(7)]))


def show(times: dict[str, float]) -> str:
    return f"{times['min']:.2f} / {times['median']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--large", action="store_true", help="10^8 integer ids as well")
    args = parser.parse_args()
    out = Path(__file__).parents[1] / "docs" / "results" / "controller.json"
    old = json.loads(out.read_text()) if out.exists() else {}
    few = max(args.steps // 4, 8)
    found: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__}

    print(f"{'plan + observe, ms, min / median':34}" + "".join(f"{size:>18}" for size in SIZES))
    found["milliseconds"] = [{"method": name} for name in METHODS]
    for _ in range(PASSES):
        for row, method in zip(found["milliseconds"], METHODS.values(), strict=True):
            for size, (prompts, n_mean, n_max) in SIZES.items():
                steps = args.steps if prompts < 1000 else few
                times = measure(method, prompts, n_mean, n_max, steps)
                row[size] = min(row.get(size, times), times, key=lambda t: t["both"]["median"])
    for row in found["milliseconds"]:
        name = row["method"]
        print(f"{name:34}" + "".join(f"{show(row[s]['both']):>18}" for s in SIZES))

    print(f"\n{'10 active bins':34}{'ours':>18}{'dicts and lists':>22}{'ratio':>8}")
    found["plain"] = []
    for size, (prompts, n_mean, n_max) in SIZES.items():
        for allocator in ("hard_first", "exp3p"):
            steps = few if prompts < 1000 else 6
            row = {"size": size, **against_plain(allocator, prompts, n_mean, n_max, steps)}
            found["plain"].append(row)
            print(f"{allocator + ', ' + size:34}{show(row['ours']):>18}{show(row['plain']):>22}"
                  f"{row['ratio']:>8.0f}")  # fmt: skip

    methods = {name: METHODS[name] for name in GROWING}
    print(f"\n{'rows of a step, x 4':34}" + "".join(f"{name:>24}" for name in methods))
    found["rows"] = []
    for prompts in (512, 1024, 2048, 4096, 8192):
        row = {"rows": prompts}
        row |= {name: measure(m, prompts, 4, 12, few)["both"] for name, m in methods.items()}
        found["rows"].append(row)
        print(f"{prompts:<34}" + "".join(f"{show(row[name]):>24}" for name in methods))

    print(f"\n{'known prompts, 512 x 4':34}" + "".join(f"{name:>24}" for name in methods))
    found["known"] = []
    for known in (10**4, 10**5, 10**6, 10**7):
        row = {"known": known}
        row |= {name: measure(m, 512, 4, 12, few, known)["both"] for name, m in methods.items()}
        found["known"].append(row)
        print(f"{known:<34}" + "".join(f"{show(row[name]):>24}" for name in methods))

    kept = 64
    found["bytes"] = {
        "discounted": bytes_a_prompt(), "all": bytes_a_prompt(memory="all"),
        "discounted, any": bytes_a_prompt(estimator="any"),
        f"window, {kept} visits kept": bytes_a_prompt(memory="window", window=kept),
        "a string id instead of 4": bytes_a_string_id(),
    }  # fmt: skip
    print("\nbytes a prompt: " + ", ".join(f"{k} {v:.1f}" for k, v in found["bytes"].items()))
    found["import"] = {name: import_seconds(name) for name in ("numpy", "gdro")}
    print("import: " + ", ".join(f"{k} {v:.3f} s" for k, v in found["import"].items()))
    if args.large:
        found["large"] = json.loads(fresh("import json, controller as c; "
                                          "print(json.dumps(c.large()))"))  # fmt: skip
        print(f"10^8 integer ids: {found['large']['peak_gib']:.2f} GiB at most, "
              f"{show(found['large']['step'])} ms a step of 512 x 4")  # fmt: skip
    elif "large" in old:
        found["large"] = old["large"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
