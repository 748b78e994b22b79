"""The worker process under hangs, kills, threads and forks."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gdro.rewards import Verdict, verify, worker
from gdro.rewards.worker import Worker

HANG = "(x+1)^{900}(x-1)^{900}(x+2)^{900}"


@pytest.fixture
def hand():
    one = Worker(row_seconds=0.5, grace_seconds=0.5)
    yield one
    one.close()


def test_alarm_ends_a_row_and_the_process_stays(hand):
    hand.grace_seconds = 10
    assert hand.compare("x", "2x-x", exact=False) == "right"
    pid = hand.pid
    begin = time.perf_counter()
    assert hand.compare("(x+1)^2", HANG, exact=False) == "timeout"
    assert time.perf_counter() - begin < 5
    assert hand.compare("x", "2x-x", exact=False) == "right"
    assert hand.pid == pid


def test_unresponsive_process_is_killed_and_replaced(hand):
    assert hand.compare("x", "2x-x", exact=False) == "right"
    pid = hand.pid
    os.kill(pid, signal.SIGSTOP)  # no alarm gets through to it
    begin = time.perf_counter()
    assert hand.compare("x", "3x-2x", exact=False) == "timeout"
    assert time.perf_counter() - begin < 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert hand.compare("x", "3x-2x", exact=False) == "right"


def test_a_process_killed_from_outside_loses_no_row(monkeypatch):
    one = Worker()
    monkeypatch.setattr(worker, "_shared", one)
    golds = [f"{n}x" for n in range(1, 201)]
    completions = [rf"\boxed{{{n + 1}x - {1 + n % 2}x}}" for n in range(1, 201)]
    expected = [Verdict.wrong if n % 2 else Verdict.right for n in range(1, 201)]
    stop = threading.Event()

    def assassin():
        for _ in range(2):  # of three tries of a row
            stop.wait(1.0)
            if one.pid:
                os.kill(one.pid, signal.SIGKILL)

    thread = threading.Thread(target=assassin)
    verify(golds[:1], completions[:1])
    thread.start()
    assert verify(golds, completions) == expected
    stop.set()
    thread.join()
    one.close()


def test_memory_is_limited():
    small = Worker(row_seconds=1, memory_bytes=600 << 20)
    for large in ("2^{10000000000} + 5", r"\binom{10^9}{10^8}"):
        assert small.compare("5", large, exact=True) in ("timeout", "wrong", "unparsed")
    assert small.compare("x", "2x-x", exact=False) == "right"
    small.close()


def test_threads():
    golds = [f"{n}x" for n in range(40)]
    completions = [rf"\boxed{{{n + 1}x - x}}" for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(verify, golds, completions) for _ in range(4)]
    assert all(future.result() == [Verdict.right] * 40 for future in futures)


def test_a_forked_child_has_its_own_process():
    assert verify(["x"], [r"\boxed{2x-x}"]) == [Verdict.right]
    parents = worker.shared().pid
    child = os.fork()
    if child == 0:
        ok = verify(["y", "y"], [r"\boxed{2y-y}", r"\boxed{2y}"]) == ["right", "wrong"]
        fresh = worker.shared().pid != parents
        worker.shared().close()
        os._exit(0 if ok and fresh else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert worker.shared().pid == parents
    assert verify(["z"], [r"\boxed{2z-z}"]) == [Verdict.right]


def test_start_failure_is_an_error(monkeypatch):
    monkeypatch.setattr(worker, "_CHILD", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="exit code 3"):
        Worker().compare("x", "2x-x", exact=False)
