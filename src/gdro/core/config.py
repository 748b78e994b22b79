"""The configuration of the controller: every field, its default, its bounds, in one place.

A value is checked when the dataclass is built; after that it is trusted. Paths in errors, in YAML
and on the command line are the same (`rollout.n_min`, `--gdro_rollout_n_min`).
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from gdro.core.errors import ConfigError


def _field(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    bounds = {
        name: b for name, b in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt)) if b is not None
    }
    return dataclasses.field(default=default, metadata={"help": help, "bounds": bounds})


_BOUNDS = {
    "ge": (">=", lambda v, b: v >= b), "gt": (">", lambda v, b: v > b),
    "le": ("<=", lambda v, b: v <= b), "lt": ("<", lambda v, b: v < b),
}  # fmt: skip


class _Checked:
    """A frozen dataclass whose fields are checked by type, choice and bound."""

    _room = ""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = _check_type(f"{self._room}{f.name}", getattr(self, f.name), hints[f.name])
            object.__setattr__(self, f.name, value)
            values = value if isinstance(value, tuple) else () if value is None else (value,)
            for kind, bound in f.metadata.get("bounds", {}).items():
                sign, holds = _BOUNDS[kind]
                for v in values:
                    if not holds(v, bound):
                        raise ConfigError(f"{self._room}{f.name} must be {sign} {bound}, got {v}")


def _check_type(path: str, value: Any, hint: Any) -> Any:
    """Returns `value` as `hint`; an int is taken where a float is meant, nothing else changes."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        arms = typing.get_args(hint)
        if value is None and type(None) in arms:
            return None
        rest = [a for a in arms if a is not type(None)]
        assert len(rest) == 1, f"{path}: only T | None is supported"
        return _check_type(path, value, rest[0])
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(
                f"{path} must be one of {', '.join(map(str, choices))}, got {value!r}"
            )
        return value
    if origin is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{path} must be a list of numbers, got {value!r}")
        return tuple(_check_type(path, v, typing.get_args(hint)[0]) for v in value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, hint):  # type: ignore[arg-type]
            raise ConfigError(f"{path} must be a {hint.__name__}, got {type(value).__name__}")  # type: ignore[union-attr]
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path} must be of type {hint.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} must be finite, got {value}")
    return value


