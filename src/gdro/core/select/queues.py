"""The data set in queues, one a difficulty class, so that a draw costs what it draws."""

import heapq
from collections.abc import Callable

import numpy as np

from gdro.core.types import FloatArray, IntArray

Eligible = Callable[[IntArray], np.ndarray]
Measure = Callable[[IntArray], IntArray]


class Queues:
    """Every prompt stands in one queue: drawn from the front, it goes to the back.

    The classes are the bins and, for unvisited prompts, one a level (`Difficulty.class_P`). Every
    queue is in the order of waiting, so whoever is first has waited longest. A prompt found in the
    queue of a class that it has left, as where its outcome came late, takes its place by that order
    in the queue of its own.

    Args:
        class_of: Class of given positions, as of now.
        last_of: Number of draws when given positions were drawn last; constant while they stand.
        num_classes: C.
    """

    def __init__(self, class_of: Measure, last_of: Measure, num_classes: int) -> None:
        self._class_of, self._last_of = class_of, last_of
        self._out: IntArray = np.zeros(0, np.int64)
        self._start(num_classes)

    def _start(self, num_classes: int) -> None:
        """Empty queues."""
        self._queues = [_Queue(self._last_of) for _ in range(num_classes)]
        # What is asked of all queues, as of when they changed: there may be thousands.
        self._size_C: IntArray = np.zeros(num_classes, np.int64)
        self._first_C: FloatArray = np.full(num_classes, np.inf)  # last draw of the first
        self._changed: set[int] = set()

    def _changing(self, c: int) -> "_Queue":
        """The queue of class c, of which prompts come or go."""
        self._changed.add(c)
        return self._queues[c]

    def _look(self) -> None:
        """Brings size and first of the queues that changed up to date."""
        for c in self._changed:
            first = self._queues[c].peek(1)
            self._size_C[c] = len(self._queues[c])
            self._first_C[c] = self._last_of(first)[0] if len(first) else np.inf
        self._changed.clear()

    @property
    def size_C(self) -> IntArray:
        """Prompts that stand in each queue."""
        self._look()
        return self._size_C.copy()

    def append(self, positions: IntArray) -> None:
        """Puts prompts to the back of the queues of their classes."""
        class_P = self._class_of(positions)
        ordered = positions[np.argsort(class_P, kind="stable")]
        count_C, end = np.bincount(class_P), 0
        for c in np.flatnonzero(count_C).tolist():
            start, end = end, end + int(count_C[c])
            self._changing(c).append(ordered[start:end])

    def bring_back(self) -> None:
        """Puts what was drawn to the back: of the queue of the class that it now has."""
        self.append(self._out)
        self._out = self._out[:0]

    def longest(self, draws: int, beyond: float, most: int) -> IntArray:
        """Takes up to `most` prompts that have waited for more than `beyond`, longest first.

        Args:
            draws: Number of draws so far, of any prompt.
            beyond: In draws.
            most: Of those who have waited longest.
        """
        self._look()
        found = {}
        for c in np.flatnonzero(draws - self._first_C > beyond).tolist():
            front = self._queues[c].peek(most)
            late = draws - self._last_of(front) > beyond
            found[c] = front[: len(front) if late.all() else int(np.argmin(late))]
        candidates = np.concatenate([np.zeros(0, np.int64), *found.values()])
        chosen = candidates[np.argsort(self._last_of(candidates), kind="stable")[:most]]
        for c, front in found.items():
            queue = self._changing(c)
            queue.skip(len(front))
            queue.push_front(front[~np.isin(front, chosen)])
        self._out = np.concatenate([self._out, chosen])
        return chosen

    def draw(
        self, count_C: IntArray, eligible: Eligible | None = None
    ) -> tuple[IntArray, np.ndarray]:
        """Takes `count` prompts of each class from the front, or as many as are eligible.

        Returns:
            The prompts, and which classes had fewer.
        """
        nobody, short_C = np.zeros(0, np.int64), np.zeros(len(count_C), bool)
        classes = np.flatnonzero(count_C).tolist()
        fronts = {c: self._queues[c].peek(int(count_C[c])) for c in classes}
        drawn = np.concatenate([nobody, *fronts.values()])
        # Mostly, everybody at the front may be drawn.
        if (
            len(drawn) == count_C.sum()
            and (self._class_of(drawn) == np.repeat(np.arange(len(count_C)), count_C)).all()
            and (eligible is None or eligible(drawn).all())
        ):
            for c, front in fronts.items():
                self._changing(c).skip(len(front))
            self._out = np.concatenate([self._out, drawn])
            return drawn, short_C
        chosen = [nobody]
        for c in classes:
            chosen.append(self._draw(c, int(count_C[c]), eligible))
            short_C[c] = len(chosen[-1]) < count_C[c]
        drawn = np.concatenate(chosen)
        self._out = np.concatenate([self._out, drawn])
        return drawn, short_C

    def _draw(self, c: int, count: int, eligible: Eligible | None) -> IntArray:
        queue, taken, passed = self._changing(c), [], []
        while count and len(queue):
            chunk = queue.take(count)
            class_P = self._class_of(chunk)
            for other in np.unique(class_P[class_P != c]):
                self._changing(int(other)).join(chunk[class_P == other])
            chunk = chunk[class_P == c]
            good = np.ones(len(chunk), bool) if eligible is None else eligible(chunk)
            taken.append(chunk[good])
            passed.append(chunk[~good])
            count -= len(taken[-1])
        if passed:
            queue.push_front(np.concatenate(passed))
        return np.concatenate(taken) if taken else np.zeros(0, np.int64)

    def state_dict(self) -> dict[str, IntArray]:
        """Who stands where."""
        held = [queue.peek(len(queue)) for queue in self._queues]
        return {"held": np.concatenate(held), "size": self.size_C, "out": self._out.copy()}

    def load_state_dict(self, state: dict[str, IntArray]) -> None:
        """Takes the place of whatever stood here before."""
        ends = np.cumsum(state["size"])
        self._start(len(ends))
        for c, (end, size) in enumerate(zip(ends, state["size"], strict=True)):
            held = state["held"][end - size : end]
            # older states have prompts that changed queues at the front
            self._changing(c).append(held[np.argsort(self._last_of(held), kind="stable")])
        self._out = state["out"].copy()


