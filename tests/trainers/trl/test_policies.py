"""Every policy behind the ports trains on TRL, and rounds hand on the rollouts that they should."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdro.core import registry
from gdro.core.errors import UnsupportedError
from gdro.core.trace import read_trace
from gdro.trainers.trl.rounds import Rounds, padded_size

from .conftest import check_old_logps, make_trainer, prompts, rare, same_weights, weights

GRPO = {"gdro_preset": "grpo"}
SURPLUS = {
    "dapo": GRPO | {"gdro_select_policy": "dapo", "gdro_select_max_rounds": 3},
    "dapo, uneven": {"gdro_select_policy": "dapo", "gdro_prompt_weigh": "per_prompt"},
    "dapo, batch": GRPO | {"gdro_select_policy": "dapo", "scale_rewards": "batch"},
    "reinforce_ada": GRPO | {"gdro_rollout_allocator": "reinforce_ada"},
    "positive": GRPO | {"gdro_rollout_allocator": "reinforce_ada", "gdro_rollout_exit": "positive"},
}
ROUNDS = SURPLUS | {"second_look": {"gdro_preset": "second_look"}}
POLICIES: dict[str, dict[str, Any]] = (
    {f"weigh {name}": {"gdro_prompt_weigh": name} for name in registry.WEIGH}
    | {
        f"weigh {name}": {"gdro_prompt_ambiguity": name}
        for name in ("entropic", "cvar", "chi_square")
    }
    | {
        f"select {name}": GRPO | {"gdro_select_policy": name}
        for name in registry.SELECT
        if name not in ("sample", "dapo")
    }
    | {"select sample": {"gdro_prompt_realisation": "sample"}}
    | {
        f"allocate {name}": {"gdro_rollout_allocator": name, "gdro_rollout_aggregation": "prompt"}
        for name in registry.ALLOCATE
        if name not in ("exp3p", "reinforce_ada", "second_look")
    }
    | {
        f"allocate exp3p {choice}": {
            "gdro_rollout_allocator": "exp3p", "gdro_rollout_choice": choice,
        }
        for choice in ("argmax", "sample")
    }
    | ROUNDS
)  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_trains(model: str, tmp_path: Path, policy: str) -> None:
    trainer = make_trainer(
        model, tmp_path, dataset=prompts(24), max_steps=7, **POLICIES[policy],
        save_strategy="steps", save_steps=5,
    )  # fmt: skip
    before, learnt = weights(trainer), []
    score = trainer._generate_and_score_completions

    def scoring(inputs: Any) -> Any:
        output = score(inputs)
        learnt.append(int(output["completion_mask"].sum()))
        return output

    trainer._generate_and_score_completions = scoring  # type: ignore[method-assign]
    trainer.train()
    assert not same_weights(before, weights(trainer))
    records = read_trace(tmp_path / "trace.jsonl").records
    assert len(records) == 7
    assert all(record["trained"] == 16 for record in records)
    assert trainer.spent["trained"] == 7 * 16
    generated = [record["rollouts"] for record in records]
    if policy in SURPLUS:
        assert max(generated) > 16
        assert trainer.spent["rollouts"] == sum(generated)
    else:
        assert generated == [16] * 7
        assert trainer.spent["rollouts"] == 7 * 16
    booked = trainer.controller.ledger.state_dict() | {"trained_tokens": sum(learnt)}
    assert booked == trainer.spent | {"replayed": 0}
    assert (sum(learnt) == booked["tokens"]) == (policy not in SURPLUS)
    resumed = make_trainer(
        model, tmp_path, dataset=prompts(24), max_steps=7, **POLICIES[policy],
        save_strategy="steps", save_steps=5,
    )  # fmt: skip
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert same_weights(weights(resumed), weights(trainer))
    assert [r["rollouts_B"] for r in read_trace(tmp_path / "trace.jsonl").records] == [
        r["rollouts_B"] for r in records
    ]


@pytest.mark.parametrize("policy", ROUNDS)
def test_rounds_train_on_the_rollouts_that_they_say(
    model: str, tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row: prompt, completion, verdict, advantage and log-probabilities belong together."""
    trainer = make_trainer(
        model, tmp_path, dataset=prompts(24), max_steps=6, beta=0.01, num_iterations=2,
        **ROUNDS[policy],
    )  # fmt: skip
    decode = trainer.processing_class.batch_decode
    generate = trainer._generate_and_score_completions
    extended = 0

    def checked(inputs: Any) -> Any:
        nonlocal extended
        output, window = generate(inputs), trainer._window
        plan = window.plan
        extended += plan.round > 0
        slot_R = np.repeat(np.arange(len(plan.n_P)), plan.n_P)
        rows = output["gdro_row"].numpy()
        slots = slot_R[rows]
        np.testing.assert_array_equal(np.bincount(slots, minlength=len(plan.n_P)), plan.train_P)
        shown = decode(output["prompt_ids"], skip_special_tokens=True)
        row_of = {prompt_id: row for row, prompt_id in enumerate(trainer._ids)}
        meant = [trainer.train_dataset[row_of[plan.prompt_P[s]]]["prompt"] for s in slots]
        assert shown == meant
        said = decode(output["completion_ids"], skip_special_tokens=True)
        assert rare(said, meant) == window.correct_R[rows].tolist()
        for slot in np.unique(slots):  # mean and deviation over all that was generated
            group = window.correct_R[slot_R == slot]
            if trainer.scale_rewards == "batch":  # of what trains, not of what was replaced
                deviation = window.correct_R[rows].std()
            else:
                deviation = group.std()
            raw = (window.correct_R[rows[slots == slot]] - group.mean()) / (deviation + 1e-4)
            torch.testing.assert_close(output["gdro_raw_advantages"][slots == slot], raw)
        weighted = output["gdro_raw_advantages"] * torch.tensor(plan.weight_P[slots]).float()
        torch.testing.assert_close(output["advantages"], weighted)
        assert output["num_items_in_batch"] == output["completion_mask"].sum()
        check_old_logps(trainer, output)
        logged = trainer._logs
        assert list(logged["prompt"]) == meant
        assert list(logged["completion"]) == said
        assert list(logged["advantages"]) == output["advantages"].tolist()
        assert [float(r) for r in logged["rewards"]["rare"]] == rare(said, meant)
        return output

    monkeypatch.setattr(trainer, "_generate_and_score_completions", checked)
    trainer.train()
    assert extended > 1


