"""What another controller would have decided, given a recorded trace."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from gdro.core.config import ControllerConfig
from gdro.core.controller import Controller
from gdro.core.difficulty import Difficulty
from gdro.core.errors import ConfigError, DataError, UnsupportedError
from gdro.core.files import write_json
from gdro.core.method import Method
from gdro.core.passk import posterior_pass_at_k
from gdro.core.trace import Trace, header_of, read_trace
from gdro.core.types import UNSEEN, FloatArray, IntArray, Outcome
from gdro.lab.settings import from_flags, method, path_of
from gdro.report.curriculum import STAGES, curriculum_numbers
from gdro.terminal import terminal

IN_ROUNDS = ("dapo", "reinforce_ada", "second_look")
"""Policies that decide again when they have seen outcomes, which a trace has but once."""

APPROXIMATION = """\
A trace knows bins, not prompts. So every bin's prompts of a step are stood in for by as many
synthetic ones with the bin's recorded mean correct, and new prompts by prompts that are all right
or all wrong. What is replayed: weights, rollouts, mixture and price, on the recorded bins. What is
not: which prompts enter a step, how they are binned (difficulty.*), differences within a bin, and
methods that generate in rounds or need losses. Nothing is learnt otherwise: the rewards stay those
of the run that was recorded."""


DESCRIPTION = f"""\
Show what another controller would have decided, given a recorded trace.

  gdro replay RUN --gdro_preset joint              a run's folder or its trace.jsonl
  gdro replay RUN --gdro_rollout_power 3           as recorded, but for this
  gdro replay RUN                                  as recorded: how good the approximation is

{APPROXIMATION}
"""


def main(arguments: Sequence[str]) -> int:
    """`gdro replay`; 0."""
    parser = argparse.ArgumentParser(
        prog="gdro replay",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("trace", type=Path, help="trace.jsonl, or the folder of a run")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--out", type=Path, help="file for the numbers by stage and bin (JSON)")
    known, flags = parser.parse_known_args(arguments)
    if known.out and known.out.is_dir():
        raise ConfigError(f"--out must be a file, {known.out} is a folder")
    path = known.trace / "trace.jsonl" if known.trace.is_dir() else known.trace
    trace = read_trace(path)
    preset, changes = from_flags(flags)
    config = other(trace, preset, changes)
    found = replay(trace, config, known.seed)
    console = terminal()
    if preset and ControllerConfig.preset(preset).difficulty != config.difficulty:
        console.print(f"the classifier of {preset} is another one; the bins here stay the trace's")
    for table in tables(found):
        console.print(table)
    console.print(" ".join(APPROXIMATION.split()), style="dim", highlight=False)
    if known.out:
        sides = {"recorded": found.recorded, "replayed": found.replayed}
        write_json(known.out, {name: numbers(side) for name, side in sides.items()})
    return 0


def other(trace: Trace, preset: str | None, changes: dict[str, Any]) -> ControllerConfig:
    """The configuration of a trace, or a preset on the trace's bins, with changes.

    Raises:
        UnsupportedError: if a change is one of difficulty: the bins stay those of the trace.
        DataError: if the trace does not say its configuration and no preset is given, or a preset
            is and the trace does not say its mean rollouts.
    """
    changes = {path_of(name): value for name, value in changes.items()}
    for path in changes:
        if path.startswith("difficulty."):
            raise UnsupportedError(f"{path} cannot be replayed: the bins stay those of the trace")
    recorded = trace.header.get("config") or {}
    if preset is None and not recorded:
        raise DataError("the trace does not say its configuration: give --gdro_preset")
    rooms = recorded
    if preset is not None:
        rooms = method(preset, {}, _n_mean(trace)).to_dict()
        rooms |= {"difficulty": recorded.get("difficulty", rooms["difficulty"])}
    values = {f"{room}.{name}": v for room, part in rooms.items() for name, v in part.items()}
    return ControllerConfig.from_dict(values | changes)


def _n_mean(trace: Trace) -> float:
    """Mean rollouts of a prompt, as the trace's header says."""
    if trace.header.get("n_mean") is None:
        raise DataError("the trace does not say n_mean, the mean rollouts of a prompt")
    return float(trace.header["n_mean"])


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Two traces of the same steps: as recorded, and as the other controller decided."""

    recorded: Trace
    replayed: Trace

    @property
    def k(self) -> int:
        """k of pass@k of the bins."""
        return self.replayed.header["config"]["difficulty"]["k"]


class _Placed(Difficulty):
    """A classifier that is told the bins, and learns success rates within them."""

    def place(self, rows_P: IntArray, bin_P: IntArray) -> None:
        """Sets bins."""
        self._assign(rows_P, bin_P)

    def posterior(self, rows_P: IntArray) -> tuple[FloatArray, FloatArray]:
        """As learnt, but with the mean moved so far that its pass@k lies in the prompt's bin."""
        a_P, b_P = super().posterior(rows_P)
        bin_P = self.bin_P(rows_P)
        if self.config.estimator == "any":  # whose bins are of another quantity
            return a_P, b_P
        total_P, edges = a_P + b_P, np.array(self.config.boundaries)
        low_P = self._mean(total_P, np.where(bin_P == UNSEEN, 0, edges[bin_P]))
        high_P = self._mean(total_P, np.where(bin_P == UNSEEN, 1, edges[bin_P + 1]))
        mean_P = np.clip(a_P / total_P, low_P, high_P)
        return total_P * mean_P, total_P * (1 - mean_P)

    def _mean(self, total_P: FloatArray, pass_P: FloatArray) -> FloatArray:
        """The success rate at which a Beta posterior of that strength has that pass@k."""
        low_P, high_P = np.full(total_P.size, 1e-6), np.full(total_P.size, 1 - 1e-6)
        mean_P = low_P
        for _ in range(24):
            mean_P = (low_P + high_P) / 2
            found_P = posterior_pass_at_k(total_P * mean_P, total_P * (1 - mean_P), self.config.k)
            low_P = np.where(found_P < pass_P, mean_P, low_P)
            high_P = np.where(found_P < pass_P, high_P, mean_P)
        return mean_P

    def _rebin(self, rows_P: IntArray) -> None:
        """Nothing moves by itself."""


