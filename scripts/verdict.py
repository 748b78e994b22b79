"""The aims in words: which were reached by what and where, and what there is to win."""

from dataclasses import dataclass
from typing import Any

from raw import measured

from gdro.core.presets import DEFAULT
from gdro.data import arithmetic

MIXES = ("the frozen mix", "the harder mix")
CURVES = {"hard_first 2": "`hard_first`'s weights", "error weights, eta 2": "the adversary's"}
"""Weight curves of the mechanism's training without noise that are a method's, and their names."""


@dataclass(frozen=True)
class Reached:
    """One aim of one method.

    Attributes:
        kind: Which aim.
        label: The method.
        aim: The aim, as the table says it.
        cells: By mix what came out, beginning with *yes* where it was reached; empty where it was
            not measured.
    """

    kind: str
    label: str
    aim: str
    cells: list[str]


def in_words(found: list[Reached], k: int) -> list[str]:
    """A line for each aim, from the cells of the table."""
    aims = {
        "gain": f"pass@{k} by 10% with one adversary, by 15% with more, at equal rollouts",
        "at_tokens": "the same at equal tokens, where there are curves",
        "mean": f"mean@{k} not down (by point estimates)",
        "worst": "worst family up",
        "rollouts": f"GRPO's last pass@{k} with 60% of its rollouts, where there are curves",
    }
    lines = [
        "The two adversaries are `prompt` and `rollout`, and `joint` is both. The memory is ours:",
        f"`{DEFAULT}`, the default, is one adversary with it, `joint_replay` both with it; what",
        "these reach is not the adversaries' alone.",
        "",
    ]
    for kind, aim in aims.items():
        by_place: dict[str, list[str]] = {}
        for one in found:
            if one.kind == kind and any(one.cells):
                by_place.setdefault(place(one.cells), []).append(one.label)
        said = "; ".join(f"{listed(names)} {where}" for where, names in by_place.items())
        lines.append(f"* **{aim}**: {said}.")
    return lines


def place(cells: list[str]) -> str:
    """On which of the two mixes an aim was reached."""
    yes = [mix for mix, cell in zip(MIXES, cells, strict=True) if cell.startswith("yes")]
    run = [mix for mix, cell in zip(MIXES, cells, strict=True) if cell]
    if len(run) < len(MIXES):
        return f"{'' if yes else 'not '}on {run[0]}"
    return {0: "on neither mix", 1: f"on {''.join(yes)} alone", 2: "on both mixes"}[len(yes)]


def listed(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def elsewhere_in_words(cells: dict[str, dict[str, str]], too_much: list[str], k: int) -> list[str]:
    """Where the gains that are aimed at were reached on other suites and models.

    Args:
        cells: By method and suite what came out, as in `Reached`.
        too_much: Suites on which GRPO gains less than that from five times the rollouts.
        k: Of pass@k.
    """
    yes = {m: [s for s, cell in by_suite.items() if cell.startswith("yes")]
           for m, by_suite in cells.items()}  # fmt: skip
    said = [f"`{m}` {f'on {listed(suites)}' if suites else 'nowhere'}" for m, suites in yes.items()]
    return [
        f"* **elsewhere, pass@{k} by as much**: {'; '.join(said)} (last table of this section). On "
        f"{listed(too_much)} GRPO itself gains less than that by five times the rollouts.",
        "",
    ]


def room(block: dict[str, Any], least: dict[str, float], k: int) -> list[str]:
    """What there is to win on the frozen mix: by rollouts, by supervision, by weights alone."""
    headroom, training = measured("headroom"), measured("mechanism")["training"]
    passed, worst = [], []
    for name in (headroom["tuned"], headroom["longer"], "supervised"):
        scores = headroom["runs"][name]["test"]
        passed.append(scores["all"][f"pass@{k}"])
        worst.append(min(scores[family][f"mean@{k}"] for family in arithmetic.FAMILIES))
    gains = [[f"{x / one[0] - 1:+.0%}" for x in one[1:]] for one in (passed, worst)]
    real = block["methods"][block["baseline"]][f"pass@{k}"]
    usual = sum(real) / len(real)
    noiseless = {name: one[f"pass@{k}"] for name, one in training.items()}
    added = {name: one["gain"]["mean"] for name, one in noiseless.items() if name != "grpo"}
    best = max(added, key=lambda name: added[name])
    named = ", ".join(f"{said} add {added[name]:+.3f}" for name, said in CURVES.items())
    one, both = least["prompt"] * usual, least["joint"] * usual
    enough = ("neither", "only the first", "both")[(added[best] >= one) + (added[best] >= both)]
    return [
        f"What there is to win, on the frozen mix: GRPO has {gains[0][0]} pass@{k} and "
        f"{gains[1][0]} in the worst family at",
        f"five times the budget, supervised training {gains[0][1]} and {gains[1][1]} (one seed; "
        "headroom, below). By weights there is less:",
        "on exact expected gradients, as if rollouts cost nothing, GRPO ends at "
        f"{noiseless['grpo']['score']:.3f} instead of {usual:.3f};",
        f"{named}, and the best of {len(added)} curves, the {best} itself,",
        f"{added[best]:+.3f} ([mechanism](mechanism.md), {len(training['grpo']['seeds'])} seeds). "
        f"What is aimed at over real GRPO is {one:+.3f} by one adversary and",
        f"{both:+.3f} by both; that curve reaches {enough}. "
        "It is no bound: GRPO is higher there, so that less is left, and real",
        "runs can gain by less noise as well, or by more successes.",
    ]
