"""Why do the methods do what they do? Measured on frozen checkpoints of real runs.

    gdro train arithmetic --gdro_preset grpo --save_steps 50 --save_total_limit 4 \\
        --output_dir RUNS/grpo                       (and rollout, joint)
    python -m benchmarks.mechanism measure --runs RUNS --out DIR --traces RUNS STUDY/runs
    python -m benchmarks.mechanism traces --traces STUDY/runs OTHER/runs/METHOD-seed*
                                                     what more recorded runs say
    python -m benchmarks.mechanism page      again, from docs/results/mechanism.json

Success rates and their gradients are exact (`frozen`), the spread of gradients is that of
`ROLLOUTS` rollouts a prompt, `PER_BIN` prompts in each bin of true pass@8; an unmeasured prompt
borrows that spread, relative to its own exact moments, from the nearest measured one. Every
finished part is a file in DIR and is not repeated. Writes docs/results/mechanism.json, .md,
.parquet (what was measured of each prompt) and .svg.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.mechanism.analysis import numbers
from benchmarks.mechanism.figure import draw
from benchmarks.mechanism.frozen import load, measure, squared_norms, success
from benchmarks.mechanism.learning import real_runs
from benchmarks.mechanism.noiseless import ALLOCATED, CURVES, bin_of, data, directions, train
from benchmarks.mechanism.page import page
from benchmarks.mechanism.traces import recorded

from gdro.core import checkpoint
from gdro.core.config import ControllerConfig
from gdro.core.controller import Controller
from gdro.core.files import write_text
from gdro.core.trace import read_trace
from gdro.data import arithmetic
from gdro.lab.folder import append_jsonl, read_jsonl

OUT = Path(__file__).parents[2] / "docs" / "results" / "mechanism"
STAGES = {
    "base": None, "grpo, 50": ("grpo", 50), "grpo, 150": ("grpo", 150),
    "rollout, 50": ("rollout", 50), "rollout, 150": ("rollout", 150),
}  # fmt: skip
ROLLOUTS, DIRECT_PER_BIN, GROUP = 256, 3, 4
PER_BIN = (24, *[12] * 8, 48)
"""Prompts measured of each bin: the end bins hold most of the prompts, the last most variance."""
PLANS, PROMPTS = 60, 64
SEEDS = (0, 1, 2)
PACKAGES = ("trl", "transformers", "torch")


def folder_of(stage: str, runs: Path) -> Path:
    where = STAGES[stage]
    return runs / where[0] / f"checkpoint-{where[1]}" if where else arithmetic.base_path()


def truth(path: Path) -> dict[str, Any]:
    """Exact success of every prompt, and the squared norm of its answer's score."""
    model, tokenizer = load(path)
    problems = data(tokenizer)
    found = {f"p_{split}": success(model, x).tolist() for split, x in problems.items()}
    return found | {"right2": squared_norms(model, problems["train"])[0].tolist()}


def chosen(p_train: np.ndarray) -> Iterator[tuple[int, bool]]:
    """The prompts to measure, at most `PER_BIN` of each bin, and whether directly as well."""
    rng = np.random.default_rng(0)
    bin_P = bin_of(p_train)
    for b in np.unique(bin_P):
        mine = rng.permutation(np.flatnonzero(bin_P == b))[: PER_BIN[b]]
        yield from ((int(row), i < DIRECT_PER_BIN) for i, row in enumerate(mine))


def moments(path: Path, p_train: list[float], file: Path) -> None:
    """Measures what is missing in `file`, a line a prompt."""
    known = read_jsonl(file)
    write_text(file, "".join(json.dumps(line) + "\n" for line in known))  # without a torn last one
    done = {line["row"] for line in known}
    model, tokenizer = load(path)
    rows = arithmetic.generate("train")
    for row, direct in chosen(np.array(p_train)):
        if row in done:
            continue
        torch.manual_seed(row)
        found = measure(model, tokenizer, rows[row], ROLLOUTS, GROUP if direct else 0)
        append_jsonl(file, {"row": row, **found})


