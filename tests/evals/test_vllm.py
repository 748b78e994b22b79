"""The path to vLLM, against a module that stands in for it: vLLM itself is not run here."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from gdro.cli import main
from gdro.data import arithmetic
from gdro.evals.engines import vllm as engine
from gdro.evals.store import Store


@pytest.fixture
def vllm(monkeypatch):
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(str(arithmetic.base_path()))
    gold = {row["prompt"]: row["answer"] for row in arithmetic.generate("test")}
    module = SimpleNamespace(__version__="0", asked=[], made=[], chunks=[])

    class LLM:
        def __init__(self, **arguments):
            module.made.append(arguments)

        def get_tokenizer(self):
            return tokenizer

        def generate(self, prompts, sampling_params, *, use_tqdm):
            assert len(prompts) == len(sampling_params)
            module.chunks.append(len(prompts))
            module.asked += sampling_params
            return [SimpleNamespace(outputs=[self.one(p)]) for p in prompts]

        def one(self, prompt):
            said = gold[tokenizer.decode(prompt["prompt_token_ids"], skip_special_tokens=True)]
            return SimpleNamespace(text=said, token_ids=[1, 2], finish_reason="stop")

    module.LLM = LLM
    module.SamplingParams = lambda **given: SimpleNamespace(**given)
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def test_every_completion_is_a_request_with_a_seed_of_its_own(vllm, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 50)
    flags = ["eval", "--model", "arithmetic", "--benchmarks", "arithmetic", "--engine", "vllm",
             "--limit", "30", "-k", "4", "--engine-arg", "tensor_parallel_size=2",
             "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(flags) == 0
    (made,) = vllm.made
    assert made["tensor_parallel_size"] == 2
    assert vllm.chunks == [50, 50, 20]
    assert len({p.seed for p in vllm.asked}) == 120
    assert {(p.n, p.temperature, p.top_p, p.top_k, p.max_tokens) for p in vllm.asked} == {
        (1, 1.0, 1.0, -1, 11)
    }
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["scores"]["arithmetic"]["mean@4"]["value"] == 1.0
    assert summary["sessions"][0]["vllm"] == "0"
    assert len(Store(tmp_path / "out").samples()) == 120
