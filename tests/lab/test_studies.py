"""The studies that are written down are those whose results stand in docs/results."""

import json
from pathlib import Path

import pytest

from gdro.lab.compare.study import read_study
from gdro.lab.settings import PATHS, method, plain

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "docs" / "results").glob("*/study.json"))
GIVEN = {"learning_rate", "gdro_preset", "save_steps", "save_total_limit", "logging_steps"}
"""Settings of a suite that are no part of what is compared, or that methods may have instead."""


def what(settings, common):
    """A method, however it is spelt: its controller, and what else it changes."""
    own = {PATHS[name]: plain(value) for name, value in settings.items() if name in PATHS}
    others = {
        name: plain(value)
        for name, value in settings.items()
        if name not in PATHS and name != "gdro_preset"
    }
    assert not set(PATHS) & set(common)
    return method(settings["gdro_preset"], own).to_dict(), others


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_study_is_what_its_results_are_of(folder):
    about = json.loads((folder / "study.json").read_text())
    study = read_study(ROOT / "studies" / f"{folder.name}.yaml").to_dict()
    assert list(study["methods"]) == list(about["methods"])
    assert study["contrasts"] == about["contrasts"]
    assert set(about["seeds"]) <= set(study["seeds"])
    assert set(study["suites"]) == set(about["suites"])
    for suite, written in study["suites"].items():
        one, two = written["settings"], about["suites"][suite]["settings"]
        for name in {*one, *two} - GIVEN:
            assert plain(one.get(name)) == plain(two.get(name)), name
        for name, values in study["methods"].items():
            made = about["methods"][name]
            assert what(values["settings"], one) == what(made["settings"], two), name
            assert {k: list(map(plain, v)) for k, v in values["grid"].items()} == {
                k: list(map(plain, v)) for k, v in made["grid"].items()
            }, name
