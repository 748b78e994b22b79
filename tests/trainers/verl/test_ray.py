"""verl's own `main_ppo` on a local Ray, two FSDP2 ranks on gloo, the controller in its loop."""

import os
import random
import shutil
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import command, end, environment, lines, train

from gdro.core.trace import read_trace

STEPS, SAVED = 6, 3
BUDGET = 32
"""Rollouts of a step: 8 prompts x 4."""

SECOND_PASS = 9
"""Steps until prompts that are not drawn by the method come a second time, and then some."""

Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def straight(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default method, synchronous, uninterrupted."""
    out = tmp_path_factory.mktemp("straight")
    train(assets, out, "gdro_sync", STEPS, f"trainer.save_freq={SAVED}")
    return out


def plans_of(out: Path) -> Rows:
    return lines(out / "plans.jsonl", "plan")


def trained_of(out: Path) -> Rows:
    return lines(out / "plans.jsonl", "train")


def groups_of(row: dict[str, Any]) -> dict[str, list[int]]:
    """Positions of a batch's rows by uid, without padding."""
    found = defaultdict(list)
    for position, (key, padding) in enumerate(zip(row["keys"], row["padding"], strict=True)):
        if not padding:
            found[key.rsplit("_", 2)[0]].append(position)
    return found


def ids_of(plans: Rows) -> dict[str, str]:
    """Prompt of each uid."""
    return {u: i for plan in plans for u, i in zip(plan["uids"], plan["ids"], strict=True)}


def test_every_step_spends_the_budget_and_pads_nothing(straight: Path) -> None:
    plans, batches = plans_of(straight), trained_of(straight)
    assert [plan["step"] for plan in plans] == list(range(STEPS))
    assert len(batches) == STEPS
    for plan, batch in zip(plans, batches, strict=True):
        assert sum(plan["n"]) == BUDGET == len(batch["keys"])
        assert not any(batch["padding"])
        sizes = {uid: len(rows) for uid, rows in groups_of(batch).items()}
        assert sizes == dict(zip(plan["uids"], plan["n"], strict=True))
    assert len({n for plan in plans for n in plan["n"]}) > 1, "every group was alike"


def test_weights_multiply_the_advantages_of_their_own_prompt(straight: Path) -> None:
    plans = plans_of(straight)
    weights = {u: w for p in plans for u, w in zip(p["uids"], p["weight"], strict=True)}
    assert len({round(w, 6) for w in weights.values()}) > 1
    for batch in trained_of(straight):
        expected = [weights[key.rsplit("_", 2)[0]] for key in batch["keys"]]
        np.testing.assert_allclose(batch["weight"], expected, rtol=1e-12)
        product = np.array(batch["raw"]) * expected
        np.testing.assert_allclose(batch["weighed"], product, rtol=1e-6, atol=1e-7)


def test_advantages_are_those_of_the_ragged_group(straight: Path) -> None:
    """GRPO by hand; groups that a remembered success entered are looked at below."""
    mixed = 0
    for batch in trained_of(straight):
        for rows in groups_of(batch).values():
            scores, raw = (np.array([batch[n][r] for r in rows]) for n in ("score", "raw"))
            if scores.any():
                expected = (scores - scores.mean()) / (scores.std(ddof=1) + 1e-6)
                np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-5)
                mixed += 0 < scores.mean() < 1
    assert mixed > 3


def test_a_group_that_is_all_wrong_trains_on_an_earlier_success_of_its_prompt(
    straight: Path,
) -> None:
    prompt, right, entered = ids_of(plans_of(straight)), defaultdict(list), 0
    for batch in trained_of(straight):
        for uid, rows in groups_of(batch).items():
            positive = [r for r in rows if batch["raw"][r] > 0]
            if not any(batch["score"][r] for r in rows) and positive:
                assert len(positive) == 1, "one rollout of the group gives its place"
                assert batch["responses"][positive[0]] == right[prompt[uid]][-1]
                entered += 1
        for uid, rows in groups_of(batch).items():  # what is kept is the newest
            own = [r for r in rows if batch["score"][r]]
            by_session = sorted(own, key=lambda r, b=batch: int(b["keys"][r].rsplit("_", 2)[1]))
            right[prompt[uid]] += [batch["responses"][r] for r in by_session]
    logged = lines(straight / "metrics.jsonl")
    assert entered == logged[-1]["data"]["spent/replayed"]
    assert entered, "no group needed the memory: the test shows nothing"


