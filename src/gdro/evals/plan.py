"""What is asked of `gdro eval`, checked and resolved before any work."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gdro.core.errors import ConfigError, DataError
from gdro.data.templates import TEMPLATES
from gdro.evals import benchmarks
from gdro.evals.benchmarks import Problems
from gdro.evals.engines.base import Job, Key, Sampling

ENGINES = ("transformers", "vllm", "openai")

PROTOCOLS: dict[str, dict[str, Any]] = {
    "paper": {"k": 8, "temperature": 0.6, "top_p": 0.8, "top_k": 20},
}
"""Settings of published evaluations. ``paper`` is arXiv 2601.19280's."""

ARITHMETIC = "arithmetic"
"""As a model: the base model of the arithmetic suite."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user says; None is the default.

    Attributes:
        model: A hub id, a folder, `arithmetic`, or with a server, its name there.
        benchmarks: `name` or `name=path`; None are those of the protocol.
        k: Completions of each problem and seed [8].
        seeds: Of the samples.
        engine: transformers, vllm or openai.
        temperature: >= 0 [1].
        top_p: In (0, 1] [1].
        top_k: >= 0, 0 is off [off; with a server, what it does].
        max_tokens: Of a completion [the benchmark's].
        template: Of `gdro.data.templates` [the benchmark's, or chat where the tokenizer has a chat
            template, else boxed].
        limit: Problems of each benchmark at most.
        protocol: A name in `PROTOCOLS`.
        revision: Of a hub model.
        batch_size: Completions at a time, with transformers.
        engine_args: For the model's constructor.
        chat_template_kwargs: For the chat template.
        base_url: Of the server.
        concurrency: Requests under way at a time.
        timeout: Seconds without an answer.
        retries: Of a request.
    """

    model: str
    benchmarks: Sequence[str] | None = None
    k: int | None = None
    seeds: Sequence[int] = (0,)
    engine: str = "transformers"
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    template: str | None = None
    limit: int | None = None
    protocol: str | None = None
    revision: str | None = None
    batch_size: int = 64
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    base_url: str | None = None
    concurrency: int = 64
    timeout: float = 600.0
    retries: int = 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is sampled and how.

    Attributes:
        options: As given.
        model: Where the model is.
        sampling: How completions are drawn.
        problems: Of each benchmark, as they are put.
        tokenizer: The model's; None with a server.
        settings: All that decides what is sampled, as plain values.
    """

    options: Options
    model: str
    sampling: Sampling
    problems: list[Problems]
    tokenizer: Any
    settings: dict[str, Any]

    def jobs(self, done: Mapping[Key, Any]) -> list[Job]:
        """One for each benchmark and seed."""
        return [
            Job(
                benchmark=p.name,
                seed=seed,
                max_tokens=p.benchmark.max_tokens,
                id_N=p.id_N,
                prompt_N=p.prompt_N,
                done=done.keys(),
            )
            for p in self.problems
            for seed in self.options.seeds
        ]

    def rows(self) -> list[dict[str, Any]]:
        """The problems as plain values."""
        return [
            {"benchmark": p.name, "id": id_, "prompt": prompt, "answer": answer, "groups": groups}
            for p in self.problems
            for id_, prompt, answer, groups in zip(
                p.id_N, p.prompt_N, p.answer_N, p.group_N, strict=True
            )
        ]


def plan(options: Options) -> Plan:
    """Checks the options, reads the problems and the tokenizer; no weights are loaded.

    Raises:
        ConfigError: if an option is out of its bounds, or names what is not there.
        DataError: if a benchmark cannot be read.
    """
    sampling, names = _checked(options)
    found = benchmarks.find(names)
    model = options.model
    tokenizer = None
    if options.engine != "openai":
        model = model_path(options.model)
        tokenizer = load_tokenizer(model, options.revision)
    usual = "chat" if tokenizer is None or tokenizer.chat_template else "boxed"
    problems = []
    for name, benchmark in found.items():
        template = options.template or benchmark.template or usual
        put = benchmarks.put(
            benchmarks.load(name, benchmark, options.limit),
            template,
            options.max_tokens or benchmark.max_tokens,
        )
        chats = {not isinstance(prompt, str) for prompt in put.prompt_N}
        if len(chats) > 1:
            raise DataError(f"benchmark {name}: some prompts are text and some are chats")
        if True in chats and tokenizer is not None and not tokenizer.chat_template:
            raise ConfigError(
                f"template {template} makes chats, and the tokenizer of {options.model} has no "
                "chat template; take --template boxed or raw"
            )
        problems.append(put)
    settings = {
        "model": str(Path(model).resolve()) if _is_folder(options, model) else options.model,
        "model_hash": fingerprint(Path(model)) if _is_folder(options, model) else None,
        "revision": options.revision,
        "engine": options.engine,
        "engine_args": dict(options.engine_args),
        "chat_template_kwargs": dict(options.chat_template_kwargs),
        "batch_size": options.batch_size if options.engine == "transformers" else None,
        "protocol": options.protocol,
        "limit": options.limit,
        "seeds": list(options.seeds),
        **{name: getattr(sampling, name) for name in ("k", "temperature", "top_p", "top_k")},
        "benchmarks": {p.name: _about(p) for p in problems},
    }
    if options.model == ARITHMETIC:
        settings["model"] = ARITHMETIC
    return Plan(
        options=options,
        model=model,
        sampling=sampling,
        problems=problems,
        tokenizer=tokenizer,
        settings=settings,
    )


def _about(problems: Problems) -> dict[str, Any]:
    entry = problems.benchmark
    return {
        "spec": str(Path(entry.spec).resolve()) if Path(entry.spec).exists() else entry.spec,
        "split": entry.split,
        "config": entry.config,
        "policy": entry.policy,
        "tolerances": list(entry.tolerances),
        "template": entry.template,
        "max_tokens": entry.max_tokens,
        "problems": len(problems.id_N),
        "ids": problems.ids,
        "content": problems.digest,
    }


def _checked(options: Options) -> tuple[Sampling, Sequence[str]]:
    """The sampling in force and the names of the benchmarks."""
    if options.protocol is not None and options.protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ConfigError(f"protocol must be one of {known}, got {options.protocol!r}")
    fixed = PROTOCOLS.get(options.protocol or "", {})
    for name, value in fixed.items():
        given = getattr(options, name)
        if given is not None and given != value:
            raise ConfigError(
                f"protocol {options.protocol} means {name} = {value}, got {given}: leave one out"
            )
    options = replace(options, **fixed)
    k = 8 if options.k is None else options.k
    temperature = 1.0 if options.temperature is None else options.temperature
    top_p = 1.0 if options.top_p is None else options.top_p
    for name, value in (
        ("k", k), ("limit", options.limit), ("max_tokens", options.max_tokens),
        ("batch_size", options.batch_size), ("concurrency", options.concurrency),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be >= 1, got {value}")
    for name, value in (("top_k", options.top_k), ("retries", options.retries)):
        if value is not None and value < 0:
            raise ConfigError(f"{name} must be >= 0, got {value}")
    if not 0 <= temperature < float("inf"):
        raise ConfigError(f"temperature must be >= 0, got {temperature}")
    if temperature == 0 and (k > 1 or len(options.seeds) > 1):
        raise ConfigError("temperature 0 gives one completion only: take k = 1 and one seed")
    if not 0 < top_p <= 1:
        raise ConfigError(f"top_p must be in (0, 1], got {top_p}")
    if not 0 < options.timeout < float("inf"):
        raise ConfigError(f"timeout must be > 0 and finite, got {options.timeout}")
    if not options.seeds or len(set(options.seeds)) < len(options.seeds):
        raise ConfigError(f"seeds must be different integers, got {list(options.seeds)}")
    if min(options.seeds) < 0:
        raise ConfigError(f"seeds must be >= 0, got {min(options.seeds)}")
    if options.engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, got {options.engine!r}")
    if options.template is not None and options.template not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise ConfigError(f"template must be one of {known}, got {options.template!r}")
    if (options.engine == "openai") != (options.base_url is not None):
        raise ConfigError("base_url is for engine openai, and that needs it")
    if options.engine == "openai" and (options.engine_args or options.revision):
        raise ConfigError("engine openai takes no engine_args and no revision: the server has them")
    names = options.benchmarks
    if names is None and options.protocol is not None:
        names = benchmarks.PAPER
    if not names:
        raise ConfigError(f"benchmarks must be of {', '.join(benchmarks.REGISTRY)}, got none")
    return Sampling(k=k, temperature=temperature, top_p=top_p, top_k=options.top_k), names


def model_path(name: str, field: str = "model") -> str:
    """Where a model is: `arithmetic` is the base model that gdro ships.

    Args:
        name: A folder, a hub id, or `arithmetic`.
        field: What messages call the setting.

    Raises:
        ConfigError: if it is written as a path, and no folder is there.
    """
    if name == ARITHMETIC:
        from gdro.data import arithmetic

        return str(arithmetic.base_path())
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise ConfigError(f"{field}: no such folder, {name}")
    return name


def _is_folder(options: Options, model: str) -> bool:
    return options.engine != "openai" and Path(model).is_dir()


def fingerprint(folder: Path) -> str:
    """Hash of a model's files: of small ones all, of large ones the size and both ends."""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.iterdir() if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with open(file, "rb") as data:
            digest.update(data.read(1 << 24))
            if size > 1 << 24:
                data.seek(-(1 << 20), 2)
                digest.update(data.read())
    return digest.hexdigest()[:16]


def load_tokenizer(model: str, revision: str | None) -> Any:
    """The tokenizer of a model, which must be there itself.

    Raises:
        ConfigError: if either is not.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        AutoConfig.from_pretrained(model, revision=revision)
        return AutoTokenizer.from_pretrained(model, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"model {model}: {error}") from error


def default_folder(settings: Mapping[str, Any]) -> Path:
    """A folder of these settings alone: the same command finds it again."""
    name = Path(settings["model"]).name
    if name == "model":  # of a run
        name = Path(settings["model"]).parent.name
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"eval-{name}-{digest}"
