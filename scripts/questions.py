"""What a part is worth: the contrasts of the studies, by the question that they answer."""

from typing import Any

import yaml
from raw import HERE, measured

from gdro.lab.compare.table import markdown_table as table

QUESTIONS = HERE / "questions.yaml"


def questions() -> list[str]:
    """A row a question: the contrast's gain, relative to GRPO's score."""
    lines = [
        "## What a part is worth",
        "",
        "Differences between methods at equal rollouts and seeds, as a percentage of GRPO's score,",
        "with 95% intervals over seeds, not corrected for multiple comparisons; **bold** where",
        "zero is excluded. Learning rates are equal too but where a row names them, and for MoPPS",
        "and Reinforce-Ada, each at its own. In rows *this, not that* plus says *this* is better.",
        "",
    ]
    rows = []
    for place, question in yaml.safe_load(QUESTIONS.read_text()).items():
        study, name = place.split("/")
        suites = measured(f"{study}/results")["suites"]
        for suite, block in suites.items():
            found, k = block["contrasts"][name], block["k"]
            gaps = (found["difference"][f"{m}@{k}"] for m in ("pass", "mean", "worst_family_mean"))
            where = f", {suite}" if len(suites) > 1 else ""
            what = f"{question}{where} ([{study}]({study}/results.md))"
            rows.append([what, str(len(block["seeds"])), *map(cell, gaps)])
    return [*lines, *table(["what", "seeds", "pass@8", "mean@8", "worst family"], rows)]


def cell(gap: dict[str, Any]) -> str:
    mean, low, high = (100 * gap["relative"][end] for end in ("mean", "low", "high"))
    said = f"{mean:+.1f}% [{low:+.1f}, {high:+.1f}]"
    return f"**{said}**" if low > 0 or high < 0 else said
