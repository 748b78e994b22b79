"""Every suite: frozen, disjoint from all others' splits, in the stated mix; the worded one right by
an independent oracle, and beyond guessing."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.cli import main
from gdro.core.errors import DataError
from gdro.data import load_prompts, worded
from gdro.data.suites import beliefs, find, suites
from gdro.data.suites.base import CONTEXT
from gdro.data.suites.problem import LEVELS, Problem, believe_right
from gdro.data.suites.suite import DEFAULT_SIZES
from gdro.data.worded import families

NAMES = list(suites())
DOCS = Path(__file__).parents[2] / "docs" / "suites.md"

# Frozen before any method was trained on them: after a change no earlier result compares.
# Those of plain arithmetic are in test_arithmetic.py.
SHA256 = {
    "arithmetic/easy": {
        "train": "289d5e5f3d09128343fb92eec2b0ccf160e82cfede45b0a7b54647219202ec21",
        "validation": "ad3471afbb779de9646156e59a04ada35ca2363bc60c639758a599cb5e81a12f",
        "test": "dbc863678f7a5dc1feffd63e2c5c31aa1ec375dcbf98615523c2863b4ad28b6e",
    },
    "arithmetic/hard": {
        "train": "cc17919b26d49b5ddd825fd799d508fb3c946d1d6d9d3c43ad52e7d094515fd7",
        "validation": "9b70b9d5a88bf71566c0294d29be53ff1c319fdf54ade76a9daed8fe184792d2",
        "test": "36d4205f482869b672b3607fcf7f870b7c95d3b129975411a254bbc059524a4c",
    },
    "arithmetic/once": {
        "train": "c75285dda7e30e12b62261aea7f0eed06179dd1bb3c11938f22e7f0718562919",
        "validation": "3f585b3d3a9939f79243e62c564372b921b9df39916379c259e687ba55498fd2",
        "test": "29f18386f65518714b49df5790c88572e9a6ab789b57f6ec3b4280f283525712",
    },
    "arithmetic/skewed": {
        "train": "009f09c10a195f3b2de73468f76c8f2ef459f0143f4af59019d22584c66c791b",
        "validation": "3f585b3d3a9939f79243e62c564372b921b9df39916379c259e687ba55498fd2",
        "test": "29f18386f65518714b49df5790c88572e9a6ab789b57f6ec3b4280f283525712",
    },
    "arithmetic/transfer": {
        "train": "db377c1f365ba4f514e9b0bfcc2e38cd363615550c1abf58020b02bb242be12d",
        "validation": "f0b9d1599fe77c37df8903f2f2914efc97eea0ac447866c43095c32715f9ff45",
        "test": "170f25dbdc0dbfbc25844034ae54dbeb72533d42adf59e34b5c3369fe295ac3d",
    },
    "worded": {
        "train": "7204f096b0f40071b021da5bf80c31435c83dabb1433114ae1845adb3edf4330",
        "validation": "dff64311bdb68d0c01023e94272633125607cf88fde62541914e29fd37efed21",
        "test": "c2fa9069d30e279ad0cc3bd65e7c954a616867a2d91cd122f590385a8f41565e",
    },
    "worded/transfer": {
        "train": "a255c69daa1abbaa3e8ff9bc0ac05895d4988829cb4cd66bfcf722f9306a88a9",
        "validation": "08f1cdc10d89074e25e1de2fe982800c4059d434a80d9846454f04e78fc62860",
        "test": "e17d2e32e470b7940900ce68f9696827c6a355ae4058565e7404d94e6e18c3ee",
    },
}


def digest(rows: list[dict]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "arithmetic"])
def test_every_split_is_frozen(name):
    assert {split: digest(find(name).generate(split)) for split in DEFAULT_SIZES} == SHA256[name]


@settings(max_examples=15, deadline=None)
@given(
    names=st.tuples(*[st.sampled_from(NAMES)] * 3),
    seeds=st.tuples(*[st.integers(0, 2**32)] * 3),
    sizes=st.tuples(*[st.integers(1, 200)] * 3),
)
def test_splits_are_disjoint_across_suites_seeds_and_sizes(names, seeds, sizes):
    drawn = [
        {row["prompt"] for row in find(name).generate(split, size, seed)}
        for name, split, size, seed in zip(names, DEFAULT_SIZES, sizes, seeds, strict=True)
    ]
    assert [len(prompts) for prompts in drawn] == list(sizes)
    assert len(set.union(*drawn)) == sum(sizes)


@pytest.mark.parametrize("name", NAMES)
def test_levels_come_in_the_stated_mix_in_every_family(name):
    suite = find(name)
    for split, size in suite.sizes.items():
        rows = suite.generate(split)
        assert len(rows) == size
        for family in suite.families_of(split):
            own = Counter(row["level"] for row in rows if row["family"] == family)
            for level, share in enumerate(suite.mix, start=1):
                assert own[level] / own.total() == pytest.approx(share, abs=0.06), family


def test_the_mixes_differ_in_their_tails_alone():
    """Easy, plain and hard: the same problems can come, more of the last levels each time."""
    variants = [find(f"arithmetic{variant}") for variant in ("/easy", "", "/hard")]
    tails = [sum(suite.mix[3:]) for suite in variants]
    assert tails == sorted(tails)
    assert tails[0] < tails[2]
    for suite in variants:
        assert sum(suite.mix) == pytest.approx(1)
        assert suite.families is variants[0].families
        assert suite.vocabulary is variants[0].vocabulary


@pytest.mark.parametrize("name", [name for name in NAMES if find(name).held_out])
def test_held_out_families_are_the_tests_alone(name):
    suite = find(name)
    assert suite.held_out < set(suite.families)
    drawn = {s: {row["family"] for row in suite.generate(s)} for s in DEFAULT_SIZES}
    assert drawn["test"] == suite.held_out
    assert drawn["train"] == drawn["validation"] == set(suite.families) - suite.held_out


def test_training_alone_has_few_of_the_rare_families():
    suite, plain = find("arithmetic/skewed"), find("arithmetic")
    drawn = Counter(row["family"] for row in suite.generate("train", 270))
    assert set(drawn) == set(suite.families)
    for family, count in drawn.items():  # 27 turns: 4 families have 6 each, 3 have one
        assert count == pytest.approx(10 if family in suite.rare else 60, abs=6), family
    assert suite.generate("test") == plain.generate("test")
    assert suite.generate("validation") == plain.generate("validation")


@pytest.mark.parametrize("name", NAMES)
def test_every_word_is_known_and_problems_fit(name):
    suite = find(name)
    assert len(set(suite.vocabulary)) == len(suite.vocabulary)
    for row in (row for split in DEFAULT_SIZES for row in suite.generate(split)):
        prompt, answer = row["prompt"].split(), row["answer"].split()
        assert set(prompt + answer) <= set(suite.vocabulary)
        assert len(answer) < suite.max_completion_tokens  # the end mark is one more
        assert len(prompt) + suite.max_completion_tokens <= CONTEXT
        assert row["prompt"] == " ".join(prompt)


def test_one_prompt_has_one_id_in_all_suites_of_a_collection():
    rows = [row for name in NAMES for split in DEFAULT_SIZES for row in find(name).generate(split)]
    ids = {(row["prompt"], row["id"]) for row in rows}
    assert len(ids) == len({id_ for _, id_ in ids}) == len({prompt for prompt, _ in ids})


def test_suites_are_data_sets():
    data = load_prompts("arithmetic/hard", split="test")
    assert data["prompt"] == [r["prompt"] for r in find("arithmetic/hard").generate("test")]
    assert set(data["source"]) == {"arithmetic/hard"}
    assert len(load_prompts("worded")) == DEFAULT_SIZES["train"]


def test_a_suite_that_there_is_not_is_named():
    with pytest.raises(DataError, match=r"worded/hard: no such suite; there are arithmetic, .*"):
        load_prompts("worded/hard")
    assert find("openai/gsm8k") is None


def test_a_folder_may_be_called_as_a_suite_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "worded").mkdir()
    (tmp_path / "worded" / "own.jsonl").write_text('{"prompt": "1 + 1", "answer": "2"}\n')
    assert load_prompts("worded/own.jsonl")["answer"] == ["2"]


def test_the_docs_show_the_suites_as_they_are(capsys):
    assert main(["data", "suites"]) == 0
    for table in capsys.readouterr().out.strip().split("\n\n"):
        assert table in DOCS.read_text()


# The oracle of the worded suite: reads the text alone.


def oracle(prompt: str) -> str:
    opening, *story, question = prompt.removesuffix(" ?").split(" . ")
    numbers = [int(word) for word in opening.split() if word.isdigit()]
    acts = [sentence.split() for sentence in story if sentence.split()[1] == "she"]
    days, verbs, things = ([act[i] for act in acts] for i in (0, 2, -1))
    if "beads" in opening:
        (count,), results = numbers, []
        for act in acts:
            count = families.exchange(count, act[3])
            results.append(f"{act[0]} {count}")
        return " ".join(results)
    start = sum(numbers)
    if "starts" in opening:
        stops = [opening.split()[-1], *things]
        changes = [families.distance(b, a) for a, b in zip(stops, things, strict=False)]
    elif "packing" in opening:
        changes = [int(act[3]) * families.box_size(act[-1]) for act in acts]
    elif "keeps" in opening:
        signs = {"gains": 1, "finds": 1, "sells": -1, "loses": -1}
        changes = [signs[v] * families.box_size(t) for v, t in zip(verbs, things, strict=True)]
    else:
        changes = [families.price(t) * (-1 if "left" in question else 1) for t in things]
    totals = [start + sum(changes[: i + 1]) for i in range(len(changes))]
    steps = zip(days, changes, totals, strict=True)
    return " ".join(f"{day} {abs(change)} {total}" for day, change, total in steps)


@pytest.mark.parametrize("name", ["worded", "worded/transfer"])
def test_answers_agree_with_an_independent_oracle(name):
    for row in (row for split in DEFAULT_SIZES for row in find(name).generate(split)):
        assert row["answer"] == oracle(row["prompt"]), row["prompt"]


def drawn(family: str, level: int, seed: int) -> Problem:
    return families.FAMILIES[family](random.Random(seed), level)


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_answers_cannot_be_guessed(family, level):
    """Guessing each step among the words that it could be succeeds at most once in a hundred."""
    for seed in range(100):
        chance = [1.0]

        def step(fact, right, choices, chance=chance):
            assert right in choices
            chance[0] /= len(choices)
            return right

        drawn(family, level, seed).work(step)
        assert chance[0] <= 0.01


def test_knowing_the_commonest_answers_does_not_help():
    """Neither with the whole answer nor with its last number alone does one get far."""
    whole = last = 0.0
    for family in families.FAMILIES:
        answers = [drawn(family, 5, seed).work(believe_right) for seed in range(1000)]
        whole += Counter(answers).most_common(1)[0][1] / 6000
        last += Counter(a.split()[-1] for a in answers).most_common(1)[0][1] / 6000
    assert whole <= 0.01
    assert last <= 0.15


@settings(max_examples=200, deadline=None)
@given(
    family=st.sampled_from(sorted(families.FAMILIES)),
    level=st.integers(1, LEVELS),
    seed=st.integers(0, 2**32),
)
def test_no_belief_leads_out_of_the_vocabulary(family, level, seed):
    example = beliefs.worked_example(drawn(family, level, seed), random.Random(seed))
    assert set(example.split()) <= set(find("worded").vocabulary)
    assert len(example.split()) < worded.MAX_COMPLETION_TOKENS


def test_a_price_is_believed_alike_when_shopping_and_in_a_budget():
    topics: dict[str, set[str]] = {}
    for family in families.FAMILIES:
        topics.setdefault(drawn(family, 1, 0).topic or family, set()).add(family)
    assert topics == {
        "price": {"shopping", "budget"},
        "box": {"packing", "stock"},
        "journey": {"journey"},
        "barter": {"barter"},
    }


def test_levels_share_no_things():
    assert len({thing for things in families.THINGS for thing in things}) == LEVELS * 8


@pytest.mark.parametrize("family", families.FAMILIES)
def test_training_shows_nearly_all_facts_of_the_tail(family):
    """What the test asks of the last level, the train split can have taught."""
    suite, seen = find("worded"), {"train": set(), "test": set()}
    for split, facts in seen.items():
        problems, prompts = suite.problems(split), set()
        while len(prompts) < DEFAULT_SIZES[split]:
            problem = next(problems)
            prompts.add(problem.prompt)
            if problem.family == family and problem.level == LEVELS:
                problem.work(lambda fact, right, _, facts=facts: facts.add(fact) or right)
    assert len(seen["test"] - seen["train"]) <= 0.05 * len(seen["test"])
