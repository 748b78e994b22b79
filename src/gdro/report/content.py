"""What a page holds, whatever it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gdro.report.health import Finding
from gdro.report.prompts import Table
from gdro.report.style import Figure


@dataclass(frozen=True, kw_only=True)
class Content:
    """The page's parts in the order in which they stand.

    Attributes:
        title: The heading.
        about: Names and values below it.
        tiles: Value, what it is, a second line.
        findings: Of the health section.
        methods: Rows of the table of methods, with its caption.
        runs: Rows of the table of runs.
        warning: Above these tables.
        sections: Figures by section.
        prompts: Tables of prompts.
        spent: Rows of the table of what was spent.
        config: Every setting.
        missing: What is not shown, and why.
        numbers: For summary.json.
    """

    title: str
    about: list[tuple[str, str]] = field(default_factory=list)
    tiles: list[tuple[str, str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    methods: list[dict[str, Any]] = field(default_factory=list)
    methods_caption: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)
    warning: str | None = None
    sections: dict[str, list[Figure]] = field(default_factory=dict)
    prompts: list[Table] = field(default_factory=list)
    spent: list[tuple[str, float | None, float | None, float | None]] = field(default_factory=list)
    config: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


def sort_out(
    sections: Mapping[str, Sequence[tuple[str, Figure | str]]],
) -> tuple[dict[str, list[Figure]], list[str]]:
    """The figures by section, and the reasons of those that there are none of."""
    shown = {
        name: [f for _, f in figures if isinstance(f, Figure)] for name, figures in sections.items()
    }
    missing = [
        f"{key.replace('_', ' ')}: {f}"
        for figures in sections.values()
        for key, f in figures
        if isinstance(f, str)
    ]
    return {name: figures for name, figures in shown.items() if figures}, missing
