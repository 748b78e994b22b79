"""With equal counts and weights of 1, every bit is plain TRL's."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from .conftest import make_trainer, parity, prompts, same_weights, settings, shaped, weights

CASES = itertools.product(
    ["grpo", "dapo", "bnpo", "dr_grpo"],
    ["group", "batch", "none"],
    [0.0, 0.001],
    [1, 2],
    [4, 8],
    [True, False],
)


@pytest.mark.parametrize(("loss", "scale", "beta", "accumulation", "size", "binary"), CASES)
def test_uniform_is_trl_bit_for_bit(
    model: str, tmp_path: Path, loss: str, scale: str, beta: float, accumulation: int, size: int,
    binary: bool,
) -> None:  # fmt: skip
    changes = {
        "loss_type": loss, "scale_rewards": scale, "beta": beta, "num_generations": size,
        "gradient_accumulation_steps": accumulation, "max_steps": 2,
    }  # fmt: skip
    reward = parity if binary else shaped
    plain = GRPOTrainer(
        model,
        reward,
        GRPOConfig(**settings(tmp_path / "trl", **changes)),
        train_dataset=prompts(),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    before = weights(plain)
    plain.train()
    ours = make_trainer(
        model, tmp_path / "gdro", rewards=reward, correct_func=parity, gdro_preset="grpo", **changes
    )
    ours.train()
    assert same_weights(weights(plain), weights(ours))
    assert not same_weights(before, weights(plain))
    logs = [entry for entry in ours.state.log_history if "gdro/mixed_fraction" in entry]
    assert len(logs) == 2
    for entry in logs:
        assert entry["gdro/mixed_fraction"] > 0, "a step without mixed groups"
        assert entry["frac_reward_zero_std"] < 1
    for mine, theirs in zip(ours.state.log_history, plain.state.log_history, strict=True):
        for name in ("loss", "grad_norm", "reward_std", "frac_reward_zero_std", "num_tokens"):
            assert mine.get(name) == theirs.get(name), name


@pytest.mark.parametrize("trainer", ["plain", "gdro"])
def test_changed_weights_would_be_seen(model: str, tmp_path: Path, trainer: str) -> None:
    """The comparison above can fail: another seed, or another method, gives other weights."""
    base = make_trainer(model, tmp_path / "a", rewards=parity, gdro_preset="grpo", max_steps=4)
    base.train()
    changes = {"seed": 1} if trainer == "plain" else {}
    other = make_trainer(
        model, tmp_path / "b", rewards=parity, max_steps=8 if not changes else 4,
        gdro_preset="grpo" if changes else "joint", **changes,
    )  # fmt: skip
    other.train()
    assert not same_weights(weights(base), weights(other))


def torchrun(script: str, *args: str) -> None:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
               "--master_port", "0", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0",
               "-m", script, *args]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def test_two_processes(model: str, tmp_path: Path) -> None:
    """Bit-identical to TRL with uniform counts; exact and alike on both ranks with ragged ones."""
    torchrun("tests.trainers.trl.two_processes", model, str(tmp_path))
    for rank in (0, 1):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert found["world"] == 2
        assert found["uniform_same"]
        assert found["uniform_changed"]
        assert found["ragged_differs"]
        assert found["resumed_same"]
    first = json.loads((tmp_path / "rank0.json").read_text())
    second = json.loads((tmp_path / "rank1.json").read_text())
    assert first["digest"] == second["digest"]
    assert first["replayed"] > 0
    assert first["observed"] == 3
    assert first["state"] == second["state"], "each node's checkpoint has what rank 0 has learnt"
    assert first["refilled"] == second["refilled"]
    for name, found in first["refilled"].items():
        assert found["spent"]["trained"] == 4 * 32
        assert (found["spent"]["rollouts"] > 4 * 32) == (name != "second_look")
    lines = (tmp_path / "ragged" / "trace.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines[1:]]
    assert [s["step"] for s in steps] == list(range(len(steps)))
    assert all(s["rollouts"] == s["budget"] == 32 for s in steps)
    assert any(max(s["rollouts_B"]) for s in steps)
