"""The numbers of the mechanism page, from what was measured on each stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from benchmarks.mechanism.group_variance import (
    ESTIMATORS,
    N_MEAN,
    N_MIN,
    Moments,
    allocations,
    best,
    curves,
    group_variance,
    proxies,
    total,
)
from benchmarks.mechanism.noiseless import (
    ALLOCATED,
    BINS,
    CURVES,
    PROMPTS,
    bin_of,
    hard_first,
    pass_at_k,
    scale,
)
from benchmarks.mechanism.traces import interval, of_runs
from scipy.stats import rankdata

from gdro.core.types import FloatArray, IntArray
from gdro.core.variance import log_slope, var_proxy, wse
from gdro.data import arithmetic
from gdro.trainers.trl.advantages import group_advantages

WRONG_NEEDED = 4
"""Wrong rollouts from which the spread of their gradients is taken as measured."""
DIRECT_FROM = 0.02
"""Success rates from which (and to one minus which) groups of four are mixed often enough for
their variance to be measured directly by `rollouts / 4` of them."""


def rho(a: FloatArray, b: FloatArray) -> float | None:
    """Spearman's; None where one of them is constant."""
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def by_bin(x_P: FloatArray, bin_P: IntArray) -> FloatArray:
    """Mean in each bin, NaN where it is empty."""
    count_B = np.bincount(bin_P, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return np.bincount(bin_P, x_P, BINS) / np.where(count_B, count_B, np.nan)


def nearest(p_P: FloatArray, bin_P: IntArray, among: IntArray) -> IntArray:
    """The row among `among` that is nearest in log-odds, of the own bin where it has any."""
    odds_P = np.log(p_P) - np.log1p(-p_P)
    far_PM = np.abs(odds_P[:, None] - odds_P[among])
    far_PM += 1e3 * (bin_P[:, None] != bin_P[among])
    return among[far_PM.argmin(axis=1)]


class Stage:
    """One frozen checkpoint: all training prompts (P), and the measured ones among them (M)."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        self.p_P = np.minimum(found["p_train"], 1 - 1e-6)  # single precision rounds to 1
        self.p_test = np.array(found["p_test"])
        self.bin_P = bin_of(self.p_P)
        lines = found["moments"]
        self.row_M = np.array([line["row"] for line in lines])
        self.column = {
            key: np.array([line.get(key, np.nan) for line in lines], float)
            for key in ("p_sampled", "right2", "u_right", "wrong2", "u_wrong", "wrong_rollouts",
                        "wrong_kinds", "other_right", "direct_std", "direct_unscaled")
        }  # fmt: skip
        self.bin_M = self.bin_P[self.row_M]
        p = self.p_P[self.row_M]
        c = self.column
        odds = p / (1 - p)
        gap2 = c["right2"] / (1 - p) ** 2  # E[s] = 0: the mean wrong score is -odds s
        ratio = np.maximum(c["wrong2"] - odds**2 * c["right2"], 0.0) / gap2
        # Who is not measured, or hardly ever wrong, borrows of the nearest of its bin.
        useful = c["wrong_rollouts"] >= WRONG_NEEDED
        self.stand_P = nearest(self.p_P, self.bin_P, self.row_M[useful])
        full = np.full(self.p_P.size, np.nan)
        full[self.row_M[useful]] = ratio[useful]
        gap2_P = np.array(found["right2"]) / (1 - self.p_P) ** 2
        spread_P = gap2_P * full[self.stand_P]
        self.x_P = Moments(p=self.p_P, gap2=gap2_P, right=np.zeros(self.p_P.size), wrong=spread_P)
        self.x = self.x_P[self.row_M]
        place = np.full(self.p_P.size, -1)
        place[self.row_M] = np.arange(self.row_M.size)
        self.stand_P = place[self.stand_P]

    def check(self, rollouts: int) -> dict[str, Any]:
        """Exact against sampled: success rates, and variances of groups of four."""
        p, sampled, c = self.x.p, self.column["p_sampled"], self.column
        n = len(p)
        z2 = (sampled - p) ** 2 / (p * (1 - p) / rollouts)
        inner = (p * rollouts > 5) & ((1 - p) * rollouts > 5)
        found: dict[str, Any] = {
            "prompts": n, "bias": float((sampled - p).mean()),
            "z2": float(z2[inner].mean()), "inner": int(inner.sum()),
            "other_spellings": int(c["other_right"].sum()),
        }  # fmt: skip
        direct = (c["direct_std"] > 0) & (p > DIRECT_FROM) & (p < 1 - DIRECT_FROM)
        for name, scaled in (("std", True), ("unscaled", False)):
            v, own = group_variance(self.x, N_MEAN, scaled)[direct], c[f"direct_{name}"][direct]
            found[name] = {
                "prompts": int(direct.sum()), "ratio": float(own.sum() / v.sum()),
                "median": float(np.median(own / v)), "rho": rho(own, v),
            }  # fmt: skip
        return found

    def bins(self) -> list[dict[str, Any]]:
        rows = []
        v = {s: 4 * group_variance(self.x_P, N_MEAN, s == "std") for s in ("std", "unscaled")}
        for b in range(BINS):
            mine = self.bin_P == b
            if mine.any():
                rows.append({
                    "bin": b, "prompts": int(mine.sum()), "measured": int((self.bin_M == b).sum()),
                    "p": float(self.p_P[mine].mean()),
                    **{s: float(x[mine].mean()) for s, x in v.items()},
                })  # fmt: skip
        return rows

    def correlations(self) -> dict[str, Any]:
        """Of each proxy with the measured variance at n = 4: over prompts, and over bins."""
        found: dict[str, Any] = {}
        loss_P, loss_B = self.loss_proxy()
        n = hard_first(self.p_P, 2)[self.row_M]
        for name in ("std", "unscaled"):
            v = group_variance(self.x, N_MEAN, name == "std")
            v_B = by_bin(v, self.bin_M)
            candidates = proxies(self.x, self.column, name == "std")
            candidates["plug-in m(1-m) at hard_first's n"] = self.x.p * (1 - self.x.p) * (n - 1) / n
            found[name] = {
                proxy: {"prompts": rho(x, v), "bins": rho(by_bin(x, self.bin_M), v_B)}
                for proxy, x in candidates.items()
            }
            found[name]["loss"] = {"prompts": rho(loss_P, v), "bins": rho(loss_B, v_B)}
        found["loss_largest"] = float(np.abs(loss_P).max())
        return found

    def loss_proxy(self) -> tuple[FloatArray, FloatArray]:
        """The prompt loss on policy (its ratio is 1: minus the mean advantage), as the trainer
        computes it in single precision: largest of 64 groups, and its variance within each bin."""
        rng = np.random.default_rng(0)
        groups = 64
        draws = rng.random((self.x.p.size, groups, N_MEAN)) < self.x.p[:, None, None]
        rewards = torch.as_tensor(draws.reshape(-1), dtype=torch.float32)
        sizes = torch.full((draws.shape[0] * groups,), N_MEAN)
        advantages, _ = group_advantages(rewards, sizes, "group")
        loss = -advantages.view(-1, groups, N_MEAN).mean(dim=2).double().numpy()
        within = [loss[self.bin_M == b] for b in range(BINS)]
        return np.abs(loss).max(axis=1), np.array([x.var() if x.size else np.nan for x in within])

    def allocate(self) -> dict[str, Any]:
        """Variance of the step's gradient under each allocation, relative to uniform."""
        x, rng, found = self.x_P, np.random.default_rng(0), {}
        budget = N_MEAN * x.p.size
        columns = {k: c[self.stand_P] for k, c in self.column.items()}
        for estimator in ESTIMATORS:
            scaled = estimator.startswith("std")
            curve_PK = curves(x, estimator)
            v4 = N_MEAN * curve_PK[:, N_MEAN - N_MIN]
            proxy = proxies(x, columns, scaled)
            law = {k: proxy[k] for k in list(proxy)[:3]} | {"measured variance": v4}
            chosen = allocations(x, budget, rng, law)
            chosen["best"] = best(curve_PK, budget, rng)
            if "decisions" in self.found:
                p_hat = np.array(self.found["decisions"]["success"])
                chosen["hard_first 2, by the controller's p"] = hard_first(p_hat, 2)
            even = total(curve_PK, chosen["uniform"])
            rows = {}
            for name, n_P in chosen.items():
                v_B, n_B = by_bin(v4, self.bin_P), by_bin(n_P.astype(float), self.bin_P)
                share_B = np.bincount(self.bin_P, minlength=BINS) / self.bin_P.size
                on = share_B > 0
                one = np.full(on.sum(), float(N_MEAN))
                rows[name] = {
                    "attained": total(curve_PK, n_P) / even,
                    "predicted": float(np.mean(v4 / n_P) / np.mean(v4 / N_MEAN)),
                    "slope_prompts": none(log_slope(v4, n_P.astype(float))),
                    "slope_bins": none(log_slope(v_B[on], n_B[on])),
                    "wse": wse(share_B[on], v_B[on], n_B[on]) / wse(share_B[on], v_B[on], one),
                    "var_proxy": var_proxy(share_B[on], v_B[on], n_B[on])
                    / var_proxy(share_B[on], v_B[on], one),
                }
            found[estimator] = rows
        return found

    def noise(self) -> dict[str, Any]:
        """A step's gradient of 64 prompts: squared length of its mean, its noise, by source."""
        x, size = self.x_P, self.p_P.size
        grad2_P = self.p_P**2 * np.array(self.found["right2"])
        four_P, hard_P = np.full(size, N_MEAN), hard_first(self.p_P, 2)
        at4_P = scale(self.p_P, four_P)
        weight_P = hard_P / N_MEAN * scale(self.p_P, hard_P)
        found = {}
        for name, n_P, factor_P, curve in (
            ("grpo", four_P, np.ones(size), "grpo"),
            ("hard_first 2", hard_P, hard_P / N_MEAN, "hard_first 2"),
            ("hard_first 2, weight alone", four_P, weight_P / at4_P, "hard_first 2"),
            ("hard_first 2, neutral", hard_P, at4_P / scale(self.p_P, hard_P), "grpo"),
        ):
            within = np.empty(size)
            for n in np.unique(n_P):
                mine = n_P == n
                within[mine] = factor_P[mine] ** 2 * group_variance(x[mine], int(n), True)
            mean2 = self.found["directions"]["methods"][curve]["norm"] ** 2
            between = float(np.mean((factor_P * scale(self.p_P, n_P)) ** 2 * grad2_P) - mean2)
            noise = {"rollouts": float(within.mean()) / PROMPTS, "prompts": between / PROMPTS}
            length2 = mean2 + sum(noise.values())
            found[name] = {"mean2": mean2, "cosine": (mean2 / length2) ** 0.5, **noise}
            found[name]["length"] = length2**0.5
        return found

    def classifier(self) -> dict[str, Any]:
        """The online estimate against the truth; what it says of prompts never trained on."""
        thought = self.found["decisions"]
        estimate, bins = np.array(thought["estimate"]), np.array(thought["bin"])
        truth = pass_at_k(self.p_P)
        rows, held_out = arithmetic.generate("train"), arithmetic.generate("test")
        found: dict[str, Any] = {"training": agreement(estimate, truth, bins), "held_out": {}}
        found["training"]["constant"] = float(np.abs(truth - truth.mean()).mean())
        found["training"]["estimate_mean"] = float(estimate.mean())
        truth_test = pass_at_k(self.p_test)
        groupings = {"population": (), "family": ("family",), "level": ("level",),
                     "family and level": ("family", "level")}  # fmt: skip
        for name, keys in groupings.items():
            cells: dict[Any, list[float]] = {}
            for row, value in zip(rows, estimate, strict=True):
                cells.setdefault(tuple(row[k] for k in keys), []).append(value)
            guess = np.array([float(np.mean(cells[tuple(r[k] for k in keys)])) for r in held_out])
            found["held_out"][name] = agreement(guess, truth_test)
        return found

    def mixed(self, recorded: dict[str, Any] | None) -> dict[str, float | None]:
        """Share of mixed groups: by the truth at n = 4, at the counts planned, and recorded."""

        def chance(p: FloatArray, n: FloatArray | int) -> float:
            return float(np.mean(1 - p**n - (1 - p) ** n))

        found: dict[str, float | None] = {"uniform": chance(self.p_P, N_MEAN)}
        if "decisions" in self.found:
            plans = self.found["decisions"]["plans"]
            rows, n = (np.concatenate([np.array(plan[i]) for plan in plans]) for i in (0, 1))
            found["planned"] = chance(self.p_P[rows], n)
        return found | {"recorded": recorded["mixed"] if recorded else None}

    def decided(self) -> dict[str, Any]:
        """Slope of log n on log measured variance, of the counts that the controller planned."""
        thought = self.found["decisions"]
        n = np.array(thought["n"])[self.row_M]
        known = ~np.isnan(n)
        found = {}
        for name in ("std", "unscaled"):
            v = group_variance(self.x, N_MEAN, name == "std")
            n_B, v_B = by_bin(n[known], self.bin_M[known]), by_bin(v[known], self.bin_M[known])
            on = ~np.isnan(n_B)
            found[name] = {
                "prompts": none(log_slope(v[known], n[known])),
                "bins": none(log_slope(v_B[on], n_B[on])),
            }
        return found

    def raw(self, stage: str) -> dict[str, Any]:
        """Columns of the parquet file: a row for every prompt of both splits."""
        splits, size = ("train", "test"), self.p_P.size + self.p_test.size
        ids = [row["id"] for s in splits for row in arithmetic.generate(s)]
        found: dict[str, Any] = {
            "stage": [stage] * size, "id": ids,
            "split": ["train"] * self.p_P.size + ["test"] * self.p_test.size,
            "p": np.concatenate([self.p_P, self.p_test]).astype(np.float32),
        }  # fmt: skip
        thought = self.found.get("decisions", {})
        for name in ("estimate", "n"):
            found[name] = np.full(size, np.nan, np.float32)
            if thought:
                found[name][: self.p_P.size] = thought[name]
        for name, values in self.column.items():
            if name != "other_right":
                found[name] = np.full(size, np.nan, np.float32)
                found[name][self.row_M] = values
        return found


def none(x: float) -> float | None:
    return None if np.isnan(x) else float(x)


def agreement(
    estimate: FloatArray, truth: FloatArray, bins: IntArray | None = None
) -> dict[str, float | None]:
    """How far estimates of pass@8 lie from the truth, in pass@8 and in bins."""
    own = np.minimum((truth * BINS).astype(int), BINS - 1)
    bins = np.minimum((estimate * BINS).astype(int), BINS - 1) if bins is None else bins
    off = np.abs(bins - own)
    return {
        "error": float(np.abs(estimate - truth).mean()), "bias": float((estimate - truth).mean()),
        "same_bin": float((off == 0).mean()), "within_one": float((off <= 1).mean()),
        "rho": rho(estimate, truth),
    }  # fmt: skip


def of_training(runs: list[dict[str, Any]], rewards: bool) -> dict[str, Any]:
    """Scores of the runs without noise (or with that of rewards), and paired gains over grpo."""
    mine = [r for r in runs if r.get("rewards", False) == rewards]
    last = {(r["method"], r["seed"]): r["history"] for r in mine}
    seeds = sorted({seed for _, seed in last})
    found = {}
    for method in ALLOCATED if rewards else CURVES:
        row: dict[str, Any] = {"seeds": seeds}
        for metric in ("mean", "pass@8"):
            own = [last[method, s][-1][metric] for s in seeds]
            gap = [x - last["grpo", s][-1][metric] for x, s in zip(own, seeds, strict=True)]
            row[metric] = {"score": float(np.mean(own)), "gain": interval(gap)}
        row["history"] = [
            {key: float(np.mean([x[key] for x in same])) for key in same[0]}
            for same in zip(*(last[method, s] for s in seeds), strict=True)
        ]
        found[method] = row
    return found


def foretold(report: dict[str, Any]) -> dict[str, Any]:
    """Do slopes on frozen policies rank methods as training on the same curves does?"""
    found = {}
    names = list(CURVES)
    for stage, row in report["stages"].items():
        if stage.startswith("rollout"):
            continue
        methods = row["directions"]["methods"]
        found[stage] = {}
        for metric in ("mean", "pass@8"):
            gain = np.array([report["training"][m][metric]["score"] for m in names])
            slope = np.array([methods[m]["slope"][metric] for m in names])
            step = [
                (np.array([methods[m]["steps"][i][metric] for m in names]), s["length"])
                for i, s in enumerate(methods[names[0]]["steps"])
            ]
            found[stage][metric] = {
                "slope_training": rho(slope, gain),
                "slope_step": {f"{length:g}": rho(slope, x) for x, length in step},
                "step_training": {f"{length:g}": rho(x, gain) for x, length in step},
                "kept": {
                    f"{length:g}": float(np.median(x / (slope * length))) for x, length in step
                },
            }
    return found


def numbers(
    raw: dict[str, Any], rollouts: int, runs: Path, traces: list[Path], parquet: Path
) -> dict[str, Any]:
    """Everything on the page; the raw measurements go to `parquet`."""
    report: dict[str, Any] = {"cpu_s": raw["cpu_s"], "stages": {}}
    report |= of_runs(runs, traces)
    columns: dict[str, list[Any]] = {}
    for name, found in raw["stages"].items():
        stage = Stage(found)
        near = report["near"].get(name)
        report["stages"][name] = {
            "population": {
                split: {"mean": float(p.mean()), "pass@8": float(pass_at_k(p).mean())}
                for split, p in (("train", stage.p_P), ("test", stage.p_test))
            },
            "check": stage.check(rollouts), "bins": stage.bins(),
            "correlation": stage.correlations(), "allocation": stage.allocate(),
            "noise": stage.noise(), "mixed": stage.mixed(near), "directions": found["directions"],
        }  # fmt: skip
        if "decisions" in found:
            own = {"classifier": stage.classifier(), "decided": stage.decided()}
            report["stages"][name] |= own
        for key, values in stage.raw(name).items():
            columns.setdefault(key, []).append(values)
    report["training"] = of_training(raw["training"], rewards=False)
    report["rewards"] = of_training(raw["training"], rewards=True)
    report["foretold"] = foretold(report)
    table = pa.table({k: np.concatenate(v) for k, v in columns.items()})
    pq.write_table(table, parquet, compression="zstd")
    return report
