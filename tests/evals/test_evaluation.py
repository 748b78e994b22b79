"""Scores against oracles: verifiers whose pass rates are known."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.stats import binom

from gdro.core.errors import ConfigError, DataError
from gdro.data import arithmetic
from gdro.evals import Evaluation, evaluate
from gdro.evals.sampling import prompt_ids, sample
from gdro.rewards import exact_reward as right

K = 4


@pytest.fixture(scope="module")
def suite():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)  # tiny matrices; and more threads may add up in another order
    path = str(arithmetic.base_path())
    model = AutoModelForCausalLM.from_pretrained(path)
    return model, AutoTokenizer.from_pretrained(path), arithmetic.load("validation", 24)


def run(suite, verifier, prompts=None, **changes):
    model, tokenizer, given = suite
    arguments = {"k": K, "max_new_tokens": 12, "batch_size": 40} | changes
    return evaluate(model, tokenizer, prompts or given, verifier, **arguments)


def test_always_and_never(suite):
    always = run(suite, lambda completions, **_: ["right"] * len(completions))
    never = run(suite, lambda completions, **_: [0] * len(completions))
    assert (always.mean, always.passed) == (1.0, 1.0)
    assert (never.mean, never.passed) == (0.0, 0.0)
    assert always.interval() == (1.0, 1.0)


def test_the_gold_answer_is_right_and_only_it(suite):
    """A policy that always says the gold: its completions are what the verifier sees."""

    class Gold:
        generation_config = type("G", (), {"eos_token_id": 1})()
        device, training = torch.device("cpu"), False

        def eval(self): ...
        def train(self, mode): ...

        def generate(self, input_ids, attention_mask, **_):
            texts = tokenizer.batch_decode(input_ids, skip_special_tokens=True)
            gold = [[*tokenizer(answers[t])["input_ids"], 1] for t in texts]
            width = max(map(len, gold))
            tail = torch.tensor([g + [0] * (width - len(g)) for g in gold])
            return torch.cat([input_ids, tail], dim=1)

    _, tokenizer, prompts = suite
    answers = dict(zip(prompts["prompt"], prompts["answer"], strict=True))
    found = run((Gold(), tokenizer, prompts), right)
    assert (found.mean, found.passed) == (1.0, 1.0)
    lengths = [K * (len(tokenizer(a)["input_ids"]) + 1) for a in prompts["answer"]]
    assert found.tokens_N.tolist() == lengths
    assert found.truncated_N.sum() == 0


def test_a_coin_is_within_binomial_bounds(suite):
    rng = np.random.default_rng(7)
    found = run(suite, lambda completions, **_: rng.random(len(completions)) < 0.3)
    n = len(found.id_N)
    low, high = binom.interval(1 - 1e-4, n * K, 0.3)
    assert low <= found.correct_N.sum() <= high
    low, high = binom.interval(1 - 1e-4, n, 1 - 0.7**K)
    assert low <= found.passed * n <= high
    assert found.interval("passed")[0] <= found.passed <= found.interval("passed")[1]


def test_random_state_mode_and_result_do_not_depend_on_what_came_before(suite):
    model = suite[0]
    model.train()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = run(suite, right)
    assert torch.equal(torch.rand(4), expected)
    assert model.training
    again = run(suite, right)
    assert np.array_equal(first.correct_N, again.correct_N)
    other = run(suite, right, seed=1)
    assert not np.array_equal(first.correct_N, other.correct_N)


def test_every_batch_has_a_seed_of_its_own(suite):
    model, tokenizer, prompts = suite
    ids = prompt_ids(tokenizer, [prompts[0]["prompt"]] * 3)
    arguments = {"max_new_tokens": 12, "temperature": 2.0, "top_p": 1.0, "top_k": 0, "seed": 0}
    said = [b.text_R for b in sample(model, tokenizer, ids, k=16, batch_size=16, **arguments)]
    assert len({tuple(texts) for texts in said}) == 3
    again = sample(
        model, tokenizer, ids, k=16, batch_size=16, skip=lambda prompt_R, _: 1 not in prompt_R,
        **arguments,
    )  # fmt: skip
    assert [b.text_R for b in again] == said[1:2]  # and depends on no other


def test_truncation_is_counted(suite):
    found = run(suite, right, max_new_tokens=2)
    assert (found.truncated_N == K).all()
    assert (found.tokens_N == 2 * K).all()


def test_chat_prompts_go_through_the_template(suite):
    _, tokenizer, prompts = suite
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    chats = prompts.map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})
    assert np.array_equal(run(suite, right, prompts=chats).correct_N, run(suite, right).correct_N)


def test_chats_need_a_chat_template(suite):
    model, tokenizer, prompts = suite
    tokenizer.chat_template = None
    chats = prompts.map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})
    with pytest.raises(ConfigError, match="the tokenizer has no chat template"):
        run((model, tokenizer, chats), right)


@pytest.mark.parametrize("chat", [False, True])
def test_the_verifier_gets_what_training_gives(suite, chat):
    model, tokenizer, prompts = suite
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    prompts = prompts.map(lambda row, i: {"mine": i}, with_indices=True)
    if chat:
        prompts = prompts.map(lambda r: {"prompt": [{"role": "user", "content": r["prompt"]}]})
    asked = []

    def verifier(prompts, completions, completion_ids, answer, mine, **others):
        asked.extend(zip(mine, prompts, answer, strict=True))
        assert "family" in others
        texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        shown = [[{"role": "assistant", "content": t}] for t in texts] if chat else texts
        assert completions == shown
        return [1] * len(completions)

    assert run((model, tokenizer, prompts), verifier, batch_size=7).mean == 1
    rows = [(i, row["prompt"], row["answer"]) for i, row in enumerate(prompts)]
    assert sorted(asked, key=lambda x: x[0]) == [row for row in rows for _ in range(K)]


def test_the_models_own_generation_config_is_out_of_play(suite):
    """Only its stop tokens count: the policy is sampled as it is trained."""
    from transformers import GenerationConfig

    model = suite[0]
    said = []

    def verifier(completions, **_):
        said[-1].extend(completions)
        return [0] * len(completions)

    usual = model.generation_config
    own = GenerationConfig(repetition_penalty=3.0, min_p=0.3, no_repeat_ngram_size=1, typical_p=0.5)
    own.eos_token_id = usual.eos_token_id
    try:
        for config in (usual, own):
            model.generation_config = config
            said.append([])
            run(suite, verifier)
            assert model.generation_config is config
    finally:
        model.generation_config = usual
    assert said[0] == said[1]


def test_groups_and_worst():
    found = Evaluation(
        k=2,
        id_N=list("abcd"),
        correct_N=np.array([2, 1, 0, 0]),
        tokens_N=np.array([4, 4, 4, 4]),
        truncated_N=np.zeros(4, int),
        groups={"level": [10, 2, 2, 10]},
    )
    by = found.by("level")
    assert list(by) == ["2", "10"]  # numbers in the order of numbers
    assert by["2"] == {"mean@2": 0.25, "pass@2": 0.5, "prompts": 2}
    assert found.worst("level") is None  # too few prompts to say so
    binned = found.binned_by(found, edges=[0.25, 0.75])
    assert binned.groups["bin"] == [2, 1, 0, 0]
    copy = Evaluation.from_dict(binned.to_dict())
    assert copy.summary() == binned.summary()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k must be >= 1, got 0"),
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"by": ["topic"]}, "no column 'topic'"),
    ],
)
def test_bad_arguments(suite, changes, message):
    with pytest.raises((ConfigError, DataError), match=message):
        run(suite, right, **changes)


@pytest.mark.parametrize("marks", [[math.nan], [0.5], []])
def test_bad_verdicts(suite, marks):
    with pytest.raises(DataError, match="verdicts|0 or 1"):
        run(suite, lambda completions, **_: marks * len(completions))


def test_missing_column(suite):
    with pytest.raises(DataError, match="no column 'answer'"):
        run(suite, right, prompts=Dataset.from_list([{"prompt": "x"}]))
