"""What an evaluation found: counts per prompt, and the scores that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from gdro.core.errors import ConfigError, DataError
from gdro.core.passk import WORST_MIN_PROMPTS, bootstrap_mean, pass_at_k
from gdro.core.types import IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """k sampled completions of each of N prompts, verified.

    Attributes:
        k: Completions of each prompt, and the k of mean@k and pass@k.
        id_N: Prompt ids.
        correct_N: int64, right completions of each prompt, 0 .. k.
        tokens_N: int64, completion tokens of each prompt, summed over its k completions.
        truncated_N: int64, completions that met the token limit before their end.
        groups: By name (`family`, `level`), the label of each prompt.
        prompt_N: The prompts, as texts or messages; empty where they were not kept.
        answer_N: One completion of each, perhaps cut off; empty likewise.
        settings: How it was sampled: token limit, temperature, seed.
        seconds: Wall time.
    """

    k: int
    id_N: Sequence[Any]
    correct_N: IntArray
    tokens_N: IntArray
    truncated_N: IntArray
    groups: dict[str, list[Any]] = field(default_factory=dict)
    prompt_N: Sequence[Any] = ()
    answer_N: Sequence[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """mean@k, the share of right completions."""
        return float(np.mean(self.correct_N) / self.k)

    @property
    def passed(self) -> float:
        """Unbiased pass@k: the chance that at least one of k completions is right."""
        return float(np.mean(self.pass_N))

    @property
    def pass_N(self) -> np.ndarray:
        """Unbiased pass@k of each prompt (Chen et al. 2021); with k completions it is 0 or 1."""
        return pass_at_k(self.k, self.correct_N, self.k)

    def interval(self, metric: str = "mean", *, confidence: float = 0.95) -> tuple[float, float]:
        """Bootstrap interval of `mean` or `passed` over prompts.

        It tells how much another draw of prompts would change the score, not another training seed.
        """
        if metric not in ("mean", "passed"):
            raise ConfigError(f"metric must be mean or passed, got {metric!r}")
        value_N = self.correct_N / self.k if metric == "mean" else self.pass_N
        return bootstrap_mean(value_N, np.random.default_rng(0), confidence)

    def by(self, name: str) -> dict[str, dict[str, Any]]:
        """Scores of each label of a grouping, in the order of the labels."""
        if name not in self.groups:
            raise DataError(f"no column {name!r} to group by; there are {', '.join(self.groups)}")
        labels = self.groups[name]
        scores = {}
        for label in sorted(set(labels), key=lambda x: (str(type(x)), x)):
            rows = np.flatnonzero([x == label for x in labels])
            scores[str(label)] = {
                f"mean@{self.k}": float(np.mean(self.correct_N[rows]) / self.k),
                f"pass@{self.k}": float(np.mean(self.pass_N[rows])),
                "prompts": len(rows),
            }
        return scores

    def worst(self, name: str) -> tuple[str, float] | None:
        """Label and mean@k of the worst group of at least `WORST_MIN_PROMPTS` prompts."""
        scores = {
            label: s[f"mean@{self.k}"]
            for label, s in self.by(name).items()
            if s["prompts"] >= WORST_MIN_PROMPTS
        }
        return min(scores.items(), key=lambda item: item[1]) if scores else None

    def binned_by(self, base: Self, edges: Sequence[float]) -> Self:
        """Adds the grouping `bin`: difficulty under `base`, by its mean@k; bin 0 is the hardest.

        The bins are those of one set of samples, so `base`'s own scores within a bin are its luck
        as well; compare trained models within a bin, not a trained model with the base.

        Args:
            base: An evaluation of the same prompts.
            edges: Inner edges of the bins, in mean@k.
        """
        right = dict(zip(base.id_N, base.correct_N / base.k, strict=True))
        if missing := [i for i in self.id_N if i not in right]:
            raise DataError(f"the base evaluation lacks {len(missing)} prompts: {missing[0]!r}")
        bin_N = np.searchsorted(edges, [right[i] for i in self.id_N], side="right")
        return replace(self, groups=self.groups | {"bin": bin_N.tolist()})

    def summary(self) -> dict[str, Any]:
        """One line of `evals.jsonl`: the scores, their intervals and every grouping."""
        completions = self.k * len(self.correct_N)
        line: dict[str, Any] = {
            "k": self.k,
            "prompts": len(self.correct_N),
            f"mean@{self.k}": self.mean,
            f"pass@{self.k}": self.passed,
            f"mean@{self.k}_interval": list(self.interval("mean")),
            f"pass@{self.k}_interval": list(self.interval("passed")),
            "mean_tokens": float(np.sum(self.tokens_N) / completions),
            "truncated": float(np.sum(self.truncated_N) / completions),
            "seconds": round(self.seconds, 3),
            "settings": self.settings,
        }
        for name in self.groups:
            line[f"by_{name}"] = self.by(name)
        if "family" in self.groups and (worst := self.worst("family")):
            line["worst_family"], line[f"worst_family_mean@{self.k}"] = worst
        return line

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        plain = {name: getattr(self, name) for name in ("k", "groups", "settings", "seconds")}
        arrays = ("correct_N", "tokens_N", "truncated_N")
        plain |= {name: list(getattr(self, name)) for name in ("id_N", "prompt_N", "answer_N")}
        return plain | {a: getattr(self, a).tolist() for a in arrays}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Builds from `to_dict`'s values."""
        arrays = ("correct_N", "tokens_N", "truncated_N")
        plain: dict[str, Any] = dict(values)
        plain |= {a: np.asarray(values[a], dtype=np.int64) for a in arrays}
        return cls(**plain)