def test_what_is_logged_as_score_is_what_was_generated(straight: Path) -> None:
    for batch, logged in zip(trained_of(straight), lines(straight / "metrics.jsonl"), strict=True):
        data = logged["data"]
        assert data["critic/score/mean"] == pytest.approx(np.mean(batch["score"]))
        assert data["gdro/correct"] == pytest.approx(np.mean(batch["score"]))
        assert data["alloc/lost"] == data["alloc/padding"] == 0


def test_the_trace_is_that_of_any_run(straight: Path) -> None:
    trace = read_trace(straight / "trace.jsonl")
    assert trace.header["method"] == "joint_replay"
    assert trace.steps.tolist() == list(range(STEPS))
    assert trace.column("rollouts").tolist() == [BUDGET] * STEPS
    means = [np.mean(batch["score"]) for batch in trained_of(straight)]
    np.testing.assert_allclose(trace.column("reward"), means, rtol=1e-4)
    assert (trace.column("time.generation") > 0).all()
    hook = trace.column("time.hook")
    assert (hook > 0).all()


def test_a_resumed_run_is_the_uninterrupted_one(
    assets: Path, straight: Path, tmp_path: Path
) -> None:
    """From a copy of the checkpoint in the middle: prompts, rollouts, weights, completions."""
    shutil.copytree(straight / f"global_step_{SAVED}", tmp_path / f"global_step_{SAVED}")
    shutil.copy(straight / "trace.jsonl", tmp_path)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text(str(SAVED))
    train(assets, tmp_path, "gdro_sync", STEPS, "trainer.resume_mode=auto")
    check_same_from(straight, tmp_path, SAVED)


def check_same_from(straight: Path, resumed: Path, step: int) -> None:
    """That the plans of `resumed`, which begin at `step`, are those of `straight`."""
    names = ("step", "ids", "n", "weight")
    one, other = ([{n: plan[n] for n in names} for plan in plans_of(out)]
                  for out in (straight, resumed))  # fmt: skip
    assert other == one[step:]
    columns = ("reward", "rollouts", "tokens", "lead_lag", "mixed_fraction")
    a, b = (read_trace(out / "trace.jsonl") for out in (straight, resumed))
    assert a.steps.tolist() == b.steps.tolist()
    for name in columns:
        np.testing.assert_array_equal(a.column(name), b.column(name), err_msg=name)


# -- nightly ---------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_even_counts_and_weights_are_plain_verl(assets: Path, tmp_path: Path) -> None:
    """`gdro.preset=grpo` beside verl's own trainer, by the numbers that verl logs of the update."""
    ours, plain = tmp_path / "ours", tmp_path / "plain"
    train(assets, ours, "gdro_sync", 4, "gdro.preset=grpo")
    train(assets, plain, "sync", 4)
    names = ("critic/score/mean", "critic/advantages/max", "actor/pg_loss", "actor/grad_norm",
             "actor/entropy", "response_length/mean")  # fmt: skip
    for a, b in zip(*(lines(out / "metrics.jsonl") for out in (ours, plain)), strict=True):
        for name in names:  # the sums' order is that of arrival
            assert a["data"][name] == pytest.approx(b["data"][name], rel=1e-5, abs=1e-7), name