class _Queue:
    """Prompts in the order of waiting. Who joins late is put between the others only once the front
    gets there, so that nobody behind is moved.
    """

    def __init__(self, last_of: Measure) -> None:
        self._last_of = last_of
        self._line = _Line()
        self._late: list[tuple[int, int, int]] = []  # heap: last draw, turn of joining, prompt
        self._joined = 0

    def __len__(self) -> int:
        return len(self._line) + len(self._late)

    def peek(self, count: int) -> IntArray:
        """The first `count`."""
        if count and self._late:
            self._settle(count)
        return self._line.peek(count)

    def take(self, count: int) -> IntArray:
        """As `peek`; they stand here no longer."""
        items = self.peek(count)
        self.skip(len(items))
        return items

    def skip(self, count: int) -> None:
        """Leaves out the first, who have been peeked at."""
        self._line.skip(count)

    def push_front(self, items: IntArray) -> None:
        """Puts back those who were taken last."""
        self._line.push_front(items)

    def append(self, items: IntArray) -> None:
        """Puts to the back those who have waited least."""
        self._line.append(items)

    def join(self, items: IntArray) -> None:
        """Puts each where it belongs, before the others that have waited as long."""
        for last, item in zip(self._last_of(items).tolist(), items.tolist(), strict=True):
            self._joined += 1
            heapq.heappush(self._late, (last, -self._joined, item))

    def _settle(self, count: int) -> None:
        """Puts into the line those late ones who belong among the first `count`."""
        front = self._line.peek(count)
        bar = np.inf if len(front) < count else int(self._last_of(front[-1:])[0])
        due = []
        while self._late and self._late[0][0] <= bar:
            due.append(heapq.heappop(self._late)[-1])
        if due:
            self._line.skip(len(front))
            front = np.concatenate([np.array(due, np.int64), front])
            self._line.push_front(front[np.argsort(self._last_of(front), kind="stable")])


class _Line:
    """An array with a head; constant amortised cost an item."""

    def __init__(self) -> None:
        self._items: IntArray = np.zeros(8, np.int64)
        self._head = self._end = 0

    def __len__(self) -> int:
        return self._end - self._head

    def peek(self, count: int) -> IntArray:
        return self._items[self._head : min(self._head + count, self._end)].copy()

    def skip(self, count: int) -> None:
        self._head += count

    def push_front(self, items: IntArray) -> None:
        if len(items) > self._head:
            self._moved(len(items) + len(self), 0)
        self._head -= len(items)
        self._items[self._head : self._head + len(items)] = items

    def append(self, items: IntArray) -> None:
        if self._end + len(items) > len(self._items):
            self._moved(0, len(items))
        self._items[self._end : self._end + len(items)] = items
        self._end += len(items)

    def _moved(self, before: int, after: int) -> None:
        """The same items with free places before and after them, in twice the room they need."""
        items = self.peek(len(self))
        head, needed = before, before + len(items) + after
        if 3 * needed > 2 * len(self._items):
            self._items = np.zeros(2 * needed, np.int64)
        self._items[head : head + len(items)] = items
        self._head, self._end = head, head + len(items)
