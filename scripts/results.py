"""Writes docs/results/README.md, and the results in the README, from the measurements beside it.

    python scripts/results.py [STUDY]

STUDY is the folder of a `gdro compare`; its results are copied first, to a folder of the study's
name. The README shows `MAIN` and `HARDER`. The measurements come
from `gdro compare`, benchmarks/headroom.py, controller.py, step.py, verl_driver.py and
real_text.py.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from costs import controller, table, verl_driver

from gdro.core.presets import DEFAULT

README = Path(__file__).parents[1] / "README.md"
HERE = Path(__file__).parents[1] / "docs" / "results"
MAIN = "same_rate"
"""The study that the README shows first; what another one says follows."""
HARDER = "same_rate_hard"
TUNED = ("adversaries", "hard")
"""Studies of the same mixes in which the default has the rate that it was tuned to."""
SCREENED = ("screening", "fresh")
ELSEWHERE = ("suites", "architectures", "worded", "large")
FEWEST = 4
"""Seeds of a study that a table of methods takes up."""
LIMITS = HERE / "limits.yaml"
"""When a method fails: written by hand, from the studies beside it."""


def verdicts(results: dict[str, Any]) -> list[str]:
    """One sentence a method: what the intervals allow to say."""
    baseline, k, seeds = results["baseline"], results["k"], results["seeds"]
    labels = {f"pass@{k}": f"pass@{k}", f"mean@{k}": f"mean@{k}"}
    labels[f"worst_family_mean@{k}"] = f"mean@{k} of the worst family"
    rate = results["methods"][baseline]["values"].get("learning_rate")
    against = f"{baseline}{f' at {rate}' if rate else ''}, {len(seeds)} seeds"
    lines = []
    for name, found in results["methods"].items():
        if name == baseline:
            continue
        said = []
        for metric, label in labels.items():
            if gap := found["difference"].get(metric):
                base = sum(results["methods"][baseline][metric]) / len(seeds)
                said.append(f"{label} {told(gap)}, {gap['mean'] / base:+.1%} relative)")
        if (needs := found.get("reaches", {})).get("share"):
            ends = [needs[end] for end in ("low", "high")]
            words = ", ".join("never" if end is None else f"{100 * end:.0f}" for end in ends)
            share = f"{needs['share']:.0%} [{words}]"
            said.append(f"{baseline}'s final pass@{k} with {share} of its rollouts")
        lines.append(f"* **{name}** against {against}: {'; '.join(said)}.")
    return [*lines, ""]


def told(gap: dict[str, Any]) -> str:
    """`higher (+0.1 [+0.0, +0.2]`, with the bracket left open; one seed has no interval."""
    mean, low, high = (gap[end] for end in ("mean", "low", "high"))
    if low is None:
        return f"of one seed ({mean:+.3f}"
    word = "higher" if low > 0 else "lower" if high < 0 else "not told apart"
    return f"{word} ({mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def by_method(studies: list[Path]) -> list[str]:
    """A row a method and suite: what it gains over the study's baseline, and what that costs.

    Studies of fewer seeds than `FEWEST` are for choosing, not for saying; see their own tables.
    """
    head = ["method", "on", "seeds", "pass@8", "mean@8", "worst family", "rollouts", "tokens"]
    rows, limits = [], yaml.safe_load(LIMITS.read_text())
    shown: dict[tuple[str, str], set[float]] = {}
    blocks = [
        (folder, suite, block)
        for folder in studies
        for suite, block in json.loads((folder / "results.json").read_text())["suites"].items()
    ]
    first = (MAIN, HARDER)  # of studies that show the same runs
    blocks.sort(key=lambda found: (found[0].name not in first, -len(found[2]["seeds"])))
    for folder, suite, block in blocks:
        given = json.loads((folder / "study.json").read_text())["methods"]
        if len(block["seeds"]) >= FEWEST:
            base = block["methods"][block["baseline"]]
            for name, found in block["methods"].items():
                scores = set(found["mean@8"]) - shown.setdefault((name, suite), set())
                if name == block["baseline"] or not scores:
                    continue  # runs of another study, shown again
                shown[name, suite] |= scores
                gains = [relative(gap, base[m]) for m, gap in found["difference"].items()]
                needs = found.get("reaches", {}).get("share")
                tokens = sum(found["tokens"]) / sum(base["tokens"])
                rate = given[name]["settings"].get("learning_rate")
                label = f"**{name}**" + (f" at {float(rate):g}" if rate else "")
                rows.append([label, f"{suite} ([{folder.name}]({folder.name}/results.md))",
                             str(len(block["seeds"])), gains[1], gains[0], *gains[2:],
                             f"{needs:.0%}" if needs else "", f"{tokens:.3f}"])  # fmt: skip
    said = [f"* **{name}**: {words}" for name, words in limits.items()]
    return [
        "## By method",
        "",
        "Gain over each study's own GRPO at equal rollouts, relative, with its 95% interval over",
        "seeds; rollouts: to reach GRPO's final pass@8, where curves were taken; tokens generated,",
        "relative to GRPO's. Processor time of our hooks and the controller: below. Intervals are",
        "one by one: of twenty true zeros one would be left out by chance. Studies of one suite at",
        "the same seeds share GRPO's runs, so their gains are not independent.",
        "",
        *table(head, sorted(rows)),
        "When it fails, and what it costs:",
        "",
        *said,
        "",
    ]


def screened() -> list[str]:
    """Points of the methods that have few seeds."""
    lines = [
        "## Screening",
        "",
        "Every other method, two seeds on the validation split, at GRPO's rate, no rate or knob",
        "tuned: points relative to GRPO's, to tell what is far off. A run has a deviation of about",
        ".03. Those that filter or fill up (`dapo`, `reinforce_ada`) have fewer steps of the same",
        "rollouts. `prompt` and `joint` here weigh and do not draw; `default` is `joint_replay`.",
        "",
    ]
    rows = []
    for name in SCREENED:
        for block in suites_of(name).values():
            base, k = block["methods"][block["baseline"]], block["k"]
            for method, found in block["methods"].items():
                if method == block["baseline"]:
                    continue
                gaps = (found["difference"][f"{m}@{k}"]["relative"] for m in ("pass", "mean"))
                spent = (sum(found[what]) / sum(base[what]) for what in ("rollouts", "tokens"))
                steps = "–".join(map(str, sorted(set(found["steps"]))))
                rows.append([f"{method} ([{name}]({name}/results.md))",
                             *(f"{gap['mean']:+.1%}" for gap in gaps), steps,
                             *(f"{share:.3f}" for share in spent)])  # fmt: skip
    rows.sort(key=lambda row: -float(row[1].rstrip("%")))
    return [*lines, *table(["method", "pass@8", "mean@8", "steps", "rollouts", "tokens"], rows)]


def reached(block: dict[str, Any], method: str, metric: str, least: float) -> str:
    """Whether a gain is there: `least` is 0 where a score should not be down."""
    if method not in block["methods"]:
        return "not run"
    found = block["methods"][method]["difference"][metric]["relative"]
    there = found["mean"] >= least and (found["low"] > 0 or least == 0)
    down = least == 0 and found["high"] < 0
    said = "yes" if there else "**no**" if least or down else "not told apart"
    return f"{said}: {found['mean']:+.1%} [{found['low']:+.1%}, {found['high']:+.1%}]"


def needed(block: dict[str, Any], method: str) -> str:
    """Whether the baseline's last pass@k is reached with 60% of its rollouts."""
    found = block["methods"].get(method, {}).get("reaches")
    if not found:
        return ""
    said = "yes" if found["high"] and found["high"] <= 0.6 else "**no**"
    ends = [found[end] for end in ("share", "low", "high")]
    share, *ends = ["never" if end is None else f"{end:.0%}" for end in ends]
    return f"{said}: {share} [{', '.join(ends)}]"


