"""Tinker's own training loops with a controller in them, against a fake of the service."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake import (
    FIRST_PROMPT,
    RIGHT,
    Cloud,
    PlainGroup,
    Question,
    QuestionsBuilder,
    Tokenizer,
    answers,
    config_of,
    reward_of,
)
from tinker_cookbook.rl import train
from tinker_cookbook.rl.rollout_limits import TerminationRewardPolicy
from tinker_cookbook.rl.rollout_strategy import MinViableGroup, RetryOnFailure
from tinker_cookbook.rl.rollouts import set_rollout_executor

from gdro.core.checkpoint import load
from gdro.core.controller import Controller
from gdro.core.errors import DataError, UnsupportedError
from gdro.core.resolve import resolved
from gdro.core.trace import read_trace
from gdro.core.types import Outcome, Plan
from gdro.trainers.tinker import with_gdro

STYLE = 0.125


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    cloud = Cloud()
    monkeypatch.setattr(train.tinker, "ServiceClient", cloud.service)
    monkeypatch.setattr(train, "get_tokenizer", lambda name: Tokenizer())
    monkeypatch.setattr(train, "fetch_model_pricing", lambda name: None)
    return cloud


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, Outcome | None]]:
    """Every plan with its outcome, in order."""
    found: list[tuple[Plan, Outcome | None]] = []
    plan, observe = Controller.plan, Controller.observe

    def spy_plan(self: Controller, ids: Any) -> Plan:
        found.append((plan(self, ids), None))
        return found[-1][0]

    def spy_observe(self: Controller, of: Plan, outcome: Outcome) -> Any:
        assert of is found[-1][0]
        found[-1] = of, outcome
        return observe(self, of, outcome)

    monkeypatch.setattr(Controller, "plan", spy_plan)
    monkeypatch.setattr(Controller, "observe", spy_observe)
    return found


def run(config: train.Config) -> None:
    asyncio.run(train.main(config))


def state_of(folder: Path, batch: int, preset: str = "joint") -> dict[str, Any]:
    config = resolved(preset, {}, 4)
    mark = Controller(config, n_mean=4, std_scaled=False).fingerprint
    return load(folder / "gdro" / f"{batch:06d}.npz", fingerprint=mark)


def check_advantages(data: Any, plan: Plan, style: float = 0.0) -> set[int]:
    """Each advantage is the weight times the reward less its group's mean; returns the prompts."""
    weights = {FIRST_PROMPT + int(p): w for p, w in zip(plan.prompt_P, plan.weight_P, strict=True)}
    found = answers(data)
    for prompt, (said, advantages) in found.items():
        rewards = np.array([reward_of(one, style) for one in said])
        expected = weights[prompt] * (rewards - rewards.mean())
        np.testing.assert_allclose(advantages, np.repeat(expected[:, None], 2, 1), atol=1e-6)
    return set(found)


@pytest.mark.parametrize("preset", ["joint", "rollout", "prompt"])
def test_a_batch_spends_the_budget_and_advantages_carry_the_weights(
    tmp_path: Path, cloud: Cloud, seen: list[tuple[Plan, Outcome]], preset: str
) -> None:
    data = QuestionsBuilder(style=STYLE)
    run(with_gdro(config_of(tmp_path, data), preset=preset, correct="correct", seed=3))
    assert len(seen) == len(cloud.calls) == 8
    ragged = weighted = False
    for (plan, outcome), (_, trained) in zip(seen, cloud.calls, strict=True):
        assert len(trained) == plan.n_P.sum() == 8 * 4
        check_advantages(trained, plan, STYLE)
        found = answers(trained)
        for slot, (prompt, n) in enumerate(zip(plan.prompt_P, plan.n_P, strict=True)):
            said = found[FIRST_PROMPT + int(prompt)][0]
            mine = np.asarray(outcome.slot_R) == slot
            assert len(said) == mine.sum() == n
            assert np.asarray(outcome.correct_R)[mine].sum() == sum(a[0] == RIGHT for a in said)
            assert (np.asarray(outcome.tokens_R)[mine] == 2).all()
        ragged |= len(set(plan.n_P.tolist())) > 1
        weighted |= plan.weight_P.std() > 0.01
    assert ragged == (preset != "prompt")
    assert weighted == (preset != "rollout")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    logged = [row for row in map(json.loads, lines) if "env/all/gdro/reward" in row]
    for (_, trained), row in zip(cloud.calls, logged, strict=True):  # what is logged is unweighted
        rewards = [reward_of(one, STYLE) for said, _ in answers(trained).values() for one in said]
        assert row["env/all/gdro/reward"] == pytest.approx(np.mean(rewards))
    state = state_of(tmp_path, 8, preset=preset)
    assert state["controller"]["ledger"]["rollouts"] == 8 * 8 * 4
    records = read_trace(tmp_path / "gdro" / "trace.jsonl").records
    assert [record["step"] for record in records] == list(range(8))


