"""The pool of worker processes under hangs, kills, threads, forks and other people's processes."""

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from gdro.core.errors import ConfigError
from gdro.rewards import Verdict, verify, worker
from gdro.rewards.symbolic import Question
from gdro.rewards.worker import Pool, default_workers

TROUBLE = """
import os, signal, time
from gdro.rewards import symbolic

def compare(question, plain=symbolic.compare):
    if question.gold == "die":
        os._exit(9)
    if question.gold == "big":
        bytes(1 << 40)
    if question.gold == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
    while question.gold in ("deaf", "hang"):
        pass
    return plain(question)

symbolic.compare = compare
symbolic.main()
"""
DIE, BIG, DEAF, HANG = (Question(gold, "x") for gold in ("die", "big", "deaf", "hang"))
RIGHT = Question("x", "2x-x")
GOLDS = [f"{n}x" for n in range(1, 201)]
COMPLETIONS = [rf"\boxed{{{n + 1}x - {1 + n % 2}x}}" for n in range(1, 201)]
EXPECTED = [Verdict.wrong if n % 2 else Verdict.right for n in range(1, 201)]


def questions(number):
    return [Question(f"{n}x", f"{n + 1}x - {1 + n % 2}x") for n in range(number)]


def answers(number):
    return [Verdict.wrong if n % 2 else Verdict.right for n in range(number)]


def works():
    """In another process: whether the verifier does its work there."""
    return verify(GOLDS[:4], COMPLETIONS[:4]) == EXPECTED[:4]


