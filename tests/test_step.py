"""The benchmark of the hooks: two trainers that take turns, and neither waits for ever."""

import threading
from types import SimpleNamespace

import pytest


class Fake:
    """Steps as transformers takes them."""

    def __init__(self, name, turn, said, fails_at):
        self.name, self.turn, self.said, self.fails_at = name, turn, said, fails_at

    def train(self, steps):
        for step in range(steps):
            self.turn.on_step_begin(None, SimpleNamespace(global_step=step), None)
            if step == self.fails_at:
                raise RuntimeError("no memory")
            self.said.append(self.name)
            self.turn.on_step_end(None, SimpleNamespace(global_step=step + 1), None)


def steps_of_both(monkeypatch, steps, fails_at=None):
    """Which of the two took each step, as long as they took any; `!` is a failure."""
    monkeypatch.setenv("CI", "1")  # which the module sets
    from benchmarks.step import Turns

    def run(fake):
        try:
            fake.turn.train(SimpleNamespace(train=lambda: fake.train(steps)), steps)
        except RuntimeError:
            said.append("!")

    said: list[str] = []
    a, b = threading.Semaphore(1), threading.Semaphore(0)
    fakes = (Fake("a", Turns(a, b, 2), said, fails_at), Fake("b", Turns(b, a, 2), said, None))
    threads = [threading.Thread(target=run, args=(fake,), daemon=True) for fake in fakes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=5)
        assert not thread.is_alive(), "it waits for ever"
    return "".join(said)


@pytest.mark.parametrize(("steps", "order"), [(4, "aabbaabb"), (5, "aabbaabbab")])
def test_they_take_turns_to_the_end_of_both(monkeypatch, steps, order):
    assert steps_of_both(monkeypatch, steps) == order


def test_where_one_fails_the_other_goes_on(monkeypatch):
    said = steps_of_both(monkeypatch, 5, fails_at=3)
    assert (said.count("b"), said.count("!")) == (5, 1)
