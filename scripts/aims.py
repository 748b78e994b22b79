"""Sections of docs/results/README.md: what was aimed at, and the methods that have few seeds."""

from typing import Any

from raw import measured, suites_of
from verdict import Reached, elsewhere_in_words, in_words, room

from gdro.core.presets import DEFAULT
from gdro.lab.compare.table import markdown_table as table

MAIN = "same_rate"
"""The study that the README shows first; what another one says follows."""
HARDER = "same_rate_hard"
CURVES = "curves"
"""The first one's runs made again, with curves; all but four have the same scores."""
ON_CURVES = ("reaches", "at_tokens")
TUNED = ("adversaries", "hard")
"""Studies of the same mixes in which the default has the rate that it was tuned to."""
TRIALS = "tuned"
"""The study in which every method, GRPO among them, was tuned by as many trials."""
ELSEWHERE = ("suites", "architectures", "worded", "large")
HEADROOM = {
    "easy": "headroom-arithmetic-easy", "transfer": "headroom-arithmetic-transfer",
    "llama": "headroom-arithmetic-on-arithmetic-llama",
    "mistral": "headroom-arithmetic-on-arithmetic-mistral",
    "worded": "headroom-worded-on-worded", "large": "headroom-arithmetic-on-arithmetic-large",
}  # fmt: skip
"""Files of what there is to win, by suite."""
SCREENED = ("screening", "fresh", "settings")


def aims() -> list[str]:
    """What was aimed at, and whether it was reached."""
    mixes = [next(iter(suites_of(name).values())) for name in (MAIN, HARDER)]
    for name, found in suites_of(CURVES)["arithmetic"]["methods"].items():
        if name in mixes[0]["methods"]:
            mixes[0]["methods"][name] |= {m: found[m] for m in ON_CURVES if m in found}
    at_own_rate = [next(iter(suites_of(name).values())) for name in TUNED]
    k = mixes[0]["k"]
    passed, mean, worst = f"pass@{k}", f"mean@{k}", f"worst_family_mean@{k}"
    least = {"prompt": 0.1, "rollout": 0.1, "joint": 0.15, "joint_replay": 0.15, DEFAULT: 0.15}
    own = f"`{DEFAULT}` at the rate it was tuned to"
    sources = {f"`{m}`": (m, mixes) for m in least} | {own: (DEFAULT, at_own_rate)}
    wanted: list[tuple[str, str, str, Any]] = []
    for label, (m, _) in sources.items():
        aim, at_tokens = (
            f"{passed} by {least[m]:.0%} or more",
            f"the same at GRPO's tokens, {passed}",
        )
        wanted.append(("gain", label, aim, (passed, least[m])))
        wanted.append(("at_tokens", label, at_tokens, ("at_tokens", least[m])))
    wanted += [("mean", label, f"{mean} not down", (mean, 0.0)) for label in sources]
    wanted += [("worst", label, "worst family up", (worst, 1e-9)) for label in sources]
    found: list[Reached] = []
    for kind, label, aim, (metric, limit) in wanted:
        m, blocks = sources[label]
        found.append(Reached(kind, label, aim, [reached(b, m, metric, limit) for b in blocks]))
    for label, (m, blocks) in sources.items():
        cells = [needed(b, m) for b in blocks]
        found.append(Reached("rollouts", label, f"GRPO's {passed} with 60% of its rollouts", cells))
    rows = [[f"{one.label}: {one.aim}", *one.cells] for one in found if any(one.cells)]
    (tuned,) = suites_of(TRIALS).values()
    by_trials = [
        [f"`{m}`", *(reached(tuned, m, metric, limit) for metric, limit in
                     ((passed, least[m]), (mean, 0.0), (worst, 1e-9)))]
        for m in least if m in tuned["methods"]
    ]  # fmt: skip
    others = suites_of(*ELSEWHERE)
    gained = {
        m: {suite: reached(block, m, passed, least[m]) for suite, block in others.items()}
        for m in ("prompt", "rollout", DEFAULT)
    }
    by_more = {suite: longer(suite, passed) for suite in others}
    elsewhere = [
        [f"{suite} ({len(block['seeds'])} seeds)", *(cells[suite] for cells in gained.values()),
         reached(block, DEFAULT, mean, 0.0), reached(block, DEFAULT, worst, 1e-9),
         "" if by_more[suite] is None else f"{by_more[suite]:+.0%}"]
        for suite, block in others.items()
    ]  # fmt: skip
    return [
        "## The aims",
        "",
        *in_words(found, k),
        *elsewhere_in_words(gained, [s for s, gain in by_more.items() if gain is not None
                                     and gain < least[DEFAULT]], k),
        *room(mixes[0], least, k),
        "",
        "*Yes*: for a gain, the point estimate reaches it and the interval is above zero; for *not",
        "down*, the point estimate is not negative; for rollouts, the whole interval is at 60% or",
        "below. Eight seeds; all methods at GRPO's learning rate, but in the rows that say",
        "otherwise. Curves on the frozen mix are of the same runs made again",
        f"([{CURVES}]({CURVES}/results.md)); one of `joint` and three of `joint_replay` took",
        f"another path there. `{DEFAULT}` was made the default on these runs, by a rule fixed",
        "beforehand (study.md, part 14); its own tuning, on one seed, had chosen a higher rate.",
        "",
        *table(["aim", "frozen mix", "harder mix"], rows),
        "Each method with nine trials of learning rate and own knob, GRPO as well, one seed of the",
        f"validation split ([{TRIALS}]({TRIALS}/results.md)), on the frozen mix. That seed chose a",
        "scale of advantages for GRPO that is worse on the test split than the usual one, beside",
        "which [side_by_side](side_by_side/results.md) has them, the default at GRPO's rate:",
        "",
        *table(["method", f"{passed}: +10%, or +15% with more?", f"{mean} not down",
                "worst family up"], by_trials),
        f"Elsewhere, at one rate for all; aims are of {passed} but where said. Last, what GRPO's "
        f"own {passed}",
        "gains by five times the rollouts (headroom, below; one seed).",
        "",
        *table(["on", "prompt: +10%?", "rollout: +10%?", f"{DEFAULT}: +15%?",
                f"its {mean} not down", "its worst family up", "GRPO, 5x budget"], elsewhere),
    ]  # fmt: skip


