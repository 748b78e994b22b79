"""The page of several runs: methods at equal compute, with intervals over seeds."""

from typing import Any

from gdro.core.seeds import Difference
from gdro.report.bins import passk_name
from gdro.report.content import Content, sort_out
from gdro.report.courses import (
    column,
    hard_share,
    rollouts_lead,
    score,
    series,
    support,
    weight_lead,
)
from gdro.report.ends import benchmarks, families, paired
from gdro.report.methods import LOOKS, Comparison, baseline_of
from gdro.report.runs import Run
from gdro.report.single import numbers_of
from gdro.report.style import Figure, axis, clean


def about_several(runs: list[Run]) -> Content:
    """All that the page of several runs shows."""
    comparison = Comparison(runs)
    sections, missing = sort_out(_sections(comparison))
    notes = [f"{clean(run.name)}: {note}" for run in runs for note in run.notes]
    if len(comparison.methods) > LOOKS:
        notes.append(f"colours: there are more than {LOOKS} methods, looks repeat")
    return Content(
        title=f"{len(runs)} runs compared",
        methods=comparison.table,
        methods_caption=_caption(comparison),
        runs=_rows(comparison),
        warning=_warning(comparison),
        sections=sections,
        missing=[*notes, *missing],
        numbers=_numbers(comparison),
    )


def _caption(comparison: Comparison) -> str:
    """Below the table of methods."""
    return (
        f"Scores at {comparison.where}, mean and 95% interval over seeds (from two on); look at "
        "mean@k and the worst family there, then at what the tokens cost."
    )


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row a run and split: what it spent, and what it reached."""
    rows = []
    looks = {id(run): method.look for method in comparison.methods for run in method.runs}
    for run in comparison.runs:
        spent = {
            "run": clean(run.name, 80),
            "method": clean(run.method),
            "look": looks[id(run)],
            "rollouts": run.spent("rollouts"),
            "tokens": run.spent("tokens"),
            "seconds": run.seconds,
        }
        for split, points in run.evals.items() or {"": []}.items():
            ends = (points[0], points[-1]) if points else (None, None)
            worst = [e.worst_family if e else None for e in ends]
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


def _warning(comparison: Comparison) -> str | None:
    """Said above the table where the runs are not at equal compute, or not of one split."""
    said = []
    spent = [run.spent("rollouts") for run in comparison.runs]
    known = [s for s in spent if s]
    if len(known) < len(comparison.runs):
        said.append("Some runs do not say what they spent: this may not be equal compute.")
    elif max(known) > 1.02 * min(known):
        said.append(
            f"The runs spent between {min(known):,.0f} and {max(known):,.0f} rollouts; scores "
            f"are compared at {comparison.where}, between two evaluations on a straight line."
        )
    splits = sorted({clean(run.split) for run in comparison.runs if run.split})
    if len(splits) > 1:
        said.append(f"The curves are of different splits ({', '.join(splits)}): not comparable.")
    return " ".join(said) or None


def _numbers(comparison: Comparison) -> dict[str, Any]:
    """For summary.json."""
    return {
        "compute": {"unit": comparison.compute.unit, "equal": comparison.compute.equal},
        "methods": [
            {k: _plain(v) for k, v in row.items() if k != "look"} for row in comparison.table
        ],
        "baseline": baseline_of(comparison.methods).label,
        "differences": {
            key: {method.label: _plain(d) for method, d in rows}
            for key, rows in comparison.differences.items()
        },
        "runs": [numbers_of(run) for run in comparison.runs],
    }


def _sections(comparison: Comparison) -> dict[str, list[tuple[str, Figure | str]]]:
    """The page's figures, by section; a string says why one is missing."""
    share = axis("", tickformat=".0%")
    harder = {"y": axis("bins, harder is up"), "hover": ".2f", "upside_down": True}
    reward = series(
        comparison, "reward", "Share of correct training rollouts",
        "Look at the shape only: methods that spend on hard prompts stand lower without being "
        "worse", column("reward"), share, ".1%", floor=0,
    )  # fmt: skip
    rollouts = series(
        comparison, "lead", "Lead of the rollouts",
        "Look above the dotted line: there the rollouts go to harder bins than the data's "
        "average, by so many bins", rollouts_lead, **harder, reference=(0, "even"),
    )  # fmt: skip
    weights = series(
        comparison, "weights", "Lead of the weight",
        "Look above the dotted line: there the weight goes to harder bins than the data's "
        "average, by so many bins; methods without weights are left out", weight_lead,
        **harder, reference=(0, "even"),
    )  # fmt: skip
    bins = series(
        comparison, "support", "Bins in play",
        "Look for curves between one bin and all: the adversary has chosen, and has not "
        "collapsed; methods without one are left out", support,
        axis("effective support of q"), ".2f", floor=0,
    )  # fmt: skip
    hard = series(
        comparison, "hard", "Rollouts spent on the unsolved third",
        f"Look for curves above the uniform method's: that budget went to bins with "
        f"{_bins_of(comparison.runs)} below 1/3, and prompts that were not seen before count as "
        "outside", hard_share, share, ".1%", floor=0,
    )  # fmt: skip
    mixed = series(
        comparison, "mixed", "Groups with a gradient",
        "Look for the higher curve: more of its groups are neither all right nor all wrong",
        column("mixed_fraction"), share, ".1%", floor=0,
    )  # fmt: skip
    return {
        "Outcome": [
            ("evaluation, mean@k", score(comparison, "mean")),
            ("evaluation, pass@k", score(comparison, "passk")),
            ("worst family", score(comparison, "worst")),
            ("reward", reward),
            ("benchmarks", benchmarks(comparison)),
            ("families", families(comparison)),
            ("differences", paired(comparison)),
        ],
        "Curriculum": [
            ("rollouts on the unsolved third", hard),
            ("groups with a gradient", mixed),
            ("lead of the rollouts", rollouts),
            ("lead of the weight", weights),
            ("bins in play", bins),
        ],
    }


def _bins_of(runs: list[Run]) -> str:
    """What bins are of; a method of other bins has another hardest third."""
    traces = [run.trace for run in runs if run.trace is not None]
    names = sorted({passk_name(trace) for trace in traces if trace.boundaries is not None})
    different = " (curves of different ones do not compare)" if len(names) > 1 else ""
    return " or ".join(names or ["pass@k"]) + different


def _plain(value: Any) -> Any:
    return vars(value) if isinstance(value, Difference) else value
