"""What is in the training data of a benchmark: two rules, against brute force and real data."""

import itertools
import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdro.cli import main
from gdro.data import load_prompts
from gdro.data.contamination import counts, overlaps, without
from gdro.data.templates import TEMPLATES, apply

LONG = "Cities A and B are 45 miles apart. Alicia leaves A at 18 miles per hour, and Beth leaves B "
LONG += "at 12 miles per hour, each on the way to the other city. "


def rows(*pairs: tuple) -> list[dict]:
    return [{"id": f"r{n}", "prompt": p, "answer": a} for n, (p, a) in enumerate(pairs)]


def rules(train: list[dict], bench: list[dict]) -> set[tuple]:
    return {
        (o.train_row, o.benchmark_row, o.same_text, o.same_start)
        for o in overlaps(train, {"bench": bench})
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "text", "start"),
    [
        (("What is $x$?", "1"), ("What  is x ?", "2"), True, False),
        (("What is x?", "1"), ("what is: X", "1"), False, True),
        (("What is x?", "1"), ("What is y?", "1"), False, False),
        ((LONG + "Where?", "27"), (LONG.upper() + "How far from A?", "$27.0$"), False, True),
        ((LONG + "Where?", "27"), (LONG + "How far from A?", "28"), False, False),
        ((LONG + "Where?", "27"), (LONG + "How far from A?", "-27"), False, False),
        (("$ $", "1"), ("?", "1"), False, False),  # nothing to compare
        (("求和", "1"), ("求积", "1"), False, False),  # letters of any script
        (("求和", "1"), ("求 和", "1"), True, True),
        (("x?", "025"), ("x?", "25"), True, True),
        (("x?", r"\frac12"), ("x?", r"$\frac 12$"), True, True),
    ],
)
def test_the_rules(ours, theirs, text, start):
    expected = {(0, 0, text, start)} if text or start else set()
    assert rules(rows(ours), rows(theirs)) == expected


@given(
    st.lists(st.tuples(st.text("aB1 $.", max_size=5), st.sampled_from(["1", "2"])), max_size=8),
    st.lists(st.tuples(st.text("aB1 $.", max_size=5), st.sampled_from(["1", "2"])), max_size=8),
)
def test_every_pair_is_found_and_no_other(ours, theirs):
    train, bench = rows(*ours), rows(*theirs)
    expected = set()
    for (t, (p, a)), (b, (q, c)) in itertools.product(enumerate(ours), enumerate(theirs)):
        text = re.sub(r"[ $]", "", p) == re.sub(r"[ $]", "", q)
        letters = [re.sub(r"[^ab1]", "", s.lower()) for s in (p, q)]
        start = letters[0] == letters[1] != "" and a == c
        if text or start:
            expected.add((t, b, text, start))
    assert rules(train, bench) == expected
    left = without(train, overlaps(train, {"bench": bench}))
    assert rules(left, bench) == set()
    assert len(left) == len(train) - len({pair[0] for pair in expected})


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("other", TEMPLATES)
def test_known_instructions_are_no_part_of_a_problem(template, other):
    problems = ["What is 1 + 1?", LONG + "Where do they meet?"]
    train = rows(*((apply(template, p), "2") for p in problems))
    bench = rows(*((apply(other, p), "2") for p in problems))
    assert rules(train, bench) == {(0, 0, True, True), (1, 1, True, True)}


def test_an_unknown_instruction_is_warned_of(caplog):
    wrapped = rows(*((f"{LONG * 2} {n}?", str(n)) for n in range(5)))
    with caplog.at_level(logging.WARNING):
        assert overlaps(wrapped, {"bench": rows(("1?", "1"))}) == []
    assert "the training data: 5 of 5 problems begin with 'citiesaandb" in caplog.text
    caplog.clear()
    tails = rows(*((f"{n}{n + 1}? {LONG * 2}", str(n)) for n in range(5)))
    assert overlaps(rows(("1?", "1")), {"bench": tails}) == []
    assert "bench: 5 of 5 problems end in" in caplog.text


