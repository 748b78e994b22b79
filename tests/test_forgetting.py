"""The forgetting page: its curves and its equal learning, on curves that are known."""

import json

import pandas as pd
import pytest
from benchmarks import forgetting

STEPS = (10, 20)
SHARES = {  # by method and seed: right of 8 at each step, on the trained and the held-out family
    ("grpo", 0): ((2, 4), (3, 2)),
    ("grpo", 1): ((2, 4), (3, 3)),
    ("fast", 0): ((4, 8), (2, 0)),
    ("fast", 1): ((3, 8), (4, 0)),
    ("slow", 0): ((0, 1), (4, 4)),
    ("slow", 1): ((0, 4), (4, 4)),
}
BASE = (0, 4)


@pytest.fixture
def folder(tmp_path):
    """Raw results of one prompt a family."""
    settings = {"dataset_name": "arithmetic/transfer", "dataset_test_name": "arithmetic"}
    methods = dict.fromkeys(("grpo", "fast", "slow"))
    study = {"suites": {"arithmetic": {"settings": settings}}, "methods": methods}
    families = ("addition", "product")
    rows = [(None, None, 0, f, c) for f, c in zip(families, BASE, strict=True)]
    for (method, seed), sides in SHARES.items():
        for step, *correct in zip(STEPS, *sides, strict=True):
            rows += [(method, seed, step, f, c) for f, c in zip(families, correct, strict=True)]
    names = ["method", "seed", "step", "family", "correct"]
    out = tmp_path / "forgetting"
    out.mkdir()
    (out / "study.json").write_text(json.dumps(study))
    pd.DataFrame(rows, columns=names).to_parquet(out / "prompts.parquet")
    return out


def test_results_without_a_held_out_family_are_refused():
    with pytest.raises(SystemExit, match="trained on arithmetic, which holds no family out"):
        forgetting.scored(forgetting.PLACE.parent / "replay")


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=f"{tmp_path} is no folder of raw results"):
        forgetting.scored(tmp_path)


def test_curves_begin_with_the_base_model(folder):
    found, baseline = forgetting.scored(folder)
    assert baseline == "grpo"
    steps, values = forgetting.curves(found, "fast", "held out", "mean@8")
    assert steps.tolist() == [0, *STEPS]
    assert values.tolist() == [[0.5, 0.25, 0.0], [0.5, 0.5, 0.0]]


def test_equal_learning_is_where_the_curve_passes_the_baseline_s_end(folder):
    found, baseline = forgetting.scored(folder)
    # GRPO ends at 4 of 8. Seed 0 is there at step 10 with 2 held out (GRPO 2), seed 1 at step 12
    # with 4 - .2 * 4 = 3.2 (GRPO 3): differences 0 and .2 of 8, relative to its mean 2.5.
    step, mean, _ = forgetting.at_equal_learning(found, "fast", baseline)
    assert step == "11"
    assert mean.startswith("+4.0% [")
    assert forgetting.at_equal_learning(found, "slow", baseline)[1] == "not reached by 1 of 2 seeds"


def test_the_page_has_every_method(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["forgetting.py", str(folder)])
    forgetting.main()
    written = folder.with_suffix(".md").read_text()
    assert written.strip() == capsys.readouterr().out.strip()
    for method in ("grpo", "fast", "slow"):
        assert f"| {method} |" in written
    assert folder.with_suffix(".svg").read_bytes().startswith(b"<?xml")
