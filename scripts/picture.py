"""Draws docs/results/curriculum.png from a run: where prompts, weights and rollouts went.

gdro train arithmetic --gdro_preset rollout --gdro_prompt_weigh gdro
python scripts/picture.py runs/arithmetic-rollout-seed0 docs/results/curriculum.png
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt

from gdro.core.trace import read_trace

matplotlib.use("Agg")
PANELS = (
    ("prompts_B", "share of the step's prompts", "{:.0%}"),
    ("weight_B", "weight of a prompt", "{:.1f}"),
    ("rollouts_B", "rollouts of a prompt", "{:.1f}"),
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


def main(run: Path, out: Path) -> None:
    trace = read_trace(run / "trace.jsonl")
    prompts = trace.per_bin("prompts_B")
    total = np.repeat(prompts.sum(axis=1, keepdims=True), prompts.shape[1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        panels = {
            "prompts_B": averaged(prompts / total, total),
            "weight_B": averaged(trace.per_bin("weight_B"), prompts),
            "rollouts_B": averaged(trace.per_bin("rollouts_B") / prompts, prompts),
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
