"""Which uid is which slot, late, lost and in any company: against plans kept by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gdro.core.checkpoint import load, save
from gdro.core.errors import DataError
from gdro.core.resolve import resolved
from gdro.core.trace import read_trace
from gdro.core.types import Plan
from gdro.trainers.verl.border import Settings
from gdro.trainers.verl.driver import Came, Driver

LIVE = {f"u{step}-{i}" for step in range(9) for i in range(12)} | {
    f"{h}-{i}" for h in "ab" for i in range(4)
}
"""Of everything something may still come."""

IDS = [f"toy/train/{i}" for i in range(12)]


def make(tmp_path: Path, **given: object) -> Driver:
    changes = {name.replace("__", "."): value for name, value in given.items()}
    config = resolved("joint", changes, 4)
    settings = Settings(controller=config, method="joint", seed=0, correct="score",
                        trace=str(tmp_path / "trace.jsonl"))  # fmt: skip
    driver = Driver(settings, n_mean=4, std_scaled=True)
    driver.controller.bind(IDS)
    return driver


def came(groups: Sequence[tuple[str, int, int]]) -> Came:
    """Groups of (uid, rollouts, right ones)."""
    uid_R = [uid for uid, n, _ in groups for _ in range(n)]
    correct_R = np.array([float(i < right) for _, n, right in groups for i in range(n)])
    return Came(
        key_R=[f"{uid}_{i}_0" for i, uid in enumerate(uid_R)], uid_R=uid_R, score_R=correct_R,
        correct_R=correct_R, tokens_R=np.full(len(uid_R), 5),
    )  # fmt: skip


def dispatch(driver: Driver, step: int, size: int = 4) -> tuple[list[str], Plan]:
    uids = [f"u{step}-{i}" for i in range(size)]
    return uids, driver.plan(uids, np.array(IDS[:size]))


def test_rollouts_of_several_plans_are_one_step_and_come_back_to_their_own_slots(
    tmp_path: Path,
) -> None:
    driver = make(tmp_path)
    (a, first), (b, second) = dispatch(driver, 0), dispatch(driver, 1)
    groups = [(b[2], int(second.n_P[2]), 1), (a[1], int(first.n_P[1]), 0),
              (a[3], int(first.n_P[3]), 2)]  # fmt: skip
    parts = driver.parts([uid for uid, n, _ in groups for _ in range(n)])
    assert [part.plan.step for part in parts] == [0, 1]
    assert parts[0].slot_R.tolist() == [1] * 4 + [3] * 4
    assert parts[1].slot_R.tolist() == [2] * 4
    record, lost = driver.observe(came(groups), LIVE)
    assert (record.values["rollouts"], lost, driver.updates) == (12, 0, 1)
    assert record.values["reward"] == pytest.approx(3 / 12)
    assert set(driver._slots) == {a[0], a[2], b[0], b[1], b[3]}


def test_one_batch_of_two_plans_moves_averages_as_one_plan_of_all_would(tmp_path: Path) -> None:
    """Also the counts: the same prompts with the same outcomes, planned together."""
    (tmp_path / "x").mkdir()
    split, whole = make(tmp_path), make(tmp_path / "x")
    for driver in (split, whole):
        uids, plan = dispatch(driver, 0, 8)
        groups = [(u, int(n), i % 4) for i, (u, n) in enumerate(zip(uids, plan.n_P, strict=True))]
        driver.observe(came(groups), LIVE)
    halves = [[f"{h}-{i}" for i in range(4)] for h in "ab"]
    for h, uids in enumerate(halves):
        plan = split.plan(uids, np.array(IDS[4 * h : 4 * h + 4]))
        plan.n_P[:] = 4
    plan = whole.plan([*halves[0], *halves[1]], np.array(IDS[:8]))
    plan.n_P[:] = 4
    back = came([(uid, 4, i % 3) for i, uid in enumerate([*halves[0], *halves[1]])])
    for driver in (split, whole):
        driver.observe(back, LIVE)
    one, other = (driver.controller.method.adversary.score_B for driver in (split, whole))
    assert np.isfinite(one).any()
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("ahead", [True, False])
def test_what_does_not_come_back_is_counted(tmp_path: Path, ahead: bool) -> None:
    driver = make(tmp_path)
    uids, plan = dispatch(driver, 0)
    n = plan.n_P.tolist()
    live = set(uids) if ahead else set()
    _, lost = driver.observe(came([(uids[0], n[0] - 1, 1), (uids[1], n[1], 0)]), live)
    # In flight, the other two may still come.
    assert lost == 1 + (0 if ahead else n[2] + n[3])
    assert bool(driver._slots) == bool(driver._plans) == ahead


def test_a_group_that_was_thrown_away_is_lost_and_takes_no_room(tmp_path: Path) -> None:
    """Of 50 dispatches one prompt each is evicted: neither plans nor waiting slots pile up."""
    driver, lost, gone = make(tmp_path), 0, 0
    for step in range(50):
        uids, plan = dispatch(driver, step)
        gone += int(plan.n_P[0])
        groups = [(u, int(n), 1) for u, n in zip(uids[1:], plan.n_P[1:], strict=True)]
        lost += driver.observe(came(groups), {*uids[1:]})[1]
    assert lost == driver.lost == gone
    assert not driver._plans
    assert not driver.controller.state_dict()["pending"]["seen"]
    with pytest.raises(DataError, match="not planned here"):
        driver.parts([uids[0]])


def test_a_group_of_one_has_no_advantage(tmp_path: Path) -> None:
    driver = make(tmp_path)
    uids, plan = dispatch(driver, 0)
    back = came([(uids[0], 1, 1), (uids[1], 2, 1)])
    assert driver.weight_R(back.uid_R).tolist() == [0.0, plan.weight_P[1], plan.weight_P[1]]


def test_state_has_what_is_in_flight(tmp_path: Path) -> None:
    """Loaded in mid-flight, it goes on as the uninterrupted one: plans, weights, outcomes."""
    driver = make(tmp_path)
    uids, plan = dispatch(driver, 0)
    driver.observe(came([(uids[0], int(plan.n_P[0]), 1)]), LIVE)
    path, mark = tmp_path / "state.npz", driver.controller.fingerprint
    save(path, driver.state_dict(), fingerprint=mark)
    (tmp_path / "again").mkdir()
    other = make(tmp_path / "again")
    other.load_state_dict(load(path, fingerprint=mark))
    rest = came([(uids[i], int(plan.n_P[i]), i) for i in (1, 2, 3)])
    weights = [one.weight_R(rest.uid_R).tolist() for one in (driver, other)]
    assert weights[0] == weights[1]
    for one in (driver, other):
        one.observe(rest, LIVE)
    (_, a), (_, b) = dispatch(driver, 5, 8), dispatch(other, 5, 8)
    assert a.n_P.tolist() == b.n_P.tolist()
    assert a.weight_P.tolist() == b.weight_P.tolist()
    assert (other.updates, other.lost) == (driver.updates, driver.lost) == (2, 0)


def step_of(driver: Driver, step: int) -> None:
    uids, plan = dispatch(driver, step)
    groups = [(u, int(n), 1) for u, n in zip(uids, plan.n_P, strict=True)]
    record, _ = driver.observe(came(groups), LIVE)
    driver.write(record, {"step": 1.0})


def test_the_trace_counts_updates_and_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    driver = make(tmp_path)
    for step in range(4):
        step_of(driver, step)
        if step == 1:
            state = driver.state_dict()
    assert read_trace(trace).steps.tolist() == [0, 1, 2, 3]
    other = make(tmp_path)
    other.load_state_dict(state)
    assert read_trace(trace).steps.tolist() == [0, 1, 2, 3]  # it may be there to evaluate only
    step_of(other, 2)
    assert read_trace(trace).steps.tolist() == [0, 1, 2]
    assert not list(tmp_path.glob("trace.*.jsonl"))

    branch = make(tmp_path)  # resume_path: what lies beyond the checkpoint may be wanted
    branch.load_state_dict(state)
    branch.branched = True
    with pytest.warns(UserWarning, match=r"kept as trace.1.jsonl"):
        step_of(branch, 2)
    assert read_trace(trace).steps.tolist() == [0, 1, 2]
    assert read_trace(tmp_path / "trace.1.jsonl").steps.tolist() == [0, 1, 2]

    anew = make(tmp_path)
    assert read_trace(trace).steps.tolist() == [0, 1, 2]
    with pytest.warns(UserWarning, match=r"kept as trace.2.jsonl"):
        step_of(anew, 0)
    assert read_trace(trace).steps.tolist() == [0]
