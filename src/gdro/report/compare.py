"""The figures and the table of several runs, over cumulative rollouts: equal compute."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdro.core.types import FloatArray
from gdro.report.curriculum import hard_part
from gdro.report.runs import Evaluation, Run
from gdro.report.style import (
    COLORS,
    DASHES,
    Figure,
    Panel,
    axis,
    clean,
    curves,
    exact,
    layout,
    line,
    numbers,
    smooth,
    text,
    thin,
)

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a run is drawn everywhere: its label, the colour of its method, a dash for its turn."""

    label: str
    color: str
    dash: str
    symbol: str


def looks(runs: list[Run]) -> list[Look]:
    """Colour and marker by method, dash by the run's turn within the method."""
    methods = list(dict.fromkeys(run.method for run in runs))
    labels = [r.method if len(methods) == len(runs) else r.name for r in runs]
    labels = [
        clean(n, 28) if labels.count(n) == 1 else clean(f"{n} ({r.path.name})", 40)
        for n, r in zip(labels, runs, strict=True)
    ]
    turn = dict.fromkeys(methods, 0)
    found = []
    for run, label in zip(runs, labels, strict=True):
        i = methods.index(run.method)
        found.append(
            Look(
                label=label,
                color=COLORS[i % len(COLORS)],
                dash=DASHES[turn[run.method] % len(DASHES)],
                symbol=SYMBOLS[i % len(SYMBOLS)],
            )
        )
        turn[run.method] += 1
    return found


