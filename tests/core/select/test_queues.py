"""Queues by difficulty class against lists, and draws by mass against what there is."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.select import queues
from gdro.core.select.mixture import draw_by_class, within
from gdro.core.select.queues import Queues


def standing(line: Queues) -> tuple[list[list[int]], list[int]]:
    """The positions in each queue, and those that are out."""
    state = line.state_dict()
    held = np.split(state["held"], np.cumsum(state["size"])[:-1])
    return [part.tolist() for part in held], state["out"].tolist()


class Drawn:
    """Queues with a class and a last draw of each prompt, as a pool has them."""

    def __init__(self, class_N: np.ndarray) -> None:
        self.class_N, self.last_N, self.draws = class_N, np.zeros(len(class_N), np.int64), 0
        self.queues = self.made()
        self.queues.append(np.arange(len(class_N)))

    def made(self) -> Queues:
        return Queues(lambda at: self.class_N[at], lambda at: self.last_N[at], 3)

    def took(self, chosen: np.ndarray) -> None:
        self.draws += len(chosen)
        self.last_N[chosen] = self.draws


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_draws_take_the_front_of_their_class_and_lose_no_one(data: Any) -> None:
    size = data.draw(st.integers(1, 40))
    now = Drawn(np.array(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))))
    class_N, last_N, line = now.class_N, now.last_N, now.queues
    barred: set[int] = set()

    def eligible(at: np.ndarray) -> np.ndarray:
        return np.array([int(i) not in barred for i in at], bool)

    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()):
            class_N[data.draw(st.integers(0, size - 1))] = data.draw(st.integers(0, 2))
        barred = set(data.draw(st.lists(st.integers(0, size - 1), max_size=5)))
        if data.draw(st.booleans()):
            line.bring_back()
        before, out = standing(line)
        c, count = data.draw(st.integers(0, 2)), data.draw(st.integers(1, size + 1))
        drawn, short_C = line.draw(np.eye(3, dtype=int)[c] * count, eligible)
        expected = [i for i in before[c] if class_N[i] == c and i not in barred][:count]
        assert drawn.tolist() == expected
        assert short_C.tolist() == [k == c and len(expected) < count for k in range(3)]
        after, out_now = standing(line)
        assert out_now == out + expected
        assert sorted([i for part in (*after, out_now) for i in part]) == list(range(size))
        for k in range(3):  # those who stay keep their order; who was misplaced finds his place
            stayed = [i for i in before[k] if i in after[k]]
            assert [i for i in after[k] if i in before[k]] == stayed
            assert (np.diff(last_N[after[k]]) >= 0).all()
        again = now.made()
        again.load_state_dict(line.state_dict())
        assert standing(again) == standing(line)
        now.took(drawn)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_longest_waits_are_found_wherever_classes_have_moved(data: Any) -> None:
    """Against all prompts that stand, while prompts change classes in their queues."""
    size = data.draw(st.integers(2, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    now = Drawn(rng.integers(0, 3, size))
    for _ in range(data.draw(st.integers(1, 25))):
        now.queues.bring_back()
        if rng.random() < 0.3:
            resumed = now.made()
            resumed.load_state_dict(now.queues.state_dict())
            now.queues = resumed
        beyond, most = size * rng.random() * 2, int(rng.integers(1, 5))
        waited_N = now.draws - now.last_N
        longest = now.queues.longest(now.draws, beyond, most)
        late = np.sort(waited_N[waited_N > beyond])[::-1][:most]
        assert waited_N[longest].tolist() == late.tolist()
        drawn, _ = now.queues.draw(rng.integers(0, 3, 3))
        now.took(np.concatenate([longest, drawn]))
        moved = rng.random(size) < 0.2  # as late outcomes do
        now.class_N[moved] = rng.integers(0, 3, int(moved.sum()))


def test_a_step_looks_at_no_more_queues_than_it_draws_from(monkeypatch: Any) -> None:
    """A column may have thousands of levels, each a class."""
    size = 3000
    looks, peek = [], queues._Queue.peek
    monkeypatch.setattr(queues._Queue, "peek", lambda *args: looks.append(1) or peek(*args))
    line = Queues(lambda at: at, np.zeros_like, size)
    line.append(np.arange(size))
    assert line.size_C.sum() == size
    count_C = np.zeros(size, int)
    count_C[[5, 700]] = 1
    looks.clear()
    line.bring_back()
    assert line.longest(10, 10.0, 4).size == 0
    assert line.draw(count_C)[0].tolist() == [5, 700]
    assert line.size_C.sum() == size - 2
    assert len(looks) <= 3 * 2


def test_an_older_state_is_put_in_order() -> None:
    now = Drawn(np.array([0, 0, 0]))
    now.last_N[:] = [1, 5, 9]
    old = {"held": np.array([2, 0, 1]), "size": np.array([3, 0, 0]), "out": np.zeros(0, np.int64)}
    now.queues.load_state_dict(old)
    assert now.queues.longest(100, 93, 10).tolist() == [0, 1]


def test_a_draw_ends_where_no_one_else_may_be_drawn() -> None:
    line = Queues(lambda at: at % 2, np.zeros_like, 2)
    line.append(np.arange(10))
    rng = np.random.default_rng(0)
    drawn = draw_by_class(line, np.array([1.0, 0.0]), 8, rng, lambda at: at < 6)
    assert sorted(drawn) == [0, 1, 2, 3, 4, 5]
    assert draw_by_class(line, np.array([1.0, 1.0]), 3, rng, lambda at: at < 6).size == 0


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