@pytest.mark.parametrize("kind", ["PlainGroup", "ChzGroup"])
def test_builders_of_any_kind_are_resized_and_cleaned_up(
    tmp_path: Path, cloud: Cloud, seen: list[tuple[Plan, Outcome]], kind: str
) -> None:
    run(with_gdro(config_of(tmp_path, QuestionsBuilder(kind=kind)), size="group_size"))
    for (plan, _), (_, trained) in zip(seen, cloud.calls, strict=True):
        found = {prompt: len(said) for prompt, (said, _) in answers(trained).items()}
        planned = zip(plan.prompt_P.tolist(), plan.n_P.tolist(), strict=True)
        assert found == {FIRST_PROMPT + prompt: n for prompt, n in planned}
    assert len(set(seen[-1][0].n_P.tolist())) > 1
    assert PlainGroup.opened == []


def test_where_counts_and_weights_are_even_the_data_is_tinkers_own(
    tmp_path: Path, cloud: Cloud
) -> None:
    data = QuestionsBuilder(style=0.1)
    run(config_of(tmp_path / "plain", data))
    plain, cloud.calls = cloud.calls, []
    run(with_gdro(config_of(tmp_path / "gdro", data), preset="grpo", correct="correct"))
    assert len(plain) == len(cloud.calls) == 8
    for (_, one), (_, other) in zip(plain, cloud.calls, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.model_input.to_ints() == b.model_input.to_ints()
            for name, values in a.loss_fn_inputs.items():
                assert values.to_torch().equal(b.loss_fn_inputs[name].to_torch())


@pytest.mark.parametrize("rolling", [0, 1])
def test_a_killed_run_resumes_to_the_same_result(
    tmp_path: Path, cloud: Cloud, rolling: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    changes = {"save_every": 3, "rolling_save_every": rolling}
    run(with_gdro(config_of(whole, **changes)))
    uninterrupted, cloud.calls, cloud.fail_at = cloud.calls, [], 5
    config = with_gdro(config_of(killed, **changes))
    with pytest.raises(ConnectionError):
        run(config)
    first = 5 if rolling else 3
    cloud.calls = [call for call in cloud.calls if call[0] < first]
    run(config)
    resumed = sorted({steps for steps, _ in cloud.calls})
    assert resumed == list(range(8))
    merged = dict(cloud.calls)
    for steps, data in uninterrupted:
        for a, b in zip(data, merged[steps], strict=True):
            assert (
                a.loss_fn_inputs["advantages"]
                .to_torch()
                .equal(b.loss_fn_inputs["advantages"].to_torch())
            )
    np.testing.assert_equal(state_of(killed, 8), state_of(whole, 8))
    traces = [read_trace(folder / "gdro" / "trace.jsonl").records for folder in (whole, killed)]
    assert traces[0] == traces[1]


def test_a_finished_run_goes_on_and_can_be_killed_before_its_next_checkpoint(
    tmp_path: Path, cloud: Cloud
) -> None:
    run(with_gdro(config_of(tmp_path, save_every=5, num_epochs=2)))
    longer = with_gdro(config_of(tmp_path, save_every=5, num_epochs=5))
    cloud.fail_at = 4
    with pytest.raises(ConnectionError):
        run(longer)
    cloud.calls = []
    run(longer)
    assert [steps for steps, _ in cloud.calls] == list(range(4, 10))
    kept = sorted(path.name for path in (tmp_path / "gdro").glob("*.npz"))
    assert kept == ["000004.npz", "000005.npz", "000010.npz"]
    assert len(read_trace(tmp_path / "gdro" / "trace.jsonl").records) == 10


def test_a_run_without_a_controller_cannot_be_resumed_with_one(
    tmp_path: Path, cloud: Cloud
) -> None:
    run(config_of(tmp_path, num_epochs=1))
    with pytest.raises(FileNotFoundError, match=r"gdro/000002\.npz"):
        run(with_gdro(config_of(tmp_path, num_epochs=2)))


def test_failed_groups_are_lost_and_not_learnt_from(
    tmp_path: Path, cloud: Cloud, seen: list[tuple[Plan, Outcome]]
) -> None:
    cloud.broken = {FIRST_PROMPT + 1: 0}
    config = config_of(tmp_path, num_epochs=1, rollout_error_tolerance=RetryOnFailure(0))
    run(with_gdro(config, preset="rollout"))
    plan, outcome = next(one for one in seen if 1 in one[0].prompt_P)
    slot = list(plan.prompt_P).index(1)
    assert slot not in np.asarray(outcome.slot_R)
    assert state_of(tmp_path, 2, preset="rollout")["lost"] == plan.n_P[slot] == 4
    assert read_trace(tmp_path / "gdro" / "trace.jsonl").records[-1]["lost"] == 4


def test_what_came_back_of_a_group_counts(
    tmp_path: Path, cloud: Cloud, seen: list[tuple[Plan, Outcome]]
) -> None:
    cloud.broken = {FIRST_PROMPT + 2: 3}
    strategy = MinViableGroup(min_successful=2, max_retries=0)
    config = config_of(tmp_path, num_epochs=1, rollout_error_tolerance=strategy)
    run(with_gdro(config, preset="rollout"))
    (plan, outcome), (_, trained) = next(
        (one, call) for one, call in zip(seen, cloud.calls, strict=True) if 2 in one[0].prompt_P
    )
    slot = list(plan.prompt_P).index(2)
    assert (np.asarray(outcome.slot_R) == slot).sum() == 3
    assert len(answers(trained)[FIRST_PROMPT + 2][0]) == 3
    check_advantages(trained, plan)
    assert state_of(tmp_path, 2, preset="rollout")["lost"] == 1


def test_a_batch_of_which_nothing_comes_back_is_lost(tmp_path: Path, cloud: Cloud) -> None:
    cloud.broken = {FIRST_PROMPT + i: 0 for i in range(16)}
    run(with_gdro(config_of(tmp_path, num_epochs=1, rollout_error_tolerance=RetryOnFailure(0))))
    assert state_of(tmp_path, 2)["lost"] == 2 * 8 * 4
    assert cloud.calls == []


def test_what_a_limit_ended_before_it_was_judged_is_wrong(
    tmp_path: Path,
    cloud: Cloud,
    seen: list[tuple[Plan, Outcome]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Question, "limited", {FIRST_PROMPT + 3})  # right at 95%
    run(with_gdro(config_of(tmp_path, num_epochs=1), preset="rollout", correct="correct"))
    plan, outcome = seen[0]
    mine = np.asarray(outcome.slot_R) == list(plan.prompt_P).index(3)
    assert mine.sum() == 4
    assert not np.asarray(outcome.correct_R)[mine].any()


def test_constant_groups_are_seen_although_tinker_drops_them(
    tmp_path: Path, cloud: Cloud, seen: list[tuple[Plan, Outcome]]
) -> None:
    run(with_gdro(config_of(tmp_path, remove_constant_reward_groups=True)))
    dropped = 0
    for (plan, outcome), (_, trained) in zip(seen, cloud.calls, strict=True):
        assert len(np.asarray(outcome.slot_R)) == 32
        kept = check_advantages(trained, plan)
        for slot, prompt in enumerate(plan.prompt_P):
            right = np.asarray(outcome.correct_R)[np.asarray(outcome.slot_R) == slot]
            constant = len(set(right.tolist())) == 1
            assert (FIRST_PROMPT + int(prompt) in kept) == (not constant)
            dropped += constant
    assert dropped > 10


def test_streamed_minibatches_give_the_same_plans_and_advantages(
    tmp_path: Path, cloud: Cloud, seen: list[tuple[Plan, Outcome]]
) -> None:
    run(with_gdro(config_of(tmp_path / "sync")))
    whole, cloud.calls = cloud.calls, []
    plans = [plan for plan, _ in seen]
    streaming = train.StreamMinibatchConfig(groups_per_batch=8, num_minibatches=4)
    run(with_gdro(config_of(tmp_path / "stream", stream_minibatch_config=streaming)))
    assert len(cloud.calls) == 4 * len(whole)
    for i, (plan, _) in enumerate(seen[len(plans) :]):
        np.testing.assert_equal(plan.n_P, plans[i].n_P)
        parts = [datum for _, data in cloud.calls[4 * i : 4 * i + 4] for datum in data]
        assert len(parts) == 32
        check_advantages(parts, plan)


def test_the_kl_penalty_is_added_unweighted(
    tmp_path: Path, cloud: Cloud, seen: list[tuple[Plan, Outcome]]
) -> None:
    """Against the data without it: what it adds is the same for every weight."""
    run(with_gdro(config_of(tmp_path / "without")))
    without, cloud.calls = cloud.calls, []
    reference = train.KLReferenceConfig(base_model="fake/model")
    changes = {"kl_penalty_coef": 0.1, "kl_reference_config": reference}
    run(with_gdro(config_of(tmp_path / "with", **changes)))
    for (_, plain), (_, penalised) in zip(without, cloud.calls, strict=True):
        added = [
            b.loss_fn_inputs["advantages"].to_torch() - a.loss_fn_inputs["advantages"].to_torch()
            for a, b in zip(plain, penalised, strict=True)
        ]
        assert abs(float(added[0][-1])) > 0.005
        assert all(one.allclose(added[0], atol=1e-6) for one in added)
    assert any(plan.weight_P.std() > 0.01 for plan, _ in seen)


# -- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"async_config": train.AsyncConfig(max_steps_off_policy=1, groups_per_batch=8)},
         "async_config"),
        ({"termination": TerminationRewardPolicy(zero_reward_on_limit=True)},
         "zero_reward_on_limit"),
        ({"model_name": "thinkingmachines/Inkling"}, "zero_reward_on_limit"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedError, match=named):
        with_gdro(config_of(tmp_path, **changes))


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"preset": "joint_replay"}, UnsupportedError, "replay.successes"),
        ({"preset": "dapo"}, UnsupportedError, "rounds"),
        ({"preset": "paper"}, UnsupportedError, "signal=surrogate"),
        ({"settings": {"rollout.proxy": "score"}}, UnsupportedError, "proxy=score"),
        ({"size": "group_size"}, DataError, "size=group_size"),
        ({"correct": "solved"}, DataError, "correct=solved"),
        ({"prompt_id": lambda builder: "one"}, DataError, "distinct"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    tmp_path: Path, cloud: Cloud, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        run(with_gdro(config_of(tmp_path), **options))
    assert cloud.calls == []


def test_shaped_rewards_need_a_metric(tmp_path: Path, cloud: Cloud) -> None:
    with pytest.raises(DataError, match="0 or 1"):
        run(with_gdro(config_of(tmp_path, QuestionsBuilder(style=STYLE))))


def test_an_error_that_a_tolerant_strategy_swallows_stops_the_run(
    tmp_path: Path, cloud: Cloud
) -> None:
    config = config_of(tmp_path, rollout_error_tolerance=RetryOnFailure(0))
    with pytest.raises(DataError, match="batch 0 was not learnt from"):
        run(with_gdro(config, correct="solved"))


def test_an_executor_is_refused(tmp_path: Path, cloud: Cloud) -> None:
    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            await train.main(with_gdro(config_of(tmp_path)), rollout_executor=pool)

    with pytest.raises(UnsupportedError, match="rollout_executor"):
        asyncio.run(main())
    set_rollout_executor(None)


def test_prompts_go_by_their_own_ids(
    tmp_path: Path, cloud: Cloud, seen: list[tuple[Plan, Outcome]]
) -> None:
    run(with_gdro(config_of(tmp_path, num_epochs=1), prompt_id=lambda group: f"q{group.prompt}"))
    ids = {str(one) for plan, _ in seen for one in plan.prompt_P}
    assert ids <= {f"q{FIRST_PROMPT + i}" for i in range(16)}
