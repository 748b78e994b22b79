"""The arithmetic suite: frozen, disjoint, right by an independent oracle, and beyond guessing."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.data import arithmetic
from gdro.data.arithmetic import families
from gdro.data.suites import beliefs
from gdro.data.suites.problem import believe_right
from gdro.data.suites.suite import split_of

SPLITS = ("train", "validation", "test")

# Frozen before any GDRO result was looked at: after a change no earlier result compares.
SPLIT_SHA256 = {
    "train": "259174f9ddf3b7058ee3cb439f1c81aefe671e8a643103e94912fce70f4c6aa1",
    "validation": "3f585b3d3a9939f79243e62c564372b921b9df39916379c259e687ba55498fd2",
    "test": "29f18386f65518714b49df5790c88572e9a6ab789b57f6ec3b4280f283525712",
}
WEIGHTS_SHA256 = "e56b53d5ab85bfb55e5adea7307c3262b907bb9bda96387f02b38d165139b9b2"
TOKENIZER_SHA256 = "de6bc713a78eff5b3bf92337a53995c8e8ceaf3fb2c2796d67d1f9688e852282"


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [row for split in SPLITS for row in arithmetic.generate(split)]


@pytest.mark.parametrize("split", SPLITS)
def test_split_is_frozen(split):
    text = json.dumps(arithmetic.generate(split), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == SPLIT_SHA256[split]


@pytest.mark.parametrize(
    ("file", "frozen"),
    [("model.safetensors", WEIGHTS_SHA256), ("tokenizer.json", TOKENIZER_SHA256)],
)
def test_base_is_frozen(file, frozen):
    data = (arithmetic.base_path() / file).read_bytes()
    assert hashlib.sha256(data).hexdigest() == frozen
    assert len(data) <= 2e6


@settings(max_examples=15, deadline=None)
@given(
    seeds=st.tuples(*[st.integers(0, 2**32)] * 3),
    sizes=st.tuples(*[st.integers(1, 200)] * 3),
)
def test_splits_are_disjoint_at_any_seed_and_size(seeds, sizes):
    drawn = [
        [row["prompt"] for row in arithmetic.generate(split, size, seed)]
        for split, size, seed in zip(SPLITS, sizes, seeds, strict=True)
    ]
    assert [len(prompts) for prompts in drawn] == list(sizes)
    assert len({prompt for prompts in drawn for prompt in prompts}) == sum(sizes)


def test_warm_start_prompts_are_in_no_other_split():
    stream = beliefs.problems(arithmetic.SUITES[0], seed=0)
    assert all(split_of(next(stream).prompt) == "warm_start" for _ in range(500))


@given(seed=st.integers(0, 2**32), size=st.integers(1, 60))
@settings(max_examples=10, deadline=None)
def test_generation_is_deterministic_and_grows_by_appending(seed, size):
    rows = arithmetic.generate("train", size, seed)
    assert rows == arithmetic.generate("train", size, seed)
    assert rows == arithmetic.generate("train", size + 5, seed)[:size]


def test_sizes_columns_and_ids(rows):
    assert {s: len(arithmetic.generate(s)) for s in SPLITS} == arithmetic.DEFAULT_SIZES
    assert all(list(row) == ["id", "prompt", "answer", "family", "level"] for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["family"] for row in rows} == set(arithmetic.FAMILIES)
    levels = Counter(row["level"] for row in rows)
    assert set(levels) == set(range(1, arithmetic.LEVELS + 1))
    for level, share in enumerate(arithmetic.MIX, start=1):
        assert levels[level] / len(rows) == pytest.approx(share, abs=0.02)


def test_load_is_generate_as_a_dataset():
    assert arithmetic.load("test", 20, 3).to_list() == arithmetic.generate("test", 20, 3)


@pytest.mark.parametrize(("split", "size"), [("dev", 5), ("warm_start", 5), ("train", 0)])
def test_bad_arguments_are_named(split, size):
    with pytest.raises(ValueError, match=r"split must be one of|num_prompts must be >= 1, got 0"):
        arithmetic.generate(split, size)


# The oracle: reads the prompt's text alone and computes each answer by other means than the
# generators (whole numbers instead of columns, sums instead of running states, int(text, base)).


def number(digits: list[int], base: int) -> int:
    """Of digits, units first."""
    return sum(digit * base**place for place, digit in enumerate(digits))


def digits_of(value: int, base: int, length: int) -> list[int]:
    return [value // base**place % base for place in range(length)]


def hinted(words: list) -> str:
    return " ".join(f"{chr(ord('a') + i)} {word}" for i, word in enumerate(words))


def columns(words: list[str], width: int) -> list[list[str]]:
    """The words of each labelled step, without its label."""
    return [words[i + 1 : i + width] for i in range(0, len(words), width)]


def oracle(family: str, prompt: str) -> str:
    *words, end = prompt.split()
    assert end == "="
    if family == "sorting":
        script = next(s for s in families.SCRIPTS if words[1] in s)
        rank = {symbol: i for i, symbol in enumerate(families.SCRIPT_ORDER[script])}
        result = [""] * len(rank)
        for word in words[1:]:
            result[rank[word]] = word
        return " ".join(filter(None, result))
    if family == "digit_sum":
        values = [families.SCRIPT_VALUES[s] for (s,) in columns(words[1:], 2)]
        return hinted([sum(values[: i + 1]) % 9 or 9 for i in range(len(values))])
    if family == "base_conversion":
        base = int(words[1].removeprefix(">"))
        inverse = {int(f"{x}{y}", base): f"{x}{y}" for x in range(1, base) for y in range(base)}
        return hinted([inverse[int(x)] for _, x in columns(words, 3)])
    if family in ("addition", "subtraction"):
        base = int(words[1][1:])
        upper, lower = ([int(c[k]) for c in columns(words, 4)] for k in (1, 2))
        length = len(upper)
        # The two numbers cut to their first 1, 2, ... columns.
        cut = [(number(upper[:i], base), number(lower[:i], base)) for i in range(1, length + 1)]
        if family == "addition":
            digits = digits_of(sum(cut[-1]), base, length)
            carries = [x + y >= base ** (i + 1) for i, (x, y) in enumerate(cut)]
            return hinted([f"{'1' * c}{d}" for c, d in zip(carries, digits, strict=True)])
        digits = digits_of((cut[-1][0] - cut[-1][1]) % base**length, base, length)
        return hinted([f"{d}{'-' * (x < y)}" for d, (x, y) in zip(digits, cut, strict=True)])
    state, steps = int(words[0]), columns(words[1:], 3)
    results = []
    for i, (operator, operand) in enumerate(steps):
        if family == "product":
            whole = state
            for _, other in steps[: i + 1]:
                whole *= int(other)
            results.append(whole % int(operator[1:]))
        else:
            last = results[-1] if results else state
            results.append(families.OPERATOR_TABLES[operator, last, int(operand)])
    return hinted(results)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_answers_agree_with_an_independent_oracle(rows, family):
    own = [row for row in rows if row["family"] == family]
    assert own
    for row in own:
        assert row["answer"] == oracle(family, row["prompt"]), row["prompt"]


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("level", range(1, arithmetic.LEVELS + 1))
def test_answers_cannot_be_guessed(family, level):
    """Guessing each step among the words that it could be succeeds at most once in a hundred."""
    rng = random.Random(0)
    for _ in range(200):
        chance = [1.0]

        def step(fact, right, choices, chance=chance):
            assert right in choices
            chance[0] /= len(choices)
            return right

        families.FAMILIES[family](rng, level).work(step)
        assert chance[0] <= 0.01


def test_knowing_the_commonest_answers_does_not_help():
    """One who knows the commonest answer of each family and level gets less than a hundredth."""
    rng, score = random.Random(0), 0.0
    for draw in families.FAMILIES.values():
        for level, share in enumerate(arithmetic.MIX, start=1):
            answers = Counter(draw(rng, level).work(believe_right) for _ in range(1000))
            score += share / len(families.FAMILIES) * answers.most_common(1)[0][1] / 1000
    assert score <= 0.01


def test_levels_share_no_words_that_carry_facts():
    """Level l's operator, base, modulus or script is its own."""
    for owned in (
        families.OPERATORS,
        families.ADDITION_BASES,
        families.SUBTRACTION_BASES,
        families.MODULI,
        families.CONVERSION_BASES,
        "".join(families.SCRIPTS),
    ):
        assert len(set(owned)) == len(owned)


