"""Base models of the suites: each architecture and size learns, is reproducible and generates."""

from __future__ import annotations

import json

import pytest

from gdro.cli import main
from gdro.core.errors import ConfigError
from gdro.data.suites import base as bases
from gdro.data.suites import find
from gdro.data.suites.base import ARCHITECTURES, RECORD, SIZES, WINDOW, Base

torch = pytest.importorskip("torch", minversion="2.9")
STEPS = 30


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(bases, "BATCH_SIZE", 16)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def trained(request, tmp_path_factory):
    """A barely trained model of each architecture, its tokenizer and its losses."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "BATCH_SIZE", 16)
        base = Base(suite="worded", architecture=request.param, steps=STEPS)
        losses = bases.warm_start(base, folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return request.param, model, AutoTokenizer.from_pretrained(folder), losses


def test_the_loss_falls(trained):
    _, _, _, losses = trained
    assert len(losses) == STEPS
    assert losses[-1] < losses[0] - 0.5


def test_it_is_of_its_kind_and_loads_with_its_tokenizer(trained):
    architecture, model, tokenizer, _ = trained
    assert type(model).__name__.lower() == f"{architecture}forcausallm"
    assert sum(p.numel() for p in model.parameters()) < 400_000
    assert len(tokenizer) == model.config.vocab_size == len(find("worded").vocabulary) + 3
    for config in (model.config, model.generation_config):
        assert config.pad_token_id == tokenizer.pad_token_id
        assert config.eos_token_id == tokenizer.eos_token_id
    # transformers' defaults, .02 and 1e4, do not learn at this width.
    assert model.config.initializer_range == 0.08
    assert model.config.rope_parameters["rope_theta"] == 100


def test_a_long_prompt_is_continued_alike_with_padding_and_without(trained):
    """Positions, the window of Mistral and the padding on the left fit together."""
    _, model, tokenizer, _ = trained
    prompts = sorted((row["prompt"] for row in find("worded").generate("test", 40)), key=len)
    together = tokenizer([prompts[0], prompts[-1]], return_tensors="pt", padding=True)
    assert (together["attention_mask"][0] == 0).any()
    of_batch = model.generate(**together, max_new_tokens=12, do_sample=False)
    of_batch = of_batch[:, together["input_ids"].shape[1] :]
    for prompt, found in zip((prompts[0], prompts[-1]), of_batch, strict=True):
        alone = tokenizer(prompt, return_tensors="pt")
        ids = alone["input_ids"]
        for _ in range(12):  # without cache or padding
            nearest = model(input_ids=ids).logits[0, -1].argmax()
            ids = torch.cat([ids, nearest.reshape(1, 1)], dim=1)
            if nearest == tokenizer.eos_token_id:
                break
        expected = ids[0, alone["input_ids"].shape[1] :]
        assert torch.equal(found[: len(expected)], expected)


def test_the_architectures_are_three_functions():
    """Of the same text and seed they say different things; Mistral from its window on."""
    tokenizer = bases.make_tokenizer(find("worded"))
    prompt = max((row["prompt"] for row in find("worded").generate("test", 40)), key=len)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    logits = {}
    for architecture in ARCHITECTURES:
        torch.manual_seed(0)
        model = bases.make_model(Base(suite="worded", architecture=architecture), tokenizer).eval()
        logits[architecture] = model(input_ids=ids).logits[0].detach()
    window = WINDOW["worded"]
    assert ids.shape[1] > window
    same = torch.isclose(logits["llama"], logits["mistral"], atol=1e-4).all(dim=1)
    assert same[:window].all()
    assert not same[window:].any()
    assert not torch.isclose(logits["llama"], logits["qwen3"], atol=1e-4).all(dim=1)[1:].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_large_is_three_to_four_times_small(architecture):
    tokenizer = bases.make_tokenizer(find("arithmetic"))
    small, large = (
        bases.make_model(Base(architecture=architecture, size=size), tokenizer).num_parameters()
        for size in SIZES
    )
    assert 3 < large / small < 4


def test_a_warm_start_is_deterministic(tmp_path):
    for name in "ab":
        bases.warm_start(Base(seed=1, steps=2), tmp_path / name)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


def test_the_command_makes_a_model_once(tmp_path, capsys):
    out = tmp_path / "base"
    flags = ["data", "base", "--suite", "worded", "--steps", "1", "--out", str(out)]
    assert main(flags) == 0
    made = (out / "model.safetensors").stat().st_mtime_ns
    record = {
        "suite": "worded", "architecture": "qwen3", "size": "small", "seed": 0, "steps": 1,
        "recipe": bases.RECIPE,
    }  # fmt: skip
    assert json.loads((out / RECORD).read_text()) == record
    capsys.readouterr()
    assert main(flags) == 0
    assert capsys.readouterr().out == f"{out} is there already\n"
    assert (out / "model.safetensors").stat().st_mtime_ns == made
    assert main([*flags, "--seed", "1"]) == 2
    assert "holds another base model" in capsys.readouterr().err
    (out / RECORD).write_text(json.dumps(record | {"recipe": bases.RECIPE - 1}) + "\n")
    assert main(flags) == 2


def test_a_folder_with_another_model_is_not_written_to(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"holds something else than a base model"):
        bases.make_base(Base(steps=1), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    with pytest.raises(ConfigError, match=r"config.json must be a folder, and is a file"):
        bases.make_base(Base(steps=1), tmp_path / "config.json")


def test_one_that_is_stopped_leaves_nothing_that_is_taken_for_a_model(tmp_path, monkeypatch):
    out = tmp_path / "base"
    out.mkdir()

    def saved(base, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    def stopped(base, folder):
        saved(base, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(bases, "warm_start", stopped)
    with pytest.raises(KeyboardInterrupt):
        bases.make_base(Base(steps=1), out)
    assert not any(out.iterdir())
    monkeypatch.setattr(bases, "warm_start", saved)
    assert bases.make_base(Base(steps=1), out)
    assert sorted(file.name for file in out.iterdir()) == [RECORD, "config.json"]
    assert [file.name for file in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"suite": "arithmetic/hard"}, "suite must be one of arithmetic, worded, got 'arithmetic/"),
        ({"architecture": "gpt2"}, "architecture must be one of qwen3, llama, mistral, got 'gpt2'"),
        ({"size": "huge"}, "size must be one of small, large, got 'huge'"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_made_is_named(given, said):
    with pytest.raises(ConfigError, match=said):
        Base(**given)
