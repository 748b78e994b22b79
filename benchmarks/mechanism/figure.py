"""The figure of the mechanism page."""

from pathlib import Path

from benchmarks.mechanism.learning import REAL
from benchmarks.mechanism.words import Report

LINE = 0.02
"""Height of a line of small print, in pass@8."""


def draw(report: Report, path: Path) -> None:
    """The figure."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "gdro"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.7), layout="constrained")
    left, middle, right = axes
    for i, name in enumerate(n for n in report["stages"] if not n.startswith("rollout")):
        bins = report["stages"][name]["bins"]
        centres = [b["bin"] / 10 + 0.05 for b in bins]
        left.plot(centres, [b["std"] for b in bins], "o-", color=f"C{i}", label=name, ms=4)
    left.set_yscale("log")
    left.set(title="gradient variance of a bin", xlabel="true pass@8 of the bin", ylabel="v, log")
    marks = {"std, prompt": "o", "std, neutral": "s", "unscaled, neutral": "^"}
    for i, (estimator, mark) in enumerate(marks.items()):
        x = [row for s in report["stages"].values() for row in s["allocation"][estimator].values()]
        middle.scatter([a["predicted"] for a in x], [a["attained"] for a in x], s=16, marker=mark,
                       label=estimator, color=f"C{i}", alpha=0.7)  # fmt: skip
    low, high = middle.get_xlim()
    middle.plot([low, high], [low, high], color="0.6", lw=1, zorder=0)
    middle.set(title="variance relative to uniform", xlabel="predicted by O(1/n)",
               ylabel="attained")  # fmt: skip
    shown = ["grpo", "hard_first 1", "hard_first 2", "hard_first 2, prompt", "error weights, eta 2",
             "gradient of pass@8"]  # fmt: skip
    steps = [h["step"] for h in report["training"]["grpo"]["history"]]
    for i, name in enumerate(shown):
        history = report["training"][name]["history"]
        right.plot(steps, [h["pass@8"] for h in history], color=f"C{i}", label=name)
    real = [(report["real"][name]["pass@8"]["score"], key, name) for name, key in REAL.items()]
    free = 0.0  # labels of like scores stand above one another
    for score, key, name in sorted(real):
        color = f"C{shown.index(name)}" if name in shown else "0.4"
        right.scatter([steps[-1]], [score], color=color, s=24, zorder=3)
        free = max(score, free + LINE)
        right.annotate(key, (steps[-1] + 4, free), fontsize=6.5, va="center")
    right.set(title="training without noise (dots: real runs)", xlabel="step", ylabel="test pass@8")
    right.set_xlim(0, steps[-1] * 1.45)
    for axis in axes:
        axis.legend(fontsize=7, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(10)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
