"""The curriculum's numbers against a trace small enough to work out by hand."""

import pytest

from gdro.core.trace import Trace
from gdro.report import curriculum_numbers
from gdro.report.curriculum import hard_part


def trace(records, source="online", boundaries=(0, 0.25, 0.5, 1)):
    header = {
        "boundaries": list(boundaries),
        "bin_names": ["a", "b", "c"],
        "config": {"difficulty": {"source": source}},
        "n_mean": 4,
    }
    return Trace(header=header, records=records)


def test_the_unsolved_third_is_weighed_by_range():
    assert hard_part(trace([])) == pytest.approx([1, 1 / 3, 0])
    ten = trace([], boundaries=[i / 10 for i in range(11)])
    assert hard_part(ten) == pytest.approx([1, 1, 1, 1 / 3, 0, 0, 0, 0, 0, 0])


def test_four_quarters_by_hand():
    records = [
        {
            "step": 0,
            "prompts_B": [3, 3, 2],
            "rollouts_B": [18, 9, 4],
            "weight_B": [2.0, 1.0, 0.5],
            "lead_lag": -0.5,
            "effective_support": 2.0,
            "mixed_fraction": 0.5,
            "unseen_prompts": 2,
            "unseen_rollouts": 9,
        },
        {
            "step": 1,
            "prompts_B": [1, 0, 9],
            "rollouts_B": [8, 0, 32],
            "weight_B": [3.0, None, 0.8],
            "lead_lag": -0.1,
            "effective_support": 3.0,
            "mixed_fraction": 0.25,
        },
        {"step": 2, "prompts_B": [0, 0, 10], "rollouts_B": [0, 0, 40], "lead_lag": None},
        {
            "step": 3,
            "prompts_B": [0, 3, 7],
            "rollouts_B": [0, 15, 25],
            "weight_B": [None, 2, 0.6],
            "lead_lag": -0.25,
        },
        {
            "step": 4,
            "prompts_B": [0, 3, 7],
            "rollouts_B": [0, 9, 31],
            "weight_B": [None, 1, 1],
            "lead_lag": 0.25,
        },
    ]
    found = curriculum_numbers(trace(records))
    assert found["stages"] == [(0, 1), (2, 2), (3, 3), (4, 4)]
    assert found["lead_lag"] == pytest.approx([-0.3, None, -0.25, 0.25])
    assert found["effective_support"] == [2.5, None, None, None]
    assert found["mixed_groups"] == [0.375, None, None, None]
    # Quarter one: hard prompts 3 + 3/3 + 1 = 5 of 18 + 2 unseen; rollouts 18 + 9/3 + 8 = 29 of 80.
    assert found["hard_prompts"] == pytest.approx([5 / 20, 0, 0.1, 0.1])
    assert found["hard_budget"] == pytest.approx([29 / 80, 0, 5 / 40, 3 / 40])
    assert found["hard_rollouts"] == pytest.approx([29 / 5, None, 5, 3])
    assert found["hard_weight"] == pytest.approx([(3 * 2 + 1 * 1 + 1 * 3) / 5, None, 2, 1])


def test_short_traces_and_static_groups_have_gaps_and_no_errors():
    empty = curriculum_numbers(trace([]))
    assert empty["stages"] == [None] * 4
    assert empty["hard_budget"] == [None] * 4
    static = curriculum_numbers(trace([{"step": 0, "prompts_B": [1, 1, 1]}], "column:family"))
    assert static["hard_budget"] is None
    assert static["stages"] == [(0, 0), None, None, None]