def suites_of(*names: str) -> dict[str, dict[str, Any]]:
    """The suites of studies, those that have run."""
    found = {}
    for name in names:
        if results := measured(f"{name}/results"):
            found |= results["suites"]
    return found


def aims() -> list[str]:
    """What was aimed at, and whether it was reached."""
    mixes = [next(iter(suites_of(name).values())) for name in (MAIN, HARDER)]
    at_own_rate = [next(iter(suites_of(name).values())) for name in TUNED]
    k = mixes[0]["k"]
    passed, mean, worst = f"pass@{k}", f"mean@{k}", f"worst_family_mean@{k}"
    least = {"prompt": 0.1, "rollout": 0.1, "joint": 0.15, "joint_replay": 0.15, DEFAULT: 0.15}
    own = f"`{DEFAULT}` at the rate it was tuned to"
    sources = {f"`{m}`": (m, mixes) for m in least} | {own: (DEFAULT, at_own_rate)}
    wanted: list[tuple[str, str, Any]] = []
    for label, (m, _) in sources.items():
        wanted.append((label, f"{passed} by {least[m]:.0%} or more", (passed, least[m])))
    wanted += [(label, f"{mean} not down", (mean, 0.0)) for label in sources]
    wanted += [(label, "worst family up", (worst, 1e-9)) for label in sources]
    rows = []
    for label, aim, (metric, limit) in wanted:
        m, blocks = sources[label]
        rows.append([f"{label}: {aim}", *(reached(b, m, metric, limit) for b in blocks)])
    for label, (m, blocks) in sources.items():
        cells = [needed(b, m) for b in blocks]
        if any(cells):
            rows.append([f"{label}: GRPO's {passed} with 60% of its rollouts", *cells])
    elsewhere = [
        [f"{suite} ({len(block['seeds'])} seeds)",
         *(reached(block, m, passed, least[m]) for m in ("prompt", "rollout", DEFAULT)),
         reached(block, DEFAULT, mean, 0.0), reached(block, DEFAULT, worst, 1e-9)]
        for suite, block in suites_of(*ELSEWHERE).items()
    ]  # fmt: skip
    return [
        "## The aims",
        "",
        "Yes: of a gain, the point is there and the interval above zero; not down: the point is",
        "not below zero; of rollouts, all of the interval is at 60% or below. All methods at the",
        "rate of GRPO, eight seeds; curves were taken on the harder mix.",
        f"`{DEFAULT}` is the default: chosen on these runs, by a rule that was written down before",
        "(study.md, part 14); one seed had tuned it to a higher rate than that of GRPO. What there",
        "is to win is below (headroom).",
        "",
        *table(["aim", "frozen mix", "harder mix"], rows),
        f"Elsewhere, at one rate for all; aims are of {passed} but in the last two columns:",
        "",
        *table(["on", "prompt: 10%", "rollout: 10%", f"{DEFAULT}: 15%", f"its {mean} not down",
                "its worst family up"], elsewhere),
    ]  # fmt: skip


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
        f"{trials}; {when}. Tables: [{page}]({page});",
        "what was expected, and what it means: [study.md](../study.md).",
        "",
    ]
    for suite, block in results["suites"].items():
        fair = "" if block["equal_rollouts"] else " **Not at equal rollouts.**"
        lines += [f"On {suite}:{fair}", ""]
        if (seeds := len(block["seeds"])) < FEWEST:
            lines += [f"{seeds} of its seeds so far: for choosing, not for saying.", ""]
            continue
        lines += verdicts(block)
        for name, found in block["contrasts"].items():
            weights = " ".join(f"{w:+g} {method}" for method, w in found["weights"].items())
            gaps = [f"{m} {told(gap)})" for m, gap in found["difference"].items()]
            lines += [f"* {name} ({weights}): {'; '.join(gaps)}."]
        lines += [""] * bool(block["contrasts"])
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