class Comparison:
    """Several runs on one axis: cumulative rollouts if every run knows them, else steps."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.looks = looks(runs)
        self.counted = all(
            all(e.rollouts is not None for line in run.evals.values() for e in line)
            and (run.trace is None or np.isfinite(run.trace.column("rollouts")).all())
            for run in runs
        )
        self.x_title = "training rollouts" if self.counted else "step"

    def score(
        self, key: str, title: str, caption: str, value: Callable[[Evaluation], float | None]
    ) -> Figure | str:
        """One evaluation score of every run."""
        lines = []
        for run, look in zip(self.runs, self.looks, strict=True):
            points = run.evals.get(run.split or "", [])
            y = [value(e) for e in points]
            if any(v is not None for v in y):
                x = [e.rollouts if self.counted else e.step for e in points]
                lines.append(
                    self._line(
                        x,
                        y,
                        look,
                        mode="lines+markers",
                        hover=".1%",
                        marker={"size": 7, "symbol": look.symbol},
                    )
                )
        if not lines:
            return "no run recorded it"
        return self._figure(key, title, caption, lines, axis("", tickformat=".0%"), floor=0)

    def series(
        self,
        key: str,
        title: str,
        caption: str,
        values: Callable[[Run], FloatArray | None],
        y: dict[str, Any],
        hover: str,
        **more: Any,
    ) -> Figure | str:
        """One series of every run's trace, smoothed."""
        lines = []
        for run, look in zip(self.runs, self.looks, strict=True):
            found = values(run) if run.trace is not None and run.trace.records else None
            if run.trace is None or found is None or not np.isfinite(found).any():
                continue
            x = np.cumsum(run.trace.column("rollouts")) if self.counted else run.trace.steps
            lines.append(
                self._line(
                    exact(thin(x.astype(float))), numbers(thin(smooth(found)[0])), look, hover=hover
                )
            )
        if not lines:
            return "no run recorded it"
        return self._figure(key, title, caption, lines, y, **more)

    def families(self) -> Figure | str:
        """mean@k of every family at the last evaluation, one mark a run."""
        last = {
            i: p[-1] for i, run in enumerate(self.runs) if (p := run.evals.get(run.split or "", []))
        }
        scores = {
            i: {
                n: g[f"mean@{e.k}"]
                for n, g in e.groups.get("by_family", {}).items()
                if f"mean@{e.k}" in g
            }
            for i, e in last.items()
        }
        names = sorted(
            {n for s in scores.values() for n in s},
            key=lambda n: max(s.get(n, 0) for s in scores.values()),
            reverse=True,
        )[-30:]
        if not names:
            return "no run recorded families"
        rows = list(range(len(names)))[::-1]
        data = [
            {
                "type": "scatter",
                "mode": "markers",
                "name": text(self.looks[i].label),
                "y": rows,
                "x": numbers(s.get(n, np.nan) for n in names),
                "marker": {
                    "size": 10,
                    "color": self.looks[i].color,
                    "opacity": 0.9,
                    "symbol": self.looks[i].symbol,
                },
                "hovertemplate": "%{x:.1%}",
            }
            for i, s in scores.items()
        ]
        frame = layout(
            axis("", tickformat=".0%", range=[-0.03, 1.03]),
            axis(
                "",
                tickmode="array",
                tickvals=rows,
                ticktext=[text(n) for n in names],
                range=[-0.7, len(rows) - 0.3],
            ),
            height=70 + 24 * max(3, len(rows)),
            hovermode="y unified",
        )
        return Figure(
            key="families",
            title="Families at the end",
            panels=[Panel(data=data, layout=frame)],
            caption="Look at the lowest rows: there the methods part, while on easy families all "
            "marks lie together.",
            legend=[(self.looks[i].label, self.looks[i].color) for i in scores],
        )

    def table(self) -> list[dict[str, Any]]:
        """One row a run and split: what it spent, and what it reached."""
        rows = []
        for run, look in zip(self.runs, self.looks, strict=True):
            spent = {
                "run": clean(run.name, 80),
                "method": clean(run.method),
                "color": look.color,
                "rollouts": run.spent("rollouts"),
                "tokens": run.spent("tokens"),
                "seconds": run.seconds,
            }
            for split, points in run.evals.items() or {"": []}.items():
                ends = (points[0], points[-1]) if points else (None, None)
                worst = [e.worst_family() if e else None for e in ends]
                rows.append(
                    spent
                    | {
                        "split": clean(split),
                        "k": points[-1].k if points else None,
                        "once": len(points) == 1,
                        "mean": [e and e.mean for e in ends],
                        "passk": [e and e.passk for e in ends],
                        "worst": [w and w[1] for w in worst],
                        "worst_name": clean(worst[1][0]) if worst[1] else None,
                    }
                )
        return rows

    def warning(self) -> str | None:
        """Said above the table where the runs are not at equal compute."""
        spent = [run.spent("rollouts") for run in self.runs]
        known = [s for s in spent if s]
        if len(known) < len(self.runs):
            return "Some runs do not say what they spent: this may not be equal compute."
        if max(known) > 1.02 * min(known):
            return (
                f"The runs spent between {min(known):,.0f} and {max(known):,.0f} rollouts: "
                "compare along the curves, not at their ends."
            )
        return None

    def sections(self) -> dict[str, list[Figure | str]]:
        """The page's figures, by section; a string says why one is missing."""
        share = axis("", tickformat=".0%")
        return {
            "Outcome": [
                self.score(
                    "mean",
                    "Evaluation: mean@k",
                    "Look at the height of the curves at one and the same number of rollouts.",
                    lambda e: e.mean,
                ),
                self.score(
                    "passk",
                    "Evaluation: pass@k",
                    "Look for curves that rise: a falling "
                    "one lost prompts that it could solve before.",
                    lambda e: e.passk,
                ),
                self.score(
                    "worst",
                    "Worst family: mean@k",
                    "Look at who lifts the family that is "
                    "lowest at that time; the mean can hide it.",
                    lambda e: (e.worst_family() or ("", None))[1],
                ),
                self.families(),
                self.series(
                    "reward",
                    "Share of correct training rollouts",
                    "Look at the shape "
                    "only: methods that spend on hard prompts stand lower without being "
                    "worse.",
                    _column("reward"),
                    share,
                    ".1%",
                    floor=0,
                ),
            ],
            "Curriculum": [
                self.series(
                    "lead",
                    "Lead–lag",
                    "Look above the dotted line: there the weights "
                    "lean to harder bins than the data do, by so many bins.",
                    _column("lead_lag"),
                    axis("bins, harder is up"),
                    ".2f",
                    reference=(0, "even"),
                    upside_down=True,
                ),
                self.series(
                    "support",
                    "Bins in play",
                    "Look for curves between one bin and all: "
                    "the adversary has chosen, and has not collapsed.",
                    _column("effective_support"),
                    axis("effective support of q"),
                    ".2f",
                    floor=0,
                ),
                self.series(
                    "hard",
                    "Rollouts spent on the unsolved third",
                    "Look for curves "
                    "above the uniform method's: that budget went to bins with pass@k "
                    "below 1/3.",
                    _hard_share,
                    share,
                    ".1%",
                    floor=0,
                ),
            ],
        }

    def _line(
        self, x: list[Any], y: list[Any], look: Look, hover: str, **more: Any
    ) -> dict[str, Any]:
        return line(
            x,
            y,
            text(look.label),
            look.color,
            dash=look.dash,
            hovertemplate=f"%{{y:{hover}}}",
            **more,
        )

    def _figure(
        self,
        key: str,
        title: str,
        caption: str,
        lines: list[dict[str, Any]],
        y: dict[str, Any],
        **more: Any,
    ) -> Figure:
        panel = curves(lines, axis(self.x_title), y, **more)
        return Figure(key=key, title=title, caption=caption, panels=[panel])


def _column(name: str) -> Callable[[Run], FloatArray | None]:
    return lambda run: None if run.trace is None else run.trace.column(name)


def _hard_share(run: Run) -> FloatArray | None:
    """float64[T], the unsolved third's share of each step's rollouts."""
    part_B = hard_part(run.trace) if run.trace is not None else None
    if run.trace is None or part_B is None:
        return None
    rollouts = np.nan_to_num(run.trace.per_bin("rollouts_B"))
    whole = rollouts.sum(axis=1) + np.nan_to_num(run.trace.column("unseen_rollouts"))
    return np.divide(rollouts @ part_B, whole, out=np.full(len(whole), np.nan), where=whole > 0)
