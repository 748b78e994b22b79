"""The simulator's benchmark: what is calibrated on, what is judged, and by which bound."""

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.simulator import judged, part, real
from benchmarks.simulator_page import page
from benchmarks.simulator_recorded import FILE, RESULTS, configured, key, methods, of_study

from gdro.lab.simulate import Population, recorded


def calibrated():
    return {key(runs.config, runs.training) for runs in recorded([FILE]).runs}


def test_no_fresh_method_was_calibrated_on():
    known = calibrated()
    assert part("grpo", known) == "calibrated on"
    for name in methods("fresh").keys() - {"grpo"}:
        assert part(name, known) == "fresh", name


def test_every_third_method_of_the_screening_was_calibrated_on():
    known, names = calibrated(), list(methods("screening"))
    taken = [name for name in names if part(name, known) == "calibrated on"]
    also = {"rollout_power3", "replay"}  # a twin of `rollout_n16`; part 1's
    assert set(taken) == {*names[::3], *also}


def test_settings_become_training():
    config, training = configured("grpo_n16", methods("fresh")["grpo_n16"])
    assert (training.n_mean, training.prompts) == (16, 16)
    assert config.rollout.allocator == "uniform"
    _, training = configured("x", {"gdro_preset": "rollout", **methods("fresh")["dr_grpo_rollout"]})
    assert (training.scale_rewards, training.loss) == (False, "dr_grpo")
    _, training = configured("grpo", {"learning_rate": "1.2e-3"})
    assert (training.lr, training.scale_rewards, training.loss) == (1.5, True, "dapo")


def test_recorded_runs_are_those_of_the_results():
    known = {key(runs.config, runs.training): runs for runs in recorded([FILE]).runs}
    runs = of_study("screening", "adarft", methods("screening")["adarft"])
    kept = known[key(runs.config, runs.training)]
    assert kept == runs
    assert (runs.seeds, len(runs.mixed), len(runs.reward)) == (2, 4, 0)
    scores = real([RESULTS / "screening"])["adarft"].values()
    found = runs.statistics(recorded([FILE]).shares)[[-7, -1]]
    assert found == pytest.approx(np.mean([row[:2] for row in scores], 0), abs=1e-9)


def rows_of(part_name, names, off=0.0):
    """Methods whose simulated scores are the real ones, or in the reverse order."""
    return [
        {
            "method": name,
            "part": part_name,
            "rollouts": 38400.0,
            "off": {},
            "real": {m: [i / 20, i / 20] for m in ("mean@8", "pass@8")},
            "simulated": {m: [abs(off - i / 20)] for m in ("mean@8", "pass@8")}
            | {"milliseconds": 1.0},
        }
        for i, name in enumerate(names)
    ]


def test_parts_are_judged_apart_and_only_at_equal_rollouts():
    fresh = rows_of("fresh", list(methods("fresh"))[:6])
    held = rows_of(
        "held out of the screening",
        ["mopps", "sec", "greso", "sample", "paper", "knapsack", "dr_grpo"],
        off=1.0,
    )
    fresh[0]["rollouts"] *= 1.02
    found = judged([*fresh, *held])
    assert [found[name]["mean@8"]["rho"] for name in found] == pytest.approx([1, -1])
    assert found["fresh"]["pass@8"]["methods"] == 5
    assert (fresh[0]["off"], fresh[1]["off"]) == ({}, {"mean@8": 0, "pass@8": 0})
    assert held[0]["off"]["mean@8"] == 6  # the worst, put highest
    made = {"correlation": found, "rows": [*fresh, *held], "accepted": True, "seeds": 1}
    made |= {"real_seeds": [40, 41], "configurations": 22, "error": 0.05}
    speed = {"methods": ["grpo"], "steps": 150, "parallel": 2, "runs_a_minute": 999.6}
    speed["milliseconds"] = 118.4
    text = page(made, "fresh", 0.7, speed)
    assert "**accepted**" in text
    assert "| fresh | 1.000" in text
    assert "1000 runs of 150 steps a minute by the clock" in text
    del found["fresh"]
    text = page(made | {"accepted": False, "rows": held}, "fresh", 0.7, speed)
    assert "**not judged yet: no claim rests on it**" in text


def test_the_default_population_is_what_the_calibration_found():
    file = Path(FILE).with_name("population.json")
    assert json.loads(json.dumps(vars(Population()))) == json.loads(file.read_text())


def test_gains_of_a_second_look_are_as_much_too_large_as_the_docs_say():
    """Two to four times (docs/simulation.md)."""
    rows = json.loads((RESULTS / "simulator" / "since.json").read_text())["gains"]
    times = [
        row["pass@8"]["simulated"] / row["pass@8"]["real"]["mean"]
        for row in rows
        if row["method"].startswith("second_look")
    ]
    assert (round(min(times)), round(max(times))) == (2, 4)
    assert "two to four times" in (RESULTS.parent / "simulation.md").read_text()
