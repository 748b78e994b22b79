"""Does the predicted gain appear as learning? The page's last section."""

import json
from pathlib import Path
from typing import Any

from benchmarks.mechanism.words import METRICS, SHORT, Report, gain, noise, number

from gdro.lab.compare.table import markdown_table as table

WEIGHT_ALONE = "hard_first 2, weight alone"
STUDY = Path(__file__).parents[2] / "docs" / "results" / "reweighting"
REAL = {
    "grpo": "grpo", "hard_first 2": "rollout", "hard_first 2, neutral": "allocation_alone",
    "neyman, neutral": "law_alone", WEIGHT_ALONE: "weight_alone",
}  # fmt: skip
"""The real runs of a weight curve, methods of `STUDY`; `neutral` has grpo's expected gradient."""


def real_runs() -> dict[str, Any]:
    """Scores of the real runs, and gains over GRPO with their intervals, by weight curve."""
    (suite,) = json.loads((STUDY / "results.json").read_text())["suites"].values()
    found = {}
    for curve, method in REAL.items():
        made = suite["methods"][method]
        found[curve] = {"seeds": suite["seeds"]} | {
            m: {"score": sum(made[SHORT[m]]) / len(made[SHORT[m]]),
                "gain": made["difference"][SHORT[m]]}
            for m in METRICS
        }  # fmt: skip
    return found


def learning(r: Report) -> list[str]:
    lines = [
        "## Does the predicted gain appear as learning?",
        "",
        "**Slopes.** The expected gradient of each method on all 960 training prompts is exact: "
        "mean of w(p) grad p. Its cosine with the gradients",
        "of test mean success / test pass@8; and what a step of length .5 along it (a step of "
        "Adam at the recipe's rate is .47 long) does to them,",
        "with the share of its slope's prediction in brackets.",
        "",
    ]
    chosen = [s for s in r["stages"] if not s.startswith("rollout")]
    columns = ["w(p)"]
    for s in chosen:
        columns += [f"{s}: cosine", "step of .5: mean / pass@8"]
    rows = []
    for name in r["training"]:
        cells = [name]
        for s in chosen:
            x = r["stages"][s]["directions"]["methods"][name]
            step = x["steps"][-1]
            cells.append(" / ".join(number(x["cosine"][m]) for m in METRICS))
            cells.append(" / ".join(
                f"{step[m]:+.3f} ({step[m] / (x['slope'][m] * step['length']):.0%})"
                for m in METRICS
            ))  # fmt: skip
        rows.append(cells)
    lines += table(columns, rows)
    lines += [
        "**Training without noise.** The recipe's run (AdamW, 8e-4, 150 steps of 64 prompts) on "
        "exact expected gradients: what each weight curve",
        f"does if rollouts cost nothing. Paired over {len(r['training']['grpo']['seeds'])} seeds, "
        "exact test scores; beside it real runs at the same rate and budget, paired with",
        "GRPO by seed (sampled test scores; [reweighting](reweighting/results.md)). "
        "`neutral` has GRPO's expected gradient whatever the "
        "allocation: only its noise differs; the",
        "last column is that noise relative to uniform's (base model). In between, *drawn "
        "rewards*: the same runs with every group's number",
        "of right rollouts drawn, but wrong rollouts at their mean gradient, and p known.",
        "",
    ]
    rows = []
    for name in dict.fromkeys([*r["training"], *REAL, *r["rewards"]]):
        x = r["training"].get(name)
        y, z = r["real"].get(name), r["rewards"].get(name)
        key = {"hard_first 2, neutral": "hard_first 2", "neyman, neutral": NEYMAN}.get(name)
        rows.append([
            name, scores(x) if x else "as grpo" if name.endswith("neutral") else "as hard_first 2",
            *(gain(x[m]["gain"]) if x and name != "grpo" else "–" for m in METRICS),
            scores(z) if z else "–",
            " / ".join(f"{z[m]['gain']['mean']:+.3f}" for m in METRICS)
            if z and name != "grpo" else "–",
            scores(y) if y else "–",
            *(gain(y[m]["gain"]) if y and name != "grpo" else "–" for m in METRICS),
            str(len(y["seeds"])) if y else "–",
            number(noise(r["stages"]["base"], key)) if key else "1" if name == "grpo" else "–",
        ])  # fmt: skip
    lines += table(
        ["w(p)", "without noise: mean / pass@8", "mean, gain", "pass@8, gain",
         "drawn rewards: mean / pass@8", "gains", "real runs: mean@8 / pass@8",
         "mean@8, gain", "pass@8, gain", "seeds", "noise"], rows,
    )  # fmt: skip
    lines += [
        "**Do frozen slopes rank the curves as training does?** Spearman's rank correlation over "
        f"the {len(r['training'])} curves, between slope along the unit",
        "direction (or the change after a step of .5) and the score after training without noise:",
        "",
    ]
    rows = []
    for stage, x in r["foretold"].items():
        for m in METRICS:
            rows.append([
                f"{stage}: {m}", number(x[m]["slope_step"]["0.05"]),
                number(x[m]["slope_step"]["0.5"]), number(x[m]["slope_training"]),
                number(x[m]["step_training"]["0.5"]), f"{x[m]['kept']['0.05']:.0%}",
                f"{x[m]['kept']['0.5']:.0%}",
            ])  # fmt: skip
    lines += table(
        ["", "slope ~ step .05", "slope ~ step .5", "slope ~ training", "step .5 ~ training",
         "kept of the slope, .05", ".5"], rows,
    )  # fmt: skip
    return [*lines, *where_not(r)]


