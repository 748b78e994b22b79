"""Effects of settings that a two-level fractional factorial design changes several at a time.

    python benchmarks/factorial.py [docs/results/factorial]

From the raw results of a `gdro compare` whose methods are the cells of such a design
(studies/factorial.yaml). A factor is a setting that takes two values among the methods; the first
is that of the study's first method. Writes a page beside that folder. Box, Hunter and Hunter,
Statistics for Experimenters, 2nd edition, chapters 5 and 6.
"""

from __future__ import annotations

import json
import math
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from gdro.core.tree import leaves
from gdro.lab.compare.table import markdown_table as table
from gdro.lab.settings import PATHS, method

PLACE = Path(__file__).parents[1] / "docs" / "results" / "factorial"
SCORES = {"pass": "pass@{k}", "mean": "mean@{k}", "worst_family_mean": "worst family"}


def design(methods: dict[str, dict[str, Any]]) -> tuple[dict[str, tuple[Any, Any]], np.ndarray]:
    """Factors with their two values, and the sign of each in each method.

    Args:
        methods: Settings by flag (`gdro_preset` among them) of each method.

    Returns:
        The factors, by path, and float64[F, C] of -1 (first value) and 1.

    Raises:
        SystemExit: if a setting has more than two values, if factors are not balanced or not
            orthogonal, or if one is aliased with the interaction of two others.
    """
    cells = [
        leaves(
            method(own["gdro_preset"], {name: own[name] for name in own if name in PATHS}).to_dict()
        )
        for own in methods.values()
    ]
    factors: dict[str, tuple[Any, Any]] = {}
    for path, first in cells[0].items():
        others = {str(cell[path]): cell[path] for cell in cells if cell[path] != first}
        if len(others) > 1:
            raise SystemExit(f"{path} has {len(others) + 1} values, a factor has 2")
        if others:
            factors[path] = (first, *others.values())
    signs_FC = np.array(
        [[1.0 if cell[path] != factors[path][0] else -1.0 for cell in cells] for path in factors]
    )
    products = signs_FC @ signs_FC.T - len(cells) * np.eye(len(factors))
    if signs_FC.sum(axis=1).any() or products.any():
        raise SystemExit("factors are not balanced, or not orthogonal")
    for one, two in combinations(range(len(factors)), 2):
        if (signs_FC @ (signs_FC[one] * signs_FC[two])).any():
            names = list(factors)
            raise SystemExit(f"{names[one]} x {names[two]} is aliased with a factor")
    return factors, signs_FC


def aliases(signs_FC: np.ndarray) -> list[tuple[np.ndarray, list[tuple[int, int]]]]:
    """Sets of interactions of two that are one contrast: its sign in each method, the pairs."""
    groups: dict[bytes, tuple[np.ndarray, list[tuple[int, int]]]] = {}
    for one, two in combinations(range(len(signs_FC)), 2):
        sign_C = signs_FC[one] * signs_FC[two]
        if (-sign_C).tobytes() in groups:
            raise SystemExit("an interaction is aliased with the negative of another")
        groups.setdefault(sign_C.tobytes(), (sign_C, []))[1].append((one, two))
    return list(groups.values())


def effect(score_CS: np.ndarray, sign_C: np.ndarray) -> tuple[float, float, float]:
    """Mean at sign 1 minus mean at sign -1, with its 95% t interval.

    The variance is that of the scores about method and seed, (C - 1)(S - 1) degrees of freedom:
    the methods share what a seed draws.
    """
    cells, seeds = score_CS.shape
    rest_CS = (
        score_CS - score_CS.mean(axis=1, keepdims=True) - score_CS.mean(axis=0) + score_CS.mean()
    )
    free = (cells - 1) * (seeds - 1)
    deviation = math.sqrt((rest_CS**2).sum() / free)
    mean = float(sign_C @ score_CS.mean(axis=1)) * 2 / cells
    half = float(stdtrit(free, 0.975)) * deviation * 2 / math.sqrt(cells * seeds)
    return mean, mean - half, mean + half


def page(runs: pd.DataFrame, methods: dict[str, dict[str, Any]]) -> str:
    """The tables."""
    factors, signs_FC = design(methods)
    tested = runs[(runs["phase"] == "test") & runs["last"]]
    k = int(tested["k"].iloc[0])
    scores = {
        said.format(k=k): tested.pivot(index="method", columns="seed", values=name)
        .loc[list(methods)]
        .to_numpy()
        for name, said in SCORES.items()
    }
    seeds, split = tested["seed"].nunique(), tested["split"].iloc[0]

    def row(sign_C: np.ndarray) -> list[str]:
        cells = []
        for score_CS in scores.values():
            mean, low, high = (100 * value / score_CS.mean() for value in effect(score_CS, sign_C))
            told = f"{mean:+.1f}% [{low:.1f}, {high:.1f}]"
            cells.append(f"**{told}**" if low > 0 or high < 0 else told)
        return cells

    names = [path.replace(".", " ").replace("_", " ") for path in factors]
    means = ", ".join(f"{said} {values.mean():.3f}" for said, values in scores.items())
    half = len(methods) // 2
    lines = [
        "# Several settings at a time", "",
        "Generated by `benchmarks/factorial.py` from [factorial](factorial/results.md):",
        f"{len(factors)} settings of both adversaries, two values each, in {len(methods)} of the",
        f"{2 ** len(factors)} methods that these make; {seeds} seeds, {split} split.",
        f"An effect is the mean of the {half} methods with the second value minus that of the",
        f"{half} with the first, relative to the mean of all ({means});",
        "95% t intervals from what is left about method and seed, not corrected for their number.",
        "",
        "## Each setting", "",
        "Not aliased with an interaction of two. A mean over the other settings, so also over",
        "those at which a setting does nothing (`rollout.aggregation` at even rollouts).", "",
        *table(
            ["setting", "from", "to", *scores],
            [
                [f"`{path}`", f"`{plain(one)}`", f"`{plain(two)}`", *row(sign_C)]
                for (path, (one, two)), sign_C in zip(factors.items(), signs_FC, strict=True)
            ],
        ),
        "## Interactions of two", "",
        "Half the difference of an effect between the other's two values; sums of those that the",
        "design does not tell apart.", "",
        *table(
            ["interactions", *scores],
            [
                [", ".join(f"{names[a]} x {names[b]}" for a, b in pairs), *row(sign_C)]
                for sign_C, pairs in aliases(signs_FC)
            ],
        ),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def plain(value: Any) -> str:
    """As in a recipe."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> None:
    """Writes factorial.md."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE
    if not (about := folder / "study.json").exists():
        raise SystemExit(f"{folder} is no folder of raw results: {about.name} is missing")
    methods = {name: m["settings"] for name, m in json.loads(about.read_text())["methods"].items()}
    said = page(pd.read_parquet(folder / "runs.parquet"), methods)
    folder.with_suffix(".md").write_text(said)
    print(said)


if __name__ == "__main__":
    main()