@pytest.mark.nightly
def test_generation_that_runs_ahead(assets: Path, tmp_path: Path) -> None:
    """Each dispatch is exact in itself; what is in flight survives a restart."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    mode = "gdro_colocate_async"
    train(assets, straight, mode, STEPS, f"trainer.save_freq={SAVED}")
    check_ahead(straight, STEPS)
    names = (f"global_step_{SAVED}", "latest_checkpointed_iteration.txt", "trace.jsonl")
    resumed.mkdir()
    shutil.copytree(straight / names[0], resumed / names[0])
    shutil.copy(straight / names[2], resumed)
    (resumed / names[1]).write_text(str(SAVED))
    train(assets, resumed, mode, STEPS, "trainer.resume_mode=auto")
    early = {uid: n for plan in plans_of(straight)
             for uid, n in zip(plan["uids"], plan["n"], strict=True)}  # fmt: skip
    first = groups_of(trained_of(resumed)[0])
    assert first.keys() <= early.keys(), "what was in flight is trained first"
    assert {uid: len(rows) for uid, rows in first.items()} == {uid: early[uid] for uid in first}
    assert read_trace(resumed / "trace.jsonl").steps.tolist() == list(range(STEPS))


def check_ahead(out: Path, steps: int) -> None:
    plans, batches = plans_of(out), trained_of(out)
    for plan in plans:
        assert sum(plan["n"]) == 4 * len(plan["n"])
    planned = {u: (n, w) for p in plans
               for u, n, w in zip(p["uids"], p["n"], p["weight"], strict=True)}  # fmt: skip
    assert len(batches) == steps
    assert len(plans) > len(batches), "nothing ran ahead"
    for batch in batches:
        for uid, rows in groups_of(batch).items():
            n, weight = planned[uid]
            assert len(rows) == n
            np.testing.assert_allclose([batch["weight"][r] for r in rows], weight, rtol=1e-12)
    assert read_trace(out / "trace.jsonl").steps.tolist() == list(range(steps))


@pytest.mark.nightly
def test_failed_generations_are_counted_and_said_once(assets: Path, tmp_path: Path) -> None:
    said = train(assets, tmp_path, "gdro_sync", 5, "gdro.preset=joint", FAIL_EVERY="13")
    trace, logged = read_trace(tmp_path / "trace.jsonl"), lines(tmp_path / "metrics.jsonl")
    lost = 5 * BUDGET - sum(
        map(len, (p for b in trained_of(tmp_path) for p in groups_of(b).values()))
    )
    assert lost > 0
    assert trace.column("rollouts").sum() == 5 * BUDGET - lost
    assert logged[-1]["data"]["spent/lost"] == sum(r["data"]["alloc/lost"] for r in logged) == lost
    assert said.count("rollouts were dispatched and did not come back") == 1
    for batch in trained_of(tmp_path):  # verl fills up with rows that say nothing
        assert len(batch["keys"]) == BUDGET
        real = BUDGET - sum(batch["padding"])
        assert sum(map(len, groups_of(batch).values())) == real
        for uid, rows in groups_of(batch).items():
            if len(rows) == 1:
                assert batch["weighed"][rows[0]] == 0, f"{uid}: a raw reward for an advantage"


@pytest.mark.nightly
def test_a_killed_rollout_actor_ends_the_run_and_it_goes_on(assets: Path, tmp_path: Path) -> None:
    """verl stops when the dead server does not answer: nothing was trained on half a step."""
    words = ("gdro.preset=joint", "trainer.save_freq=1", "trainer.resume_mode=auto")
    said = train(assets, tmp_path, "gdro_sync", 5, *words, check=False, DIE_AT="40")
    assert "ActorDiedError" in said
    trained = trained_of(tmp_path)
    assert 0 < len(trained) < 5
    assert read_trace(tmp_path / "trace.jsonl").column("rollouts").tolist() == [BUDGET] * len(
        trained
    )
    train(assets, tmp_path, "gdro_sync", 5, *words)
    assert read_trace(tmp_path / "trace.jsonl").column("rollouts").tolist() == [BUDGET] * 5
    assert lines(tmp_path / "metrics.jsonl")[-1]["data"]["spent/lost"] == 0


@pytest.mark.nightly
def test_a_run_killed_at_any_point_goes_on_to_the_same_result(
    assets: Path, straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    out.mkdir()
    chosen = random.Random(int(os.environ.get("KILL_SEED", "0")))
    saved, wait = chosen.randint(1, STEPS - 3), chosen.uniform(0, 1)
    words = command(assets, out, "gdro_sync", STEPS, "trainer.save_freq=1")
    with open(out / "killed.txt", "w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, cwd=out,
                                   env=environment(out), start_new_session=True)  # fmt: skip
    tracker = out / "latest_checkpointed_iteration.txt"
    while process.poll() is None:
        if tracker.exists() and int(tracker.read_text() or 0) >= saved:
            break
        time.sleep(0.05)
    time.sleep(wait)  # a step takes about as long
    assert process.poll() is None, "it ended before it was killed"
    end(process)
    (out / "plans.jsonl").rename(out / "before.jsonl")
    train(assets, out, "gdro_sync", STEPS, "trainer.save_freq=1", "trainer.resume_mode=auto")
    names = ("step", "ids", "n", "weight")
    one = {plan["step"]: {n: plan[n] for n in names} for plan in plans_of(straight)}
    again = plans_of(out)
    assert 0 < again[0]["step"] <= STEPS
    for plan in [*lines(out / "before.jsonl", "plan"), *again]:
        assert {n: plan[n] for n in names} == one[plan["step"]]
    rewards = [read_trace(run / "trace.jsonl").column("reward") for run in (straight, out)]
    np.testing.assert_array_equal(*rewards)


@pytest.mark.nightly
def test_the_paper_to_the_letter_with_a_reference_model(assets: Path, tmp_path: Path) -> None:
    """The surrogate of the policy before the step is KL alone."""
    ref = "actor_rollout_ref.ref"
    train(
        assets, tmp_path, "gdro_sync", SECOND_PASS, "gdro.preset=paper", "gdro.correct=acc",
        "actor_rollout_ref.actor.use_kl_loss=True", "actor_rollout_ref.actor.kl_loss_coef=0.1",
        f"{ref}.log_prob_micro_batch_size_per_gpu=16", f"{ref}.log_prob_use_dynamic_bsz=False",
        f"{ref}.fsdp_config.model_dtype=fp32",
        *(f"+{ref}.fsdp_config.mixed_precision.{n}_dtype=fp32"
          for n in ("param", "reduce", "buffer")),
    )  # fmt: skip
    scores = read_trace(tmp_path / "trace.jsonl").per_bin("score_B")
    kl = [row["data"]["actor/kl_loss"] for row in lines(tmp_path / "metrics.jsonl")]
    seen = scores[np.isfinite(scores)]
    # Raw advantages of a group sum to zero: what is left is beta KL, divided by the bin's share.
    assert len(seen)
    assert seen.min() > 0
    assert seen.max() < 0.1 * 8 * 3 * max(kl)
    assert [sum(plan["n"]) for plan in plans_of(tmp_path)] == [BUDGET] * SECOND_PASS


@pytest.mark.nightly
def test_neutral_counts_and_unscaled_advantages(assets: Path, tmp_path: Path) -> None:
    """D16 through the whole loop: a prompt's weight removes the effect of its count."""
    train(
        assets, tmp_path, "gdro_sync", SECOND_PASS, "gdro.preset=rollout",
        "gdro.rollout.aggregation=neutral", "algorithm.norm_adv_by_std_in_grpo=False",
    )  # fmt: skip
    assert len({n for plan in plans_of(tmp_path) for n in plan["n"]}) > 1
    for plan, batch in zip(plans_of(tmp_path), trained_of(tmp_path), strict=True):
        n = np.array(plan["n"])
        np.testing.assert_allclose(plan["weight"], 4 / n * (n / (n - 1)) / (4 / 3), rtol=1e-9)
        for rows in groups_of(batch).values():
            scores, raw = (np.array([batch[x][r] for r in rows]) for x in ("score", "raw"))
            np.testing.assert_allclose(raw, scores - scores.mean(), atol=1e-6)
