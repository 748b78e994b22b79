"""Writes the tables and figures of all studies, and the results in README.md, from raw results.

    python scripts/results.py [STUDY]    or --check: fails where they are out of date

Each study in docs/results gets its tables and figures from the raw tables beside them, as by
`gdro compare --results`; then docs/results/README.md is written, and what the README shows of
`MAIN` and `HARDER`. STUDY is the folder of a `gdro compare`; its results are copied first, to a
folder of the study's name. The other measurements come from benchmarks/headroom.py, controller.py,
step.py, verl_driver.py and real_text.py.
"""

import json
import math
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from aims import CURVES, DEFAULT, HARDER, MAIN, TUNED, aims, elsewhere_in_short, screened
from costs import controller, verl_driver
from questions import cell, classes, questions
from raw import HERE, measured, suites_of
from rich.console import Console
from scipy.stats import spearmanr

from gdro.lab.compare.analyse import analyse
from gdro.lab.compare.command import write_results
from gdro.lab.compare.gather import read_raw
from gdro.lab.compare.table import markdown_table as table
from gdro.lab.compare.table import study_page

README = Path(__file__).parents[1] / "README.md"
FEWEST = 4
"""Seeds of a study that a table of methods takes up."""
MANY = 8
"""Seeds of the methods whose gains are ranked."""
ONCE = "once"
"""The study in which every prompt is seen once."""
LIMITS = HERE / "limits.yaml"
"""When a method fails: written by hand, from the studies beside it."""


def gains(block: dict[str, Any]) -> list[str]:
    """A row a method: gains over the baseline; bold where the interval excludes zero."""
    k, first = block["k"], block["baseline"]
    metrics = [f"{m}@{k}" for m in ("pass", "mean", "worst_family_mean")]
    curves = any(found.get("reaches") for found in block["methods"].values())
    head = [f"{len(block['seeds'])} seeds", f"pass@{k}", f"mean@{k}", "worst family"]
    rows = []
    for name, found in block["methods"].items():
        if name == first:
            cells = [f"{sum(found[m]) / len(found[m]):.3f}" for m in metrics]
        else:
            cells = [cell(found["difference"][m]) for m in metrics]
        rows.append([f"`{name}`", *cells, *[reached(found) if name != first else ""] * curves])
    return table([*head, *[f"rollouts to {first}'s pass@{k}"] * curves], rows)


def reached(found: dict[str, Any]) -> str:
    """Share of its rollouts by which a method has the baseline's last pass@k, with its interval."""
    needs = found.get("reaches", {})
    if needs.get("share") is None:
        return ""
    ends = [needs[end] for end in ("low", "high")]
    words = ", ".join("never" if end is None else f"{100 * end:.0f}" for end in ends)
    return f"{needs['share']:.0%} [{words}]"


