"""The suite's base model: a small Qwen3 warm-started on noisy worked examples.

The command that reproduces the shipped weights, with torch 2.9 or later, on one thread (another
build or processor rounds differently and ends at other weights of the same scores)::

    python -m gdro.data.arithmetic.base --out DIR

The noise is what gives the base its tail. Each fact has a reliability, the probability that a
worked example states it right; it falls with the level. A wrong statement is the fact's
own misconception half of the time, which is as likely as or likelier than the truth at the high
levels (so sharpening the model solves nothing there), else any other word that could stand there.
The example goes on from whatever was written. The examples come from prompts of a split of their
own, ``warm_start``: none of them is a prompt of train, validation or test.

torch is imported by the functions that need it, not with this module.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Hashable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gdro.data.arithmetic.families import FAMILIES, LEVELS, Problem, hashed, vocabulary
from gdro.data.arithmetic.splits import split_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

RELIABILITY = (0.97, 0.66, 0.46, 0.32, 0.20)
"""Of a middling fact, by level; a problem is right when its three to six facts are."""

RELIABILITY_SPREAD = 0.5
"""Standard deviation of the facts' log-odds of reliability within a level."""

MISCONCEPTION = 0.5
"""Share of the wrong statements that are the fact's one misconception; the rest is spread."""

LEVEL_SHARES = (0.30, 0.20, 0.18, 0.16, 0.16)
"""Of the worked examples. The high levels are shown nearly as often as the others: they are hard
by their reliability, so what the base believes there is noise, not ignorance of the task."""

STEPS, BATCH_SIZE = 2000, 128
MATRIX_LR, OTHER_LR = 0.02, 2e-3
"""Peak rates of Muon (matrices) and of AdamW (embedding and norms)."""

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
IGNORE = -100
"""Label of the positions without loss, torch's default."""


@cache
def reliability(family: str, level: int, fact: Hashable) -> float:
    """Probability that a worked example states this fact right, in (0, 1); fixed for ever."""
    mean = RELIABILITY[level - 1]
    uniform = hashed("reliability", family, level, fact) / 2**64 - 0.5
    log_odds = math.log(mean / (1 - mean)) + RELIABILITY_SPREAD * math.sqrt(12) * uniform
    return 1 / (1 + math.exp(-log_odds))


@cache
def misconception(family: str, level: int, fact: Hashable, wrong: tuple[str, ...]) -> str:
    """The wrong word that is believed of this fact; fixed for ever."""
    return min(wrong, key=lambda word: hashed("misconception", family, level, fact, word))


def worked_example(problem: Problem, rng: random.Random) -> str:
    """A problem worked out by one who knows each fact only as well as its reliability."""

    def step(fact: Hashable, right: str, choices: Sequence[str]) -> str:
        if len(choices) == 1 or rng.random() < reliability(problem.family, problem.level, fact):
            return right
        wrong = tuple(word for word in choices if word != right)
        if rng.random() < MISCONCEPTION:
            return misconception(problem.family, problem.level, fact, wrong)
        return wrong[int(rng.random() * len(wrong))]

    return problem.work(step)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word of `families.vocabulary`; pads on the left, as generation needs."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate([PAD, EOS, UNKNOWN, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """An untrained Qwen3 of 0.35M parameters.

    The initial scale and the short rotary base are what lets so narrow a model learn at all: with
    transformers' defaults (.02 and 1e4) it does not get past one-step problems.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.08,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        pad_token_id=tokenizer.pad_token_id,  # type: ignore[arg-type]
        eos_token_id=tokenizer.eos_token_id,  # type: ignore[arg-type]
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def problems(seed: int) -> Iterator[Problem]:
    """An endless stream of problems of the base's own split."""
    rng, draws = random.Random(f"warm_start-{seed}"), list(FAMILIES.values())
    while True:
        draw = draws[int(rng.random() * len(draws))]
        problem = draw(rng, rng.choices(range(1, LEVELS + 1), LEVEL_SHARES)[0])
        if split_of(problem.prompt) == "warm_start":
            yield problem


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """An endless stream of worked examples.

    Yields:
        Token ids and labels, both ``(BATCH_SIZE, length)`` int64; the prompt and the padding (on
        the right: positions then start at the first word, as in generation) carry no loss.
    """
    import torch

    ids, pad = tokenizer.get_vocab(), tokenizer.get_vocab()[PAD]
    stream, rng = problems(seed), random.Random(seed)
    while True:
        rows = []
        for _ in range(BATCH_SIZE):
            problem = next(stream)
            answer = f"{worked_example(problem, rng)} {EOS}".split()
            rows.append(([ids[w] for w in problem.prompt.split()], [ids[w] for w in answer]))
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        inputs = torch.full((BATCH_SIZE, width), pad)
        labels = torch.full((BATCH_SIZE, width), IGNORE)
        for row, (prompt, answer) in enumerate(rows):
            start, end = len(prompt), len(prompt) + len(answer)
            inputs[row, :end] = torch.tensor(prompt + answer)
            labels[row, start:end] = torch.tensor(answer)
        yield inputs, labels


def warm_start(out: Path, seed: int = 0, steps: int = STEPS) -> None:
    """Trains the base model and saves it with its tokenizer; about six minutes on one core.

    Args:
        out: folder to write ``model.safetensors``, the configurations and the tokenizer to.
        seed: of the initial weights and of the examples; the shipped base is that of 0.
        steps: optimizer steps of `BATCH_SIZE` examples; fewer is a weaker base (for tests).

    Raises:
        RuntimeError: if torch has no Muon.
    """
    import torch
    from torch.nn.functional import cross_entropy

    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(f"warm_start needs torch >= 2.9 for Muon, got {torch.__version__}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads would sum in another order
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    # Muon for the matrices reaches a loss in a fifth fewer steps than AdamW alone.
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=MATRIX_LR, weight_decay=0.01),
        torch.optim.AdamW(others, lr=OTHER_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: learning_rate_factor(t, steps))
        for optimizer in optimizers
    ]
    start = time.perf_counter()
    for step, (inputs, labels) in zip(range(1, steps + 1), batches(tokenizer, seed), strict=False):
        targets = labels[:, 1:]
        logits = model(input_ids=inputs).logits[:, :-1]
        loss = cross_entropy(logits[targets != IGNORE], targets[targets != IGNORE])
        model.zero_grad()
        loss.backward()
        for part in (*optimizers, *schedules):
            part.step()
        if step % 100 == 0 or step == steps:
            print(f"step {step} loss {loss.item():.3f} {time.perf_counter() - start:.0f} s")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    torch.set_num_threads(threads)


def learning_rate_factor(step: int, steps: int) -> float:
    """Of the peak rate: up over 50 steps, down to 0 over the last nine tenths."""
    return min(1.0, (step + 1) / 50) * min(1.0, (steps - step) / (0.9 * steps))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the arithmetic suite's base model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warm_start(options.out, options.seed)
