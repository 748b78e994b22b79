"""The simulator against methods that ran after it was accepted; nothing was fitted to them.

    python -m benchmarks.simulator_since

Of the studies of `SINCE`, the methods that are neither calibrated on nor in the page's other
tables. Written down before this first ran: a rank correlation of .7 or more in both scores for the
peers and controls, which have eight seeds; less for the settings, which have two and lie near each
other. Of what is `LATER` no rank was written down. And how large the gains of the studies of
`GAINS` are.
Writes docs/results/simulator/since.json, and the page again.
"""

import argparse
import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from benchmarks.simulator import OUT, judged, simulated, written
from benchmarks.simulator_recorded import FILE, METRICS, RESULTS, configured, key, methods

from gdro.lab.simulate import Population, Training, recorded

FIRST, TEST = "peers and controls", "peers, controls and later"
SINCE = {"settings": "settings", "peers": TEST, "controls": TEST, "second_look": TEST}
"""Studies, and what they are judged together with: the same split and seeds. Of methods that decide
alike the first counts."""
LATER = {"prompt_level", "second_look", "second_look_replay"}
"""Methods that came after the expectations; `FIRST` are those of `TEST` without them."""
GAINS = {"second_look": Population(), "once": Population(train=9600)}
"""Studies whose gains are set against simulated ones, and their prompts."""


def later(study: str) -> dict[str, tuple[Any, Training, list[Any]]]:
    """The methods of a study as they were tested, with mean, pass and rollouts of every seed."""
    found = {}
    rows = pq.read_table(RESULTS / study / "runs.parquet").to_pylist()
    for name, values in methods(study).items():
        own = [r for r in rows if r["method"] == name and r["phase"] == "test" and r["last"]]
        if own:
            made = configured(name, {**values, **json.loads(own[0]["values"])})
            found[name] = (*made, [[r["mean"], r["pass"], r["rollouts"]] for r in own])
    return found


def gains(study: str, population: Population, seeds: int, parallel: int) -> list[dict[str, Any]]:
    """A row a method: its gains over the study's first method, relative, real and simulated."""
    made = {name: (config, training) for name, (config, training, _) in later(study).items()}
    (real,) = json.loads((RESULTS / study / "results.json").read_text())["suites"].values()
    found = simulated(made, population, seeds, parallel)
    mean = {name: {m: np.mean(found[name][m]) for m in METRICS} for name in made}
    first = real["baseline"]
    return [
        {"method": name, "study": study, "seeds": len(real["seeds"])}
        | {m: {"real": real["methods"][name]["difference"][m]["relative"],
               "simulated": float(mean[name][m] / mean[first][m] - 1)} for m in METRICS}
        for name in made if name != first
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--parallel", type=int, default=2)
    options = parser.parse_args()
    seen = {key(runs.config, runs.training) for runs in recorded([FILE]).runs}
    seen |= {key(*configured(*m)) for s in ("screening", "fresh") for m in methods(s).items()}
    made, rows = {}, []
    for study, part in SINCE.items():
        for name, (config, training, runs) in later(study).items():
            if key(config, training) in seen:
                continue
            seen.add(key(config, training))
            label = f"{name} ({study})"
            made[label] = config, training
            by_metric = {m: [run[i] for run in runs] for i, m in enumerate(METRICS)}
            rows.append({"method": label, "part": part, "off": {}, "real": by_metric,
                         "rollouts": float(np.mean([run[2] for run in runs]))})  # fmt: skip
    found = simulated(made, Population(), options.seeds, options.parallel)
    for row in rows:
        row["simulated"] = found[row["method"]]
    rows.sort(key=lambda row: -np.mean(row["real"][METRICS[1]]))
    first = [
        row | {"part": FIRST, "off": {}}
        for row in rows
        if row["part"] == TEST and row["method"].partition(" ")[0] not in LATER
    ]
    result = {
        "correlation": judged(first) | judged(rows),
        "rows": rows,
        "gains": [
            row
            for study, population in GAINS.items()
            for row in gains(study, population, options.seeds, options.parallel)
        ],
    }
    (OUT / "since.json").write_text(json.dumps(result, indent=1) + "\n")
    OUT.with_suffix(".md").write_text(written(json.loads((OUT / "results.json").read_text())))


if __name__ == "__main__":
    main()