def measured(name: str) -> Any:
    path = HERE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def page() -> str:
    lines = [
        "# Results",
        "",
        "Generated by `python scripts/results.py` from the raw results beside it: CPU, 2 cores.",
        "",
    ]
    studies = sorted(path.parent for path in HERE.glob("*/study.json"))
    lines += aims()
    lines += by_method(studies)
    lines += screened()
    if results := measured("compare"):
        rates = sorted({p["values"]["learning_rate"] for m in results["methods"].values()
                        for p in m["tuning"]}, key=float)  # fmt: skip
        lines += [
            f"## Methods at equal rollouts, {len(results['seeds'])} seeds",
            "",
            f"`gdro compare {results['recipe']} --methods {','.join(results['methods'])}",
            f"--seeds {','.join(map(str, results['seeds']))}",
            f"--grid learning_rate={','.join(rates)} --out F`:",
            "the same grid for all on the validation split, the test split touched once, the",
            "last step evaluated (no peak picking). Tuned on seed 0, which is tested too (that is",
            "refused since). `prompt` and `joint` then weighed prompts and did not draw them.",
            "Details: [compare.md](compare.md).",
            "",
            *verdicts(results),
        ]
    for folder in studies:
        lines += study_section(folder)
    lines += headroom()
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


if __name__ == "__main__":
    for study in map(Path, sys.argv[1:]):
        name = json.loads((study / "results" / "study.json").read_text())["name"]
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(study / "results", HERE / name)
    (HERE / "README.md").write_text(page())
    (main,) = measured(f"{MAIN}/results")["suites"].values()
    said = "\n".join(verdicts(main)).strip()
    for suite, block in measured(f"{HARDER}/results")["suites"].items():
        lead = f"On {suite}, a harder mix of such problems, at the same rate, not tuned on it:"
        said += "\n".join(["\n", lead, "", *verdicts(block)]).rstrip()
    text = README.read_text()
    block = re.compile(r"(<!-- results -->\n).*(<!-- /results -->)", re.S)
    README.write_text(block.sub(lambda m: f"{m[1]}{said}\n{m[2]}", text))