def by_method(studies: list[Path]) -> list[str]:
    """A row a method and suite: what it gains over the study's baseline, and what that costs.

    Studies of fewer seeds than `FEWEST` are for choosing, not for saying; see their own tables.
    """
    head = ["method", "on", "seeds", "pass@8", "mean@8", "worst family", "rollouts", "tokens"]
    rows, limits = [], yaml.safe_load(LIMITS.read_text())
    ranked: dict[tuple[str, str], list[float]] = {}
    shown: dict[tuple[str, str], set[float]] = {}
    over: dict[str, float] = {}  # most rollouts of a run, as a part of the baseline's
    compared: set[tuple[str, tuple[float, ...], tuple[float, ...]]] = set()
    blocks = [
        (folder, suite, block)
        for folder in studies
        for suite, block in json.loads((folder / "results.json").read_text())["suites"].items()
    ]
    (frozen,) = suites_of(MAIN)
    (curves,) = suites_of(CURVES).values()  # runs of MAIN made again, with curves
    first = (MAIN, HARDER)  # of studies that show the same runs
    blocks.sort(key=lambda found: (found[0].name not in first, -len(found[2]["seeds"])))
    for folder, suite, block in blocks:
        given = json.loads((folder / "study.json").read_text())["methods"]
        if len(block["seeds"]) >= FEWEST:
            base = block["methods"][block["baseline"]]
            for name, found in block["methods"].items():
                scores = set(found["mean@8"]) - shown.setdefault((name, suite), set())
                pair = (suite, tuple(found["mean@8"]), tuple(base["mean@8"]))
                if name == block["baseline"] or not scores or pair in compared:
                    continue  # runs of another study, shown again
                shown[name, suite] |= scores
                compared.add(pair)
                most = max(found["rollouts"]) / max(base["rollouts"]) - 1
                over |= {name: max(most, over.get(name, 0.0))} if most > 0 else {}
                gains = [relative(gap, base[m]) for m, gap in found["difference"].items()]
                if suite == frozen and len(block["seeds"]) >= MANY:
                    both = (f"{m}@{block['k']}" for m in ("mean", "worst_family_mean"))
                    ranked[name, folder.name] = [found["difference"][m]["mean"] for m in both]
                again = curves["methods"].get(name, {}) if folder.name == MAIN else {}
                again = again if again.get("mean@8") == found["mean@8"] else {}
                tokens = sum(found["tokens"]) / sum(base["tokens"])
                rate = given[name]["settings"].get("learning_rate")
                beta = given[name]["settings"].get("beta") or found["values"].get("beta")
                label = f"**{name}**" + (f" at {float(rate):g}" if rate else "")
                label += f", beta {float(beta):g}" if beta else ""
                knobs = {n.removeprefix("gdro_"): v for n, v in found["values"].items()
                         if n not in ("learning_rate", "beta")}  # fmt: skip
                label += "".join(f", {knob} {value}" for knob, value in knobs.items())
                rows.append([label, f"{suite} ([{folder.name}]({folder.name}/results.md))",
                             str(len(block["seeds"])), gains[1], gains[0], *gains[2:],
                             reached(found | again), f"{tokens:.3f}"])  # fmt: skip
    said = [f"* **{name}**: {words}" for name, words in limits.items()]
    more = ", ".join(f"`{name}` up to {part:.1%} more" for name, part in over.items())
    return [
        "## By method",
        "",
        f"Gain over each study's own GRPO at equal rollouts{f' ({more})' if more else ''},",
        "relative, with its 95% interval over seeds; rollouts: to reach GRPO's final pass@8, where",
        "curves were taken; tokens generated, relative to GRPO's. Intervals are not corrected for",
        "multiple comparisons: of twenty true zeros, one would look significant by chance. Studies",
        "of one suite at the same seeds share GRPO's runs, so their gains are not independent. In",
        "`reference` GRPO has a reference model too; `curves` has the same runs against GRPO",
        "without one.",
        "",
        *table(head, sorted(rows)),
        "Does the worst family gain with the average? The rank correlation of the gains in mean@8",
        f"and in the worst family is {spearmanr([*ranked.values()])[0]:.2f} over "
        f"{len({name for name, _ in ranked})} methods ({len(ranked)} rows) with {MANY}",
        "seeds or more on the frozen mix. They share GRPO's runs, and the worst family is part of",
        "the average.",
        "",
        "When it fails, and what it costs:",
        "",
        *said,
        "",
    ]


def relative(gap: dict[str, Any], base: list[float]) -> str:
    mean, low, high = (100 * gap[end] / (sum(base) / len(base)) for end in ("mean", "low", "high"))
    return f"{mean:+.1f}% [{low:+.1f}, {high:+.1f}]"


def study_section(folder: Path) -> list[str]:
    """Of a study: what its suites say, and its figures."""
    results = json.loads((folder / "results.json").read_text())
    page = f"{folder.name}/results.md"
    lines = [f"## Study {results['study']}", ""]
    blocks = results["suites"].values()
    tuned = any(m["tuning"] for block in blocks for m in block["methods"].values())
    given = json.loads((folder / "study.json").read_text())["suites"].values()
    rates = {found["settings"]["learning_rate"] for found in given}
    trials = f"Rate {' and '.join(f'{float(r):g}' for r in rates)} unless stated, not tuned here"
    if tuned:
        trials = "The same number of tuning trials"
    curves = any(m.get("reaches") for block in blocks for m in block["methods"].values())
    when = (
        "curves on the test prompts, of which the last step counts" if curves else "the last step"
    )
    lines += [
        f"{trials}; {when}. All tables: [{page}]({page}).",
        "",
    ]
    for suite, block in results["suites"].items():
        fair = "" if block["equal_rollouts"] else " **Not at equal rollouts.**"
        lines += [f"On {suite}:{fair}", ""]
        if (seeds := len(block["seeds"])) < FEWEST:
            lines += [f"{seeds} seeds: exploratory, no conclusions are drawn from it.", ""]
        else:
            lines += gains(block)
    for figure in sorted(folder.glob("*.svg")):
        lines += [f"![{figure.stem}]({folder.name}/{figure.name})", ""]
    return lines


