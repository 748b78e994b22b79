"""What the docs say is what the code does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gdro.lab.recipe import read_settings, resolve

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize("script", ["docs", "results"])
def test_what_is_generated_is_current(script: str) -> None:
    run = [sys.executable, f"scripts/{script}.py", "--check"]
    found = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_pages_are_what_their_numbers_give(monkeypatch) -> None:
    """Those of `make results` that no other test holds."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import forgetting
    import headroom
    import verifier
    from benchmarks import simulator

    def read(name: str) -> dict:
        return json.loads((RESULTS / name).read_text())

    pages = {
        file.stem: headroom.markdown(read(file.name)) for file in RESULTS.glob("headroom*.json")
    }
    pages["verifier"] = verifier.page(read("verifier.json"))
    pages["simulator"] = simulator.written(read("simulator/results.json"))
    found, baseline = forgetting.scored(forgetting.PLACE)
    methods = [name for name in dict.fromkeys(found["method"]) if name]
    pages["forgetting"] = forgetting.page(found, baseline, methods)
    for name, text in pages.items():
        assert (RESULTS / f"{name}.md").read_text() == text, name


def test_none_of_the_rollouts_is_a_share_of_them(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from aims import needed
    from results import reached

    found = {"reaches": {"share": 0.0, "low": 0.0, "high": 0.0}}
    assert reached(found) == "0% [0, 0]"
    assert needed({"methods": {"a": found}}, "a") == "yes: 0% [0%, 0%]"
    assert reached({"reaches": {"share": None, "low": None, "high": None}}) == ""


def test_the_aims_are_said_as_the_table_has_them(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from verdict import Reached, elsewhere_in_words, in_words

    yes, no = "yes: +12.0% [+7.0%, +17.0%]", "**no**: +1.0% [-7.0%, +9.0%]"
    cells = {"a": [yes, yes], "b": [no, yes], "c": [no, no], "d": ["", yes], "e": ["", no],
             "f": ["", ""], "g": [yes, yes]}  # fmt: skip
    found = [Reached("worst", name, "worst family up", own) for name, own in cells.items()]
    (line,) = (line for line in in_words(found, 8) if "worst family" in line)
    assert line.endswith(
        ": a and g on both mixes; b on the harder mix alone; c on neither mix; "
        "d on the harder mix; e not on the harder mix."
    )
    said = elsewhere_in_words({"a": {"x": yes, "y": no}, "b": {"x": no}}, ["y", "z"], 8)
    assert "`a` on x; `b` nowhere" in said[0]
    assert "On y and z GRPO" in said[0]


def test_a_run_is_told_of_once_whatever_a_study_calls_it(monkeypatch) -> None:
    """Under "By method"; studies that show it again have it in their own tables."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from results import HERE, by_method

    found = by_method(sorted(path.parent for path in HERE.glob("*/study.json")))
    rows = [line.split(" | ") for line in found if line.startswith("| **")]
    told = [(row[1].split()[0], *row[2:]) for row in rows]
    assert len(set(told)) == len(told) > 50


def test_every_method_by_name_has_its_limits() -> None:
    """docs/results/README.md: no row under "By method" without a word of when it fails."""
    text = (ROOT / "docs" / "results" / "README.md").read_text()
    section = text.partition("## By method")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| \*\*(\w+)\*\*", section, re.M))
    said = {
        n for names in re.findall(r"^\* \*\*(.+?)\*\*:", section, re.M) for n in names.split(", ")
    }
    assert rows == said


def test_the_loop_of_the_readme_runs() -> None:
    text = (ROOT / "README.md").read_text()
    loop = next(
        b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "import Controller" in b
    )
    updates: list[float] = []
    names = {
        "batches": [["a", "b", "c"], ["b", "c", "d"]],
        "generate_and_verify": lambda ids: [float(i > "b") for i in ids],
        "update": lambda weights: updates.extend(weights),
    }
    exec(loop, names)
    assert len(updates) == 24


def test_commands_of_the_readme_are_commands(tmp_path: Path, monkeypatch) -> None:
    """Every `gdro train` and `gdro compare` line: its flags exist and fit together."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("model_name_or_path: arithmetic\nreward_funcs: [exact]\n")
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    lines = [line.split("#")[0].split() for line in text.splitlines() if line[:8] == "    gdro"]
    assert len(lines) >= 5
    for words in lines:
        known = {"--methods", "--seeds", "--grid", "--parallel", "--out", "--results"}
        source, *flags = [*words[2:], "arithmetic"] if len(words) == 2 else words[2:]
        if words[1] == "train" and not source.startswith("runs/"):
            resolve(read_settings(source), flags)
        if words[1] == "compare":
            assert {flag for flag in flags if flag[:2] == "--"} <= known
            source = "arithmetic" if source.startswith("--") else source
            assert resolve(read_settings(source)).run.reward_funcs == ["exact"]


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
