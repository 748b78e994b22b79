"""The verifier under attack and under random mutations; the whole is in benchmarks/verifier.py."""

import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from gdro.rewards import Verdict, verify

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import oracle  # noqa: E402
from attacks import CLASSES, attacks  # noqa: E402
from respell import mutants, respellings, wrong_answers  # noqa: E402

sys.path.remove(str(BENCHMARKS))

GOLDS = [
    "5", "42", "-7", "0", "1024", "3.25", "1000000", "99", "12", "210", r"\frac{1}{2}",
    r"-\frac{7}{3}", r"\frac{22}{45}", r"2\sqrt{3}", r"\frac{\pi}{4}", "x^2-1", "(1,2)", "1,2,3",
    r"\{1,2\}", "(0,1]", r"(-\infty,3)", "y=2x+1", "6-5i", r"50\%", "90^\\circ", r"\text{east}",
    r"\text{(C)}", "2516_8", r"5\text{ cm}", r"\$12.50", "17", "365", "1.5", r"\frac{3}{8}",
    "811", "73", "640", "2020",
]  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_attacks_get_the_verdict_that_they_must(name):
    written = attacks(name)
    assert len(written) >= 50
    if name == "boxes of 1 MB":
        written = written[::5]
    verdicts = verify([a.gold for a in written], [a.completion for a in written])
    odd = [
        (a.gold, a.completion[:100], v)
        for a, v in zip(written, verdicts, strict=True)
        if (v == Verdict.right) != a.right
    ]
    assert not odd
    assert any(a.right for a in attacks(name))


def test_ten_thousand_mutants_get_a_verdict_and_no_wrong_one_is_right():
    pairs = list(mutants(GOLDS, 10_000, seed=0))
    verdicts = verify([g for g, _ in pairs], [a for _, a in pairs], policy="whole")
    assert set(verdicts) <= set(Verdict)
    assert verdicts.count(Verdict.timeout) == 0
    said = Counter(
        oracle.same(gold, answer)
        for (gold, answer), verdict in zip(pairs, verdicts, strict=True)
        if verdict == Verdict.right
    )
    assert said[False] <= 5  # by eye: |5| and the like of units, which the oracle leaves alone
    assert said[True] > 500


def test_respellings_are_right():
    made = [(gold, text) for gold in GOLDS for _, text in respellings(gold)]
    assert len(made) > 500
    verdicts = verify([g for g, _ in made], [rf"\boxed{{{a}}}" for _, a in made])
    assert [pair for pair, v in zip(made, verdicts, strict=True) if v != Verdict.right] == []


def test_wrong_answers_are_wrong():
    draw = random.Random(0)
    made = [(g, a) for g in GOLDS for _, a in wrong_answers(g, GOLDS, draw) if a != g]
    verdicts = verify([g for g, _ in made], [rf"\boxed{{{a}}}" for _, a in made])
    accepted = [pair for pair, v in zip(made, verdicts, strict=True) if v == Verdict.right]
    assert all(oracle.same(*pair) for pair in accepted)
    assert len(accepted) < 0.01 * len(made)