@contextmanager
def pool_of(workers=1, **settings):
    pool = Pool(workers, **settings)
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
def trouble(monkeypatch):
    """Processes with which some golds do what is wanted of them."""
    monkeypatch.setattr(worker, "_CHILD", TROUBLE)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, seconds=15.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(is_alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.usefixtures("trouble")
def test_alarm_ends_a_row_and_the_process_stays():
    with pool_of(row_seconds=0.5, grace_seconds=30) as pool:
        assert pool.compare([RIGHT]) == ["right"]
        pids = pool.pids
        assert pool.compare([RIGHT, HANG, RIGHT]) == ["right", "timeout", "right"]
        assert pool.pids == pids


@pytest.mark.usefixtures("trouble")
def test_process_whose_alarm_does_not_get_through_is_killed():
    with pool_of(row_seconds=0.3, grace_seconds=0.7) as pool:
        assert pool.compare([RIGHT]) == ["right"]
        (pid,) = pool.pids
        rows = [*questions(20), DEAF, *questions(20)]
        assert pool.compare(rows) == [*answers(20), "timeout", *answers(20)]
        assert not is_alive(pid)


def test_stopped_process_is_killed_and_only_its_row_is_lost():
    with pool_of(row_seconds=0.3, grace_seconds=0.7) as pool:
        assert pool.compare([RIGHT]) == ["right"]
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        assert pool.compare(questions(20)) == ["timeout", *answers(20)[1:]]
        assert not is_alive(pid)


def test_processes_killed_by_hand_mid_batch_lose_no_row():
    with pool_of(2) as pool:
        stop = threading.Event()

        def assassin():
            for _ in range(2):  # of three tries of a row
                for pid in pool.pids:
                    os.kill(pid, signal.SIGKILL)
                if stop.wait(0.7):
                    break

        pool.compare(questions(100))
        assert len(pool.pids) == 2
        thread = threading.Thread(target=assassin)
        killed = pool.pids
        thread.start()
        assert pool.compare(questions(300)) == answers(300)
        stop.set()
        thread.join()
        assert not set(killed) & set(pool.pids)


def test_processes_killed_while_idle_cost_no_row():
    with pool_of(worker.TRIES) as pool:
        pool.compare(questions(worker.TRIES * worker.WORTH_A_START * 2))
        killed = [process.popen for process in pool._idle]
        assert len(killed) == worker.TRIES
        for popen in killed:
            popen.kill()
            os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
        assert pool.compare([RIGHT]) == ["right"]
        assert len(pool.pids) == 1


@pytest.mark.usefixtures("trouble")
def test_a_row_that_kills_its_process_each_time_is_a_timeout():
    with pool_of() as pool:
        assert pool.compare([RIGHT, DIE, RIGHT]) == ["right", "timeout", "right"]


@pytest.mark.usefixtures("trouble")
def test_rows_behind_one_that_hangs_are_not_lost_when_it_is_in_every_batch():
    with pool_of(2, row_seconds=0.2) as pool:
        rows = [HANG, *questions(9)] * 8
        assert pool.compare(rows) == ["timeout", *answers(9)] * 8


def test_memory_is_limited_and_the_next_row_finds_it_free():
    with pool_of(row_seconds=1, memory_bytes=600 << 20) as pool:
        large = [
            Question("5", "2^{10000000000} + 5"),
            Question("5", r"\binom{10^9}{10^8}"),
        ]
        marked = pool.compare([large[0], RIGHT, large[1], RIGHT])
        assert marked[1::2] == ["right", "right"]
        assert "right" not in marked[0::2]


@pytest.mark.usefixtures("trouble")
def test_a_row_out_of_memory_is_a_timeout_and_its_process_ends():
    with pool_of() as pool:
        assert pool.compare([RIGHT]) == ["right"]
        pids = pool.pids
        assert pool.compare([RIGHT, BIG, RIGHT]) == ["right", "timeout", "right"]
        assert not set(pids) & set(pool.pids)


def test_threads_share_the_processes():
    with pool_of(2) as pool, ThreadPoolExecutor(6) as threads:
        futures = [threads.submit(pool.compare, questions(40)) for _ in range(6)]
        assert all(future.result() == answers(40) for future in futures)
        assert len(pool.pids) <= 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thread_with_many_rows_does_not_hold_up_one_with_few(workers):
    with pool_of(workers) as pool, ThreadPoolExecutor(2) as threads:
        pool.compare(questions(60))
        assert len(pool.pids) == workers
        many = threads.submit(pool.compare, questions(400))
        while pool._idle:  # until it has all that there are
            time.sleep(0.001)
        assert pool.compare([RIGHT]) == ["right"]
        assert not many.done()
        assert many.result() == answers(400)


def test_an_interrupt_leaves_a_working_pool(monkeypatch):
    with pool_of(1) as pool:
        monkeypatch.setattr(worker, "wait", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pool.compare(questions(30))
        monkeypatch.undo()
        assert pool.pids == []
        assert pool.compare(questions(30)) == answers(30)


def test_rows_larger_than_the_pipe_do_not_block():
    with pool_of(row_seconds=0.2, grace_seconds=0.3) as pool:
        pool.compare([RIGHT])
        os.kill(pool.pids[0], signal.SIGSTOP)  # it reads nothing
        long = [Question(f"{n}" + "+y" * 9_000, f"{n}" + "+x" * 9_000) for n in range(5)]
        assert pool.compare(long)[0] == "timeout"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_kind(method):
    assert works()  # so that a fork inherits a running pool
    parents = worker.shared().pids
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert all(pool.apply(works) for _ in range(2))
    assert worker.shared().pids == parents
    assert works()


def test_a_forked_child_does_not_keep_its_parents_workers_alive(tmp_path):
    script = (
        "import os, threading, time\n"
        "from gdro.rewards import verify, worker\n"
        "verify(['x'], [r'\\boxed{2x-x}'])\n"
        "rows = [rf'\\boxed{{{n}x-x}}' for n in range(5_000)]\n"
        "work = threading.Thread(target=verify, args=(['x'] * len(rows), rows), daemon=True)\n"
        "work.start()\n"
        "while worker.shared()._idle: time.sleep(0.01)\n"  # the child inherits its frames
        "if os.fork() == 0:\n"
        "    time.sleep(60)\n"
        "print(*worker.shared().pids, flush=True)\n"
        "time.sleep(60)\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), worker.WORKERS: "1"}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, start_new_session=True) as main:
        assert main.stdout is not None
        pids = [int(pid) for pid in main.stdout.readline().split()]
        assert len(pids) == 1
        assert is_alive(pids[0])
        os.kill(main.pid, signal.SIGKILL)
        try:
            assert gone(pids)
        finally:
            os.killpg(main.pid, signal.SIGKILL)


class Rows:
    """A data set that verifies as it loads."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return works()


def test_workers_of_a_data_loader():
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(Rows(), num_workers=2, batch_size=1)  # type: ignore[arg-type]
    assert all(bool(ok) for ok in loader)


def test_inside_a_ray_actor():
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install ray")
    import ray  # type: ignore[import-not-found]

    @ray.remote(num_cpus=0)
    class Marker:
        def mark(self, golds, completions):
            from concurrent.futures import ThreadPoolExecutor

            from gdro.rewards import compute_score, verify

            with ThreadPoolExecutor(4) as threads:  # as verl's reward managers do
                scores = list(threads.map(compute_score, ["d"] * 8, completions, golds[:8]))
            return [str(v) for v in verify(golds, completions)], scores

    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}},
             log_to_driver=False)  # fmt: skip
    try:
        actor = Marker.remote()  # type: ignore[attr-defined]
        marked, scores = ray.get(actor.mark.remote(GOLDS, COMPLETIONS))
        assert marked == EXPECTED
        assert scores == [float(verdict == "right") for verdict in EXPECTED[:8]]
    finally:
        ray.shutdown()


def test_start_failure_is_an_error(monkeypatch):
    monkeypatch.setattr(worker, "_CHILD", "raise SystemExit(3)")
    with pool_of() as pool, pytest.raises(RuntimeError, match="exit code 3"):
        pool.compare([RIGHT])


def test_processes_that_are_killed_as_they_start_are_an_error(monkeypatch):
    monkeypatch.setattr(worker, "_CHILD", "import os; os.kill(os.getpid(), 9)")
    with pool_of() as pool, pytest.raises(RuntimeError, match="exit code -9"):
        pool.compare([RIGHT])


def test_number_of_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv(worker.WORKERS, raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_workers() == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # eight processes share the machine
    assert default_workers() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "32")
    assert default_workers() == 1
    monkeypatch.setenv(worker.WORKERS, "7")
    assert default_workers() == 7
    for bad in ("0", "257", "many", "-1", "1.5"):
        monkeypatch.setenv(worker.WORKERS, bad)
        with pytest.raises(
            ConfigError, match=rf"{worker.WORKERS} must be .* 1 .. 256, got '{bad}'"
        ):
            default_workers()
