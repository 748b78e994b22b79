"""What real runs say, for the simulator's calibration: docs/results/simulator/recorded.json.

    python -m benchmarks.simulator_recorded [RUN...]

RUN are folders of GRPO's runs on the validation split, the one at the tuned rate first (8e-4,
then 2e-4, 4e-4 and 1.6e-3); its scores at other rates, at 8 rollouts a prompt and of more seeds are
taken from the results of earlier studies. Without RUN, GRPO's runs stay as the file has them. The
other methods are read off the committed results of studies.

Which: every third method of studies/screening.yaml, from its first, and all of parts 1 and 2 of the
study (studies/replay.yaml, studies/reweighting.yaml). None of studies/fresh.yaml.
"""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from gdro.core.config import ControllerConfig
from gdro.lab.settings import method
from gdro.lab.simulate import Recorded, Runs, Training, recorded

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
FILE = RESULTS / "simulator" / "recorded.json"
METRICS = ("mean@8", "pass@8")
BUDGET = 38400
STEPS = 150
TUNED = 8e-4
STUDIES = {"screening": slice(None, None, 3), "replay": slice(None), "reweighting": slice(2, 4)}
"""Which methods of each study are calibrated on; of the last those that had run, and not before."""


def methods(study: str) -> dict[str, Mapping[str, Any]]:
    """The methods of a study by name, with their settings."""
    found = yaml.safe_load((ROOT / "studies" / f"{study}.yaml").read_text())["methods"]
    return {name: (found[name] or {}) if isinstance(found, dict) else {} for name in found}


def configured(name: str, values: Mapping[str, Any]) -> tuple[ControllerConfig, Training]:
    """A method as its settings have it trained: 256 rollouts a step."""
    changes = {k: v for k, v in values.items() if k.startswith("gdro_") and k != "gdro_preset"}
    n_mean = values.get("num_generations", 4)
    training = Training(
        steps=STEPS,
        prompts=BUDGET // STEPS // n_mean,
        n_mean=n_mean,
        lr=round(float(values.get("learning_rate", TUNED)) / TUNED, 4),
        scale_rewards=values.get("scale_rewards", "group") == "group",
        loss=values.get("loss_type", "dapo"),
    )
    return method(values.get("gdro_preset", name), changes, n_mean), training


def key(config: ControllerConfig, training: Training) -> str:
    """Alike for runs of one configuration, whatever they have in common with others."""
    part = (training.lr, training.n_mean, training.scale_rewards, training.loss)
    return json.dumps([config.to_dict(), *part], sort_keys=True)


class _Pooled:
    """Runs by configuration, means over all seeds."""

    def __init__(self) -> None:
        self.runs: dict[str, Runs] = {}

    def add(self, new: Runs) -> None:
        name = key(new.config, new.training)
        old = self.runs.get(name)
        if old is None:
            self.runs[name] = new
            return
        share = new.seeds / (old.seeds + new.seeds)
        pooled = {
            part: tuple(
                ((1 - share) * np.array(getattr(old, part)) + share * np.array(values)).tolist()
            )
            for part in ("reward", "mixed", "mean", "passed")
            if len(values := getattr(new, part)) == len(getattr(old, part)) > 0
        }
        self.runs[name] = replace(old, seeds=old.seeds + new.seeds, **pooled)


def grpos(folders: list[Path]) -> Recorded:
    """GRPO's runs: the folders, with its scores in the committed results of earlier studies."""
    read, pooled = recorded(folders), _Pooled()
    for runs in read.runs:
        pooled.add(runs)
    for name, run in json.loads((RESULTS / "headroom.json").read_text())["runs"].items():
        if re.fullmatch(r"grpo-lr[\d.e-]+", name):
            config, training = configured("grpo", {"learning_rate": run["lr"]})
            levels = [run["test"][f"level {i}"] for i in range(1, 6)]
            mean, passed = (tuple(level[m] for level in levels) for m in METRICS)
            pooled.add(Runs(config=config, training=training, seeds=1, mean=mean, passed=passed))
    for study, name, n_mean in (("adversaries", "grpo", 4), ("group_size", "grpo_n8", 8)):
        values = {"gdro_preset": "grpo", "num_generations": n_mean}
        pooled.add(of_study(study, name, values))
    return replace(read, runs=tuple(pooled.runs.values()))


def of_study(study: str, name: str, values: Mapping[str, Any]) -> Runs:
    """A method's test runs in the committed results of a study."""
    rows = [
        row
        for row in pq.read_table(RESULTS / study / "runs.parquet").to_pylist()
        if row["method"] == name and row["phase"] == "test" and row["last"]
    ]
    (point,) = {row["values"] for row in rows}  # what its tuning chose
    config, training = configured(name, {**values, **json.loads(point)})
    last = {(name, row["seed"], row["step"]) for row in rows}
    correct: dict[str, list[int]] = {}
    for row in pq.read_table(RESULTS / study / "prompts.parquet").to_pylist():
        if (row["method"], row["seed"], row["step"]) in last:
            correct.setdefault(row["level"], []).append(row["correct"])
    by_level = [np.array(correct[level]) for level in sorted(correct)]
    return Runs(
        config=config,
        training=training,
        seeds=len(rows),
        mixed=tuple(np.mean([row["mixed_groups"] for row in rows], 0).tolist()),
        mean=tuple(float(c.mean() / 8) for c in by_level),
        passed=tuple(float((c > 0).mean()) for c in by_level),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path)
    folders = parser.parse_args().folders
    known = grpos(folders) if folders else recorded([FILE])
    fresh, pooled = {key(*configured(*m)) for m in methods("fresh").items()}, _Pooled()
    for runs in known.runs:
        grpo = runs.config == method("grpo", {}, runs.training.n_mean)
        if grpo and key(runs.config, runs.training) not in fresh:
            pooled.add(runs)
    taken = {key(runs.config, runs.training) for runs in pooled.runs.values()}
    for study, which in STUDIES.items():
        for name, values in list(methods(study).items())[which]:
            runs = of_study(study, name, values)
            if key(runs.config, runs.training) not in taken:  # GRPO's are there
                pooled.add(runs)
    found = replace(known, runs=tuple(pooled.runs.values()))
    FILE.write_text(json.dumps(found.to_dict(), indent=1) + "\n")


if __name__ == "__main__":
    main()
