"""Training without noise: what a method does to the expected gradient, and nothing else.

A step's expected gradient is the mean over its prompts of w_p grad p, with w = h(n, p) n / n_mean
for std-scaled groups whose rollouts count alike (D16): a weight curve over success rates, that an
allocation chooses. Success rates and their gradients are exact here (see `frozen`), so a curve can
be followed as if every prompt had infinitely many rollouts.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.mechanism.frozen import (
    answers,
    load,
    log_success,
    success,
    weighted_gradient,
)
from benchmarks.mechanism.group_variance import N_MAX, N_MEAN, N_MIN
from torch import Tensor

from gdro.core.aggregation import gradient_scale
from gdro.core.budget import concave, separable
from gdro.core.types import FloatArray, IntArray
from gdro.core.variance import advantage_variance
from gdro.data import arithmetic

K, BINS, ETA = 8, 10, 2.0
LEARNING_RATE, STEPS, PROMPTS = 8e-4, 150, 64
LENGTHS = (0.05, 0.15, 0.5)
"""Lengths of a single step; a step of Adam at the recipe's rate is .47 long."""


def pass_at_k(p_P: FloatArray) -> FloatArray:
    return 1 - (1 - p_P) ** K


def bin_of(p_P: FloatArray) -> IntArray:
    """Bin of the true pass@k, ten equal ones, 0 the hardest."""
    return np.minimum((pass_at_k(p_P) * BINS).astype(int), BINS - 1)


def hard_first(p_P: FloatArray, power: float) -> IntArray:
    lo, hi = np.full(p_P.size, N_MIN), np.full(p_P.size, N_MAX)
    rng = np.random.default_rng(0)
    return separable((1 - p_P) ** (2 * power), lo, hi, N_MEAN * p_P.size, rng)


def signal(p_P: FloatArray) -> IntArray:
    lo, hi = np.full(p_P.size, N_MIN), np.full(p_P.size, N_MAX)
    n_K, p, rng = np.arange(1, N_MAX), p_P[:, None], np.random.default_rng(0)
    marginal = p**n_K * (1 - p) + (1 - p) ** n_K * p
    return concave(marginal, 1, lo, hi, N_MEAN * p_P.size, rng)


def scale(p_P: FloatArray, n: IntArray | int) -> FloatArray:
    return gradient_scale(np.broadcast_to(np.asarray(n), p_P.shape).copy(), p_P)


def as_weight(n_P: IntArray, p_P: FloatArray) -> FloatArray:
    """n h(n, p) / n_mean: an allocation as a weight, where rollouts count alike."""
    return n_P / N_MEAN * scale(p_P, n_P)


def error_weights(p_P: FloatArray) -> FloatArray:
    """exp(eta error of the bin), mean 1: the adversary where its scores are the truth."""
    bin_P = bin_of(p_P)
    error_B = 1 - np.bincount(bin_P, p_P, BINS) / np.maximum(np.bincount(bin_P, minlength=BINS), 1)
    omega_P = np.exp(ETA * error_B[bin_P])
    return omega_P / omega_P.mean()


CURVES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "grpo": lambda p: scale(p, N_MEAN),
    "no std scaling": np.ones_like,
    "hard_first 1": lambda p: as_weight(hard_first(p, 1), p),
    "hard_first 2": lambda p: as_weight(hard_first(p, 2), p),
    "hard_first 2, prompt": lambda p: scale(p, hard_first(p, 2)),
    "signal": lambda p: as_weight(signal(p), p),
    "error weights, eta 2": lambda p: error_weights(p) * scale(p, N_MEAN),
    "gradient of pass@8": lambda p: K * (1 - p) ** (K - 1),
}
"""w(p) of each method, for the prompts it shares its budget among. Aggregation `neutral` has
grpo's, whatever the allocation."""


def neutral(n_P: IntArray, p_P: FloatArray) -> FloatArray:
    return scale(p_P, N_MEAN) / scale(p_P, n_P)


def neyman(p_P: FloatArray) -> IntArray:
    lo, hi = np.full(p_P.size, N_MIN), np.full(p_P.size, N_MAX)
    rng = np.random.default_rng(0)
    return separable(advantage_variance(N_MEAN, p_P), lo, hi, N_MEAN * p_P.size, rng)


def four(p_P: FloatArray) -> IntArray:
    return np.full(p_P.size, N_MEAN)


