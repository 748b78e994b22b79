"""The acceptance test of a suite and its base model: is something left to win after tuned GRPO?

Plain TRL GRPO is run from the base model at each learning rate of a grid, the best one by
validation pass@8 is scored on the test split, and it is set against five times the budget and
against supervised training on the right answers of the same prompts. One core is enough:

    python benchmarks/headroom.py --out DIR
    python benchmarks/headroom.py --out DIR2 --suite worded --model bases/worded --rates 2e-4,4e-4
    python benchmarks/headroom.py        the pages again, from their numbers

Each run leaves a JSON file in DIR and is not repeated; the table goes to ``docs/results``, named
after the suite and the model if they are not the ones that come with gdro.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdro.core.files import write_json
from gdro.data import arithmetic, suites
from gdro.data.suites import Suite

LEARNING_RATES = "1e-4,2e-4,4e-4,8e-4,1.6e-3"
STEPS, LONG_STEPS = 150, 750
PROMPTS_PER_STEP, ROLLOUTS_PER_PROMPT = 64, 4
SAMPLES = 8
"""Samples a prompt in evaluation, at temperature 1: with as many as k, pass@8 is a plain mean."""
SUPERVISED_LR, SUPERVISED_EPOCHS = 1e-3, 12

PACKAGES = ("trl", "transformers", "torch")
SPLITS = ("validation", "test")

Rows = list[dict]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained on, and from what.

    Attributes:
        suite: of problems.
        model: folder of the base model.
    """

    suite: Suite
    model: Path

    def load(self) -> tuple[Any, Any]:
        """The base model and its tokenizer."""
        loaded = AutoModelForCausalLM.from_pretrained(self.model)
        return loaded, AutoTokenizer.from_pretrained(self.model)

    def evaluate(self, model: Any, tokenizer: Any, split: str) -> dict:
        """`evaluate` on a split."""
        return evaluate(model, tokenizer, self.suite, self.suite.generate(split))

    def evaluate_both(self, model: Any, tokenizer: Any) -> dict:
        """`evaluate` on the validation and test splits."""
        return {split: self.evaluate(model, tokenizer, split) for split in SPLITS}