NEYMAN = "neyman, reward, mean squared std advantage"


def where_not(r: Report) -> list[str]:
    base = r["stages"]["base"]
    total = sum(b["std"] * b["prompts"] for b in base["bins"])
    parts = {b["bin"]: b["std"] * b["prompts"] / total for b in base["bins"]}
    prompts = sum(b["prompts"] for b in base["bins"])
    shares = {b["bin"]: b["prompts"] / prompts for b in base["bins"]}
    methods, trained = base["directions"]["methods"], r["training"]

    def kept(name: str) -> str:
        step = methods[name]["steps"][-1]
        return f"{step['mean'] / (methods[name]['slope']['mean'] * step['length']):.0%}"

    lines = [
        "**Where a prediction does not appear, and why.**",
        "",
        "* *Less variance is not more learning.* "
        f"The square-root law's allocation makes the noise {noise(base, NEYMAN):.2f} of uniform's "
        "(base model) at GRPO's own expected gradient.",
    ]
    real, drawn = r["real"]["neyman, neutral"], r["rewards"]["neyman, neutral"]
    lines += [
        f"  Real runs of it: {gain(real['mean']['gain'])} mean@8, "
        f"{gain(real['pass@8']['gain'])} pass@8. With drawn rewards and p known:",
        f"  {gain(drawn['mean']['gain'])} and {gain(drawn['pass@8']['gain'])}. A trace counts "
        f"every direction alike, and {parts[9]:.0%} of it is the easiest bin's, {parts[0]:.1%} "
        f"the hardest's",
        f"  ({shares[0]:.0%} of the prompts): the law takes rollouts from prompts whose successes "
        "are rare and still to be learnt.",
        "* *The slope of mean success misleads.* GRPO's direction has "
        f"{methods['grpo']['slope']['mean']:.3f} a unit at the base model, hard_first's "
        f"{methods['hard_first 2']['slope']['mean']:.3f}; but a step of .5",
        f"  keeps {kept('grpo')} of the first and {kept('hard_first 2')} of the second, and "
        f"training without noise ends at {trained['grpo']['mean']['score']:.3f} and "
        f"{trained['hard_first 2']['mean']['score']:.3f}: large gradients of nearly solved",
        "  prompts are soon used up. Slopes of pass@8 foretell pass@8 better (table above).",
        "* *Weights alone lose in noise what rollouts keep.* Without noise `error` weights change "
        f"mean by {gain(trained['error weights, eta 2']['mean']['gain'])} and pass@8 by "
        f"{gain(trained['error weights, eta 2']['pass@8']['gain'])}; with drawn rewards",
    ]
    weights, alone = (r["rewards"][k] for k in ("error weights, eta 2", WEIGHT_ALONE))
    paid = r["rewards"]["hard_first 2"]
    ratio = [
        x["noise"]["hard_first 2"]["rollouts"] / x["noise"][WEIGHT_ALONE]["rollouts"]
        for x in r["stages"].values()
    ]
    lines += [
        f"  {gain(weights['mean']['gain'])} and {gain(weights['pass@8']['gain'])}. hard_first's "
        f"weight at uniform n: {gain(alone['mean']['gain'])} and "
        f"{gain(alone['pass@8']['gain'])}; paid for with rollouts:",
        f"  {gain(paid['mean']['gain'])} and {gain(paid['pass@8']['gain'])}. "
        "By trace the rollouts' noise of that weighted gradient is",
        f"  {ratio[0]:.2f} of what the same weights have at uniform n (base model; "
        f"{min(ratio):.2f} to {max(ratio):.2f} over the stages), so at the start a trace does not "
        "show what rollouts buy;",
        "  that it is how rarely a success comes at all, and how large a step it then makes, is a "
        "guess.",
        "* *What noise costs.* GRPO ends at "
        f"{scores(trained['grpo'])} without noise, {scores(r['rewards']['grpo'])} with drawn "
        f"rewards, {scores(r['real']['grpo'])} in real runs (mean / pass@8):",
        "  more than any allocation at this budget moves.",
        "",
    ]
    return lines


def scores(found: dict[str, Any]) -> str:
    return " / ".join(number(found[m]["score"], ".3f") for m in METRICS)
