"""What a frozen policy does to a prompt: exact success rates, and gradients of single rollouts.

Over all parameters, at temperature 1. A problem whose answer has one spelling, ended by one token,
is right with the probability that teacher forcing gives to that spelling: no sampling, and the
gradient of success is p grad log p.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdro.core.types import FloatArray
from gdro.data.arithmetic import MAX_COMPLETION_TOKENS
from gdro.trainers.trl.advantages import group_advantages

Sequence_ = tuple[list[int], list[int]]  # prompt and completion
CHUNK = 64


def load(path: str | Path) -> tuple[Any, Any]:
    """Model and tokenizer of a checkpoint, with attention that vmap can differentiate."""
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    return model.eval(), AutoTokenizer.from_pretrained(path)


def answers(tokenizer: Any, rows: list[dict]) -> list[Sequence_]:
    """Each prompt with its right completion."""
    end = [tokenizer.eos_token_id]
    return [
        (tokenizer(row["prompt"])["input_ids"], tokenizer(row["answer"])["input_ids"] + end)
        for row in rows
    ]


def packed(sequences: Sequence[Sequence_]) -> tuple[Tensor, Tensor]:
    """Ids [S, T], padded on the right, and which of them are completion."""
    width = max(len(a) + len(b) for a, b in sequences)
    ids, mask = torch.zeros(len(sequences), width, dtype=torch.long), None
    mask = torch.zeros(len(sequences), width)
    for i, (prompt, completion) in enumerate(sequences):
        ids[i, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        mask[i, len(prompt) : len(prompt) + len(completion)] = 1
    return ids, mask


def token_logps(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each completion token, 0 elsewhere: [S, T - 1]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    logps = logits.gather(2, ids[:, 1:, None])[..., 0] - logits.logsumexp(dim=2)
    return logps * mask[:, 1:]


def log_success(model: Any, sequences: Sequence[Sequence_]) -> Tensor:
    """Log-probability of each completion [S], with its graph if gradients are on."""
    return token_logps(model, *packed(sequences)).sum(dim=1)


@torch.no_grad()
def success(model: Any, sequences: Sequence[Sequence_]) -> FloatArray:
    """Probability of each right completion [P]."""
    parts = [
        log_success(model, sequences[i : i + 256]).double().exp()
        for i in range(0, len(sequences), 256)
    ]
    return torch.cat(parts).numpy()


def weighted_gradient(model: Any, sequences: Sequence[Sequence_], weights: FloatArray) -> Tensor:
    """grad of sum_p w_p log p over all parameters, flat."""
    model.zero_grad()
    for i in range(0, len(sequences), 256):
        w = torch.as_tensor(weights[i : i + 256], dtype=torch.float32)
        (w * log_success(model, sequences[i : i + 256])).sum().backward()
    flat = torch.cat([x.grad.reshape(-1) for x in model.parameters()])
    model.zero_grad()
    return flat


def scores(model: Any, sequences: Sequence[Sequence_]) -> Tensor:
    """Score of each completion, its gradient of log-probability: [S, parameters]."""
    parameters = {k: v.detach() for k, v in model.named_parameters()}

    def logp(values: dict[str, Tensor], ids: Tensor, mask: Tensor) -> Tensor:
        kwargs = {"input_ids": ids[None], "use_cache": False}
        logits = functional_call(model, values, (), kwargs).logits[0, :-1]
        logps = logits.gather(1, ids[1:, None])[:, 0] - logits.logsumexp(dim=1)
        return (logps * mask[1:]).sum()

    found = vmap(grad(logp), (None, 0, 0))(parameters, *packed(sequences))
    return torch.cat([found[k].reshape(len(sequences), -1) for k in parameters], dim=1)


def squared_norms(model: Any, sequences: Sequence[Sequence_]) -> tuple[FloatArray, FloatArray]:
    """|s|^2 of each completion, and u = sum_t (1 - pi(y_t))^2, the monitor's proxy of it."""
    norms, us = [], []
    for i in range(0, len(sequences), CHUNK):
        part = sequences[i : i + CHUNK]
        norms.append(scores(model, part).pow(2).sum(dim=1).double())
        ids, mask = packed(part)
        with torch.no_grad():
            logps = token_logps(model, ids, mask)
        us.append(((1 - logps.exp()) ** 2 * mask[:, 1:]).sum(dim=1).double())
    return torch.cat(norms).numpy(), torch.cat(us).numpy()


