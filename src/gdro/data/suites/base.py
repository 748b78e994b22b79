"""The suites' base models: small models warm-started on noisy worked examples (see `beliefs`).

The shipped weights, those of the arithmetic suite, are the command's defaults, with torch 2.9 or
later (another build or processor rounds differently and ends at other weights of the same scores)::

    gdro data base --out DIR

Any other is made by the same command and cached where the user says. All suites of a collection
share one: it has seen every family, and no prompt of theirs. torch is imported by the functions
that need it, not with this module.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gdro.core.errors import ConfigError, UnsupportedError
from gdro.data import suites
from gdro.data.suites.beliefs import problems, worked_example
from gdro.data.suites.suite import Suite

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

ARCHITECTURES = ("qwen3", "llama", "mistral")
"""transformers' model types."""

WINDOW = {"arithmetic": 16, "worded": 32}
"""Tokens that a layer of Mistral looks back, half of a long problem: with all of it in sight a
Mistral would be a Llama."""

SIZES = {
    "small": {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 3, "head_dim": 24},
    "large": {"hidden_size": 160, "intermediate_size": 480, "num_hidden_layers": 4, "head_dim": 40},
}
"""0.35M and 1.3M parameters; each has four heads of two keys and values."""

CONTEXT = 64
"""Tokens of the longest prompt and answer."""

STEPS, BATCH_SIZE = 2000, 128
MATRIX_LR = {"qwen3": 0.02, "llama": 0.01, "mistral": 0.01}
OTHER_LR = 2e-3
"""Peak rates of Muon (matrices) and of AdamW (embedding, norms, and `QUERIES_AND_KEYS`)."""

QUERIES_AND_KEYS = ("q_proj", "k_proj")
"""Of AdamW, but in Qwen3, which normalises what they give: Muon's steps are of one size in all
directions, and without that norm attention saturates."""

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
IGNORE = -100
"""Label of the positions without loss, torch's default."""

RECORD = "base.json"
"""File beside the weights that says what they are."""

RECIPE = 2
"""Of the warm start, for the record; 1 left Llama and Mistral without most families."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """Which base model; the defaults are the shipped one's.

    Attributes:
        suite: the collection that it knows.
        architecture: one of `ARCHITECTURES`.
        size: one of `SIZES`.
        seed: of the initial weights and of the examples.
        steps: optimizer steps of `BATCH_SIZE` examples; fewer is a weaker base.
    """

    suite: str = "arithmetic"
    architecture: str = "qwen3"
    size: str = "small"
    seed: int = 0
    steps: int = STEPS

    def __post_init__(self) -> None:
        collections = [name for name in suites.suites() if "/" not in name]
        choices = {"suite": collections, "architecture": ARCHITECTURES, "size": SIZES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                got = getattr(self, name)
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {got!r}")
        for name, low in (("seed", 0), ("steps", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be >= {low}, got {getattr(self, name)}")


def make_base(base: Base, out: Path) -> bool:
    """Trains a base model into a folder, unless the folder has it already.

    It grows in a folder beside, and is there whole or not at all.

    Returns:
        Whether it had to be trained.

    Raises:
        ConfigError: if the folder holds another model or anything else, or is a file.
        UnsupportedError: if torch has no Muon.
    """
    record, wanted = out / RECORD, json.dumps(asdict(base) | {"recipe": RECIPE}) + "\n"
    if out.is_file():
        raise ConfigError(f"{out} must be a folder, and is a file")
    if record.is_file():
        if record.read_text() == wanted:
            return False
        raise ConfigError(f"{out} holds another base model: {record.read_text().strip()}")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} holds something else than a base model, for it has no {RECORD}")
    spare = out.absolute().with_name(f"{out.absolute().name}.tmp")
    shutil.rmtree(spare, ignore_errors=True)
    warm_start(base, spare)
    (spare / RECORD).write_text(wanted)
    os.replace(spare, out)
    return True


def make_tokenizer(suite: Suite) -> PreTrainedTokenizerFast:
    """One token a word of the suite's vocabulary; pads on the left, as generation needs."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate([PAD, EOS, UNKNOWN, *suite.vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=CONTEXT,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def make_model(base: Base, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained model.

    The initial scale and the short rotary base are what lets so narrow a model learn at all: with
    transformers' defaults (.02 and 1e4) it does not get past one-step problems.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        base.architecture,
        **({"sliding_window": WINDOW[base.suite]} if base.architecture == "mistral" else {}),
        **SIZES[base.size],
        vocab_size=len(tokenizer),
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.08,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def batches(
    suite: Suite, tokenizer: PreTrainedTokenizerFast, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """An endless stream of worked examples.

    Yields:
        Token ids and labels, both ``(BATCH_SIZE, length)`` int64; the prompt and the padding (on
        the right: positions then start at the first word, as in generation) carry no loss.
    """
    import torch

    ids, pad = tokenizer.get_vocab(), tokenizer.get_vocab()[PAD]
    stream, rng = problems(suite, seed), random.Random(seed)
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


def warm_start(base: Base, out: Path) -> list[float]:
    """Trains a base model and saves it with its tokenizer; about six minutes for the shipped one.

    Args:
        base: which.
        out: folder to write ``model.safetensors``, the configurations and the tokenizer to.

    Returns:
        The loss of each step, in nats a token.

    Raises:
        UnsupportedError: if torch has no Muon.
    """
    import torch
    from torch.nn.functional import cross_entropy

    if not hasattr(torch.optim, "Muon"):
        raise UnsupportedError(f"a warm start needs torch >= 2.9 for Muon, got {torch.__version__}")
    suite, steps = suites.suites()[base.suite], base.steps
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads would sum in another order
    torch.manual_seed(base.seed)
    tokenizer = make_tokenizer(suite)
    model = make_model(base, tokenizer)
    # Muon for the matrices reaches a loss in a fifth fewer steps than AdamW alone.
    no_matrix = ("embed",) if base.architecture == "qwen3" else ("embed", *QUERIES_AND_KEYS)
    matrices, others = [], []
    for name, p in model.named_parameters():
        muon = p.ndim == 2 and not any(part in name for part in no_matrix)
        (matrices if muon else others).append(p)
    optimizers = [
        torch.optim.Muon(matrices, lr=MATRIX_LR[base.architecture], weight_decay=0.01),
        torch.optim.AdamW(others, lr=OTHER_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: learning_rate_factor(t, steps))
        for optimizer in optimizers
    ]
    start, losses = time.perf_counter(), []
    stream = batches(suite, tokenizer, base.seed)
    for step, (inputs, labels) in zip(range(1, steps + 1), stream, strict=False):
        targets = labels[:, 1:]
        logits = model(input_ids=inputs).logits[:, :-1]
        loss = cross_entropy(logits[targets != IGNORE], targets[targets != IGNORE])
        model.zero_grad()
        loss.backward()
        for part in (*optimizers, *schedules):
            part.step()
        losses.append(loss.item())
        if step % 100 == 0 or step == steps:
            seconds = time.perf_counter() - start
            print(f"step {step} loss {losses[-1]:.3f} {seconds:.0f} s", flush=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    torch.set_num_threads(threads)
    return losses


def learning_rate_factor(step: int, steps: int) -> float:
    """Of the peak rate: up over 50 steps, down to 0 over the last nine tenths."""
    return min(1.0, (step + 1) / 50) * min(1.0, (steps - step) / (0.9 * steps))
