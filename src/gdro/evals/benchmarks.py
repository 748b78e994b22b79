"""The benchmarks by name: where their problems are, how they are put and how answers are marked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gdro.core.errors import ConfigError, DataError
from gdro.data import load_prompts, sources
from gdro.data.identity import content_id
from gdro.data.layouts import LAYOUTS
from gdro.data.suites import suites
from gdro.data.templates import apply
from gdro.rewards import Verdict, exact_match, verify

MAX_TOKENS = 4096
"""Of a completion, where neither the benchmark nor the user says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A set of problems and how they are asked and marked.

    Attributes:
        spec: A hub id, a local file or a suite, as `gdro.data.load_prompts` takes it.
        split: Of a hub data set or the suite.
        config: Of a hub data set.
        policy: Where the answer stands, as `gdro.rewards.verify` takes it; `exact` compares the
            whole completion by `exact_match`.
        tolerances: Relative tolerances of numbers. The first one's scores count; those of the
            others are reported beside them.
        template: How problems are put; None leaves it to the model.
        max_tokens: Of a completion, unless the user says otherwise.
    """

    spec: str
    split: str = "test"
    config: str | None = None
    policy: str = "last_box"
    tolerances: tuple[float, ...] = (0.0,)
    template: str | None = None
    max_tokens: int = MAX_TOKENS


REGISTRY = {
    "math500": Benchmark(spec="HuggingFaceH4/MATH-500"),
    "aime24": Benchmark(spec="HuggingFaceH4/aime_2024", split="train"),
    "aime25": Benchmark(spec="math-ai/aime25"),
    "amc23": Benchmark(spec="math-ai/amc23"),
    "minerva": Benchmark(spec="math-ai/minervamath", tolerances=(0.0, 1e-4)),
    "olympiadbench": Benchmark(
        spec="Hothan/OlympiadBench", split="train", config="OE_TO_maths_en_COMP"
    ),
    "gpqa_diamond": Benchmark(spec="Idavidrein/gpqa", split="train", config="gpqa_diamond"),
    "gsm8k": Benchmark(spec="openai/gsm8k", config="main"),
    **{
        name: Benchmark(
            spec=name, policy="exact", template="raw", max_tokens=suite.max_completion_tokens
        )
        for name, suite in suites().items()
    },
}

PAPER = ("math500", "aime24", "aime25", "amc23", "minerva", "olympiadbench", "gpqa_diamond")
"""The benchmarks of the paper's tables."""


@dataclass(frozen=True, kw_only=True)
class Problems:
    """The problems of a benchmark.

    Attributes:
        name: Of the benchmark.
        benchmark: Its entry, with the template and token limit in force.
        id_N: Their ids.
        prompt_N: What is put to the model: text, or chat messages.
        answer_N: Gold answers.
        group_N: `level`, `subject` and `family` where there are any.
    """

    name: str
    benchmark: Benchmark
    id_N: list[str]
    prompt_N: list[Any]
    answer_N: list[str]
    group_N: list[dict[str, Any]]

    @property
    def digest(self) -> str:
        """Hash of ids, prompts and answers: equal where the same is asked and marked."""
        return content_id([self.id_N, self.prompt_N, self.answer_N])

    @property
    def ids(self) -> str:
        """Hash of the ids."""
        return hashlib.sha256("\n".join(self.id_N).encode()).hexdigest()[:16]


def find(words: Sequence[str]) -> dict[str, Benchmark]:
    """The benchmarks that `name` or `name=path` ask for.

    Raises:
        ConfigError: if one is unknown, comes twice, or a path is given where nothing is.
    """
    found: dict[str, Benchmark] = {}
    for word in words:
        name, given, path = word.strip().partition("=")
        if name not in REGISTRY:
            known = ", ".join(REGISTRY)
            raise ConfigError(f"benchmarks must be of {known} (or NAME=PATH), got {word!r}")
        if name in found:
            raise ConfigError(f"benchmarks: {name} comes twice")
        found[name] = REGISTRY[name]
        if given:
            file = Path(path).expanduser()
            if not file.exists():
                raise ConfigError(f"benchmarks: {name}: no such file, {path!r}")
            found[name] = replace(found[name], spec=str(file), config=None)
    return found


def load(name: str, benchmark: Benchmark, limit: int | None = None) -> Problems:
    """Reads the problems, as they are; `put` puts them.

    Args:
        name: Of the benchmark.
        benchmark: Its entry.
        limit: At most so many problems: those with the least hashes of their ids, in their order,
            whatever order the file is in. A smaller limit takes a part of a larger one's.

    Raises:
        DataError: as `gdro.data.load_prompts`.
    """
    try:
        data = load_prompts(
            benchmark.spec,
            split=benchmark.split,
            config=benchmark.config,
            layout=_layout(name, benchmark),
        )
    except DataError as error:
        raise DataError(f"benchmark {name}: {error}") from error
    rows: list[dict[str, Any]] = data.to_list()
    if limit is not None and limit < len(rows):
        by_hash = sorted(range(len(rows)), key=lambda i: content_id(rows[i]["id"]))
        rows = [rows[i] for i in sorted(by_hash[:limit])]
    groups = ("level", "subject", "family")
    return Problems(
        name=name,
        benchmark=benchmark,
        id_N=[row["id"] for row in rows],
        prompt_N=[row["prompt"] for row in rows],
        answer_N=[row["answer"] for row in rows],
        group_N=[{g: row[g] for g in groups if row.get(g) is not None} for row in rows],
    )


def _layout(name: str, benchmark: Benchmark) -> str | None:
    """The hub's layout for a file that hasn't our columns: it is a copy of the hub's."""
    hub = REGISTRY[name].spec
    if benchmark.spec == hub or not Path(benchmark.spec).is_file() or hub not in LAYOUTS:
        return None
    ours = {"prompt", "answer"} <= set(sources.read(benchmark.spec, "", ()).columns)
    return None if ours else hub


def put(problems: Problems, template: str, max_tokens: int) -> Problems:
    """The problems as the template puts them; ready-made chats stay as they are."""
    return replace(
        problems,
        benchmark=replace(problems.benchmark, template=template, max_tokens=max_tokens),
        prompt_N=[apply(template, p) if isinstance(p, str) else p for p in problems.prompt_N],
    )


def mark(
    gold_R: Sequence[str], text_R: Sequence[str], policy: str, tolerance: float
) -> list[Verdict]:
    """Marks completions as a benchmark does."""
    if policy == "exact":
        return exact_match(gold_R, text_R)
    more = {"tolerance": tolerance} if tolerance else {}
    return verify(gold_R, text_R, policy=policy, **more)
