"""Trouble named in words, with its cure: each check is a pure function of trace and evaluations.

Every threshold is stated beside its check, with the reason for it. A check looks at the last 40% of
the steps unless it says otherwise: beginnings are unlike what follows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gdro.core.trace import Trace
from gdro.core.types import FloatArray
from gdro.report.bins import late, plays, weighs
from gdro.report.paths import entropies
from gdro.report.runs import Evaluation, Run
from gdro.report.style import mean, smooth

STEPS = 20
"""Fewer recorded steps than this are no base for a verdict on a course."""
SWING = 0.5
"""Of the price, against its median: rollouts go as 1 / sqrt(price), so that they swing by 20%."""
CROSSINGS = 4
"""Of the median: a price that only drifts crosses it once, or a few times as it arrives."""
AT_CAP = 0.1
"""Of the prompts: each of them would weigh more, and the others pay for what the cap cuts off."""
FLOOR, AT_FLOOR = 0.05, 0.25
"""A weight of a twentieth is as good as none; of a quarter of the batch, that is a cost."""
SUPPORT = 1.5
"""Bins in use (exp of the entropy): fewer, and one bin holds nine tenths of everything."""
MIXED = 0.5
"""Of the groups: "most" groups without a gradient."""
OFF = 0.15
"""Of pass@k: half a bin of ten (.05), and two standard errors on 100 prompts (.1)."""
DROP = 0.03
"""Of mean@k, from its best: about twice its standard error on 500 prompts."""
FALL = 0.05
"""Of the data set's estimated pass@k, against its best: in 139 sound runs it never fell at all."""
SOLVED, UNSOLVED, GAP = 0.95, 0.03, 0.03
"""Before training: mean@k above, pass@k below, or pass@k - mean@k below: nothing to learn from."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        key: Name of the check.
        verdict: Whether there is trouble; `unknown` if what it needs was not recorded.
        text: What was seen, in words, with its number.
        cure: What to do about it; "" without trouble.
    """

    key: str
    verdict: Literal["trouble", "fine", "unknown"]
    text: str
    cure: str = ""


Check = Callable[[Trace, Sequence[Evaluation]], tuple[bool | None, str, str]]


def check_health(run: Run) -> list[Finding]:
    """Every check's finding: trouble first, what could not be checked last."""
    points = run.evals.get(run.split or "", [])
    trace = run.trace or Trace(header={"bin_names": ["all"]}, records=[])
    found = []
    for key, check in CHECKS.items():
        trouble, text, cure = check(trace, points)
        verdict = "unknown" if trouble is None else "trouble" if trouble else "fine"
        found.append(Finding(key=key, verdict=verdict, text=text, cure=cure if trouble else ""))
    order = ("trouble", "fine", "unknown")
    return sorted(found, key=lambda finding: order.index(finding.verdict))


