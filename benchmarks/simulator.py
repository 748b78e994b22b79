"""Does the simulator rank methods as real training does? Those it was not calibrated on.

    python benchmarks/simulator.py --calibrate RUN... --rated SCORES.json
    python benchmarks/simulator.py --against RESULT... [--rates RESULT...]
    python benchmarks/simulator.py --again      from the scores kept in docs/results

RUN are the folders of the runs that the population is fitted to, SCORES.json what
`benchmarks/headroom.py` wrote (its runs of GRPO, at any rate). A RESULT is a results.json that
`gdro compare` wrote, the folder of a run, or a folder of such; seeds of one method are pooled, and
methods that were calibrated on are left out. What was simulated is not simulated again.

Fixed before the first look: accepted if Spearman's rank correlation is >= .7 for mean@8 *and*
pass@8, over the methods that generate equal rollouts (those that generate more rank first
anywhere). Writes docs/results/simulator.{json,md}.
"""

import argparse
import json
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import spearmanr

from gdro.core.trace import read_trace
from gdro.lab.folder import read_jsonl
from gdro.lab.simulate import Population, Scores, Training, calibrate, many, processes
from gdro.lab.simulate.settings import method, path_of, value_of
from gdro.lab.simulate.study import Block, Variant

OUT = Path(__file__).parents[1] / "docs" / "results" / "simulator"
METRICS = ("mean@8", "pass@8")
ACCEPTED = 0.7
RESAMPLES = 4000
STEPS = 150


def real_scores(
    sources: list[Path], without: set[str], lr: float, part: str, split: str
) -> list[Any]:
    """Methods and learning rates with their scores by seed, whatever they were read from."""
    found: dict[Any, dict[str, Any]] = {}
    for source in sources:
        for one in of_results(source) if source.suffix == ".json" else of_folders(source):
            preset, changes, rate = one.pop("preset"), one.pop("changes"), one.pop("rate") or lr
            if (preset in without and not changes) or one["split"] != split:
                continue
            key = (preset, json.dumps(changes, sort_keys=True), round(rate / lr, 4))
            row = {"preset": preset, "changes": changes, "lr": key[2], "part": part, "runs": {}}
            found.setdefault(key, row)["runs"] |= one["runs"]
    rows = []
    for row in found.values():
        runs = [row["runs"][seed] for seed in sorted(row["runs"])]
        row |= {"seeds": sorted(row.pop("runs"))} | {
            m: [run[m] for run in runs] for m in (*METRICS, "rollouts")
        }
        words = [f"{path.rpartition('.')[2]}={value}" for path, value in row["changes"].items()]
        rows.append({"method": " ".join([row["preset"], *words])} | row)
    return sorted(rows, key=lambda row: -np.mean(row["pass@8"]))


def of_results(file: Path) -> Any:
    """The methods of a results.json, on the arithmetic suite."""
    results = json.loads(file.read_text())
    settings = results.get("methods", {}) if "suites" in results else {}
    results = results["suites"]["arithmetic"] if "suites" in results else results
    for name, scores in results["methods"].items():
        values = settings.get(name, {}) | scores["values"]
        rate = float(values.pop("learning_rate", 0))
        preset = values.pop("gdro_preset", name)
        runs = {
            seed: {m: float(scores[m][i]) for m in (*METRICS, "rollouts")}
            for i, seed in enumerate(results["seeds"])
        }
        changes = {path_of(name): value_of(str(value)) for name, value in values.items()}
        yield {"preset": preset, "changes": changes, "rate": rate, "runs": runs,
               "split": results["split"]}  # fmt: skip


def of_folders(folder: Path) -> Any:
    """The finished runs of a folder, or the one that it is."""
    for trace in sorted(folder.glob("**/trace.jsonl")):
        evaluations = read_jsonl(trace.parent / "evals.jsonl")
        if not evaluations or evaluations[-1]["step"] != STEPS:
            continue
        recipe = yaml.safe_load((trace.parent / "recipe.yaml").read_text())
        header, last = read_trace(trace).header, evaluations[-1]
        preset = recipe.get("gdro_preset", header["method"])
        own = method(preset, {}, header["n_mean"]).to_dict()
        changes = {
            f"{room}.{name}": value
            for room, values in header["config"].items()
            for name, value in values.items()
            if own[room].get(name) != value
        }
        runs = {int(recipe["seed"]): {m: last[m] for m in (*METRICS, "rollouts")}}
        rate = float(recipe["learning_rate"])
        yield {"preset": preset, "changes": changes, "rate": rate, "runs": runs,
               "split": last["split"]}  # fmt: skip


