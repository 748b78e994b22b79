"""Golds of real data sets verify against themselves, and not against each other.

The problems are not in the repository; where the folder is absent the tests are skipped.
"""

import gzip
import json
import os
import random
from pathlib import Path

import pytest

from gdro.rewards import check_golds, verify, worker
from gdro.rewards.verify import judge

DATA = Path(os.environ.get("GDRO_SHARED_DATA") or Path(__file__).parents[2].parent / "shared/data")

INTEGERS = {"gsm8k_test.jsonl": 1319, "gsm8k_train.jsonl": 7473, "dapo_math_17k_en.jsonl.gz": 14116,
            "aime24.jsonl": 30, "amc23.jsonl": 40}  # fmt: skip


def golds_of(name: str) -> list[str]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here; set GDRO_SHARED_DATA to the folder that has it")
    data = path.read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    return [json.loads(line)["answer"] for line in text.rstrip("\n").split("\n")]


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
    ("name", "unreadable"),
    [
        ("math500.jsonl", []),
        # Prose, an interval with a letter before it, and a subscript that is an operator.
        ("olympiadbench.jsonl", [r"$m_{\max }=n^{2}-n-1$", "$f(x)=a x+b$, where", "$t(0,4]$"]),
    ],
)
def test_formulas(name, unreadable):
    golds = golds_of(name)
    bad = sorted(golds[row] for row in check_golds(golds))
    assert len(bad) == len(unreadable)
    assert all(b.startswith(u) for b, u in zip(bad, sorted(unreadable), strict=True))


def test_different_golds_are_not_taken_for_each_other():
    golds = sorted(set(golds_of("math500.jsonl")))
    rng = random.Random(0)
    pairs = [rng.sample(golds, 2) for _ in range(400)]
    equal = {(a, b) for a, b in pairs if judge(a, b) == "right"}
    # Every pair that is found equal is one by eye: none of this sample is.
    assert equal == set()