def test_the_table_counts_problems_not_pairs():
    train = rows(("x?", "1"), ("x ?", "1"), ("y?", "2"))
    sizes = {"one": 3, "two": 1}
    found = overlaps(train, {"one": rows(("x?", "1"), ("y?", "3"), ("z?", "1")),
                             "two": rows(("z", "1"))})  # fmt: skip
    assert len(found) == 3
    lines = [line.split() for line in counts(found, sizes).splitlines()]
    assert lines[1:] == [["one", "3", "2", "1", "2"], ["two", "1", "0", "0", "0"]]


def test_the_command(tmp_path, write, capsys):
    train = rows(("What is $x$?", "1"), ("Another?", "2"), ("Third?", "3"))
    train[1]["level"] = 3
    spec = write(tmp_path / "train.jsonl", train)
    bench = write(tmp_path / "bench.jsonl", rows(("What is x?", "1"), ("Fourth?", "4")))
    out, clean = tmp_path / "pairs.json", tmp_path / "clean.jsonl"
    words = ["data", "check", spec, "--against", bench, "--out", str(out)]
    assert main([*words, "--write-clean", str(clean)]) == 1
    shown = capsys.readouterr().out
    assert f"r0 of {bench} is r0: same text and start and answer\n  answers 1 and 1" in shown
    assert f"{clean}: 2 of 3 rows" in shown
    (pair,) = json.loads(out.read_text())
    assert (pair["benchmark"], pair["train_id"], pair["problem"]) == (bench, "r0", "What is x?")
    left = [json.loads(line) for line in clean.read_text().splitlines()]
    assert [(row["id"], row["prompt"], row["answer"], row["level"]) for row in left] == [
        ("r1", "Another?", "2", 3),
        ("r2", "Third?", "3", None),
    ]
    assert main(["data", "check", str(clean), "--against", bench]) == 0
    assert main(["data", "check", "arithmetic", "--against", "arithmetic",
                 "--against-split", "test"]) == 0  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.jsonl", "--against", "arithmetic"], "gone.jsonl: no such file"),
        (["arithmetic", "--against", "gone.jsonl"], "gone.jsonl: no such file"),
        (["arithmetic", "--against", "arithmetic", "--out", "gone/a.json"],
         "--out: no such folder"),
        (["arithmetic", "--against", "arithmetic", "--out", "."], "--out: is a folder, ."),
        (["arithmetic", "--against", "arithmetic", "--write-clean", "a.csv"],
         "--write-clean must end in .jsonl"),
        (["arithmetic", "--against", "arithmetic", "--column", "prompt"],
         "a column must be OURS=THEIRS, got 'prompt'"),
        (["arithmetic", "--against", "arithmetic", "--column", "prompt=question"],
         "no column question"),
    ],
)  # fmt: skip
def test_errors_of_the_command(words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", *words]) == 2
    assert message in capsys.readouterr().err


def test_show(capsys, tmp_path, write):
    spec = write(tmp_path / "a.jsonl", [{"q": "Two?", "gold": 2}, {"q": "求和", "gold": 1}])
    words = ["--column", "prompt=q", "--column", "answer=gold", "--drop-cjk"]
    assert main(["data", "show", spec, *words, "--template", "boxed"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"Chinese, Japanese, Korean +-1\n", shown)
    assert "prompt: Two?\nPlease reason" in shown


@pytest.mark.parametrize(
    ("bench", "size", "text", "start"),
    [
        ("amc23", 40, 6, 21),
        ("math500", 500, 5, 8),
        ("olympiadbench", 675, 5, 13),
        ("aime24", 30, 0, 0),
        ("minerva_math", 272, 0, 0),
    ],
)
def test_dapo(shared, dapo, bench, size, text, start):
    data = load_prompts(shared(f"{bench}.jsonl"))
    found = overlaps(dapo, {bench: data})
    assert len(data) == size
    assert len({o.benchmark_row for o in found if o.same_text}) == text
    assert len({o.benchmark_row for o in found if o.same_start}) == start


@pytest.fixture(scope="module")
def dapo(shared) -> list[dict]:
    return load_prompts(shared("dapo_math_17k_en.jsonl.gz")).to_list()
