"""Does the simulator rank methods as real training does? Those it was not calibrated on.

    python -m benchmarks.simulator_recorded             what real runs say, for the calibration
    gdro simulate --calibrate docs/results/simulator/recorded.json --out fitted
    python -m benchmarks.simulator [--against RESULTS...]
    python -m benchmarks.simulator --speed              runs a minute
    python -m benchmarks.simulator --page               again, from the results

RESULTS are folders with the raw results of studies/screening.yaml and studies/fresh.yaml; all seeds
that are there count.

Fixed before the fresh methods were seen: accepted if Spearman's rank correlation is >= .7 for
mean@8 *and* pass@8 over the methods of studies/fresh.yaml that generate equal rollouts; none of
them was calibrated on. Those of the screening that were not calibrated on are judged apart, and
decide nothing: the form was made by them. Writes docs/results/simulator/results.json (--speed:
speed.json) and docs/results/simulator.md.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from benchmarks.simulator_page import page, took
from benchmarks.simulator_recorded import BUDGET, FILE, METRICS, RESULTS, configured, key, methods
from scipy.stats import rankdata, spearmanr

from gdro.core.presets import DEFAULT
from gdro.lab.simulate import (
    Population,
    Training,
    calibrate,
    many,
    processes,
    recorded,
    variants,
)
from gdro.lab.simulate.study import Block, Variant

OUT = RESULTS / "simulator"
ACCEPTED = 0.7
JUDGE = "fresh"
RESAMPLES = 4000
TWINS = {"rollout_power3": "rollout_n16"}
"""Methods that decide the same as another, which is calibrated on: count as calibrated on."""


def real(folders: list[Path]) -> dict[str, dict[str, Any]]:
    """Scores and rollouts of every method, by seed."""
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for row in pq.read_table(folder / "runs.parquet").to_pylist():
            if row["phase"] == "test" and row["last"]:
                by_seed = found.setdefault(row["method"], {})
                by_seed[row["seed"]] = [row["mean"], row["pass"], row["rollouts"]]
    return found


def simulated(
    made: dict[str, tuple[Any, Training]], population: Population, seeds: int, parallel: int
) -> dict[str, dict[str, Any]]:
    """mean@8 and pass@8 of methods by seed."""
    blocks = [
        Block(training=t, variants=(Variant(name=name, config=c, values={}),), values={})
        for name, (c, t) in made.items()
    ]
    with processes(parallel) as pool:
        found = many(blocks, population, range(seeds), pool)
    return {
        name: {
            **{m: [round(run["after"][m], 5) for run in runs] for m in METRICS},
            "milliseconds": 1000 * float(np.median([run["processor"] for run in runs])),
        }
        for name, (runs,) in zip(made, found, strict=True)
    }


def part(name: str, calibrated: set[str]) -> str:
    """What a method is to the simulator."""
    fresh = methods("fresh")
    config = configured(name, (fresh | methods("screening"))[TWINS.get(name, name)])
    if key(*config) in calibrated:
        return "calibrated on"
    return JUDGE if name in fresh else "held out of the screening"


def rho(x: Any, y: Any) -> float:
    return float(spearmanr(x, y)[0])  # pyright: ignore[reportArgumentType]


def correlations(rows: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Spearman's rho of the methods' means, with intervals by resampling methods, and the ceiling.

    The ceiling: with a rank correlation r between two real seeds, the mean of m of them has
    reliability m r / (1 + (m - 1) r) (Spearman-Brown), and a simulator that knew the truth would
    have its square root.
    """
    runs_MS = np.array([row["real"][metric] for row in rows])
    pairs = np.array([runs_MS.mean(1), [np.mean(row["simulated"][metric]) for row in rows]]).T
    rng = np.random.default_rng(0)
    drawn = (pairs[rng.integers(len(pairs), size=len(pairs))] for _ in range(RESAMPLES))
    low, high = np.percentile([rho(*x.T) for x in drawn], [2.5, 97.5])
    found = {"rho": rho(*pairs.T), "low": float(low), "high": float(high), "methods": len(rows)}
    seeds = runs_MS.shape[1]
    if seeds > 1:
        first, second = np.triu_indices(seeds, 1)
        between = np.mean(
            [rho(runs_MS[:, i], runs_MS[:, j]) for i, j in zip(first, second, strict=True)]
        )
        reliability = seeds * between / (1 + (seeds - 1) * between)
        ceiling = float(np.sqrt(max(reliability, 0)))
        found |= {"between_seeds": float(between), "ceiling": ceiling}
    return found


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Both scores' correlations by part, at equal rollouts; writes every row's rank off."""
    found = {}
    for name in dict.fromkeys(row["part"] for row in rows):
        equal = [
            row
            for row in rows
            if row["part"] == name and abs(row["rollouts"] / BUDGET - 1) < 0.01
            and row["method"] not in TWINS
        ]  # fmt: skip
        for metric in METRICS:
            ranks = [
                rankdata([-np.mean(row[x][metric]) for row in equal]) for x in ("real", "simulated")
            ]
            for row, off in zip(equal, ranks[0] - ranks[1], strict=True):
                row["off"][metric] = round(off)
        found[name] = {m: correlations(equal, m) for m in METRICS}
    return found


def speed(population: Population, parallel: int, seeds: int = 32) -> dict[str, Any]:
    """Runs a minute of the main presets, by the clock, and processor time a run."""
    names = ("grpo", "prompt", "rollout", "joint", DEFAULT)
    blocks = variants({name: {} for name in names}, Training())
    with processes(parallel) as pool:
        many(blocks, population, range(parallel), pool)  # the processes start
        started = time.perf_counter()
        found = many(blocks, population, range(seeds), pool)
        minutes = (time.perf_counter() - started) / 60
    spent = [run["processor"] for runs in found[0] for run in runs]
    return {
        "methods": names,
        "steps": Training().steps,
        "parallel": parallel,
        "runs_a_minute": len(spent) / minutes,
        "milliseconds": 1000 * float(np.mean(spent)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--against", nargs="+", type=Path, default=[RESULTS / "screening"])
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--parallel", type=int, default=2)
    known = parser.parse_args()
    population, target = Population(), recorded([FILE])
    if known.speed:
        found = speed(population, known.parallel)
        print(took(found))
        (OUT / "speed.json").write_text(json.dumps(found, indent=1) + "\n")
    if known.speed or known.page:
        found = json.loads((OUT / "results.json").read_text())
        OUT.with_suffix(".md").write_text(written(found))
        return
    scores = real(known.against)
    settings = methods("screening") | methods("fresh")
    names = sorted(scores, key=lambda name: -np.mean([x[1] for x in scores[name].values()]))
    made = {name: configured(name, settings[name]) for name in names}
    with processes(known.parallel) as pool:
        calibration = calibrate(target, population, rounds=0, pool=pool)
    simulations = simulated(made, population, known.seeds, known.parallel)
    calibrated = {key(runs.config, runs.training) for runs in target.runs}
    rows = []
    for name in names:
        runs = [scores[name][seed] for seed in sorted(scores[name])]
        row = {"method": name, "part": part(name, calibrated), "off": {}}
        row |= {"rollouts": float(np.mean([run[2] for run in runs]))}
        by_metric = {m: [run[i] for run in runs] for i, m in enumerate(METRICS)}
        rows.append(row | {"real": by_metric, "simulated": simulations[name]})
    correlation = judged(rows)
    found: dict[str, Any] = {
        "seeds": known.seeds,
        "real_seeds": sorted({seed for name in names for seed in scores[name]}),
        "configurations": len(target.runs),
        "error": calibration.error,
        "population": asdict(population),
        "correlation": correlation,
        "accepted": JUDGE in correlation
        and all(correlation[JUDGE][m]["rho"] >= ACCEPTED for m in METRICS),
        "rows": rows,
    }
    (OUT / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    OUT.with_suffix(".md").write_text(written(found))
    print(written(found))


def written(found: dict[str, Any]) -> str:
    """The page of what was found, with the speed and the later methods measured last."""
    speed, since = (json.loads((OUT / f"{name}.json").read_text()) for name in ("speed", "since"))
    return page(found, JUDGE, ACCEPTED, speed, since)


if __name__ == "__main__":
    main()