def headroom() -> list[str]:
    """What is left to win: base, tuned GRPO, five times its budget, supervised."""
    rows = []
    for path in sorted(HERE.glob("headroom*.json")):
        found = json.loads(path.read_text())
        runs = [
            found["runs"][name] for name in ("base", found["tuned"], found["longer"], "supervised")
        ]
        scores = [run["test"]["all"] for run in runs]
        cells = [f"{score['mean@8']:.3f} / {score['pass@8']:.3f}" for score in scores]
        rows.append([f"[{found['name']}]({path.stem}.md)", f"{runs[1]['lr']:g}", *cells])
    head = ["suite", "rate", "base", "tuned GRPO", "GRPO, 5x budget", "supervised"]
    said = "Plain TRL, one seed, mean@8 / pass@8 on the test split:"
    return ["## Headroom of the suites", "", said, "", *table(head, rows)]


def took(studies: list[Path]) -> list[str]:
    """How many runs the studies are made of, and what these spent; a shared run counts once."""
    runs = {
        (row["phase"], row["seed"], row["mean"], row["pass"], row["tokens"]): row
        for folder in studies
        for row in read_raw(folder).runs
        if row["phase"] != "base" and row["last"]
    }.values()
    hours, rollouts, tokens = (sum(r[m] for r in runs) for m in ("seconds", "rollouts", "tokens"))
    return [
        "## What the studies took",
        "",
        f"{len(runs)} runs of {rollouts / 1e6:.0f} million rollouts and {tokens / 1e6:.0f} million "
        f"generated tokens: {hours / 3600:.0f} hours of training by the clock, one core a run and",
        "another run beside it. Runs made again with the same scores count once; headroom and",
        "scouting are not in it. Early runs did not record the tokens that they trained on, which",
        "the studies' tables leave blank; where nothing is screened or recalled (with all methods",
        "but `dapo`, `reinforce_ada` and those with the memory) they are the tokens generated.",
        "",
    ]


def page() -> str:
    lines = [
        "# Results",
        "",
        "Generated by `python scripts/results.py` from the raw results beside it: CPU, 2 cores.",
        "",
    ]
    studies = sorted(path.parent for path in HERE.glob("*/study.json"))
    lines += aims()
    lines += headroom()
    lines += questions()
    lines += classes()
    lines += by_method(studies)
    lines += screened()
    for folder in studies:
        lines += study_section(folder)
    lines += took(studies)
    if step := measured("step"):
        lines += [
            "## Cost of the hooks",
            "",
            f"`benchmarks/step.py`, {step['steps']} steps of {step['rows']} rows, both trainers in "
            "turn in one process:",
            f"{1e3 * step['hook_s']:.1f} ms of a step of {step['gdro_s']:.2f} s are ours "
            f"({step['hook_share']:.1%}); gdro / TRL step time {step['ratio']:.2f}.",
            "",
        ]
    if found := measured("controller"):
        lines += controller(found)
    if found := measured("verl_driver"):
        lines += verl_driver(found)
    lines += [
        "## Verifier",
        "",
        "Labelled cases, golds, respellings, attacks, mutations, speed:",
        "[verifier.md](verifier.md).",
        "",
        "## Simulator",
        "",
        "Against real training, with its verdict: [simulator.md](simulator.md).",
        "",
        "## Learning and forgetting",
        "",
        "Families trained on against families held out, and both at equal learning:",
        "[forgetting.md](forgetting.md).",
        "",
        "## Mechanism",
        "",
        "Variance, proxies, laws, classifier, and what becomes learning:",
        "[mechanism.md](mechanism.md).",
        "",
        "## Difficulty classifier",
        "",
        "Against the Bayes ceiling and the paper's flag: [classifier.md](classifier.md).",
        "",
    ]
    if real := measured("real_text"):
        rows = [
            [name, str(r["steps"]), f"{r['pass@8'][0]:.3f} → {r['pass@8'][-1]:.3f}",
             str(r["bins_occupied"]), spread(r["weights_by_bin"]), spread(r["rollouts_by_bin"])]
            for name, r in real.items()
        ]  # fmt: skip
        lines += [
            "## Real text",
            "",
            "`benchmarks/real_text.py`: a small Qwen3 made from scratch, on GSM8K and DAPO; the",
            "last row on GSM8K problems taught by heart with mixed reliability, scored on them.",
            "",
            *table(["run", "steps", "pass@8", "bins", "weights by bin", "rollouts by bin"], rows),
        ]
    return "\n".join(lines).rstrip() + "\n"