def longer(suite: str, metric: str) -> float | None:
    """What GRPO gains by five times the budget; None where that was not measured."""
    if not (found := measured(HEADROOM.get(suite, ""))):
        return None
    once, more = (
        found["runs"][name]["test"]["all"][metric] for name in (found["tuned"], found["longer"])
    )
    return more / once - 1


def reached(block: dict[str, Any], method: str, metric: str, least: float) -> str:
    """Whether a gain is there: `least` is 0 where a score should not be down."""
    if method not in block["methods"]:
        return "not run"
    found = block["methods"][method]
    if metric == "at_tokens":
        if metric not in found:
            return ""
        found = found[metric][f"pass@{block['k']}"]["relative"]
    else:
        found = found["difference"][metric]["relative"]
    there = found["mean"] >= least and (found["low"] > 0 or least == 0)
    down = least == 0 and found["high"] < 0
    said = "yes" if there else "**no**" if least or down else "not significant"
    return f"{said}: {found['mean']:+.1%} [{found['low']:+.1%}, {found['high']:+.1%}]"


def needed(block: dict[str, Any], method: str) -> str:
    """Whether the baseline's last pass@k is reached with 60% of its rollouts."""
    found = block["methods"].get(method, {}).get("reaches")
    if not found:
        return ""
    said = "yes" if found["high"] is not None and found["high"] <= 0.6 else "**no**"
    ends = [found[end] for end in ("share", "low", "high")]
    share, *ends = ["never" if end is None else f"{end:.0%}" for end in ends]
    return f"{said}: {share} [{', '.join(ends)}]"


def elsewhere_in_short() -> list[str]:
    """pass@k of the main methods on the other suites and models."""
    rows = []
    for suite, block in suites_of(*ELSEWHERE).items():
        gaps = [block["methods"][m]["difference"][f"pass@{block['k']}"]["relative"]
                for m in ("prompt", "rollout", DEFAULT)]  # fmt: skip
        cells = [f"{g['mean']:+.1%} [{g['low']:+.1%}, {g['high']:+.1%}]" for g in gaps]
        rows.append([suite, str(len(block["seeds"])), *cells])
    head = ["pass@8 elsewhere", "seeds", "prompt", "rollout", DEFAULT]
    return table(head, rows)


def screened() -> list[str]:
    """Points of the methods that have few seeds."""
    lines = [
        "## Screening",
        "",
        "All methods tried, two seeds on the validation split, at GRPO's learning rate, untuned:",
        "gains over GRPO, enough to see what is far off (a run's score has a standard deviation of",
        "about .03). Methods that generate in rounds (`dapo`, `reinforce_ada`) take fewer steps at",
        "the same rollouts. In `screening`, `prompt` and `joint` only weigh; in `fresh`, `default`",
        "is `joint_replay`. Methods that do not stand by method above (`per_prompt`, `pass_at_k`,",
        "`rollout_signal`, `rollout_neyman`, draws alone as in `sample`, and more) have these rows",
        "only: two seeds show what is far off here, and do not say when a method fails. Several",
        "settings changed at a time, with the effect of each: [factorial.md](factorial.md).",
        "",
    ]
    rows: list[list[str]] = []
    shown: dict[tuple[float, ...], str] = {}
    for name in SCREENED:
        for block in suites_of(name).values():
            base, k = block["methods"][block["baseline"]], block["k"]
            for method, found in block["methods"].items():
                scores = tuple(found[f"mean@{k}"])
                if method == block["baseline"] or shown.setdefault(scores, name) != name:
                    continue  # runs of another study, shown again
                gaps = (found["difference"][f"{m}@{k}"]["relative"] for m in ("pass", "mean"))
                spent = (sum(found[what]) / sum(base[what]) for what in ("rollouts", "tokens"))
                steps = "–".join(map(str, sorted(set(found["steps"]))))
                rows.append([f"{method} ([{name}]({name}/results.md))",
                             *(f"{gap['mean']:+.1%}" for gap in gaps), steps,
                             *(f"{share:.3f}" for share in spent)])  # fmt: skip
    rows.sort(key=lambda row: -float(row[1].rstrip("%")))
    return [*lines, *table(["method", "pass@8", "mean@8", "steps", "rollouts", "tokens"], rows)]
