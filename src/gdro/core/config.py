"""The configuration of the controller: every field, its default, its bounds, in one place.

A value is checked when the dataclass is built; after that it is trusted. Paths in errors, in YAML
and on the command line are the same (`rollout.n_min`, `--gdro_rollout_n_min`).
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from gdro.core import registry
from gdro.core.errors import ConfigError
from gdro.core.fields import Checked, setting
from gdro.core.presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class DifficultyConfig(Checked):
    """The online difficulty classifier (paper 3.1, Eq. 10-11; method D1-D5, D17)."""

    _room = "difficulty."

    source: str = setting(
        "online",
        "online (bins by the estimate of pass@k), column:<name> (static "
        "groups: family, level, subject), or random (a placebo of static bins)",
    )
    k: int = setting(8, "k of pass@k", ge=1, le=1024)
    bins: int = setting(10, "number of bins; equal widths unless edges are given", ge=2, le=1000)
    edges: tuple[float, ...] | None = setting(
        None, "inner edges of the bins, ascending; their number + 1 must equal bins", gt=0, lt=1
    )
    delta: float = setting(
        0.03, "hysteresis: margin by which a boundary must be crossed", ge=0, lt=0.5
    )
    memory: Literal["discounted", "window", "all"] = setting(
        "discounted",
        "what is remembered of a prompt: counts discounted per visit, the last "
        "visits, or all visits",
    )
    half_life: float = setting(
        3.0, "visits after which a discounted count has halved", gt=0, le=1e9
    )
    window: int = setting(100, "visits kept by the window memory (H of the paper)", ge=1, le=10_000)
    estimator: Literal["posterior", "any"] = setting(
        "posterior", "posterior mean of pass@k from counts, or the paper's any-correct flag"
    )
    binning: Literal["estimate", "interval"] = setting(
        "estimate",
        "a prompt moves when its estimate crosses by delta, or when its credible "
        "interval leaves the bin",
    )
    credibility: float = setting(
        0.5, "mass of the credible interval of binning=interval", gt=0, lt=1
    )
    prior: Literal["fit", "fixed"] = setting(
        "fit",
        "Beta prior of a success rate: fitted to the population (empirical Bayes), or "
        "prior_a and prior_b",
    )
    prior_a: float = setting(
        1.0, "prior pseudo-count of successes (the start of a fitted prior)", gt=0, le=1e6
    )
    prior_b: float = setting(
        1.0, "prior pseudo-count of failures (the start of a fitted prior)", gt=0, le=1e6
    )
    prior_column: str | None = setting(
        None, "column with a pass rate in [0, 1] known beforehand: unseen prompts start from it"
    )
    level_column: str | None = setting(
        None,
        "column of levels (or subjects, sources): the prior of a prompt is fitted to its level, "
        "and an unseen prompt starts from it",
    )
    prior_strength: float = setting(
        4.0, "pseudo-rollouts that a rate of prior_column counts for", gt=0, le=1e6
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (
            self.source in ("online", "random")
            or (self.source.startswith("column:") and len(self.source) > 7)
        ):
            raise ConfigError(
                f"difficulty.source must be online, random or column:<name>, got {self.source!r}"
            )
        if self.binning == "interval" and self.estimator == "any":
            raise ConfigError(
                "difficulty.estimator must be posterior with difficulty.binning="
                "interval, got any: a flag has no posterior"
            )
        if self.edges is not None:
            if list(self.edges) != sorted(set(self.edges)):
                raise ConfigError(f"difficulty.edges must be strictly ascending, got {self.edges}")
            if self.bins != len(self.edges) + 1:
                raise ConfigError(
                    f"difficulty.bins must be len(difficulty.edges) + 1 = "
                    f"{len(self.edges) + 1}, got {self.bins}"
                )
        narrowest = min(b - a for a, b in zip(self.boundaries, self.boundaries[1:], strict=False))
        if self.source == "online" and not 2 * self.delta < narrowest:
            raise ConfigError(
                f"difficulty.delta must be < half the narrowest bin, {narrowest / 2:g}, "
                f"got {self.delta}"
            )

    @property
    def boundaries(self) -> tuple[float, ...]:
        """0 = a_0 < a_1 < ... < a_B = 1."""
        inner = (
            self.edges if self.edges is not None else [i / self.bins for i in range(1, self.bins)]
        )
        return (0.0, *inner, 1.0)


@dataclass(frozen=True, kw_only=True)
class SelectConfig(Checked):
    """Which prompts enter a step (the port *select*)."""

    _room = "select."

    policy: str = setting(
        "uniform",
        "how the prompts of a step are chosen; sample, by Prompt-GDRO's adversary, is implied by "
        "prompt.realisation=sample; dapo generates in rounds, which is not compute-neutral",
        choices=registry.SELECT,
    )
    max_rounds: int = setting(
        5, "dapo: rounds of generation of a step, the first included", ge=2, le=100
    )
    target: float = setting(0.5, "mopps, adarft: success rate that is aimed at", gt=0, lt=1)
    candidates: float = setting(
        8.0, "mopps: prompts drawn for each one that is chosen", ge=1, le=1e6
    )
    greso_target: float = setting(
        0.25, "greso: share of groups without a gradient that is put up with", gt=0, lt=1
    )
    greso_explore: float = setting(
        0.5, "greso: probability at first to visit a prompt that gave no gradient", ge=0.05, le=1
    )
    greso_step: float = setting(
        0.01, "greso: by how much that probability moves in a step", gt=0, lt=1
    )
    sec_rate: float = setting(0.5, "sec: rate of the running advantage of a class", gt=0, le=1)
    sec_temperature: float = setting(
        0.4, "sec: temperature of the draw of classes", ge=0.001, le=1000
    )
    adarft_step: float = setting(0.5, "adarft: largest step of the target difficulty", gt=0, le=1)
    adarft_gain: float = setting(
        2.0, "adarft: sensitivity of the target difficulty to the reward", gt=0, le=1000
    )


@dataclass(frozen=True, kw_only=True)
class PromptConfig(Checked):
    """Prompts to weights (the port *weigh*): Prompt-GDRO (paper 3.2, Eq. 12-16; method D6-D10)."""

    _room = "prompt."

    weigh: str = setting(
        "none",
        "what weighs the prompts: none (plain GRPO), Prompt-GDRO (weights alone; the presets "
        "prompt and joint draw hard prompts as well), each prompt's own "
        "failure rate, the gradient of pass@k, or what hard_first would imply (a control)",
        choices=registry.WEIGH,
    )
    realisation: Literal["omega", "mass", "sample"] = setting(
        "omega",
        "gdro: how q is realised: a weight per prompt (paper), a weight q/share, or by drawing "
        "prompts",
    )
    signal: Literal["error", "surrogate", "failure", "learnability"] = setting(
        "error",
        "loss of a prompt that the adversary sees: 1 - mean correct, the paper's surrogate, "
        "1 - pass@k, or p(1 - p)",
    )
    ambiguity: Literal["entropic", "cvar", "chi_square"] = setting(
        "entropic", "set of mixtures that the adversary plays in (paper: entropic)"
    )
    k: int = setting(8, "pass_at_k: k of pass@k", ge=1, le=1024)
    eta: float = setting(
        2.0, "gdro, per_prompt: rate of the exponential weights (Eq. 14)", ge=0, le=1000
    )
    alpha: float = setting(0.3, "cvar: mass of the worst bins", gt=0, le=1)
    rho: float = setting(1.0, "chi_square: radius", ge=0, le=1e6)
    base: Literal["uniform", "share"] = setting(
        "uniform", "base measure of the ambiguity set: uniform over bins, or the bins' shares"
    )
    beta: float = setting(0.12, "rate of the moving average of the bins' loss (Eq. 12)", gt=0, le=1)
    gamma: float = setting(
        0.01, "part of q that is the base measure, for exploration (Eq. 15)", ge=0, le=1
    )
    clip: float = setting(10.0, "C: scores are clipped to [-C, C] (Eq. 14)", gt=0, le=1e300)
    cap: float = setting(15.0, "largest weight of a prompt (Eq. 16)", ge=1, le=1e6)
    normalize: Literal["mean", "none"] = setting(
        "mean", "weights have mean 1 over the batch after the cap, or are as printed in Eq. 16"
    )
    share_normalize: bool = setting(
        False, "divide a bin's loss by its share of the batch (released code)"
    )
    max_gap: float = setting(
        10.0, "sample: a prompt that was not drawn for this many epochs is drawn next", gt=1, le=1e9
    )
    max_repeat: float = setting(
        4.0,
        "sample: a prompt is drawn at most this many times as often as the average one",
        ge=1,
        le=1e9,
    )


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(Checked):
    """Rollout-GDRO: prompts to rollouts (paper 3.3, Eq. 17-21, 28-31; method D11-D16, D18)."""

    _room = "rollout."

    allocator: str = setting(
        "hard_first",
        "how rollouts are divided among the prompts of a step; second_look generates in two "
        "rounds, reinforce_ada in more, which is not compute-neutral",
        choices=registry.ALLOCATE,
    )
    n_min: int = setting(
        2, "fewest rollouts of a prompt; a group of one has no advantage", ge=2, le=4096
    )
    n_max: int = setting(
        12,
        "most rollouts of a prompt; trainers default to three times the mean, if more",
        ge=2,
        le=4096,
    )
    power: float = setting(
        2.0, "hard_first, second_look: n proportional to (1 - p)^power", ge=0, le=16
    )
    k: int = setting(8, "progress: k of pass@k", ge=1, le=1024)
    quotas: tuple[float, ...] | None = setting(
        None,
        "fixed: relative rollouts of a prompt, by bin, hardest first; none: bins, ..., 2, 1",
        gt=0,
        le=4096,
    )
    aggregation: Literal["rollout", "prompt", "neutral"] = setting(
        "rollout",
        "what counts alike in the loss: each rollout (or token), each prompt, or each "
        "prompt with the effect of n on the expected gradient removed",
    )
    proxy: Literal["reward", "loss", "score"] = setting(
        "reward", "variance estimate that neyman and the monitor use"
    )
    proxy_beta: float = setting(0.12, "rate of the running variance by bin", gt=0, le=1)
    utility: Literal["surrogate", "variance", "signal"] = setting(
        "signal", "exp3p: utility of an arm"
    )
    choice: Literal["argmax", "sample"] = setting(
        "sample", "exp3p: the most probable allocation that meets the budget, or a draw from them"
    )
    bandit_eta: float = setting(
        0.65, "exp3p: rate of the exponential weights over arms", ge=0, le=1000
    )
    bandit_beta: float = setting(
        0.12, "exp3p: rate of the running mean utility of an arm", gt=0, le=1
    )
    bandit_gamma: float = setting(0.01, "exp3p: uniform exploration over arms", ge=0, le=1)
    price_alpha: float = setting(0.05, "rate of the shadow price (Eq. 21)", gt=0, le=10)
    max_rounds: int = setting(
        4, "reinforce_ada: rounds of generation of a step, the first included", ge=2, le=100
    )
    exit: Literal["balanced", "positive"] = setting(
        "balanced", "reinforce_ada: a prompt stops at half right and half wrong, or at one right"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_max < self.n_min:
            raise ConfigError(
                f"rollout.n_max must be >= rollout.n_min = {self.n_min}, got {self.n_max}"
            )
        if self.allocator == "neyman" and self.aggregation == "rollout":
            raise ConfigError(
                "rollout.aggregation must be prompt or neutral with rollout.allocator="
                "neyman, got rollout: there it raises the noise that it means to lower"
            )


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(Checked):
    """A memory of rare successes; not from the paper."""

    _room = "replay."

    successes: bool = setting(
        False,
        "a group that is all wrong trains on the newest right rollout of its prompt, in place of "
        "one of its own",
    )
    max_age: int | None = setting(
        None, "steps after which a success is not used any more; none: never", ge=1, le=10**9
    )
    capacity: int = setting(100_000, "prompts whose success is kept", ge=1, le=10**9)


@dataclass(frozen=True, kw_only=True)
class OutcomeConfig(Checked):
    """What is taken of outcomes that come late."""

    _room = "outcome."

    max_staleness: int = setting(
        64,
        "an outcome is refused once more than this many plans have followed its own",
        ge=1,
        le=1_000_000,
    )


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Checked):
    """Everything the controller decides by. What is not given is as in the preset `rollout`: of
    the default preset all but its memory, which asks two calls more of an engine."""

    difficulty: DifficultyConfig = setting(DifficultyConfig(), "online difficulty classifier")
    select: SelectConfig = setting(SelectConfig(), "which prompts enter a step")
    prompt: PromptConfig = setting(PromptConfig(), "Prompt-GDRO and other weights")
    rollout: RolloutConfig = setting(RolloutConfig(), "Rollout-GDRO")
    replay: ReplayConfig = setting(ReplayConfig(), "a memory of rare successes")
    outcome: OutcomeConfig = setting(OutcomeConfig(), "what is taken of late outcomes")

    def __post_init__(self) -> None:
        super().__post_init__()
        policy = self.select.policy
        if self.prompt.weigh == "gdro" and self.prompt.realisation == "sample":
            if policy not in ("uniform", "sample"):
                raise ConfigError(
                    f"select.policy must be sample with prompt.realisation=sample, got {policy}"
                )
            select = dataclasses.replace(self.select, policy="sample")
            object.__setattr__(self, "select", select)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds from nested mappings (`{"rollout": {"n_min": 2}}`) or dotted paths.

        Raises:
            ConfigError: for an unknown key, naming it and the nearest known ones.
        """
        nested: dict[str, dict[str, Any]] = {}
        rooms: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(cls)}
        for key, value in values.items():
            room, _, name = key.partition(".")
            if room not in rooms:
                raise ConfigError(f"{key} is unknown; known are {', '.join(rooms)}")
            part = {name: value} if name else value
            if not isinstance(part, Mapping):
                raise ConfigError(f"{room} must be a mapping, got {value!r}")
            known = {f.name for f in dataclasses.fields(rooms[room])}
            for n in part:
                if n not in known:
                    raise ConfigError(
                        f"{room}.{n} is unknown; known are {', '.join(sorted(known))}"
                    )
            nested.setdefault(room, {}).update(part)
        return cls(**{room: type(rooms[room])(**part) for room, part in nested.items()})

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values; `from_dict` is its inverse."""
        plain = dataclasses.asdict(self)
        for room, name in (("difficulty", "edges"), ("rollout", "quotas")):
            if plain[room][name] is not None:
                plain[room][name] = list(plain[room][name])
        return plain

    @classmethod
    def fields(cls) -> Iterator[tuple[str, "dataclasses.Field[Any]", Any]]:
        """Yields (path, field, type) of every leaf: `rollout.n_min`, ..."""
        for room in dataclasses.fields(cls):
            hints = typing.get_type_hints(type(room.default))
            for f in dataclasses.fields(room.default):  # type: ignore[arg-type]
                yield f"{room.name}.{f.name}", f, hints[f.name]

    @property
    def adversary_acts(self) -> bool:
        """Whether Prompt-GDRO's adversary weighs or draws, so that `prompt.signal` matters."""
        return self.prompt.weigh == "gdro" or self.select.policy == "sample"

    @property
    def loss_needed_by(self) -> str:
        """The setting that needs `loss_R` in every Outcome, or an empty string."""
        if self.adversary_acts and self.prompt.signal == "surrogate":
            return "prompt.signal=surrogate"
        if self.rollout.allocator == "exp3p" and self.rollout.utility == "surrogate":
            return "rollout.utility=surrogate"
        return "rollout.proxy=loss" if self.rollout.proxy == "loss" else ""

    @property
    def required(self) -> dict[str, str]:
        """The optional arrays of an Outcome that must be there, and the setting that needs each."""
        needed = {"loss_R": self.loss_needed_by}
        if self.rollout.proxy == "score":
            needed["score_R"] = "rollout.proxy=score"
        return {name: setting for name, setting in needed.items() if setting}

    @classmethod
    def preset(cls, name: str) -> Self:
        """A named method: one of `PRESETS`; `DEFAULT` is the default, paper is to the letter."""
        if name not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        return cls.from_dict(PRESETS[name])
