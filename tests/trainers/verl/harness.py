"""Runs verl's own `main_ppo` on a local Ray: a tiny Qwen3 made from scratch, two FSDP2 ranks."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LETTERS = 32
PROMPTS = 48
RIGHT = (30, 12, 3)
"""Answers that are right, of `LETTERS`, of every third prompt."""


def make_assets(folder: Path) -> None:
    """A model, its tokenizer, and prompts of three difficulties."""
    import pandas as pd
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = ["<pad>", "<eos>", "<unk>", "user", "assistant", ":"]
    words += [f"q{i}" for i in range(PROMPTS)] + [f"a{i}" for i in range(LETTERS)]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}"
    )
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
        tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder / "model")
    chosen = random.Random(0)
    rows = []
    for i in range(PROMPTS):
        right = [f"a{a}" for a in chosen.sample(range(LETTERS), RIGHT[i % 3])]
        rows.append({
            "data_source": "toy", "prompt": [{"role": "user", "content": f"q{i}"}],
            "reward_model": {"style": "rule", "ground_truth": json.dumps(right)},
            "extra_info": {"index": i, "split": "train", "level": i % 3},
        })  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "train.parquet")
    pd.DataFrame(rows[:8]).to_parquet(folder / "val.parquet")


def command(assets: Path, out: Path, mode: str, steps: int, *more: str) -> list[str]:
    """A verl training command; modes of ours make it a GDRO run, with search path and group."""
    ours = ["hydra.searchpath=[pkg://gdro.trainers.verl.config]", "+gdro=default",
            "gdro.preset=joint_replay"]  # every part at work  # fmt: skip
    return [
        sys.executable, "-m", "verl.trainer.main_ppo",
        f"trainer.v1.trainer_mode={mode}",
        *(ours if mode.startswith("gdro_") else []),
        "hydra.run.dir=" + str(out / "hydra"),
        "trainer.device=cpu", "trainer.n_gpus_per_node=2", "trainer.nnodes=1",
        f"data.train_files={assets}/train.parquet", f"data.val_files={assets}/val.parquet",
        "data.train_batch_size=8", "data.max_prompt_length=16", "data.max_response_length=3",
        "data.dataloader_num_workers=0", "data.seed=1", "data.filter_overlong_prompts=False",
        f"actor_rollout_ref.model.path={assets}/model",
        "+actor_rollout_ref.model.override_config.attn_implementation=eager",
        "actor_rollout_ref.model.use_remove_padding=False",
        "actor_rollout_ref.model.enable_gradient_checkpointing=False",
        "actor_rollout_ref.actor.strategy=fsdp2", "actor_rollout_ref.actor.ppo_mini_batch_size=8",
        "actor_rollout_ref.actor.use_dynamic_bsz=False",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
        "actor_rollout_ref.actor.optim.lr=1e-2", "actor_rollout_ref.actor.use_kl_loss=False",
        "actor_rollout_ref.actor.fsdp_config.model_dtype=fp32",
        *(f"+actor_rollout_ref.actor.fsdp_config.mixed_precision.{n}_dtype=fp32"
          for n in ("param", "reduce", "buffer")),
        "actor_rollout_ref.actor.use_torch_compile=False",
        "actor_rollout_ref.actor.fsdp_config.use_torch_compile=False",
        "actor_rollout_ref.rollout.name=cpu", "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
        "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=False",
        "actor_rollout_ref.rollout.calculate_log_probs=True",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        "actor_rollout_ref.rollout.n_gpus_per_node=2",
        "algorithm.adv_estimator=grpo", "critic.enable=False", "reward.num_workers=1",
        f"reward.custom_reward_function.path={HERE}/cpu/reward.py",
        "reward.custom_reward_function.name=compute_score",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        "trainer.logger=[console,file]", "trainer.total_epochs=50", "trainer.test_freq=-1",
        f"trainer.total_training_steps={steps}", "trainer.val_before_train=False",
        f"trainer.default_local_dir={out}", "trainer.save_freq=-1",
        "trainer.project_name=gdro", "trainer.experiment_name=test",
        "+ray_kwargs.ray_init.num_cpus=16", "+ray_kwargs.ray_init.num_gpus=2",
        "+ray_kwargs.ray_init.include_dashboard=False",
        "+ray_kwargs.ray_init.object_store_memory=500000000",
        *more,
    ]  # fmt: skip


def environment(out: Path, **more: str) -> dict[str, str]:
    """Of a run: the CPU back end in every process, and no network."""
    return os.environ | {
        "PYTHONPATH": f"{HERE}/cpu", "VERL_USE_EXTERNAL_MODULES": "verl_cpu",
        "PLAN_LOG": str(out / "plans.jsonl"), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled",
        "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TORCH_COMPILE_DISABLE": "1",
        "HYDRA_FULL_ERROR": "1", "WANDB_MODE": "disabled", "RAY_DEDUP_LOGS": "0",
        "RAY_USAGE_STATS_ENABLED": "0", "VERL_FILE_LOGGER_PATH": str(out / "metrics.jsonl"),
        "PYTHONWARNINGS": "default::UserWarning:gdro",
    } | more  # fmt: skip


def train(
    assets: Path, out: Path, mode: str, steps: int, *more: str, check: bool = True,
    limit: int = 420, **env: str,
) -> str:  # fmt: skip
    """Runs a command to its end.

    Returns:
        What it printed.
    """
    out.mkdir(parents=True, exist_ok=True)
    log = out / f"log-{time.time_ns()}.txt"
    with open(log, "w") as file:
        process = subprocess.Popen(
            command(assets, out, mode, steps, *more), stdout=file, stderr=subprocess.STDOUT,
            env=environment(out, **env), start_new_session=True, cwd=out,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(process)
    said = log.read_text(errors="replace")
    assert code == 0 or not check, f"ended with {code}:\n{said[-6000:]}"
    return said


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a run with all of its Ray."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def lines(path: Path, what: str | None = None) -> list[dict[str, Any]]:
    """Rows of a JSONL file, of one kind."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if what is None or row.get("what") == what]