@torch.no_grad()
def sample(model: Any, tokenizer: Any, row: dict, size: int) -> Counter[tuple[int, ...]]:
    """Completions of a prompt, end mark included, and how often each came; generated as in
    training (at most a token more than the longest answer)."""
    ids = torch.tensor([tokenizer(row["prompt"])["input_ids"]]).expand(size, -1)
    generated = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0,
        top_k=0, max_new_tokens=MAX_COMPLETION_TOKENS + 1,
    )[:, ids.shape[1] :]  # fmt: skip
    found: Counter[tuple[int, ...]] = Counter()
    for completion in generated.tolist():
        end = tokenizer.eos_token_id
        length = completion.index(end) + 1 if end in completion else len(completion)
        found[tuple(completion[:length])] += 1
    return found


def measure(
    model: Any, tokenizer: Any, row: dict, rollouts: int, group: int = 0
) -> dict[str, float]:
    """Moments of one prompt from its rollouts: what `Moments` and the proxies are made of.

    The mean score of right rollouts is that of the answer; that of wrong ones follows from
    E[s] = 0; only the spread of wrong ones needs rollouts.

    Args:
        model: The frozen policy.
        tokenizer: Its tokenizer.
        row: The problem.
        rollouts: How many, >= 2.
        group: If above 0, the variance of groups of this size is measured directly as well, from
            gradients of `rollouts // group` groups with the trainer's advantages.
    """
    ((prompt, right),) = answers(tokenizer, [row])
    found = sample(model, tokenizer, row, rollouts)
    spellings = [tokenizer.decode(c, skip_special_tokens=True) for c in found]
    correct = np.array([text.strip() == row["answer"] for text in spellings])
    count = np.array(list(found.values()))
    extra = [c for c, yes in zip(found, correct, strict=True) if yes and list(c) != right]
    unique = [(prompt, list(c)) for c in found]
    norm, u = squared_norms(model, [*unique, (prompt, right)])
    p = float(success(model, [(prompt, right)])[0])
    wrong = count * ~correct
    share = wrong / max(wrong.sum(), 1)
    result = {
        "p": p, "p_sampled": float(count @ correct / rollouts), "right2": float(norm[-1]),
        "u_right": float(u[-1]), "wrong2": float(share @ norm[:-1]),
        "u_wrong": float(share @ u[:-1]), "wrong_rollouts": int(wrong.sum()),
        "wrong_kinds": int((wrong > 0).sum()), "other_right": len(extra),
    }  # fmt: skip
    if group:
        result |= directly(model, unique, correct, count, group)
    return result


def directly(
    model: Any, unique: list[Sequence_], correct: np.ndarray, count: np.ndarray, n: int
) -> dict[str, float]:
    """Variance over groups of n of the mean of A_i s_i, scaled and not; all rollouts, by lot."""
    kind_R = np.random.default_rng(0).permutation(np.repeat(np.arange(len(unique)), count))
    kind_R = kind_R[: len(kind_R) // n * n]
    groups = len(kind_R) // n
    chunks = range(0, len(unique), CHUNK)
    s = torch.cat([scores(model, unique[i : i + CHUNK]) for i in chunks])
    gram = (s @ s.T).double()
    rewards = torch.as_tensor(correct[kind_R], dtype=torch.float32)
    found = {}
    for name, scale in (("direct_std", "group"), ("direct_unscaled", "none")):
        advantages, _ = group_advantages(rewards, torch.full((groups,), n), scale)
        mix = torch.zeros(groups, len(unique), dtype=torch.double)
        row_R = torch.arange(groups).repeat_interleave(n)
        mix.index_put_((row_R, torch.as_tensor(kind_R)), advantages.double() / n, accumulate=True)
        inner = mix @ gram @ mix.T
        found[name] = float((inner.diagonal().sum() - inner.sum() / groups) / (groups - 1))
    return found