def replay(trace: Trace, config: ControllerConfig, seed: int = 0) -> Replay:
    """Feeds a trace to a controller; see `APPROXIMATION`.

    Args:
        trace: What `read_trace` gave.
        config: The other controller; its bins are those of the trace.
        seed: Of the controller and of how a bin's right rollouts fall on its prompts.

    Raises:
        UnsupportedError: if the trace or the configuration generates in rounds, chooses prompts,
            or the configuration needs losses or scores, which a trace has not.
        DataError: if the trace lacks its mean rollouts, the bins' prompts or mean correct, or bins
            that are online.
    """
    _check(trace, config)
    n_mean, scaled = _n_mean(trace), trace.header.get("std_scaled", True)
    controller = Controller(config, n_mean=n_mean, seed=seed, std_scaled=scaled)
    controller.difficulty = placed = _Placed(config.difficulty)
    controller.method = Method(config, placed, n_mean, controller.std_scaled)
    replayed, synthetic = [], _Synthetic(trace, seed)
    for t, record in enumerate(trace.records):
        ids, bin_P = synthetic.prompts(t)
        if len(ids) == 0:
            continue
        rows_P = placed.rows(ids)
        placed.place(rows_P[bin_P != UNSEEN], bin_P[bin_P != UNSEEN])
        plan = controller.plan(ids)
        slot_R = plan.slot_R
        outcome = Outcome(
            prompt_R=np.asarray(ids)[slot_R],
            slot_R=slot_R,
            correct_R=synthetic.correct(t, bin_P, plan.n_P),
        )
        values = controller.observe(plan, outcome).to_dict()
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        replayed.append(plain | {"step": record["step"]})
    header = trace.header | header_of(controller) | {"method": "replayed"}
    return Replay(recorded=trace, replayed=Trace(header=header, records=replayed))


class _Synthetic:
    """Prompts that stand in for those of a trace: slot i of bin b is one prompt, ever again."""

    def __init__(self, trace: Trace, seed: int) -> None:
        self._prompts = np.nan_to_num(trace.per_bin("prompts_B")).astype(np.int64)
        self._correct = trace.per_bin("correct_B")
        self._unseen = np.nan_to_num(trace.column("unseen_prompts")).astype(np.int64)
        self._unseen_correct = trace.column("unseen_correct")
        self._first = 1 + int(self._prompts.max(initial=0))  # ids of one bin
        self._carried: FloatArray = np.zeros(trace.num_bins + 1)
        self._new = self._first * trace.num_bins
        self._rng = np.random.default_rng([seed, 3])

    def prompts(self, t: int) -> tuple[IntArray, IntArray]:
        """Ids and bins of a step's prompts; new ones are new each time."""
        bins = np.repeat(np.arange(self._prompts.shape[1]), self._prompts[t])
        ids = [b * self._first + i for b, m in enumerate(self._prompts[t]) for i in range(m)]
        fresh = np.arange(self._unseen[t]) + self._new
        self._new += len(fresh)
        return (
            np.concatenate([np.array(ids, np.int64), fresh]),
            np.concatenate([bins, np.full(len(fresh), UNSEEN)]),
        )

    def correct(self, t: int, bin_P: IntArray, n_P: IntArray) -> FloatArray:
        """Right rollouts of every bin in their recorded share, what is left over carried on."""
        bin_R = np.repeat(bin_P, n_P)
        correct_R = np.zeros(len(bin_R))
        for b in np.unique(bin_P).tolist():
            rate = self._unseen_correct[t] if b == UNSEEN else self._correct[t, b]
            mine = np.flatnonzero(bin_R == b)
            exact = rate * len(mine) + self._carried[b]
            right = int(np.clip(round(exact), 0, len(mine)))
            self._carried[b] = exact - right
            order = mine if b == UNSEEN else self._rng.permutation(mine)
            correct_R[order[:right]] = 1
        return correct_R


