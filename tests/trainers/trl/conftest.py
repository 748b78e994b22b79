"""A random Qwen3 of 20k parameters with a character tokenizer, and rewards that mix its groups."""

import os

os.environ["CI"] = "1"  # TRL sends no telemetry
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    logging,
)

from gdro.trainers.trl import GDROConfig, GDROTrainer

torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()


def make_model(folder: Path) -> str:
    characters = {c: i for i, c in enumerate(["<pad>", "<eos>", *"0123456789+-*= "])}
    core = Tokenizer(models.WordLevel(characters, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(characters), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=64,
            tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None,
            initializer_range=0.2,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_model(tmp_path_factory.mktemp("model"))


def prompts(size: int = 16) -> Dataset:
    rows = [{"prompt": f"{i}+{2 * i}=", "name": f"p{i}", "level": i % 3} for i in range(size)]
    return Dataset.from_list(rows)


def parity(completions: list[str], **_: Any) -> list[float]:
    """0/1, about even for a random model."""
    return [float(sum(map(ord, c)) % 2) for c in completions]


def rare(completions: list[str], prompts: list[str], **_: Any) -> list[float]:
    """0/1, from often to hardly ever by prompt, so that bins differ."""
    return [
        float(sum(map(ord, c)) % (1 + len(p) + ord(p[0]) % 5) == 0)
        for c, p in zip(completions, prompts, strict=True)
    ]


def shaped(completions: list[str], **_: Any) -> list[float]:
    """Any float."""
    return [(sum(map(ord, c)) % 17) / 7 - 1 for c in completions]


def settings(folder: Any, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "max_steps": 3, "per_device_train_batch_size": 16,
        "num_generations": 4, "max_completion_length": 6, "learning_rate": 1e-2, "use_cpu": True,
        "bf16": False, "report_to": "none", "disable_tqdm": True, "save_strategy": "no",
        "logging_steps": 1, "lr_scheduler_type": "constant", "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
    } | changes  # fmt: skip


def weighed(changes: dict[str, Any]) -> dict[str, Any]:
    """Both adversaries, the prompts' by weights alone, unless a preset is given."""
    both = {"gdro_preset": "rollout", "gdro_prompt_weigh": "gdro"}
    return changes if "gdro_preset" in changes else both | changes


def make_trainer(
    model: str, folder: Any, *, rewards: Any = rare, dataset: Dataset | None = None,
    correct_func: Any = None, **changes: Any,
) -> GDROTrainer:  # fmt: skip
    return GDROTrainer(
        model,
        rewards,
        GDROConfig(**settings(folder, **weighed(changes))),
        prompts() if dataset is None else dataset,
        processing_class=AutoTokenizer.from_pretrained(model),
        correct_func=correct_func,
    )


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    state = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def check_old_logps(trainer: Any, output: dict[str, Any]) -> None:
    """That a batch's old log-probabilities are those of the policy as it is."""
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    size = output["completion_ids"].shape[1]
    with torch.no_grad():
        logps = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, size)[0]
    held = output["completion_mask"].bool()
    torch.testing.assert_close(
        logps[held], output["old_per_token_logps"][held], atol=1e-4, rtol=1e-3
    )
