"""The effects of a factorial design against least squares, on scores that are known."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.factorial import aliases, design, effect, page
from scipy.stats import t as student

from gdro.lab.compare.study import read_study

ROOT = Path(__file__).parents[1]
FACTORS = {
    "gdro_prompt_eta": (0.65, 2.0),
    "gdro_difficulty_bins": (3, 10),
    "gdro_replay_successes": (False, True),
}


def full(*left_out):
    """All methods of three factors, but some."""
    cells = [dict(zip(FACTORS, levels, strict=True)) for levels in product(*FACTORS.values())]
    return {
        f"m{i}": {"gdro_preset": "joint", **cell}
        for i, cell in enumerate(cells)
        if i not in left_out
    }


def test_effects_and_intervals_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    signs_FC = design(full())[1]
    score_CS = rng.normal(size=(8, 3))
    three_C = np.prod(signs_FC, axis=0)
    columns = [*signs_FC, *(sign for sign, _ in aliases(signs_FC)), three_C]
    assert len(columns) == 7
    x = np.column_stack(
        [np.repeat(c / 2, 3) for c in columns] + [np.tile(row, 8) for row in np.eye(3)]
    )
    y = score_CS.ravel()
    beta, rest, rank, _ = np.linalg.lstsq(x, y)
    free = len(y) - rank
    for i, sign_C in enumerate(columns):
        half = student.ppf(0.975, free) * np.sqrt(rest[0] / free * np.linalg.inv(x.T @ x)[i, i])
        expected = beta[i], beta[i] - half, beta[i] + half
        assert effect(score_CS, sign_C) == pytest.approx(expected)


def test_factors_are_the_settings_that_differ():
    factors, signs_FC = design(full())
    assert factors == {
        "difficulty.bins": (3, 10),
        "prompt.eta": (0.65, 2.0),
        "replay.successes": (False, True),
    }
    assert signs_FC[2].tolist() == [-1, 1] * 4


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (full(0), "balanced"),
        (full(1, 2, 4, 7), "aliased"),
        (full() | {"m0": full()["m0"] | {"gdro_prompt_eta": 1.0}}, "prompt.eta has 3 values"),
    ],
)
def test_what_is_no_such_design_is_refused(methods, message):
    with pytest.raises(SystemExit, match=message):
        design(methods)


def test_the_study_is_a_design_of_resolution_four():
    study = read_study(ROOT / "studies" / "factorial.yaml").to_dict()
    factors, signs_FC = design({name: m["settings"] for name, m in study["methods"].items()})
    assert (len(factors), signs_FC.shape[1]) == (8, 16)
    assert sorted(len(pairs) for _, pairs in aliases(signs_FC)) == [4] * 7


def test_the_page_says_which_value_is_better():
    methods = full()
    rows = [
        {
            "method": name, "seed": seed, "phase": "test", "last": True, "k": 8,
            "split": "validation", "pass": 0.5 + 0.1 * own["gdro_replay_successes"], "mean": 0.5,
            "worst_family_mean": 0.3 - 0.1 * (own["gdro_prompt_eta"] > 1) + 0.01 * seed,
        }
        for name, own in methods.items()
        for seed in (1, 2)
    ]  # fmt: skip
    said = page(pd.DataFrame(rows), methods)
    (memory,) = [line for line in said.splitlines() if "replay.successes" in line]
    assert "`false` | `true` | **+18.2% [18.2, 18.2]** | +0.0% [0.0, 0.0]" in memory


def test_the_committed_page_is_of_the_committed_runs():
    place = ROOT / "docs" / "results" / "factorial"
    methods = json.loads((place / "study.json").read_text())["methods"]
    methods = {name: m["settings"] for name, m in methods.items()}
    runs = pd.read_parquet(place / "runs.parquet")
    assert place.with_suffix(".md").read_text() == page(runs, methods)