def test_importing_the_suite_does_not_import_torch():
    code = (
        "import sys, gdro.data.arithmetic as a; a.generate('test'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture(scope="module")
def base():
    transformers = pytest.importorskip("transformers")
    path = arithmetic.base_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    return transformers.AutoModelForCausalLM.from_pretrained(path), tokenizer


def test_base_is_a_small_qwen3_that_generates(base):
    model, tokenizer = base
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id == model.generation_config.pad_token_id
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id


def test_every_word_is_a_token_and_answers_fit(base, rows):
    _, tokenizer = base
    for key, longest in (("prompt", 32), ("answer", arithmetic.MAX_COMPLETION_TOKENS - 1)):
        encoded = tokenizer([row[key] for row in rows])["input_ids"]
        assert max(map(len, encoded)) <= longest
        assert all(tokenizer.unk_token_id not in ids for ids in encoded)
        assert tokenizer.batch_decode(encoded) == [row[key] for row in rows]


def test_base_knows_the_head_and_not_the_tail(base):
    import torch

    model, tokenizer = base
    torch.manual_seed(0)
    rows = [row for row in arithmetic.generate("validation") if row["level"] in (1, 5)]
    encoded = tokenizer([row["prompt"] for row in rows], return_tensors="pt", padding=True)
    generated = model.generate(
        **encoded, max_new_tokens=arithmetic.MAX_COMPLETION_TOKENS, do_sample=True, top_k=0
    )
    texts = tokenizer.batch_decode(
        generated[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True
    )
    right = {1: [], 5: []}
    for row, text in zip(rows, texts, strict=True):
        right[row["level"]].append(text.strip() == row["answer"])
    assert sum(right[1]) / len(right[1]) > 0.6
    assert sum(right[5]) / len(right[5]) < 0.1