def price_oscillates(trace: Trace, points: Sequence[Evaluation]) -> tuple[bool | None, str, str]:
    """The middle 80% of the price of the second half spans over `SWING` of its median, to and fro.

    To and fro: it crosses its median at least `CROSSINGS` times.
    """
    values = trace.column("price")[len(trace.records) // 2 :]
    values = values[np.isfinite(values)]
    if len(values) < STEPS // 2:
        return None, "No price was recorded for long enough.", ""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    swing = float((high - low) / max(abs(middle), 1e-12))
    side = values[values != middle] > middle
    crossings = int(np.count_nonzero(side[1:] != side[:-1]))
    text = f"The price swings by {swing:.0%} of its median and crosses it {crossings} times."
    cure = "Lower rollout.price_alpha, to a half first, or take larger batches."
    return swing > SWING and crossings >= CROSSINGS, text, cure


def weights_at_bounds(trace: Trace, points: Sequence[Evaluation]) -> tuple[bool | None, str, str]:
    """Over `AT_CAP` of the prompts at the cap, or over `AT_FLOOR` with a weight below `FLOOR`."""
    rows = late(trace)
    weight, prompts = trace.per_bin("weight_B")[rows], trace.per_bin("prompts_B")[rows]
    prompts = np.nan_to_num(prompts) * np.isfinite(weight)
    if not prompts.sum():
        return None, "No weights were recorded.", ""
    if not weighs(trace):
        return False, "All weights are 1.", ""
    cap = _setting(trace, "prompt", "cap")
    weight = np.nan_to_num(weight, nan=1.0)
    at_cap = 0.0 if cap is None else float(prompts[weight >= 0.99 * cap].sum() / prompts.sum())
    at_floor = float(prompts[weight < FLOOR].sum() / prompts.sum())
    text = f"{at_cap:.0%} of the prompts are at the cap, {at_floor:.0%} weigh less than {FLOOR:g}."
    cure = "Lower prompt.eta: the weights differ by more than the bounds let through."
    return at_cap > AT_CAP or at_floor > AT_FLOOR, text, cure


def bins_collapsed(trace: Trace, points: Sequence[Evaluation]) -> tuple[bool | None, str, str]:
    """Of three bins or more, prompts or q use fewer than `SUPPORT`."""
    if trace.num_bins < 3:
        return None, "There are fewer than three bins.", ""
    rows = late(trace)
    prompts = float(np.exp(mean(entropies(trace.per_bin("prompts_B")[rows]))))
    q = float(mean(trace.column("effective_support")[rows])) if plays(trace) else float("nan")
    if np.isnan(prompts):
        return None, "No prompts by bin were recorded.", ""
    text = f"The prompts use {prompts:.1f} of {trace.num_bins} bins"
    text += "." if np.isnan(q) else f", q {q:.1f}."
    cure = (
        "Give difficulty.edges where the prompts are."
        if prompts < SUPPORT
        else "Lower prompt.eta, or raise prompt.gamma."
    )
    return prompts < SUPPORT or q < SUPPORT, text, cure


def few_gradients(trace: Trace, points: Sequence[Evaluation]) -> tuple[bool | None, str, str]:
    """Fewer than `MIXED` of the groups hold both right and wrong rollouts."""
    part = float(mean(trace.column("mixed_fraction")[late(trace)]))
    if np.isnan(part):
        return None, "The share of groups with a gradient was not recorded.", ""
    text = f"{part:.0%} of the groups have right and wrong rollouts; the others teach nothing."
    config = trace.header.get("config", {})
    cures = ["More rollouts for fewer prompts (num_generations)"]
    if config.get("rollout", {}).get("allocator") == "uniform":
        cures.append("an allocator that gives them to hard ones (rollout.allocator: hard_first)")
    if not config.get("replay", {}).get("successes"):
        cures.append("a memory of rare successes (replay.successes)")
    return part < MIXED, text, ", or ".join(cures) + "."


def estimated_passk(trace: Trace) -> FloatArray:
    """float64[T], mean pass@k of all known prompts, each at the middle of its bin; else NaN."""
    known = np.nan_to_num(trace.per_bin("population_B"))
    whole, out = known.sum(axis=1), np.full(len(known), np.nan)
    if trace.boundaries is None:
        return out
    middle = (np.array(trace.boundaries[1:]) + np.array(trace.boundaries[:-1])) / 2
    return np.divide(known @ middle, whole, out=out, where=whole > 0)


def estimates_off(trace: Trace, points: Sequence[Evaluation]) -> tuple[bool | None, str, str]:
    """The data set's mean pass@k by the estimates is over `OFF` from the last evaluation's.

    By the estimates: `estimated_passk` at the last step that has it.
    """
    k = _setting(trace, "difficulty", "k") or 8
    last = next((e for e in reversed(points) if e.passk is not None and e.k == k), None)
    course = estimated_passk(trace)
    course = course[np.isfinite(course)]
    if last is None or last.passk is None or not len(course):
        return None, f"It takes bins by pass@{k:g} and an evaluation of the same k.", ""
    guess = float(course[-1])
    text = (
        f"The estimates put pass@{k:g} at {guess:.0%}, the last evaluation measured "
        f"{last.passk:.0%}."
    )
    cure = (
        "If the estimates are higher, the training prompts may be learnt by heart, or they are "
        "easier than the evaluation's; if lower, they lag: shorten difficulty.half_life, or train "
        "until each prompt has come often enough."
    )
    return abs(guess - last.passk) > OFF, text, cure


def rate_too_high(trace: Trace, points: Sequence[Evaluation]) -> tuple[bool | None, str, str]:
    """mean@k ends over `DROP` below its best, or the estimates over `FALL` below theirs.

    The estimates: pass@k of the whole data set (`estimated_passk`) over the second half. The reward
    is no sign: it falls as well where harder prompts are drawn, or get more rollouts.
    """
    scores = [e.mean for e in points if e.mean is not None]
    course = smooth(estimated_passk(trace))[0][len(trace.records) // 2 :]
    course = course[np.isfinite(course)]
    parts, drop, fall = [], 0.0, 0.0
    if len(scores) > 1:
        drop = max(scores) - scores[-1]
        parts.append(f"mean@{points[-1].k} ends {100 * drop:.1f} points below its best")
    if len(course) >= STEPS // 2:
        fall = float(1 - course[-1] / max(course.max(), 1e-12))
        parts.append(f"the estimated pass@k of the data set ends {fall:.0%} below its best")
    if not parts:
        return None, "It takes two evaluations, or bins by pass@k over 20 steps.", ""
    text = ", ".join(parts)
    cure = "Lower learning_rate, to a half first, or take the model of the best evaluation."
    return drop > DROP or fall > FALL, text[0].upper() + text[1:] + ".", cure


def no_headroom(trace: Trace, points: Sequence[Evaluation]) -> tuple[bool | None, str, str]:
    """Before training, nearly all is solved, nearly nothing, or nothing only now and then."""
    if not points or points[0].step or points[0].mean is None or points[0].passk is None:
        return None, "It takes an evaluation before training.", ""
    first, k = points[0], points[0].k
    score, chance = float(first.mean or 0), float(first.passk or 0)
    text = f"Before training mean@{k} is {score:.1%} and pass@{k} is {chance:.1%}."
    if score > SOLVED:
        return True, text, "Take harder prompts: these are solved."
    if chance < UNSOLVED:
        return True, text, "Take easier prompts or a stronger base: hardly any answer is right."
    cure = "Take other prompts: what this base solves at all, it solves each time."
    return chance - score < GAP, text, cure


CHECKS: dict[str, Check] = {
    "Price oscillates": price_oscillates,
    "Weights at the cap or the floor": weights_at_bounds,
    "Bins have collapsed": bins_collapsed,
    "Most groups carry no gradient": few_gradients,
    "Difficulty estimates are off": estimates_off,
    "Learning rate too high": rate_too_high,
    "No headroom": no_headroom,
}


def _setting(trace: Trace, room: str, name: str) -> float | None:
    value: Any = (trace.header.get("config", {}).get(room) or {}).get(name)
    return float(value) if isinstance(value, int | float) else None
