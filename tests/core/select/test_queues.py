"""Queues by difficulty class against lists, and draws by mass against what there is."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.select.mixture import draw_by_class, within
from gdro.core.select.queues import Queues


def standing(queues: Queues) -> tuple[list[list[int]], list[int]]:
    """The positions in each queue, and those that are out."""
    state = queues.state_dict()
    held = np.split(state["held"], np.cumsum(state["size"])[:-1])
    return [part.tolist() for part in held], state["out"].tolist()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_draws_take_the_front_of_their_class_and_lose_no_one(data: Any) -> None:
    size = data.draw(st.integers(1, 40))
    class_N = np.array(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))
    queues = Queues(lambda at: class_N[at], 3)
    queues.append(np.arange(size))
    barred: set[int] = set()

    def eligible(at: np.ndarray) -> np.ndarray:
        return np.array([int(i) not in barred for i in at], bool)

    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()):
            class_N[data.draw(st.integers(0, size - 1))] = data.draw(st.integers(0, 2))
        barred = set(data.draw(st.lists(st.integers(0, size - 1), max_size=5)))
        if data.draw(st.booleans()):
            queues.bring_back()
        before, out = standing(queues)
        c, count = data.draw(st.integers(0, 2)), data.draw(st.integers(1, size + 1))
        drawn, short_C = queues.draw(np.eye(3, dtype=int)[c] * count, eligible)
        expected = [i for i in before[c] if class_N[i] == c and i not in barred][:count]
        assert drawn.tolist() == expected
        assert short_C.tolist() == [k == c and len(expected) < count for k in range(3)]
        after, out_now = standing(queues)
        assert out_now == out + expected
        assert sorted([i for part in (*after, out_now) for i in part]) == list(range(size))
        for k in range(3):  # those who stay keep their order; those who were misplaced go first
            stay = [i for i in before[k] if i in after[k]]
            assert after[k][len(after[k]) - len(stay) :] == stay
        again = Queues(lambda at: class_N[at], 3)
        again.load_state_dict(queues.state_dict())
        assert standing(again) == standing(queues)


def test_a_draw_ends_where_no_one_else_may_be_drawn() -> None:
    queues = Queues(lambda at: at % 2, 2)
    queues.append(np.arange(10))
    rng = np.random.default_rng(0)
    drawn = draw_by_class(queues, np.array([1.0, 0.0]), 8, rng, lambda at: at < 6)
    assert sorted(drawn) == [0, 1, 2, 3, 4, 5]
    assert draw_by_class(queues, np.array([1.0, 1.0]), 3, rng, lambda at: at < 6).size == 0


@pytest.mark.parametrize(
    ("mass", "room", "total", "expected"),
    [
        ([3.0, 1.0], [9, 9], 4, [3, 1]),
        ([3.0, 1.0], [2, 9], 4, [2, 2]),
        ([1.0, 0.0, 0.0], [2, 5, 0], 4, [2, 2, 0]),  # what has no mass comes last
        ([0.0, 0.0], [1, 3], 2, [0.5, 1.5]),
    ],
)
def test_counts_follow_the_mass_as_far_as_there_is_room(
    mass: list[float], room: list[int], total: int, expected: list[float]
) -> None:
    assert within(np.array(mass), np.array(room), total) == pytest.approx(expected)