def _check(trace: Trace, config: ControllerConfig) -> None:
    if trace.boundaries is None:
        raise UnsupportedError(
            "a trace of static groups cannot be replayed: its bins are no pass@k"
        )
    if len(trace.boundaries) != len(config.difficulty.boundaries):
        raise UnsupportedError("difficulty.bins must be those of the trace: its bins stay")
    if trace.header.get("rounds", 1) > 1:
        raise UnsupportedError("a trace of a method that generates in rounds cannot be replayed")
    for path, name in (
        ("select.policy", config.select.policy),
        ("rollout.allocator", config.rollout.allocator),
    ):
        if name in IN_ROUNDS:
            raise UnsupportedError(f"{path}={name} generates in rounds: no replay")
    if (
        config.difficulty.source != "online"
        or config.difficulty.level_column is not None
        or (config.difficulty.prior_column is not None)
    ):
        raise UnsupportedError("columns of the data set cannot be replayed: a trace has none")
    if config.required:
        needed = next(iter(config.required.values()))
        raise UnsupportedError(f"{needed} cannot be replayed: a trace has no losses or scores")
    if not trace.records:
        raise DataError("the trace has no steps")
    prompts, correct = trace.per_bin("prompts_B"), trace.per_bin("correct_B")
    unseen = np.nan_to_num(trace.column("unseen_prompts"))
    lost = ((prompts > 0) & np.isnan(correct)).any() or (
        (unseen > 0) & np.isnan(trace.column("unseen_correct"))
    ).any()
    if np.isnan(prompts).any() or lost:
        raise DataError("the trace has steps without prompts_B or correct_B")


def by_bin(trace: Trace) -> dict[str, FloatArray]:
    """float64[stages, B]: prompts of a step, rollouts of a prompt, weight; nan where none."""
    prompts = np.nan_to_num(trace.per_bin("prompts_B"))
    rollouts = np.nan_to_num(trace.per_bin("rollouts_B"))
    weight = np.nan_to_num(trace.per_bin("weight_B")) * prompts
    quarters = np.array_split(np.arange(len(prompts)), STAGES)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = [[x[q].sum(0) for q in quarters] for x in (prompts, rollouts, weight)]
        total, spent, weighed = map(np.array, sums)
        return {
            "prompts": total / np.array([[len(q)] for q in quarters]),
            "rollouts": spent / total,
            "weight": weighed / total,
        }


def numbers(trace: Trace) -> dict[str, Any]:
    """By stage: `curriculum_numbers`, and by bin `by_bin` with null where no prompt was."""
    plain = {
        name: [[None if np.isnan(x) else float(x) for x in row] for row in values]
        for name, values in by_bin(trace).items()
    }
    return {"bins": trace.header["bin_names"], **plain, **curriculum_numbers(trace)}


def tables(found: Replay) -> list[Table]:
    """For rich: rollouts and weights by bin and stage, recorded -> replayed, and the whole."""
    then, now = by_bin(found.recorded), by_bin(found.replayed)
    stages = [f"{a}–{b}" for a, b in (s for s in _stages(found.recorded) if s)]
    shown = []
    for name, title in (("rollouts", "Rollouts of a prompt"), ("weight", "Weight of a prompt")):
        table = Table(title=f"{title}: recorded → replayed", title_justify="left")
        table.add_column(f"pass@{found.k} bin")
        for stage in stages:
            table.add_column(f"steps {stage}", justify="right")
        for b, label in enumerate(found.recorded.header["bin_names"]):
            pairs = zip(then[name][:, b], now[name][:, b], strict=True)
            table.add_row(label, *(_pair(x, y, ".2f") for x, y in pairs))
        shown.append(table)
    table = Table(title=f"The unsolved third: pass@{found.k} below 1/3", title_justify="left")
    for column in ("", *(f"steps {stage}" for stage in stages)):
        table.add_column(column, justify="right" if column else "left")
    recorded, replayed = (curriculum_numbers(t) for t in (found.recorded, found.replayed))
    for key, label, form in (
        ("hard_prompts", "share of prompts", ".0%"),
        ("hard_budget", "share of rollouts", ".0%"),
        ("lead_lag", "lead–lag of the weights", "+.2f"),
    ):
        pairs = zip(recorded[key], replayed[key], strict=True)
        table.add_row(label, *(_pair(x, y, form) for x, y in pairs))
    budgets = [int(np.nansum(t.column("rollouts"))) for t in (found.recorded, found.replayed)]
    table.caption = f"rollouts in all: {budgets[0]:,} → {budgets[1]:,}"
    return [*shown, table]


def _stages(trace: Trace) -> Sequence[Any]:
    return curriculum_numbers(trace)["stages"]


def _pair(before: float | None, after: float | None, form: str) -> str:
    words = ["–" if x is None or np.isnan(x) else format(x, form) for x in (before, after)]
    return "–" if words == ["–", "–"] else " → ".join(words)
