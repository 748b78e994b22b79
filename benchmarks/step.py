"""What the hooks cost in a training step: ours beside plain TRL at equal rows, in one run.

    python benchmarks/step.py [--steps 200] [--rows 128]

The two trainers take turns, block by block, so that both see the same machine. Prints seconds a
step of each, their ratio, and the time that our code takes inside a step, which is what we answer
for: the difference of two noisy step times says less.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("CI", "1")

import torch
from transformers import AutoTokenizer, TrainerCallback, logging
from trl import GRPOConfig, GRPOTrainer

from gdro.data import arithmetic
from gdro.rewards import exact_reward
from gdro.trainers.trl import GDROConfig, GDROTrainer


class Turns(TrainerCallback):
    """Lets one trainer run while the other waits, `block` steps at a time."""

    def __init__(self, mine: threading.Semaphore, other: threading.Semaphore, block: int) -> None:
        self.mine, self.other, self.block = mine, other, block
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step % self.block == 0:
            self.mine.acquire()
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        if state.global_step % self.block == 0:
            self.other.release()

    def train(self, trainer, steps: int) -> None:
        """Trains; after its end, however it ends, the other waits no more."""
        try:
            trainer.train()
        finally:
            self.other.release(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=128)
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = str(arithmetic.base_path())
    settings = {
        "max_steps": given.steps, "per_device_train_batch_size": given.rows, "num_generations": 4,
        "max_completion_length": arithmetic.MAX_COMPLETION_TOKENS, "learning_rate": 1e-5,
        "use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True,
        "save_strategy": "no", "logging_steps": given.steps, "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
    }  # fmt: skip
    semaphores = {"trl": threading.Semaphore(1), "gdro": threading.Semaphore(0)}
    turns = {
        "trl": Turns(semaphores["trl"], semaphores["gdro"], 10),
        "gdro": Turns(semaphores["gdro"], semaphores["trl"], 10),
    }
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "train_dataset": arithmetic.load("train"),
            "processing_class": AutoTokenizer.from_pretrained(model),
        }
        plain = GRPOTrainer(
            model, exact_reward, GRPOConfig(f"{folder}/trl", **settings),
            callbacks=[turns["trl"]], **common,
        )  # fmt: skip
        ours = GDROTrainer(
            model, exact_reward, GDROConfig(f"{folder}/gdro", gdro_id_column="id", **settings),
            callbacks=[turns["gdro"]], **common,
        )  # fmt: skip
        with ThreadPoolExecutor(2) as pool:
            trainers = ((turns["trl"], plain), (turns["gdro"], ours))
            ended = [pool.submit(turn.train, trainer, given.steps) for turn, trainer in trainers]
        for one in ended:
            one.result()  # raises what it raised
        lines = (Path(folder) / "gdro" / "trace.jsonl").read_text().splitlines()[1:]
        times = [json.loads(line)["time"] for line in lines]
    warm = slice(given.steps // 10, None)
    step = {name: statistics.median(t.seconds[warm]) for name, t in turns.items()}
    hook = statistics.median(t["hook"] for t in times[warm])
    found = {
        "steps": given.steps, "rows": given.rows, "trl_s": step["trl"], "gdro_s": step["gdro"],
        "ratio": step["gdro"] / step["trl"], "hook_s": hook, "hook_share": hook / step["gdro"],
    }  # fmt: skip
    print(f"step, median: TRL {step['trl']:.3f} s, gdro {step['gdro']:.3f} s")
    print(f"hooks: {1e3 * hook:.1f} ms a step, {100 * found['hook_share']:.1f}% of it")
    out = Path(__file__).parents[1] / "docs" / "results" / "step.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