@pytest.mark.parametrize("policy", ["dapo", "reinforce_ada"])
def test_rounds_log_lengths_and_verdicts_of_all_that_was_generated(
    model: str, tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ("right", "wrong", "unparsed", "timeout")

    def judged(completions: list[str], log_extra: Any, log_metric: Any, **_: Any) -> list[float]:
        verdicts = [said[sum(map(ord, c)) % 4] for c in completions]
        log_extra("verdict/judged", verdicts)
        for name in said:
            log_metric(f"verify/{name}", verdicts.count(name) / len(verdicts))
        return [float(v == "right") for v in verdicts]

    trainer = make_trainer(
        model, tmp_path, rewards=judged, dataset=prompts(24), max_steps=5, **ROUNDS[policy]
    )
    tokenizer, score = trainer.processing_class, trainer._calculate_rewards
    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    steps: list[list[list[tuple[int, bool, str]]]] = []

    def seen(inputs: Any, texts: Any, completions: Any, ids: Any) -> Any:
        if trainer._round.plan.round == 0:
            steps.append([])
        verdicts = [said[sum(map(ord, c)) % 4] for c in completions]
        steps[-1].append([(len(i), i[-1] in ends, v) for i, v in zip(ids, verdicts, strict=True)])
        return score(inputs, texts, completions, ids)

    monkeypatch.setattr(trainer, "_calculate_rewards", seen)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "completions/mean_length" in log]
    records = read_trace(tmp_path / "trace.jsonl").records
    assert max(map(len, steps)) > 1
    for log, record, rounds in zip(logs, records, steps, strict=True):
        rows = [row for one in rounds for row in one]
        assert len(rows) == record["rollouts"]
        lengths = [length for length, _, _ in rows]
        ended = [length for length, whole, _ in rows if whole] or [0]
        for kind, of in (("", lengths), ("terminated_", ended)):
            for name, most in (("mean", np.mean), ("min", min), ("max", max)):
                assert log[f"completions/{name}_{kind}length"] == pytest.approx(most(of))
        clipped = np.mean([not whole for _, whole, _ in rows])
        assert log["completions/clipped_ratio"] == pytest.approx(clipped)
        for name in said:
            share = np.mean([v == name for _, _, v in rows])
            assert log[f"verify/{name}"] == pytest.approx(share)
        for name in ("unparsed", "timeout"):  # rows that only filled a batch are no rollouts
            counts, all_of_it = record[f"{name}_B"], sum(v == name for _, _, v in rows)
            assert sum(counts) <= record[name] <= all_of_it
    assert any(record["unparsed"] for record in records)


def test_dapo_trains_on_mixed_groups_where_it_can(model: str, tmp_path: Path) -> None:
    plain = make_trainer(model, tmp_path / "grpo", max_steps=8, **GRPO)
    filtered = make_trainer(model, tmp_path / "dapo", max_steps=8, **ROUNDS["dapo"])
    zero = {}
    for name, trainer in (("grpo", plain), ("dapo", filtered)):
        trainer.train()
        zero[name] = np.mean([
            log["frac_reward_zero_std"] for log in trainer.state.log_history
            if "frac_reward_zero_std" in log
        ])  # fmt: skip
    assert zero["dapo"] < 0.5 * zero["grpo"]


def test_padded_size() -> None:
    assert [padded_size(s, 4, 3) for s in (1, 12, 13)] == [12, 12, 24]
    assert padded_size(10, 4, 1) == 12


def test_images_are_refused(model: str, tmp_path: Path) -> None:
    trainer = make_trainer(model, tmp_path, **ROUNDS["dapo"])
    with pytest.raises(UnsupportedError, match="do not support pixel_values in a batch"):
        Rounds(trainer).add({"pixel_values": torch.zeros(1)}, torch.zeros(1))
