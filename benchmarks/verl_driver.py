"""What gdro costs in verl's driver: identities, memory, a step's time, and bytes to the workers.

    .venv-verl/bin/python benchmarks/verl_driver.py [--large]

Prompts are keyed by strings (data_source, split, index), as on verl; `--large` adds 10^7 of them
(some minutes, about 6 GiB). Each size is a process of its own. No Ray: what is measured is what the
driver does between verl's calls. The memory of successes fills up with the steps measured: each
prompt's newest right rollout, of `TOKENS` tokens. And what the plugin, which verl loads in every
process, costs one. Writes docs/results/verl_driver.json.
"""

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (10_000, 1_000_000)
LARGE = 10_000_000
STEPS = {"512 x 4": (512, 4), "4096 x 8": (4096, 8), "8192 x 16": (8192, 16)}
OUT = Path(__file__).parents[1] / "docs/results/verl_driver.json"
REPEATS = 12
TOKENS = 900
"""Of every completion."""


def dataset(size: int) -> Any:
    """As verl's: an Arrow table whose rows have a problem, a source and extra_info."""
    import pyarrow as pa
    from datasets import Dataset

    same = pa.array(np.zeros(size, np.int64))
    index, split = pa.array(np.arange(size)), pa.array(["train"]).take(same)
    info = pa.StructArray.from_arrays([index, split], ["index", "split"])
    table = pa.table({"data_source": pa.array(["math"]).take(same), "extra_info": info})
    return types.SimpleNamespace(dataframe=Dataset(table))


def peak() -> float:
    """GiB of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(size: int) -> dict[str, Any]:
    """One size, in this process."""
    from tensordict import NonTensorData, NonTensorStack

    from gdro.core.checkpoint import save
    from gdro.core.replay import Success
    from gdro.core.resolve import resolved
    from gdro.trainers.verl.border import Settings
    from gdro.trainers.verl.driver import Came, Driver
    from gdro.trainers.verl.identity import dataset_ids

    data, before = dataset(size), peak()
    started = time.perf_counter()
    ids = dataset_ids(data)
    found: dict[str, Any] = {"prompts": size, "ids_seconds": time.perf_counter() - started}
    found["steps"] = {}
    names = np.array(ids)
    rng = np.random.default_rng(0)
    for name, (prompts, n_mean) in STEPS.items():
        if prompts > size:
            continue
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(controller=resolved("joint_replay", {}, n_mean), method="",
                                seed=0, correct="score", trace=f"{folder}/trace.jsonl")  # fmt: skip
            driver = Driver(settings, n_mean=n_mean, std_scaled=True)
            started = time.perf_counter()
            driver.controller.bind(ids)
            found["bind_seconds"] = time.perf_counter() - started
            spent, remembered = [], set()
            for step in range(REPEATS):
                uids = [f"{step}-{i}" for i in range(prompts)]
                started = time.process_time()
                chosen = driver.controller.select(prompts)
                plan = driver.plan(uids, names[chosen])
                planned = time.process_time() - started
                slot_R = plan.slot_R
                correct_R = (rng.random(len(slot_R)) < 0.3).astype(float)
                uid_R = [uids[slot] for slot in slot_R.tolist()]
                came = Came(key_R=uid_R, uid_R=uid_R, score_R=correct_R, correct_R=correct_R,
                            tokens_R=np.full(len(slot_R), TOKENS))  # fmt: skip
                started = time.process_time()
                for part in driver.parts(came.uid_R):
                    _, wanted = driver.controller.recall(part.plan, part.outcome(came))
                    remembered |= {part.plan.prompt_P[slot] for slot in wanted.values()}
                    spoken = tuple(range(TOKENS))
                    driver.controller.remember(
                        part.plan, {s: Success(spoken, (1.0,), 0) for s in wanted.values()}
                    )
                driver.weight_R(came.uid_R)
                record, _ = driver.observe(came, ())
                driver.write(record, {})
                spent.append((planned, time.process_time() - started))
            late = 1e3 * np.median(np.array(spent[REPEATS // 2 :]), axis=0)
            counts = NonTensorStack.from_list([NonTensorData(n) for n in plan.n_P.tolist()])
            started = time.perf_counter()
            path = Path(folder) / "state.npz"
            save(path, driver.state_dict(), fingerprint="")
            found["steps"][name] = {
                "plan_ms": float(late[0]), "observe_ms": float(late[1]),
                "remembered": len(remembered),
                "counts_bytes": len(pickle.dumps(counts)),
                "state_mib": path.stat().st_size / 2**20,
                "save_seconds": time.perf_counter() - started,
            }  # fmt: skip
    return found | {"peak_gib": peak(), "before_gib": before}


def plugin(module: str, repeats: int = 3) -> dict[str, Any]:
    """What a process takes that imports a module of verl, without and with our plugin."""
    code = (
        f"import resource, {module}; u = resource.getrusage(resource.RUSAGE_SELF); "
        "print(u.ru_utime + u.ru_stime, u.ru_maxrss / 1024)"
    )
    found: dict[str, Any] = {"module": module}
    for name, policy in (("without", "none"), ("with", "auto")):
        said = [
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                           env=os.environ | {"VERL_USE_EXTERNAL_PLUGINS": policy}).stdout
            for _ in range(repeats)
        ]  # fmt: skip
        seconds, mib = np.median([list(map(float, s.split()[-2:])) for s in said], axis=0)
        found[name] = {"seconds": float(seconds), "mib": float(mib)}
    return found


def main() -> None:
    """Measures every size, and writes what it prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.size:
        print(json.dumps(measure(known.size)))
        return
    rows = []
    for size in (*SIZES, *([LARGE] if known.large else [])):
        said = subprocess.run([sys.executable, __file__, "--size", str(size)], check=True,
                              capture_output=True, text=True).stdout  # fmt: skip
        rows.append(json.loads(said.strip().splitlines()[-1]))
        print(json.dumps(rows[-1], indent=1))
    loaded = [plugin(module) for module in ("verl", "verl.workers.engine_workers")]
    print(json.dumps(loaded, indent=1))
    OUT.write_text(json.dumps({"sizes": rows, "plugin": loaded}, indent=1) + "\n")


if __name__ == "__main__":
    main()
