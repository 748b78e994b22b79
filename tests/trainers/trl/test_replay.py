"""Remembered successes train in the place of rollouts, and nothing else changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdro.core.errors import ConfigError

from .conftest import check_old_logps, make_trainer, parity, prompts, rare, same_weights, weights

REPLAY: dict[str, Any] = {
    "gdro_preset": "replay",
    "num_generations": 4,
}


def watched(trainer: Any) -> list[dict[str, Any]]:
    """What each step generated, put in, and trained on."""
    steps: list[dict[str, Any]] = []
    recall, score = trainer.controller.recall, trainer._generate_and_score_completions

    def recalling(plan: Any, outcome: Any) -> Any:
        recalled, wanted = recall(plan, outcome)
        steps.append({"plan": plan, "correct": outcome.correct_R.copy(), "recalled": recalled})
        return recalled, wanted

    def scoring(inputs: Any) -> Any:
        output = score(inputs)
        if trainer.model.training:
            steps[-1] |= {"output": output, "rewards": trainer._rewards_RF.clone()}
            steps[-1]["observed"] = trainer._window.correct_R.clone()
            steps[-1]["tokens"] = trainer._window.tokens_R.clone()
        return output

    trainer.controller.recall = recalling
    trainer._generate_and_score_completions = scoring
    return steps


@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2, "beta": 0.01}])
def test_a_group_without_a_right_rollout_trains_on_a_remembered_one(
    model: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    trainer = make_trainer(
        model, tmp_path, dataset=prompts(8), max_steps=24, learning_rate=1e-4, **REPLAY, **changes
    )
    steps = watched(trainer)
    trainer.train()
    tokenizer, replayed, kept = trainer.processing_class, 0, {}
    for number, step in enumerate(steps):
        plan, output = step["plan"], step["output"]
        correct, slots = step["correct"], plan.slot_R
        said = tokenizer.batch_decode(output["completion_ids"], skip_special_tokens=True)
        asked = tokenizer.batch_decode(output["prompt_ids"], skip_special_tokens=True)
        right = np.bincount(slots, correct, len(plan.n_P))
        lost = [i for i, r in enumerate(right) if r == 0 and plan.prompt_P[i] in kept]
        last = {i: int(np.flatnonzero(slots == i)[-1]) for i in lost}
        assert sorted(step["recalled"]) == sorted(last.values())
        for i, row in last.items():
            assert said[row] == kept[plan.prompt_P[i]]
            assert step["rewards"][row] == 1
        # The others are as generated; what is learnt of prompts is what was generated.
        marks = rare(said, asked)
        trained = correct.copy()
        trained[list(step["recalled"])] = 1
        assert marks == trained.tolist() == step["rewards"][:, 0].tolist()
        assert step["observed"].tolist() == correct.tolist()
        for i in np.flatnonzero(right):
            kept[plan.prompt_P[i]] = said[[r for r in np.flatnonzero(slots == i) if correct[r]][-1]]
        groups = trained.reshape(-1, 4)
        expected = groups - groups.mean(axis=1, keepdims=True)
        expected /= groups.std(axis=1, ddof=1, keepdims=True) + 1e-4
        np.testing.assert_allclose(output["advantages"], expected.ravel(), atol=1e-5)
        assert output["num_items_in_batch"] == output["completion_mask"].sum()
        replayed += len(step["recalled"])
        assert number == 0 or step["tokens"].sum() > 0
    ledger = trainer.controller.ledger
    assert replayed == ledger.replayed > 3
    assert ledger.rollouts == ledger.trained == 16 * len(steps)
    assert ledger.tokens == sum(int(step["tokens"].sum()) for step in steps)


def test_a_success_stands_in_where_two_rounds_had_none(model: str, tmp_path: Path) -> None:
    trainer = make_trainer(
        model, tmp_path, dataset=prompts(8), max_steps=24, learning_rate=1e-4,
        gdro_preset="second_look_replay", num_generations=4, num_iterations=2,
    )  # fmt: skip
    generate = trainer._generate_and_score_completions
    decode = trainer.processing_class.batch_decode
    kept: dict[Any, str] = {}
    replayed = 0

    def scoring(inputs: Any) -> Any:
        nonlocal replayed
        output, window = generate(inputs), trainer._window
        plan, slots = window.plan, window.plan.slot_R
        said = decode(output["completion_ids"], skip_special_tokens=True)
        asked = decode(output["prompt_ids"], skip_special_tokens=True)
        rewards, correct = trainer._rewards_RF[:, 0].numpy(), window.correct_R.numpy()
        assert rare(said, asked) == rewards.tolist()
        assert plan.n_P.sum() == len(said) == 16
        for i, prompt_id in enumerate(plan.prompt_P):
            mine = np.flatnonzero(slots == i)
            right = [said[r] for r in mine if correct[r]]
            if right or prompt_id not in kept:
                np.testing.assert_array_equal(rewards[mine], correct[mine])
            else:
                assert [said[r] for r in mine if rewards[r]] == [kept[prompt_id]]
                replayed += 1
            if right:
                kept[prompt_id] = right[-1]
            raw = (rewards[mine] - rewards[mine].mean()) / (rewards[mine].std(ddof=1) + 1e-4)
            np.testing.assert_allclose(output["advantages"][mine], raw, atol=1e-5)
        check_old_logps(trainer, output)
        return output

    trainer._generate_and_score_completions = scoring
    trainer.train()
    assert replayed == trainer.controller.ledger.replayed > 3


def test_old_log_probabilities_are_those_of_the_present_policy(model: str, tmp_path: Path) -> None:
    trainer = make_trainer(
        model, tmp_path, dataset=prompts(8), max_steps=24, num_iterations=2, **REPLAY
    )
    steps = watched(trainer)
    seen = 0
    score = trainer._generate_and_score_completions

    def scoring(inputs: Any) -> Any:
        nonlocal seen
        output = score(inputs)
        rows = list(steps[-1]["recalled"])
        if rows:
            ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
            mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
            with torch.no_grad():
                logits = trainer.model(input_ids=ids, attention_mask=mask).logits
            width = output["completion_ids"].shape[1]
            logits = logits[:, -width - 1 : -1] / trainer.temperature
            found = logits.log_softmax(-1).gather(-1, output["completion_ids"][..., None])[..., 0]
            keep = output["completion_mask"][rows].bool()
            expected = found[rows][keep]
            torch.testing.assert_close(
                output["old_per_token_logps"][rows][keep], expected, atol=1e-4, rtol=1e-4
            )
            seen += len(rows)
        return output

    trainer._generate_and_score_completions = scoring
    trainer.train()
    assert seen > 3


def test_without_a_lost_group_nothing_changes(model: str, tmp_path: Path) -> None:
    def right(completions: list[str], **_: Any) -> list[float]:
        """Every other rollout."""
        return [float(i % 2) for i in range(len(completions))]

    trained = []
    for replay in (False, True):
        changes = REPLAY | {"gdro_replay_successes": replay}
        trainer = make_trainer(model, tmp_path / str(replay), rewards=right, **changes)
        trainer.train()
        trained.append(weights(trainer))
    assert same_weights(*trained)


def remembered(trainer: Any) -> list[Any]:
    """Every success that the controller is handed."""
    found: list[Any] = []
    remember = trainer.controller.remember

    def remembering(plan: Any, successes: Any) -> None:
        found.extend(successes.values())
        remember(plan, successes)

    trainer.controller.remember = remembering
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_a_truncated_rollout_is_not_remembered_where_it_is_masked(
    model: str, tmp_path: Path, masked: bool
) -> None:
    trainer = make_trainer(
        model, tmp_path, rewards=parity, max_steps=12, max_completion_length=20,
        mask_truncated_completions=masked, **REPLAY,
    )  # fmt: skip
    found, eos = remembered(trainer), trainer.processing_class.eos_token_id
    trainer.train()
    assert any(success.tokens[-1] == eos for success in found)
    assert any(success.tokens[-1] != eos for success in found) != masked


def test_a_rollout_that_no_reward_scores_is_not_remembered(model: str, tmp_path: Path) -> None:
    def patchy(completions: list[str], **_: Any) -> list[float | None]:
        return [None if "7" in c else 0.5 for c in completions]

    trainer = make_trainer(
        model, tmp_path, rewards=patchy, correct_func=parity, max_steps=12, **REPLAY
    )
    found, seven = remembered(trainer), trainer.processing_class("7")["input_ids"][0]
    trainer.train()
    assert found
    assert not any(seven in success.tokens for success in found)


def test_rounds_and_replay_are_refused_together(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"replay\.successes must be False"):
        make_trainer(model, tmp_path, **REPLAY | {"gdro_select_policy": "dapo"})