@torch.no_grad()
def evaluate(model: Any, tokenizer: Any, suite: Suite, rows: Rows, seed: int = 0) -> dict:
    """mean@8 and pass@8 over rows, and by level and family."""
    rng_state, was_training = torch.get_rng_state(), model.training
    torch.manual_seed(seed)
    model.eval()
    correct: list[int] = []
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        prompts = [row["prompt"] for row in batch for _ in range(SAMPLES)]
        encoded = tokenizer(prompts, return_tensors="pt", padding=True)
        generated = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=suite.max_completion_tokens,
            do_sample=True,
            temperature=1.0,
            top_k=0,
        )[:, encoded["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
        for i, row in enumerate(batch):
            own = texts[i * SAMPLES : (i + 1) * SAMPLES]
            correct.append(sum(text.strip() == row["answer"] for text in own))
    torch.set_rng_state(rng_state)
    model.train(was_training)
    cells: dict[str, list[int]] = defaultdict(list)
    for count, row in zip(correct, rows, strict=True):
        for cell in ("all", f"level {row['level']}", row["family"]):
            cells[cell].append(count)
    return {
        cell: {
            "mean@8": sum(counts) / len(counts) / SAMPLES,
            "pass@8": sum(count > 0 for count in counts) / len(counts),
        }
        for cell, counts in sorted(cells.items())
    }


def exact_match(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """1.0 where the whole worked answer is reproduced, else 0.0."""
    return [float(text.strip() == right) for text, right in zip(completions, answer, strict=True)]


def run_base(scratch: Path, setting: Setting) -> dict:
    """The base model."""
    return setting.evaluate_both(*setting.load())


def run_grpo(scratch: Path, setting: Setting, lr: float, steps: int, seed: int = 0) -> dict:
    """Plain TRL: its defaults but for the budget, the rate and its constant schedule."""
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = setting.load()
    args = GRPOConfig(
        output_dir=str(scratch / "trainer"),
        seed=seed,
        max_steps=steps,
        learning_rate=lr,
        lr_scheduler_type="constant",
        per_device_train_batch_size=PROMPTS_PER_STEP * ROLLOUTS_PER_PROMPT,
        num_generations=ROLLOUTS_PER_PROMPT,
        steps_per_generation=1,
        max_completion_length=setting.suite.max_completion_tokens,
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        report_to="none",
        logging_steps=50,
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=exact_match,
        args=args,
        train_dataset=setting.suite.load("train"),
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    return setting.evaluate_both(model, tokenizer) | {"lr": lr, "steps": steps, "seconds": seconds}


def run_supervised(scratch: Path, setting: Setting) -> dict:
    """Cross-entropy on the right answers of the train split; the epoch is chosen on validation."""
    torch.manual_seed(0)
    model, tokenizer = setting.load()
    examples = [
        (tokenizer(row["prompt"])["input_ids"], tokenizer(row["answer"])["input_ids"])
        for row in setting.suite.generate("train")
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=SUPERVISED_LR, weight_decay=0.0)
    rng, start = random.Random(0), time.perf_counter()
    best: dict = {}
    for epoch in range(1, SUPERVISED_EPOCHS + 1):
        rng.shuffle(examples)
        model.train()
        for first in range(0, len(examples), PROMPTS_PER_STEP):
            batch = examples[first : first + PROMPTS_PER_STEP]
            inputs = [prompt + answer + [tokenizer.eos_token_id] for prompt, answer in batch]
            labels = [
                [-100] * len(p) + ids[len(p) :] for (p, _), ids in zip(batch, inputs, strict=True)
            ]
            width = max(map(len, inputs))
            loss = model(
                input_ids=torch.tensor([x + [0] * (width - len(x)) for x in inputs]),
                labels=torch.tensor([x + [-100] * (width - len(x)) for x in labels]),
            ).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        scores = setting.evaluate(model, tokenizer, "validation")
        if not best or scores["all"]["pass@8"] > best["validation"]["all"]["pass@8"]:
            test = setting.evaluate(model, tokenizer, "test")
            best = {"validation": scores, "test": test, "epoch": epoch}
    return best | {"lr": SUPERVISED_LR, "seconds": time.perf_counter() - start}


def resumed(scratch: Path, setting: Setting, name: str, run: Any, **settings: Any) -> dict:
    """The stored result of a run, or the run."""
    path = scratch / f"{name}.json"
    if not path.exists():
        print(f"running {name}", flush=True)
        write_json(path, run(scratch, setting, **settings))
    return json.loads(path.read_text())


def bounds(base: dict, tuned: dict, longer: dict, supervised: dict) -> list[dict]:
    """The acceptance bounds, each on test pass@8."""
    score = {
        "base": base["test"]["all"]["pass@8"],
        "tuned GRPO": tuned["test"]["all"]["pass@8"],
        "GRPO at 5x / tuned GRPO": longer["test"]["all"]["pass@8"],
        "supervised / tuned GRPO": supervised["test"]["all"]["pass@8"],
    }
    for name in ("GRPO at 5x / tuned GRPO", "supervised / tuned GRPO"):
        score[name] /= score["tuned GRPO"]
    limits = {
        "base": (0.35, 0.60),
        "tuned GRPO": (0.55, 0.75),
        "GRPO at 5x / tuned GRPO": (1.10, None),
        "supervised / tuned GRPO": (1.25, None),
    }
    return [
        {
            "quantity": name,
            "value": score[name],
            "low": low,
            "high": high,
            "holds": low <= score[name] and (high is None or score[name] <= high),
        }
        for name, (low, high) in limits.items()
    ]


def markdown(report: dict) -> str:
    """The report as tables."""
    lines = [
        f"# Headroom of {report['name']}",
        "",
        f"Generated by `benchmarks/headroom.py` with {report['versions']}.",
        f"GRPO is plain TRL: {STEPS} steps of {PROMPTS_PER_STEP} prompts x {ROLLOUTS_PER_PROMPT} "
        f"rollouts, constant rate, one seed; scores of {SAMPLES} samples at temperature 1.",
        f"Tuned is the rate with the best validation pass@8 (here {report['tuned']}); supervised",
        "is training on the right answers of the train split, stopped on validation. One thread;",
        "the seconds are those of a machine shared with other work.",
        "",
        "| test pass@8 | value | bound | holds |",
        "| --- | --- | --- | --- |",
    ]
    for row in report["bounds"]:
        limit = f">= {row['low']:.2f}" if row["high"] is None else f"{row['low']}–{row['high']}"
        lines.append(
            f"| {row['quantity']} | {row['value']:.3f} | {limit} | "
            f"{'yes' if row['holds'] else '**no**'} |"
        )
    lines += [
        "",
        "| run | validation mean@8 / pass@8 | test mean@8 / pass@8 | seconds |",
        "| --- | --- | --- | --- |",
    ]
    for name, result in report["runs"].items():
        pairs = [result[split]["all"] for split in SPLITS]
        cells = " | ".join(f"{pair['mean@8']:.3f} / {pair['pass@8']:.3f}" for pair in pairs)
        lines.append(f"| {name} | {cells} | {result.get('seconds', 0):.0f} |")
    names = ["base", report["tuned"], report["longer"], "supervised"]
    lines += ["", "Test pass@8 by level (1 = easiest) and family:", ""]
    lines += ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for cell in report["runs"]["base"]["test"]:
        values = [report["runs"][name]["test"][cell]["pass@8"] for name in names]
        lines.append(f"| {cell} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs what is missing and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the finished runs; else pages only")
    parser.add_argument("--suite", default="arithmetic", choices=sorted(suites.suites()))
    parser.add_argument("--model", type=Path, help="folder of the base model (default: shipped)")
    parser.add_argument("--rates", default=LEARNING_RATES, help=f"default: {LEARNING_RATES}")
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    if not options.out:
        for file in options.results.glob("headroom*.json"):
            file.with_suffix(".md").write_text(markdown(json.loads(file.read_text())))
        return
    setting = Setting(
        suite=suites.suites()[options.suite], model=options.model or arithmetic.base_path()
    )
    name = " on ".join([options.suite, *([options.model.name] if options.model else [])])
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    options.results.mkdir(parents=True, exist_ok=True)

    run = partial(resumed, options.out, setting)
    runs = {"base": run("base", run_base)}
    for lr in map(float, options.rates.split(",")):
        runs[f"grpo-lr{lr:g}"] = run(f"grpo-lr{lr:g}", run_grpo, lr=lr, steps=STEPS)
    tuned = max(list(runs)[1:], key=lambda name: runs[name]["validation"]["all"]["pass@8"])
    lr = runs[tuned]["lr"]
    longer = f"grpo-5x-lr{lr:g}"
    runs[longer] = run(longer, run_grpo, lr=lr, steps=LONG_STEPS)
    runs["supervised"] = run("supervised", run_supervised)

    report = {
        "name": name,
        "versions": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "tuned": tuned,
        "longer": longer,
        "bounds": bounds(runs["base"], runs[tuned], runs[longer], runs["supervised"]),
        "runs": runs,
    }
    shipped = options.suite == "arithmetic" and not options.model
    stem = "headroom" if shipped else f"headroom-{re.sub('[^a-z0-9]+', '-', name)}"
    (options.results / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.results / f"{stem}.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