ALLOCATED: dict[str, tuple[Callable[[FloatArray], IntArray], Callable[..., FloatArray]]] = {
    "grpo": (four, lambda n, p: np.ones_like(p)),
    "hard_first 2": (lambda p: hard_first(p, 2), lambda n, p: n / N_MEAN),
    "hard_first 2, neutral": (lambda p: hard_first(p, 2), neutral),
    "neyman, neutral": (neyman, neutral),
    "hard_first 2, weight alone": (four, lambda n, p: CURVES["hard_first 2"](p) / scale(p, n)),
    "error weights, eta 2": (four, lambda n, p: error_weights(p)),
}
"""Counts, and the factor on a prompt's mean over its group, for training on drawn rewards."""


def drawn(method: str, p_P: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Weight of grad log p of each answer when rewards are drawn and nothing else is.

    A group with c right of n has gradient k(c) (right score - mean wrong score), k(c) = sqrt((n -
    1) / n) sqrt(m (1 - m)); with the wrong ones' mean in place of their draws that is k(c) / (1 -
    p) grad log p. In expectation h(n, p) p.
    """
    counts, factor = ALLOCATED[method]
    n_P = counts(p_P)
    m_P = rng.binomial(n_P, np.minimum(p_P, 1.0)) / n_P
    k_P = np.sqrt((n_P - 1) / n_P * m_P * (1 - m_P))
    return factor(n_P, p_P) * k_P / np.maximum(1 - p_P, 1e-6)


def data(tokenizer: Any) -> dict[str, list[Any]]:
    return {split: answers(tokenizer, arithmetic.generate(split)) for split in ("train", "test")}


def scores(p_P: FloatArray) -> dict[str, float]:
    return {"mean": float(p_P.mean()), "pass@8": float(pass_at_k(p_P).mean())}


def directions(path: str | Path) -> dict[str, Any]:
    """How each method's expected gradient on all training prompts lies to the gradients of test
    scores, and what a step along it does to them against what its slope predicts."""
    model, tokenizer = load(path)
    problems = data(tokenizer)
    p_train, p_test = (success(model, problems[s]) for s in ("train", "test"))
    before = scores(p_test)
    slope_p = p_test / p_test.size
    targets = {
        "mean": weighted_gradient(model, problems["test"], slope_p),
        "pass@8": weighted_gradient(model, problems["test"], slope_p * K * (1 - p_test) ** (K - 1)),
    }
    found = {}
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    for name, curve in CURVES.items():
        weights = curve(p_train) * p_train / p_train.size
        d = weighted_gradient(model, problems["train"], weights)
        unit = d / d.norm()
        row = {"norm": float(d.norm()), "steps": []}
        row["slope"] = {m: float(unit @ g) for m, g in targets.items()}
        row["cosine"] = {m: float(unit @ g / g.norm()) for m, g in targets.items()}
        for length in LENGTHS:
            _move(model, start + length * unit)
            after = scores(success(model, problems["test"]))
            row["steps"].append({"length": length, **{m: after[m] - before[m] for m in after}})
        _move(model, start)
        found[name] = row
    return {"test": before, "train": scores(p_train), "methods": found}


@torch.no_grad()
def _move(model: Any, flat: Tensor) -> None:
    torch.nn.utils.vector_to_parameters(flat, model.parameters())


def train(
    path: str | Path, method: str, seed: int, steps: int = STEPS, rewards: bool = False
) -> dict[str, Any]:
    """The recipe's run (AdamW, constant rate, clipping, 64 prompts a step) on exact gradients.

    Args:
        path: The model to start from.
        method: One of `CURVES`; of `ALLOCATED` with `rewards`.
        seed: Orders the prompts (and draws the rewards).
        steps: How many.
        rewards: Whether each group's rewards are drawn; else the gradient is the expected one.
    """
    torch.manual_seed(seed)
    model, tokenizer = load(path)
    problems = data(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    order = np.random.default_rng(seed)
    queue: list[int] = []
    history = []
    tokens = float(np.mean([len(b) for _, b in problems["train"]]))
    for step in range(steps + 1):
        if step % 50 == 0:
            history.append({"step": step, **scores(success(model, problems["test"]))})
        if step == steps:
            break
        if len(queue) < PROMPTS:
            queue = order.permutation(len(problems["train"])).tolist()
        batch, queue = [problems["train"][i] for i in queue[:PROMPTS]], queue[PROMPTS:]
        log_p = log_success(model, batch)
        p_P = log_p.detach().double().exp().numpy()
        weight_P = drawn(method, p_P, order) if rewards else CURVES[method](p_P) * p_P
        w_P = torch.as_tensor(weight_P, dtype=torch.float32)
        optimizer.zero_grad()
        (-(w_P * log_p).mean() / tokens).backward()  # TRL divides by the tokens of the batch
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return {"method": method, "seed": seed, "history": history, "rewards": rewards}
