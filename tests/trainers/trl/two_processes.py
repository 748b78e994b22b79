"""Run by torchrun on two gloo processes: TRL, ours uniform, ours ragged, ours resumed."""

import hashlib
import json
import os
import sys
from pathlib import Path

from accelerate import PartialState
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from gdro.core.checkpoint import load
from gdro.trainers.trl.trainer import STATE_FILE
from tests.trainers.trl.conftest import (
    make_trainer,
    parity,
    prompts,
    rare,
    same_weights,
    settings,
    weights,
)  # fmt: skip


def digest(end):
    return hashlib.sha256(b"".join(end[n].numpy().tobytes() for n in sorted(end))).hexdigest()


model, folder = sys.argv[1], Path(sys.argv[2])
STEPS = 12

plain = GRPOTrainer(
    model,
    parity,
    GRPOConfig(**settings(folder / "plain", max_steps=3)),
    train_dataset=prompts(),
    processing_class=AutoTokenizer.from_pretrained(model),
)
start = weights(plain)
plain.train()
uniform = make_trainer(model, folder / "uniform", rewards=parity, gdro_preset="grpo", max_steps=3)
uniform.train()

replay = {"gdro_replay_successes": True}
ragged = make_trainer(model, folder / "ragged", rewards=rare, max_steps=STEPS, **replay)
ragged.train()
even = make_trainer(model, folder / "even", rewards=rare, max_steps=STEPS, gdro_preset="grpo")
even.train()

saving = {"save_strategy": "steps", "save_steps": 7, "max_steps": STEPS} | replay
cut = make_trainer(model, folder / "resumed", rewards=rare, **saving)
cut.train()
resumed = make_trainer(model, folder / "resumed", rewards=rare, **saving)
resumed.train(resume_from_checkpoint=str(folder / "resumed" / "checkpoint-7"))

# As on two nodes: each process is the first of its own, and writes its own folder.
node = folder / f"node{os.environ['RANK']}"
apart = make_trainer(
    model, node, save_strategy="steps", save_steps=3, max_steps=3, save_on_each_node=True
)
place, PartialState().local_process_index = PartialState().local_process_index, 0
apart.train()
PartialState().local_process_index = place
saved = load(node / "checkpoint-3" / STATE_FILE, fingerprint=apart.controller.fingerprint)

refilled = {}
for name, changes in {
    "dapo": {"gdro_preset": "dapo"},
    "reinforce_ada": {"gdro_preset": "reinforce_ada"},
    "second_look": {"gdro_preset": "second_look_replay", "dataset": prompts(8)},
}.items():
    trainer = make_trainer(model, folder / name, rewards=rare, max_steps=4, **changes)
    trainer.train()
    replayed = trainer.controller.ledger.replayed
    refilled[name] = {"spent": trainer.spent, "weights": digest(weights(trainer))}
    if trainer.accelerator.is_main_process:  # it alone decides
        assert (replayed > 0) == (name == "second_look")

end = weights(ragged)
found = {
    "world": plain.accelerator.num_processes,
    "uniform_same": same_weights(weights(plain), weights(uniform)),
    "uniform_changed": not same_weights(start, weights(plain)),
    "ragged_differs": not same_weights(end, weights(even)),
    "resumed_same": same_weights(end, weights(resumed)),
    "digest": digest(end),
    "replayed": ragged.controller.ledger.replayed,
    "refilled": refilled,
    "observed": saved["controller"]["observed"],
    "state": hashlib.sha256(repr(saved).encode()).hexdigest(),
}
(folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))
PartialState().destroy_process_group()  # at exit its threads may abort the process
