"""Real problems through `gdro train`: GSM8K and DAPO, with a small Qwen3 made here.

    python benchmarks/real_text.py DATA_FOLDER [--steps 60] [--scratch runs/real_text]

DATA_FOLDER holds gsm8k_train.jsonl and dapo_math_17k_en.jsonl.gz (columns id, prompt, answer).

1. A tokenizer (byte-level BPE) is trained on the problems, and a Qwen3 of 1.7M parameters made.
2. From scratch it trains a few steps on each file: nothing is right yet, everything must run.
3. It is taught 160 GSM8K problems by heart, each with a reliability of its own, so that rewards are
   mixed; then joint GDRO trains on them: bins, weights and rollouts must move.

Prints a table of each run and writes docs/results/real_text.json.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("CI", "1")

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, logging

from gdro.core.trace import read_trace

KNOWN = 160
"""Problems learnt by heart."""


def read_rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return [json.loads(line) for line in lines]


def make_model(folder: Path, texts: list[str]) -> None:
    """An untrained Qwen3 with a tokenizer for these texts."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=special[0], eos_token=special[1], padding_side="left"
    )
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=160, intermediate_size=480, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=40, max_position_embeddings=4096,
        tie_word_embeddings=True, initializer_range=0.08, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def teach(folder: Path, rows: list[dict], out: Path, steps: int) -> None:
    """Supervised training on `\\boxed{answer}`, wrong in 1 - reliability of the examples."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = Qwen3ForCausalLM.from_pretrained(folder)
    reliability = np.random.default_rng(0).beta(0.6, 1.0, len(rows))
    draw = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        picked = draw.sample(range(len(rows)), 32)
        ids, labels = [], []
        for i in picked:
            right = draw.random() < reliability[i]
            answer = rows[i]["answer"] if right else str(draw.randrange(100))
            prompt = tokenizer(rows[i]["prompt"])["input_ids"]
            target = tokenizer(f"\\boxed{{{answer}}}")["input_ids"] + [tokenizer.eos_token_id]
            ids.append(prompt + target)
            labels.append([-100] * len(prompt) + target)
        width = max(map(len, ids))
        pad = tokenizer.pad_token_id
        batch = torch.tensor([[pad] * (width - len(x)) + x for x in ids])
        wanted = torch.tensor([[-100] * (width - len(x)) + x for x in labels])
        mask = torch.tensor([[0] * (width - len(x)) + [1] * len(x) for x in ids])
        loss = model(input_ids=batch, attention_mask=mask, labels=wanted).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 99:
            print(f"taught {step + 1} steps: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def train(model: Path, data: Path, out: Path, steps: int, **flags: object) -> dict:
    """`gdro train` as a user calls it, and what its trace says."""
    given = {
        "model_name_or_path": model, "dataset_name": data, "dataset_test_name": data,
        "prompt_template": "raw", "output_dir": out, "max_steps": steps, "num_generations": 4,
        "per_device_train_batch_size": 64, "gradient_accumulation_steps": 1, "eval_prompts": 64,
        "max_completion_length": 12, "learning_rate": 5e-4, "beta": 0.0, "save_steps": 50,
    } | flags  # fmt: skip
    words = [w for name, value in given.items() for w in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "gdro.cli", "train", "gsm8k", *words]
    subprocess.run(command, check=True)
    trace = read_trace(out / "trace.jsonl")
    half = len(trace.records) // 2
    prompts, rollouts = trace.per_bin("prompts_B")[half:], trace.per_bin("rollouts_B")[half:]
    weights = trace.per_bin("weight_B")[half:]
    seen = prompts.sum(axis=0) > 0
    by_bin = rollouts.sum(axis=0)[seen] / prompts.sum(axis=0)[seen]
    evals = [json.loads(line) for line in (out / "evals.jsonl").read_text().splitlines()]
    return {
        "steps": len(trace.records),
        "rollouts": int(sum(r["rollouts"] for r in trace.records)),
        "reward_first": float(np.mean(trace.column("reward")[:5])),
        "reward_last": float(np.mean(trace.column("reward")[-5:])),
        "bins_occupied": int(seen.sum()),
        "rollouts_by_bin": [round(float(n), 2) for n in by_bin],
        "weights_by_bin": [round(float(w), 2) for w in np.nanmean(weights[:, seen], axis=0)],
        "mean@8": [e["mean@8"] for e in evals],
        "pass@8": [e["pass@8"] for e in evals],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--teach-steps", type=int, default=700)
    parser.add_argument("--scratch", type=Path, default=Path("runs/real_text"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    gsm8k, dapo = given.data / "gsm8k_train.jsonl", given.data / "dapo_math_17k_en.jsonl.gz"
    rows = read_rows(gsm8k)
    scratch = given.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    make_model(scratch / "raw", [r["prompt"] for r in rows + read_rows(dapo)])
    found = {}
    for name, path in (("gsm8k, from scratch", gsm8k), ("dapo, from scratch", dapo)):
        out = scratch / name.split(",")[0]
        found[name] = train(scratch / "raw", path, out, 3, eval_prompts=8)
    short = sorted(rows, key=lambda r: len(r["prompt"]))[:KNOWN]
    subset = scratch / "gsm8k_known.jsonl"
    subset.write_text("".join(json.dumps(r) + "\n" for r in short))
    teach(scratch / "raw", short, scratch / "taught", given.teach_steps)
    found["gsm8k, taught"] = train(scratch / "taught", subset, scratch / "known", given.steps)
    for name, result in found.items():
        print(name)
        for key, value in result.items():
            print(f"  {key:18} {value}")
    out = Path(__file__).parents[1] / "docs" / "results" / "real_text.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