def decisions(run: Path, path: Path) -> dict[str, Any]:
    """What the controller of a checkpoint thinks of each training prompt, and gives it."""
    header = read_trace(run / "trace.jsonl").header
    controller = Controller(ControllerConfig.from_dict(header["config"]), n_mean=header["n_mean"])
    rows = arithmetic.generate("train")
    ids = np.array([row["id"] for row in rows])
    controller.bind(ids)
    state = checkpoint.load(path / "gdro_controller.npz", fingerprint=controller.fingerprint)
    controller.load_state_dict(state["controller"])
    known = controller.difficulty
    where = known.rows(ids)
    found = {
        "estimate": known.pass_at_k(where), "success": known.success(where),
        "bin": known.bin_P(where),
        "variance_B": controller.method.variance.variance_B,
    }  # fmt: skip
    rng, n, visits, mixed = np.random.default_rng(0), np.zeros(len(ids)), np.zeros(len(ids)), []
    for _ in range(PLANS):
        batch = rng.permutation(len(ids))[:PROMPTS]
        n_P = controller.plan(ids[batch]).n_P
        np.add.at(n, batch, n_P)
        np.add.at(visits, batch, 1)
        mixed.append((batch.tolist(), n_P.tolist()))
    with np.errstate(invalid="ignore"):
        found["n"] = np.where(visits > 0, n / visits, np.nan)
    return {k: v.tolist() for k, v in found.items()} | {"plans": mixed}


def resumed(file: Path, part: Callable[[], Any]) -> Any:
    """A finished part, or the part."""
    if not file.exists():
        started = time.process_time()
        found = part()
        done = {"cpu_s": time.process_time() - started, "found": found}
        write_text(file, json.dumps(done))  # in one line: some parts are long
        print(f"{file.stem}: {time.process_time() - started:.0f} s of processor time", flush=True)
    return json.loads(file.read_text())


def parts(runs: Path, out: Path, only: str) -> dict[str, Any]:
    """Runs what is missing of a part of the work, or of all of it, and gathers."""
    found: dict[str, Any] = {"stages": {}, "training": [], "cpu_s": 0.0}

    def take(name: str, part: Callable[[], Any]) -> Any:
        got = resumed(out / f"{name}.json", part)
        found["cpu_s"] += got["cpu_s"]
        return got["found"]

    for stage in STAGES:
        path, name = folder_of(stage, runs), stage.replace(", ", "-")
        known: dict[str, Any] = {}
        if only in ("all", "moments"):
            known = take(f"truth-{name}", partial(truth, path))
            lines = out / f"moments-{name}.jsonl"
            take(f"moments-{name}", partial(moments, path, known["p_train"], lines))
            known["moments"] = read_jsonl(lines)
            if STAGES[stage]:
                known["decisions"] = take(f"plan-{name}", partial(decisions, path.parent, path))
        if only in ("all", "directions"):
            known["directions"] = take(f"directions-{name}", partial(directions, path))
        found["stages"][stage] = known
    for seed in SEEDS if only in ("all", "training") else ():
        for i, method in enumerate(CURVES):
            run = partial(train, arithmetic.base_path(), method, seed)
            found["training"].append(take(f"training-{i}-{seed}", run))
        for i, method in enumerate(ALLOCATED):
            run = partial(train, arithmetic.base_path(), method, seed, rewards=True)
            found["training"].append(take(f"rewards-{i}-{seed}", run))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["measure", "traces", "page"])
    parser.add_argument("--runs", type=Path, help="folder of the runs grpo, rollout, joint")
    parser.add_argument("--out", type=Path, help="folder of the finished parts")
    parser.add_argument(
        "--traces", nargs="+", type=Path, default=[], help="runs, or folders of them"
    )
    parser.add_argument(
        "--only", choices=["moments", "directions", "training", "all"], default="all"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "measure":
        options.out.mkdir(parents=True, exist_ok=True)
        raw = parts(options.runs, options.out, options.only)
        if options.only != "all":
            return
        report = numbers(raw, ROLLOUTS, options.runs, options.traces, OUT.with_suffix(".parquet"))
        report["versions"] = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        report["settings"] = {
            "rollouts": ROLLOUTS, "per_bin": PER_BIN, "direct_per_bin": DIRECT_PER_BIN,
            "plans": PLANS, "prompts": PROMPTS,
        }  # fmt: skip
        OUT.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    report = json.loads(OUT.with_suffix(".json").read_text())
    if options.what == "traces":
        for part, found in recorded(options.traces).items():
            report[part] = report.get(part, {}) | found
        OUT.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    report["real"] = real_runs()
    OUT.with_suffix(".md").write_text(page(report))
    draw(report, OUT.with_suffix(".svg"))


if __name__ == "__main__":
    main()
