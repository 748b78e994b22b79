"""maj@k against enumeration of how ties may fall."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.errors import ConfigError
from gdro.evals import majority as module
from gdro.evals.majority import answers, group, majority

ROWS = st.lists(st.integers(-1, 3), min_size=1, max_size=7)


@settings(deadline=None)
@given(ROWS, st.integers(0, 3))
def test_it_is_the_expectation_over_how_a_tie_may_fall(votes, gold):
    group_GK, right = np.array([votes]), np.array([[v == gold for v in votes]])
    counts = {v: votes.count(v) for v in votes if v >= 0}
    winners = [v for v in counts if counts[v] == max(counts.values())]
    expected = np.mean([v == gold for v in winners]) if winners else 0.0
    assert majority(group_GK, right)[0] == pytest.approx(expected)


def test_one_completion_is_its_own_majority():
    right = np.array([[True], [False], [False]])
    assert majority(np.array([[0], [0], [-1]]), right).tolist() == [1, 0, 0]


def test_equal_values_vote_together_however_they_are_spelled():
    row = ["0.5", r"\frac{1}{2}", "3", r"\dfrac12", None, "3.0", r"\frac{2}{4}"]
    assert group([row], "last_box").tolist() == [[0, 0, 1, 0, -1, 1, 0]]
    assert group([row], "exact").tolist() == [[0, 1, 2, 3, -1, 4, 5]]


def test_the_gold_is_not_seen():
    """Wrong answers join each other as right ones do, or the majority would favour the gold."""
    row = ["x+1", "1+x", "7", "7.0", "x^2+x", "x(x+1)"]
    assert group([row, row[::-1]], "last_box").tolist() == [[0, 0, 1, 1, 2, 2]] * 2


@settings(max_examples=30, deadline=None)
@given(st.permutations(["1", "1.0", "01", "2", "2.00", "-1"]))
def test_groups_do_not_depend_on_the_order(row):
    values = [float(a) for a in row]
    (found,) = group([row], "last_box")
    for i, j in itertools.combinations(range(len(row)), 2):
        assert (found[i] == found[j]) == (values[i] == values[j])


def test_what_could_not_be_read_is_not_tried_again(monkeypatch):
    asked = []

    def verify(golds, texts):
        asked.extend([*golds, *texts])
        return ["wrong"] * len(golds)

    monkeypatch.setattr(module, "verify", verify)
    assert group([["9^{9^9}", "4", "9^{9^9}", "5"]], "last_box", {"9^{9^9}"}).tolist() == [
        [2, 0, 2, 1]
    ]
    assert not any("9^9" in text for text in asked)


def test_answers_stand_where_the_policy_says():
    texts = [r"\boxed{1} then \boxed{2}", "no box", " 3 \n"]
    assert answers(texts, "last_box") == ["2", None, None]
    assert answers(texts, "exact") == [r"\boxed{1} then \boxed{2}", "no box", "3"]
    with pytest.raises(ConfigError, match="policy must be"):
        answers(texts, "first")