@dataclass(frozen=True, kw_only=True)
class DifficultyConfig(_Checked):
    """The online difficulty classifier (paper 3.1, Eq. 10-11; method D1-D5, D17)."""

    _room = "difficulty."

    source: str = _field(
        "online",
        "online (bins by the estimate of pass@k), column:<name> (static "
        "groups: family, level, subject), or random (a placebo of static bins)",
    )
    k: int = _field(8, "k of pass@k", ge=1, le=1024)
    bins: int = _field(10, "number of bins; equal widths unless edges are given", ge=2, le=1000)
    edges: tuple[float, ...] | None = _field(
        None, "inner edges of the bins, ascending; their number + 1 must equal bins", gt=0, lt=1
    )
    delta: float = _field(
        0.03, "hysteresis: margin by which a boundary must be crossed", ge=0, lt=0.5
    )
    memory: Literal["discounted", "window", "all"] = _field(
        "discounted",
        "what is remembered of a prompt: counts discounted per visit, the last "
        "visits, or all visits",
    )
    half_life: float = _field(3.0, "visits after which a discounted count has halved", gt=0)
    window: int = _field(100, "visits kept by the window memory (H of the paper)", ge=1, le=10_000)
    estimator: Literal["posterior", "any"] = _field(
        "posterior", "posterior mean of pass@k from counts, or the paper's any-correct flag"
    )
    binning: Literal["estimate", "interval"] = _field(
        "estimate",
        "a prompt moves when its estimate crosses by delta, or when its credible "
        "interval leaves the bin",
    )
    credibility: float = _field(
        0.5, "mass of the credible interval of binning=interval", gt=0, lt=1
    )
    prior: Literal["fit", "fixed"] = _field(
        "fit",
        "Beta prior of a success rate: fitted to the population (empirical Bayes), or "
        "prior_a and prior_b",
    )
    prior_a: float = _field(
        1.0, "prior pseudo-count of successes (the start of a fitted prior)", gt=0
    )
    prior_b: float = _field(
        1.0, "prior pseudo-count of failures (the start of a fitted prior)", gt=0
    )
    prior_column: str | None = _field(
        None, "column with a pass rate in [0, 1] known beforehand: unseen prompts start from it"
    )
    level_column: str | None = _field(
        None,
        "column of levels (or subjects, sources): the prior of a prompt is fitted to its level, "
        "and an unseen prompt starts from it",
    )
    prior_strength: float = _field(
        4.0, "pseudo-rollouts that a rate of prior_column counts for", gt=0
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
class PromptConfig(_Checked):
    """Prompt-GDRO: bins to weights (paper 3.2, Eq. 12-16; method D6-D10)."""

    _room = "prompt."

    realisation: Literal["omega", "mass", "sample", "none"] = _field(
        "omega",
        "how q is realised: a weight per prompt (paper), a weight q/share, by drawing "
        "prompts, or not at all (plain GRPO)",
    )
    signal: Literal["error", "surrogate", "failure", "learnability"] = _field(
        "error",
        "loss of a prompt that the adversary sees: 1 - mean correct, the paper's surrogate, "
        "1 - pass@k, or p(1 - p)",
    )
    ambiguity: Literal["entropic", "cvar", "chi_square"] = _field(
        "entropic", "set of mixtures that the adversary plays in (paper: entropic)"
    )
    eta: float = _field(2.0, "rate of the exponential weights (Eq. 14)", ge=0, le=1000)
    alpha: float = _field(0.3, "cvar: mass of the worst bins", gt=0, le=1)
    rho: float = _field(1.0, "chi_square: radius", ge=0)
    base: Literal["uniform", "share"] = _field(
        "uniform", "base measure of the ambiguity set: uniform over bins, or the bins' shares"
    )
    beta: float = _field(0.12, "rate of the moving average of the bins' loss (Eq. 12)", gt=0, le=1)
    gamma: float = _field(0.01, "uniform exploration in q (Eq. 15)", ge=0, le=1)
    clip: float = _field(10.0, "C: scores are clipped to [-C, C] (Eq. 14)", gt=0)
    cap: float = _field(15.0, "largest weight of a prompt (Eq. 16)", ge=1)
    normalize: Literal["mean", "none"] = _field(
        "mean", "weights have mean 1 over the batch after the cap, or are as printed in Eq. 16"
    )
    share_normalize: bool = _field(
        False, "divide a bin's loss by its share of the batch (released code)"
    )
    max_gap: float = _field(
        10.0, "sample: a prompt that was not drawn for this many epochs is drawn next", gt=1
    )
    max_repeat: float = _field(
        4.0, "sample: a prompt is drawn at most this many times as often as the average one", ge=1
    )


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(_Checked):
    """Rollout-GDRO: prompts to rollouts (paper 3.3, Eq. 17-21, 28-31; method D11-D16, D18)."""

    _room = "rollout."

    allocator: Literal["uniform", "hard_first", "neyman", "signal", "exp3p"] = _field(
        "hard_first", "how rollouts are divided among the prompts of a step"
    )
    n_min: int = _field(2, "fewest rollouts of a prompt; a group of one has no advantage", ge=2)
    n_max: int = _field(12, "most rollouts of a prompt", ge=2, le=4096)
    power: float = _field(2.0, "hard_first: n proportional to (1 - p)^power", ge=0, le=16)
    aggregation: Literal["rollout", "prompt", "neutral"] = _field(
        "rollout",
        "what counts alike in the loss: each rollout (or token), each prompt, or each "
        "prompt with the effect of n on the expected gradient removed",
    )
    proxy: Literal["reward", "loss", "score"] = _field(
        "reward", "variance estimate that neyman and the monitor use"
    )
    proxy_beta: float = _field(0.12, "rate of the running variance by bin", gt=0, le=1)
    utility: Literal["surrogate", "variance", "signal"] = _field(
        "signal", "exp3p: utility of an arm"
    )
    choice: Literal["argmax", "sample"] = _field(
        "sample", "exp3p: the most probable allocation that meets the budget, or a draw from them"
    )
    bandit_eta: float = _field(
        0.65, "exp3p: rate of the exponential weights over arms", ge=0, le=1000
    )
    bandit_beta: float = _field(
        0.12, "exp3p: rate of the running mean utility of an arm", gt=0, le=1
    )
    bandit_gamma: float = _field(0.01, "exp3p: uniform exploration over arms", ge=0, le=1)
    price_alpha: float = _field(0.05, "rate of the shadow price (Eq. 21)", gt=0, le=10)

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
class ControllerConfig(_Checked):
    """Everything the controller decides by. The default is the documented starting point."""

    difficulty: DifficultyConfig = _field(DifficultyConfig(), "online difficulty classifier")
    prompt: PromptConfig = _field(PromptConfig(), "Prompt-GDRO")
    rollout: RolloutConfig = _field(RolloutConfig(), "Rollout-GDRO")

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
        if plain["difficulty"]["edges"] is not None:
            plain["difficulty"]["edges"] = list(plain["difficulty"]["edges"])
        return plain

    @classmethod
    def fields(cls) -> Iterator[tuple[str, "dataclasses.Field[Any]", Any]]:
        """Yields (path, field, type) of every leaf: `rollout.n_min`, ..."""
        for room in dataclasses.fields(cls):
            hints = typing.get_type_hints(type(room.default))
            for f in dataclasses.fields(room.default):  # type: ignore[arg-type]
                yield f"{room.name}.{f.name}", f, hints[f.name]

    @property
    def loss_needed_by(self) -> str:
        """The setting that needs `loss_R` in every Outcome, or an empty string."""
        if self.prompt.realisation != "none" and self.prompt.signal == "surrogate":
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
        """A named method: grpo, prompt, rollout, joint (the default), or paper (to the letter)."""
        if name not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        return cls.from_dict(PRESETS[name])


_PAPER_DIFFICULTY = {"memory": "window", "window": 100, "estimator": "any"}
PRESETS: dict[str, dict[str, Any]] = {
    "grpo": {"prompt.realisation": "none", "rollout.allocator": "uniform"},
    "prompt": {"rollout.allocator": "uniform"},
    "rollout": {"prompt.realisation": "none"},
    "joint": {},
    "paper": {
        "difficulty": _PAPER_DIFFICULTY,
        "prompt": {"signal": "surrogate", "eta": .65, "share_normalize": True, "normalize": "none"},
        "rollout": {"allocator": "exp3p", "choice": "argmax", "utility": "surrogate"},
    },
}  # fmt: skip