def spread(values: list[float]) -> str:
    return f"{min(values):.2f} – {max(values):.2f}" if values else "–"


def in_short() -> str:
    """README.md with the results of the two mixes and elsewhere in their place."""
    (main,) = measured(f"{MAIN}/results")["suites"].values()
    said = "\n".join(gains(main)).strip()
    for suite, block in measured(f"{HARDER}/results")["suites"].items():
        lead = f"On `{suite}`, a harder mix, at the same learning rate, not tuned on it:"
        said += "\n".join(["\n", lead, "", *gains(block)]).rstrip()
    (own,) = suites_of(TUNED[0]).values()
    rate = measured(f"{TUNED[0]}/study")["methods"][DEFAULT]["settings"]["learning_rate"]
    gap = own["methods"][DEFAULT]["difference"][f"pass@{own['k']}"]["relative"]
    said += (
        f"\n\nAt its own tuned learning rate ({rate}, one seed) `{DEFAULT}` has pass@{own['k']} "
        f"{gap['mean']:+.1%} [{gap['low']:+.1%}, {gap['high']:+.1%}] on the first mix. "
    )
    needs = reached(suites_of(CURVES)["arithmetic"]["methods"][DEFAULT])
    said += (
        f"At GRPO's it reaches\nGRPO's final pass@{own['k']} there with {needs} of its rollouts "
        "([curves](docs/results/curves/results.md)).\n\n"
    )
    (once,) = suites_of(ONCE).values()
    level, look = (once["methods"][m]["difference"][f"pass@{once['k']}"]
                   for m in ("rollout_level", "second_look_level"))  # fmt: skip
    said += (
        "Where every prompt is seen once, the default is GRPO. With levels known beforehand "
        f"(`difficulty.level_column`)\nRollout-GDRO has pass@{once['k']} {cell(level)} there, and "
        f"with a second look (`second_look`) {cell(look)} ([once](docs/results/once/results.md), "
        f"{len(once['seeds'])} seeds).\n\n"
    )
    said += "\n".join(elsewhere_in_short()).rstrip()
    block = re.compile(r"(<!-- results -->\n).*(<!-- /results -->)", re.S)
    return block.sub(lambda m: f"{m[1]}{said}\n{m[2]}", README.read_text())


def check_study(folder: Path) -> None:
    """Stops if the tables of a study are not those of its raw results."""
    results = analyse(read_raw(folder))
    figures = [name for name in ("gains.svg", "curves.svg") if (folder / name).exists()]
    if not alike(
        json.loads((folder / "results.json").read_text()), json.loads(json.dumps(results))
    ):
        outdated(folder / "results.json")
    if (folder / "results.md").read_text() != study_page(results, figures):
        outdated(folder / "results.md")


def alike(one: Any, two: Any) -> bool:
    """Whether JSON is the same but for last digits, which differ with processor and threads."""
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(alike(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(alike, one, two))
    return type(one) is type(two) and one == two


def outdated(path: Path) -> None:
    sys.exit(f"{path} is out of date: run python scripts/results.py")


if __name__ == "__main__":
    check = sys.argv[1:] == ["--check"]
    for study in [] if check else map(Path, sys.argv[1:]):
        name = json.loads((study / "results" / "study.json").read_text())["name"]
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(study / "results", HERE / name)
    with open(os.devnull, "w") as nowhere:
        for folder in sorted(path.parent for path in HERE.glob("*/study.json")):
            if check:
                check_study(folder)
            else:
                write_results(folder, Console(file=nowhere))
    for path, text in ((HERE / "README.md", page()), (README, in_short())):
        if check and path.read_text() != text:
            outdated(path)
        path.write_text(text)