def rated(file: Path, lr: float) -> list[Scores]:
    """GRPO's scores on the test prompts at every rate that `benchmarks/headroom.py` ran."""
    found = []
    for name, run in json.loads(file.read_text())["runs"].items():
        if re.fullmatch(r"grpo-(\d+x-)?lr[\d.e-]+", name):
            levels = [v for k, v in sorted(run["test"].items()) if k.startswith("level ")]
            training = Training(lr=run["lr"] / lr, steps=run["steps"])
            mean, passed = ([level[m] for level in levels] for m in METRICS)
            config = method("grpo", {})
            found.append(Scores(config=config, training=training, mean=mean, passed=passed))
    return found


def correlation(rows: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Spearman's rho of the methods' means, with an interval by resampling methods."""
    pairs = np.array([[np.mean(row[metric]), np.mean(row["simulated"][metric])] for row in rows])
    rng = np.random.default_rng(0)
    drawn = (pairs[rng.integers(len(pairs), size=len(pairs))] for _ in range(RESAMPLES))
    rhos = [spearmanr(*x.T).statistic for x in drawn if len(np.unique(x[:, 0])) > 2]
    low, high = np.percentile(rhos, [2.5, 97.5])
    rho = float(spearmanr(*pairs.T).statistic)
    return {"rho": rho, "low": float(low), "high": float(high), "methods": len(pairs)}


def key_of(row: dict[str, Any]) -> str:
    """What is simulated for a row."""
    return json.dumps([row["preset"], row["changes"], row["lr"]], sort_keys=True)


def simulated(rows: list[dict[str, Any]], population: Population, seeds: int, parallel: int) -> Any:
    """The scores of the same methods at the same steps, by key; and runs a minute."""
    rows = list({key_of(row): row for row in rows}.values())
    blocks = []
    for row in rows:
        config = method(row["preset"], row["changes"])
        training = Training(lr=row["lr"], equal="steps", steps=STEPS)
        variant = Variant(name=row["method"], config=config, values={})
        blocks.append(Block(training=training, variants=(variant,), values={}))
    with processes(parallel) as pool:
        many(blocks[:1], population, range(4 * parallel), pool)  # the processes start
        started = time.perf_counter()
        found = many(blocks, population, range(seeds), pool)
        minutes = (time.perf_counter() - started) / 60
    scores = {}
    for row, (runs,) in zip(rows, found, strict=True):
        scores[key_of(row)] = {
            **{m: [round(run["after"][m], 5) for run in runs] for m in METRICS},
            "milliseconds": 1000 * float(np.median([run["processor"] for run in runs])),
        }
    return scores, len(rows) * seeds / minutes


def page(found: dict[str, Any]) -> str:
    """docs/results/simulator.md."""
    equal = found["correlation"]["equal rollouts"]
    reached = [m for m in METRICS if equal[m]["rho"] >= ACCEPTED]
    verdict = "accepted" if found["accepted"] else "not accepted: no claim rests on it"
    lines = [
        "# The simulator against real training", "",
        f"Generated by `benchmarks/simulator.py`. **{verdict}** (bound: rank correlation >= "
        f"{ACCEPTED} for both scores, over the methods at equal rollouts; reached for "
        f"{' and '.join(reached) or 'neither'}).", "",
        f"Calibrated on: {', '.join(found['calibrated_on'])}; statistics missed by "
        f"{found['error']:.3f} (rms, on fresh seeds). The methods below were not calibrated on. "
        "Real scores are of the seeds stated; one seed's has a standard deviation of about .03; "
        f"simulated ones are of {found['seeds']} seeds. lr is relative to the calibrated runs'.",
        "", *found.get("looks", []), "",
        "| Spearman's rank correlation | mean@8 | pass@8 | methods |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for name, row in found["correlation"].items():
        cells = [
            f"{row[m]['rho']:.3f} [{row[m]['low']:.2f}, {row[m]['high']:.2f}]" for m in METRICS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {row[METRICS[0]]['methods']} |")
    lines += [
        "", "In brackets: 95% by resampling methods. Learning rates: methods at a grid of them.",
        "",
        "| method | lr | seeds | rollouts | mean@8 real | simulated | pass@8 real | simulated |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for row in found["rows"]:
        cells = [
            row["method"] + ", grid" * (row["part"] == "rates"),
            f"{row['lr']:g}",
            f"{len(row['seeds'])}",
            f"{ratio(row):.2f}x",
        ]
        for metric in METRICS:
            cells += [f"{np.mean(x[metric]):.3f}" for x in (row, row["simulated"])]
        lines.append(f"| {' | '.join(cells)} |")
    times = [row["simulated"]["milliseconds"] for row in found["rows"]]
    lines += [
        "", f"Speed while this was made, {found['parallel']} processes on a shared machine: "
        f"{found['runs_per_minute']:.0f} runs of {STEPS} steps a minute by the clock. The median "
        f"method's run takes {np.median(times):.0f} ms of processor time ({min(times):.0f} to "
        f"{max(times):.0f} by method), so {120_000 / np.median(times):.0f} runs a minute of two "
        "cores.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def ratio(row: dict[str, Any]) -> float:
    """Rollouts that a method generates, over the budget."""
    return float(np.mean(row["rollouts"])) / (STEPS * 64 * 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calibrate", nargs="+", type=Path)
    parser.add_argument("--rated", type=Path, help="scores of the same method at other rates")
    parser.add_argument("--rounds", type=int, default=5, help="of the search; 0: only measure")
    parser.add_argument("--against", nargs="+", type=Path)
    parser.add_argument("--rates", nargs="+", type=Path, help="the same, of a grid of rates")
    parser.add_argument("--lr", type=float, default=8e-4, help="of the runs to calibrate on")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--again", action="store_true", help="simulate also what is known")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    known = parser.parse_args()
    file = known.out.with_suffix(".json")
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"rows": []}
    same = not (known.calibrate or known.again) and found.get("seeds") == known.seeds
    scores = {key_of(row): row["simulated"] for row in found["rows"] if same}
    if known.calibrate:
        scores = rated(known.rated, known.lr) if known.rated else []
        with processes(known.parallel) as pool:
            fitted = calibrate(
                known.calibrate, Population(), scores=scores, rounds=known.rounds, pool=pool
            )
        headers = [read_trace(run / "trace.jsonl").header for run in known.calibrate]
        found |= {
            "calibrated_on": sorted({h["method"] for h in headers}),
            "population": asdict(fitted.population),
            "error": fitted.error,
            "recorded": [None if np.isnan(x) else x for x in fitted.recorded.tolist()],
            "fitted": fitted.simulated.tolist(),
        }
    without = set(found["calibrated_on"])
    parts = ("methods", known.against, "test"), ("rates", known.rates, "validation")
    for part, sources, split in parts:
        if sources:
            found["rows"] = [row for row in found["rows"] if row["part"] != part]
            found["rows"] += real_scores(sources, without, known.lr, part, split)
    found["rows"].sort(key=lambda row: row["part"])
    rows, population = found["rows"], Population(**found["population"])
    if missing := [row for row in rows if key_of(row) not in scores]:
        new, speed = simulated(missing, population, known.seeds, known.parallel)
        scores |= new
        found |= {"runs_per_minute": speed, "parallel": known.parallel, "seeds": known.seeds}
    for row in rows:
        row["simulated"] = scores[key_of(row)]
    methods = [row for row in rows if row["part"] == "methods"]
    equal = [row for row in methods if abs(ratio(row) - 1) < 0.01]
    rates = [row for row in rows if row["part"] == "rates"]
    parts = {"equal rollouts": equal, "all": methods} | ({"learning rates": rates} if rates else {})
    found["correlation"] = {n: {m: correlation(r, m) for m in METRICS} for n, r in parts.items()}
    judged = found["correlation"]["equal rollouts"]
    found["accepted"] = all(judged[m]["rho"] >= ACCEPTED for m in METRICS)
    file.write_text(json.dumps(found, indent=1) + "\n")
    known.out.with_suffix(".md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
