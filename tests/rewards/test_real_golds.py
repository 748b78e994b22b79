"""Golds of real data sets verify against themselves, and not against each other.

The problems are not in the repository; where the folder is absent the tests are skipped.
"""

import gzip
import json
import os
import random
import re
from pathlib import Path

import pytest

from gdro.rewards import check_golds, verify, worker

DATA = Path(os.environ.get("GDRO_SHARED_DATA") or Path(__file__).parents[2].parent / "shared/data")

INTEGERS = {"gsm8k_test.jsonl": 1319, "gsm8k_train.jsonl": 7473, "dapo_math_17k_en.jsonl.gz": 14116,
            "aime24.jsonl": 30, "amc23.jsonl": 40}  # fmt: skip


def golds_of(name: str) -> list[str]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here; set GDRO_SHARED_DATA to the folder that has it")
    data = path.read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    rows = [json.loads(line) for line in text.rstrip("\n").split("\n")]
    return [row.get("answer_latex") or row["answer"] for row in rows]  # Minerva's is Python


@pytest.mark.parametrize(("name", "rows"), INTEGERS.items())
def test_numbers_need_no_sympy(name, rows, monkeypatch):
    monkeypatch.setattr(worker, "shared", lambda: pytest.fail("went to math-verify"))
    golds = golds_of(name)
    assert len(golds) == rows
    assert check_golds(golds) == []
    assert set(verify(golds, [rf"so \boxed{{{gold}}}" for gold in golds])) == {"right"}
    others = random.Random(0).sample(golds, len(golds))
    marked = verify(golds, [rf"\boxed{{{other}}}" for other in others])
    equal = [float(g) == float(o) and int(g) == int(o) for g, o in zip(golds, others, strict=True)]
    assert [v == "right" for v in marked] == equal


@pytest.mark.parametrize(
    ("name", "rows", "empty"),
    [
        ("math500.jsonl", 500, []),
        ("olympiadbench.jsonl", 675, []),
        ("minerva_math.jsonl", 272, []),
        ("math_train_7500.jsonl.gz", 7500, [5341, 5343]),
    ],
)
def test_formulas_verify_against_themselves(name, rows, empty):
    """Read and compared, not as equal strings; the bad ones have no answer at all."""
    golds = golds_of(name)
    assert len(golds) == rows
    assert check_golds(golds) == empty
    assert [row for row, gold in enumerate(golds) if not gold.strip()] == empty
    some = [gold for gold in golds if gold.strip()]
    assert set(verify(some, [rf"so \boxed{{{gold}}}." for gold in some])) == {"right"}


def test_different_golds_are_not_taken_for_each_other():
    golds = sorted({*golds_of("math500.jsonl"), *golds_of("olympiadbench.jsonl")})
    rng = random.Random(0)
    pairs = [rng.sample(golds, 2) for _ in range(1500)]
    verdicts = verify([g for g, _ in pairs], [rf"\boxed{{{a}}}" for _, a in pairs])
    equal = [tuple(pair) for pair, v in zip(pairs, verdicts, strict=True) if v == "right"]
    assert [pair for pair in equal if plain(pair[0]) != plain(pair[1])] == []


def plain(gold: str) -> str:
    """Of the pairs of this sample that are equal, by eye, no two differ by more than this."""
    return re.sub(r"[$ ]", "", gold.replace(r"\dfrac", r"\frac"))
