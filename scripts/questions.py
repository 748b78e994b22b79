"""What a part is worth: the contrasts of the studies, by the question that they answer."""

from typing import Any

import yaml
from raw import HERE, measured, suites_of

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


def classes() -> list[str]:
    """Families as classes: the worst one, and over how many the adversary's mixture is spread."""
    rows = []
    for study in ("classes", "skewed"):
        for suite, block in suites_of(study).items():
            worst = f"worst_family_mean@{block['k']}"
            for name, found in block["methods"].items():
                if name != block["baseline"] and not found["bins"].startswith("column:"):
                    continue
                support = found["curriculum"]["effective_support"]
                held = "" if name == block["baseline"] else f"{sum(support) / len(support):.1f}"
                gap = cell(found["difference"][worst]) if held else ""
                mean = sum(found[worst]) / len(found[worst])
                rows.append([f"`{name}`, {suite} ([{study}]({study}/results.md))",
                             str(len(block["seeds"])), f"{mean:.3f}", gap, held])  # fmt: skip
    return [
        "## Families as classes",
        "",
        "As in the paper's toy study: the worst class's pass@1, and the effective support of the",
        "adversary's mixture in the mean of a run, of seven families, which are of one size in",
        "`arithmetic` and of two, six to one, in `skewed`. The paper, on MATH, one run: GRPO .339,",
        "classes .377 with a support of 12, and with the moving average .396 with 24.",
        "",
        *table(["method", "seeds", "worst family, mean@8", "to GRPO", "support"], rows),
    ]


def cell(gap: dict[str, Any]) -> str:
    mean, low, high = (100 * gap["relative"][end] for end in ("mean", "low", "high"))
    said = f"{mean:+.1f}% [{low:+.1f}, {high:+.1f}]"
    return f"**{said}**" if low > 0 or high < 0 else said
