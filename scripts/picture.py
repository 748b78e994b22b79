"""Draws docs/results/curriculum.png from a run of the default: where prompts and rollouts went.

gdro train arithmetic --seed 10
python scripts/picture.py runs/arithmetic-rollout_replay-seed10 docs/results/curriculum.png
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt

from gdro.core.trace import read_trace

matplotlib.use("Agg")
PANELS = (
    ("prompts", "share of the step's prompts", "{:.0%}"),
    ("each", "rollouts of a prompt", "{:.1f}"),
    ("rollouts", "share of the step's rollouts", "{:.0%}"),
)
WINDOW = 5
"""Steps averaged into a column."""


def averaged(values_TB: np.ndarray, by_TB: np.ndarray) -> np.ndarray:
    """Means over windows of steps, weighted; nan where a bin had no prompt."""
    steps = len(values_TB) // WINDOW * WINDOW
    shape = (-1, WINDOW, values_TB.shape[1])
    values = np.nan_to_num(values_TB[:steps]) * by_TB[:steps]
    with np.errstate(invalid="ignore"):
        return values.reshape(shape).sum(axis=1) / by_TB[:steps].reshape(shape).sum(axis=1)


def share(values_TB: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the bins in each step, and the step's total beside every bin."""
    total_TB = np.broadcast_to(values_TB.sum(axis=1, keepdims=True), values_TB.shape)
    return values_TB / total_TB, total_TB


def main(run: Path, out: Path) -> None:
    trace = read_trace(run / "trace.jsonl")
    prompts, rollouts = trace.per_bin("prompts_B"), trace.per_bin("rollouts_B")
    with np.errstate(invalid="ignore", divide="ignore"):
        panels = {
            "prompts": averaged(*share(prompts)),
            "each": averaged(rollouts / prompts, prompts),
            "rollouts": averaged(*share(rollouts)),
        }
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, layout="constrained")
    for axis, (name, title, form) in zip(axes, PANELS, strict=True):
        values = panels[name].T
        extent = (0.0, WINDOW * values.shape[1], values.shape[0] - 0.5, -0.5)
        image = axis.imshow(
            values, aspect="auto", cmap="viridis", extent=extent, interpolation="nearest"
        )
        bar = figure.colorbar(image, ax=axis, format=lambda v, _, form=form: form.format(v))
        bar.outline.set_visible(False)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.set_facecolor("#eeeeee")
        for side in axis.spines.values():
            side.set_visible(False)
    axes[0].set_yticks(range(len(trace.header["bin_names"])), trace.header["bin_names"], fontsize=8)
    axes[0].set_ylabel("pass@8 of the bin, hardest first")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
