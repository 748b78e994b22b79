"""The trainer, through `train()`: ragged advantages, feedback, selection, errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import gdro.trainers.trl.border as module
from gdro import Controller
from gdro.core.errors import ConfigError, DataError, UnsupportedError
from gdro.core.presets import DEFAULT
from gdro.core.trace import read_trace
from gdro.trainers.trl import GDROTrainer
from gdro.trainers.trl.config import GDROConfig

from .conftest import make_trainer, parity, prompts, rare, settings, shaped, weighed


class Watching(GDROTrainer):
    """Keeps what each step generated, planned, and was rewarded with."""

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        output = super()._generate_and_score_completions(inputs)
        if self.model.training:
            window = self._window
            rows = {name: output[name].clone() for name in ("prompt_ids", "advantages")}
            self.seen.append(rows | {"plan": window.plan, "rewards": self._rewards_RF.clone()})
        return output

    def _observe(self, window: Any) -> None:
        self.sums.append(window.sums_RF.clone())
        super()._observe(window)


def watched(model: str, folder: Path, **changes: Any) -> Watching:
    rewards, correct = changes.pop("rewards", rare), changes.pop("correct_func", None)
    dataset = changes.pop("dataset", None) or prompts()
    changes = weighed(changes)
    trainer = Watching(
        model, rewards, GDROConfig(**settings(folder, **changes)), dataset,
        processing_class=AutoTokenizer.from_pretrained(model), correct_func=correct,
    )  # fmt: skip
    trainer.seen, trainer.sums = [], []
    trainer.train()
    return trainer


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("aggregation", ["rollout", "prompt", "neutral"])
def test_ragged_advantages(model: str, tmp_path: Path, scale: str, aggregation: str) -> None:
    """Each prompt gets n_P rows, and (r - mean) / std of its own group times its weight."""
    trainer = watched(
        model, tmp_path, max_steps=8, scale_rewards=scale, gdro_rollout_aggregation=aggregation,
        gdro_id_column="name",
    )  # fmt: skip
    dataset, tokenizer = trainer.train_dataset, trainer.processing_class
    text = dict(zip(dataset["name"], dataset["prompt"], strict=True))
    ragged = weighed = 0
    for seen in trainer.seen:
        plan, rewards = seen["plan"], seen["rewards"][:, 0].numpy().astype(np.float64)
        assert plan.n_P.sum() == len(rewards) == 16
        written = tokenizer.batch_decode(seen["prompt_ids"], skip_special_tokens=True)
        expected = [text[i] for i in np.repeat(plan.prompt_P, plan.n_P)]
        assert [w.replace(" ", "") for w in written] == expected
        start, advantages = 0, []
        for n, weight in zip(plan.n_P, plan.weight_P, strict=True):
            group = rewards[start : start + n]
            scales = {"group": group.std(ddof=1), "batch": rewards.std(ddof=1), "none": 1 - 1e-4}
            advantages.append(weight * (group - group.mean()) / (scales[scale] + 1e-4))
            start += n
        np.testing.assert_allclose(seen["advantages"], np.concatenate(advantages), atol=1e-5)
        ragged += len(set(plan.n_P.tolist())) > 1
        weighed += len(set(plan.weight_P.tolist())) > 1
    assert ragged >= 2
    assert weighed >= 2
    assert trainer.spent["rollouts"] == 8 * 16
    tokens = sum(r["tokens"] for r in read_trace(tmp_path / "trace.jsonl").records)
    assert trainer.spent["tokens"] == tokens


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_prompt_loss_is_trls(model: str, tmp_path: Path, level: str) -> None:
    """Averaged over rollouts, Eq. 6-7 as captured is TRL's own loss of type grpo at weight 1."""
    trainer = watched(
        model, tmp_path, rewards=parity, max_steps=6, num_iterations=2, beta=0.05,
        loss_type="grpo", gdro_preset="grpo", importance_sampling_level=level, learning_rate=3e-2,
    )  # fmt: skip
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    for i, sums in enumerate(trainer.sums):
        assert (sums[:, 2] == 2).all(), "each rollout is seen once an update"
        assert sums[:, 0].mean().item() == pytest.approx(
            losses[2 * i] + losses[2 * i + 1], abs=2e-6
        )
    assert max(abs(loss) for loss in losses) > 1e-3, "off policy there is something to compare"


def test_surrogate_is_zero_on_policy_and_warns_once(model: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="zero on-policy") as warned:
        trainer = watched(
            model, tmp_path, max_steps=6, gdro_prompt_signal="surrogate", gdro_preset="prompt"
        )
    assert sum("zero on-policy" in str(w.message) for w in warned) == 1
    for seen, sums in zip(trainer.seen, trainer.sums, strict=True):
        group = sums[:, 0].reshape(-1, 4).mean(dim=1)
        assert group.abs().max() < 1e-6
        assert seen["plan"].n_P.max() == 4


def test_sample_mode_chooses_the_rows(model: str, tmp_path: Path) -> None:
    """The rows trained on are the controller's, distinct within a step, and evenly used."""
    trainer = watched(
        model, tmp_path, max_steps=24, gdro_prompt_realisation="sample", gdro_id_column="name"
    )
    used = np.concatenate([seen["plan"].prompt_P for seen in trainer.seen])
    for seen in trainer.seen:
        assert len(set(seen["plan"].prompt_P.tolist())) == 4
        assert (seen["plan"].adversary_P == 1).all()
    assert set(used.tolist()) == set(prompts()["name"]), "every prompt has its turn"
    assert max(np.unique(used, return_counts=True)[1]) <= 4 * 6


def test_correct_is_named_when_rewards_are_shaped(model: str, tmp_path: Path) -> None:
    several = {"rewards": [shaped, parity]}
    with pytest.raises(ConfigError, match="correct_func must be given with 2 reward functions"):
        make_trainer(model, tmp_path, **several)
    with pytest.raises(ConfigError, match="correct_func must be one of shaped, parity"):
        make_trainer(model, tmp_path, **several, correct_func="exactness")
    with pytest.raises(DataError, match=r"'shaped' returned .* must be 0 or 1: pass correct_func"):
        make_trainer(model, tmp_path, rewards=shaped).train()
    by_name = watched(model, tmp_path / "name", **several, correct_func="parity")
    assert by_name.reward_weights.tolist() == [1, 1]
    apart = watched(model, tmp_path / "apart", rewards=shaped, correct_func=parity)
    assert apart.reward_weights.tolist() == [1, 0]
    for trainer, column in ((by_name, 1), (apart, 1)):
        record = read_trace(Path(trainer.args.output_dir) / "trace.jsonl").records[-1]
        correct = trainer.seen[-1]["rewards"][:, column].mean().item()
        assert record["unseen_correct"] == pytest.approx(correct, abs=1e-4)
        assert record["reward"] != record["unseen_correct"]


def test_an_added_correct_func_changes_nothing_else(model: str, tmp_path: Path) -> None:
    """Unscorable rollouts, the user's arguments and processing classes are as in TRL."""

    def patchy(completions: list[str], **_: Any) -> list[float | None]:
        return [None if i % 4 == 0 else float(i) for i in range(len(completions))]

    trainer = watched(
        model, tmp_path, rewards=patchy, correct_func=parity, gdro_preset="grpo", max_steps=1,
        per_device_eval_batch_size=16,
    )  # fmt: skip
    (seen,) = trainer.seen
    group = np.array([1.0, 2.0, 3.0])
    expected = np.append(0.0, (group - 2) / (group.std(ddof=1) + 1e-4))
    np.testing.assert_allclose(seen["advantages"][:4], expected, atol=1e-5)
    logged = next(log for log in trainer.state.log_history if "reward" in log)
    scored = np.mean([i for i in range(16) if i % 4])
    assert logged["reward"] == pytest.approx(scored)
    assert trainer.evaluate(prompts(4))["eval_reward"] == pytest.approx(scored)

    args = GDROConfig(**settings(tmp_path), reward_weights=[2.0])
    tokenizer = AutoTokenizer.from_pretrained(model)
    for more in ((None, tokenizer, [None]), (None, tokenizer)):
        named = {} if len(more) == 3 else {"reward_processing_classes": [None]}
        again = GDROTrainer(model, shaped, args, prompts(), *more, correct_func=parity, **named)
        assert again.reward_processing_classes == [None, None]
        assert again.reward_weights.tolist() == [2, 0]
        assert args.reward_weights == [2.0]


def strict(prompts, completions, completion_ids, name, level, trainer_state, log_extra, log_metric):
    for conversation, completion in zip(prompts, completions, strict=True):
        assert len(conversation) == 1, "another rollout's answer is in the conversation"
        conversation.extend(completion)
    return [float(i % 2) for i in range(len(completions))]


def test_each_rollout_has_its_own_row_and_only_the_users_columns(
    model: str, tmp_path: Path
) -> None:
    chats = prompts().map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    trainer = GDROTrainer(
        model, strict, GDROConfig(**settings(tmp_path)), chats, processing_class=tokenizer
    )
    trainer.train()
    assert trainer.state.global_step == 3


def test_the_ledger_counts_what_was_generated(model: str, tmp_path: Path) -> None:
    """Also of truncated completions, whose mask TRL empties, and of an open window."""
    trainer = watched(
        model, tmp_path, max_steps=3, num_iterations=2, mask_truncated_completions=True
    )
    assert trainer.spent["rollouts"] == 2 * 16
    logs = [log for log in trainer.state.log_history if "completions/mean_length" in log]
    generated = sum(round(16 * log["completions/mean_length"]) for log in logs)
    assert any(log["completions/clipped_ratio"] > 0 for log in logs)
    assert trainer.spent["tokens"] == generated


def test_the_ledger_counts_no_output_of_tools(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = GRPOTrainer._generate

    def with_a_tool(self: Any, prompts: Any) -> Any:
        """The first token of every completion is a tool's."""
        prompt_ids, completion_ids, _, *more = generate(self, prompts)
        return prompt_ids, completion_ids, [[0] + [1] * (len(c) - 1) for c in completion_ids], *more

    monkeypatch.setattr(GRPOTrainer, "_generate", with_a_tool)
    trainer = watched(model, tmp_path)
    lengths = [log["completions/mean_length"] for log in trainer.state.log_history[:3]]
    assert trainer.spent["rollouts"] == 3 * 16
    assert trainer.spent["tokens"] == trainer.spent["trained_tokens"]
    assert trainer.spent["tokens"] == sum(round(16 * (length - 1)) for length in lengths)


def missing(completions: list[str], **_: Any) -> list[Any]:
    return [None] + [1.0] * (len(completions) - 1)


def short(completions: list[str], **_: Any) -> list[float]:
    return [1.0] * (len(completions) - 1)


def test_bad_rewards(model: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'missing' returned nan for rollout 0"):
        make_trainer(model, tmp_path, rewards=missing).train()
    with pytest.raises(ValueError, match="returned 15 rewards, but 16 were expected"):
        make_trainer(model, tmp_path, rewards=short).train()


def test_bad_data(model: str, tmp_path: Path) -> None:
    def refuse(dataset: Any, error: type[Exception], match: str, **changes: Any) -> None:
        with pytest.raises(error, match=match):
            make_trainer(model, tmp_path, dataset=dataset, **changes)

    rows = prompts(8)
    refuse(rows.select([]), DataError, "no rows")
    refuse(rows.remove_columns("prompt"), DataError, "no column 'prompt'; it has name, level")
    refuse(rows, DataError, "no column 'uid'", gdro_id_column="uid")
    refuse(rows, DataError, "no column 'topic'", gdro_difficulty_source="column:topic")
    twice = Dataset.from_list([{"prompt": "1+1=", "id": "a"}, {"prompt": "2+2=", "id": "a"}])
    refuse(twice, DataError, "rows 0 and 1 have the same id 'a'", gdro_id_column="id")
    refuse(rows.to_iterable_dataset(), UnsupportedError, "rows are fetched by index")
    repeated = Dataset.from_list([{"prompt": f"{i % 8}+1="} for i in range(12)])
    with pytest.warns(UserWarning, match=r"4 rows repeat .* \(8 of 12 are kept\)"):
        trainer = make_trainer(model, tmp_path, dataset=repeated)
    assert len(trainer.train_dataset) == 8
    only = rows.with_transform(lambda batch: {"prompt": batch["prompt"]})
    refuse(only, DataError, "has a transform that leaves out 'gdro_row'")
    for name, kept in {
        "all": rows.with_transform(lambda batch: batch),
        "column": rows.with_format(columns=["prompt"]),
        "numpy": rows.with_format("numpy", columns=["prompt"]),
    }.items():
        make_trainer(model, tmp_path / name, dataset=kept).train()
    refuse(rows.select(range(3)), DataError, "a step takes 4 prompts .* the training set has 3")
    answers = Dataset.from_list([{"prompt": "1+1=", "answer": str(i % 6)} for i in range(8)])
    with pytest.warns(UserWarning, match="2 rows repeat another row"):
        trainer = make_trainer(model, tmp_path, dataset=answers)
    assert len(trainer.train_dataset) == 6, "the same prompt with another answer is another row"


def test_what_is_not_supported_says_why(model: str, tmp_path: Path) -> None:
    for changes, match in (
        ({"multi_objective_aggregation": "normalize_then_sum"}, "normalises over the batch"),
        ({"enable_jit_checkpoint": True}, "before the optimizer has made it"),
        ({"loss_type": "cispo", "gdro_prompt_signal": "surrogate"}, "no clipped surrogate"),
        (
            {"gdro_rollout_aggregation": "neutral", "rewards": shaped, "correct_func": parity},
            "holds for 0/1 rewards only",
        ),
    ):
        with pytest.raises(UnsupportedError, match=match):
            make_trainer(model, tmp_path, **changes)
    plain = GDROConfig(**settings(tmp_path))
    memory = GDROConfig(**settings(tmp_path, gdro_preset="rollout_replay"))
    places = ("tools", "rollout_func", "environment_factory")
    for args, name in ((memory, "tools"), (plain, "rollout_func"), (plain, "environment_factory")):
        given = [lambda *a: {}]  # truthy, as a list of tools too
        with pytest.raises(UnsupportedError, match=name):
            GDROTrainer(model, rare, args, prompts(), **{name: given})
        place = [None] * (7 + places.index(name))
        with pytest.raises(UnsupportedError, match=name):
            GDROTrainer(model, rare, args, prompts(), *place, given)
    with pytest.raises(TypeError, match="reward_funks"):
        GDROTrainer(model, args=plain, train_dataset=prompts(), reward_funks=rare)
    with pytest.raises(ConfigError, match="at least one reward function"):
        GDROTrainer(model, None, GDROConfig(**settings(tmp_path)), prompts())
    with pytest.raises(ConfigError, match="args must be a GDROConfig, got GRPOConfig"):
        GDROTrainer(model, rare, GRPOConfig(**settings(tmp_path)), prompts())
    make_trainer(model, tmp_path, loss_type="cispo", gdro_preset="rollout").train()


def test_evaluation_is_trls(model: str, tmp_path: Path) -> None:
    trainer = GDROTrainer(
        model, rare, GDROConfig(**settings(tmp_path, eval_strategy="steps", eval_steps=2,
                                           per_device_eval_batch_size=16)),
        prompts(), eval_dataset=prompts(4), processing_class=AutoTokenizer.from_pretrained(model),
    )  # fmt: skip
    trainer.train()
    assert any("eval_reward" in log for log in trainer.state.log_history)
    assert trainer.spent["rollouts"] == 3 * 16


def test_evaluation_with_continuous_batching_is_evaluation(model: str, tmp_path: Path) -> None:
    """TRL's engine leaves the model in training mode: two batches of evaluation, in mid-window."""
    trainer = make_trainer(
        model, tmp_path, dataset=prompts(8), gdro_preset="rollout_replay", num_iterations=2,
        use_transformers_continuous_batching=True, per_device_eval_batch_size=4,
        transformers_continuous_batching_config={"num_blocks": 16, "max_batch_tokens": 256},
    )  # fmt: skip
    modes: list[bool] = []
    score = trainer._generate_and_score_completions

    def scoring(inputs: Any) -> Any:
        modes.append(trainer.model.training)
        return score(inputs)

    class Evaluate(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            trainer.evaluate(prompts(2))

    trainer._generate_and_score_completions = scoring  # type: ignore[method-assign]
    trainer.add_callback(Evaluate())
    trainer.train()
    assert modes == [True, False, False, False, False, True, False, False]
    assert trainer.spent["rollouts"] == 2 * 16


class ServerMode:
    """vLLM's server mode as far as rows go: every n-th prompt, n completions of each."""

    asked: list[int] = []

    def __init__(self, **settings: Any) -> None:
        self.accelerator, self.vllm_client = settings["accelerator"], self

    def get_server_info(self) -> dict[str, Any]:
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def sync_weights(self) -> None:
        pass

    def generate(
        self, prompts: Any, images: Any, num_generations: int, profiler: Any = None
    ) -> Any:
        self.asked.append(num_generations)
        kept = gather_object(prompts)[::num_generations]
        completions = [[*p, 1] for p in kept for _ in range(num_generations)]
        return prompts, completions, [[[-1.0] for _ in c] for c in completions], None


def echo(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [float(p == c) for p, c in zip(prompts, completions, strict=True)]


def test_vllm_answers_the_prompt_it_was_asked(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No vLLM runs here: a stand-in with its stride shows that no row gets another's answer."""
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", ServerMode)
    ServerMode.asked = []
    trainer = make_trainer(
        model, tmp_path, rewards=[rare, echo], correct_func="rare", use_vllm=True,
        vllm_mode="server", max_steps=8,
    )  # fmt: skip
    trainer.train()
    assert set(ServerMode.asked) == {1}
    records = read_trace(tmp_path / "trace.jsonl").records
    assert any(max(r["rollouts_B"]) % 4 for r in records), "ragged steps are what the stride breaks"
    logs = [log for log in trainer.state.log_history if "rewards/echo/mean" in log]
    assert len(logs) == 8
    assert all(log["rewards/echo/mean"] == 1 for log in logs)


def test_a_replayed_rollout_is_not_corrected_for_vllm(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not sampled by the present one: its ratio is 1, the others' is TRL's."""
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", ServerMode)
    calls = iter(range(10**6))

    def seldom(completions: list[str], **_: Any) -> list[float]:
        return [float(next(calls) % 5 == 0) for _ in completions]

    trainer = make_trainer(
        model, tmp_path, rewards=seldom, use_vllm=True, vllm_mode="server", max_steps=8,
        gdro_preset="rollout_replay", dataset=prompts(8),
    )  # fmt: skip
    seen: list[tuple[set[int], torch.Tensor]] = []
    recall, score = trainer.controller.recall, trainer._generate_and_score_completions

    def recalling(plan: Any, outcome: Any) -> Any:
        found = recall(plan, outcome)
        seen.append((set(found[0]), torch.empty(0)))
        return found

    def scoring(inputs: Any) -> Any:
        output = score(inputs)
        seen[-1] = (seen[-1][0], output["importance_sampling_ratio"])
        return output

    trainer.controller.recall = recalling  # type: ignore[method-assign]
    trainer._generate_and_score_completions = scoring  # type: ignore[method-assign]
    trainer.train()
    assert sum(len(rows) for rows, _ in seen) > 3
    for rows, ratio in seen:
        ones = torch.isclose(ratio, torch.ones_like(ratio)).all(dim=-1)
        assert set(torch.nonzero(ones).flatten().tolist()) == rows


def test_rounds_pad_the_ratio_of_vllm_with_one(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vespo sums its logarithm over all positions, of which TRL itself has those with no token."""
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", ServerMode)
    trainer = make_trainer(
        model, tmp_path, dataset=prompts(24), use_vllm=True, vllm_mode="server", max_steps=8,
        gdro_preset="dapo", loss_type="vespo", vllm_importance_sampling_mode="token_truncate",
    )  # fmt: skip
    padding: list[torch.Tensor] = []
    score = trainer._generate_and_score_completions

    def scoring(inputs: Any) -> Any:
        output = score(inputs)
        padding.append(output["importance_sampling_ratio"][output["completion_mask"] == 0])
        return output

    trainer._generate_and_score_completions = scoring  # type: ignore[method-assign]
    trainer.train()
    ratios = torch.cat(padding)
    assert len(ratios) > 0
    assert (ratios == 1).all()


def test_hooks_are_checked_at_start(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOOKS", ("_compute_loss", "_moved_away"))
    with pytest.raises(UnsupportedError, match="lacks _moved_away"):
        make_trainer(model, tmp_path)


def test_every_leaf_is_a_flag_and_a_bound_is_an_error() -> None:
    config = GDROConfig("out", use_cpu=True, bf16=False, gdro_preset="paper", gdro_prompt_eta=3)
    assert config.gdro_prompt_signal == "surrogate"
    assert config.controller_config.prompt.eta == config.gdro_prompt_eta == 3.0
    assert config.gdro_rollout_n_min == 2
    assert config.output_dir == "out"
    with pytest.raises(ConfigError, match="rollout.n_min must be >= 2, got 1"):
        GDROConfig("out", use_cpu=True, bf16=False, gdro_rollout_n_min=1)
    many = {"use_cpu": True, "bf16": False, "num_generations": 16}
    with pytest.raises(ConfigError, match=r"num_generations .* 2 .. 12, got 16"):
        GDROConfig("out", per_device_train_batch_size=16, gdro_rollout_n_max=12, **many)
    assert GDROConfig("out", per_device_train_batch_size=16, **many).gdro_rollout_n_max == 48
    config.gdro_prompt_eta = 0.5
    assert config.controller_config.prompt.eta == 0.5, "what is shown is in force"
    assert config.method == "paper, changed"
    assert GDROConfig("out", use_cpu=True, bf16=False, gdro_preset="rollout").method == "rollout"
    default = GDROConfig(
        "out", use_cpu=True, bf16=False, num_generations=4, per_device_train_batch_size=4
    )
    assert default.gdro_preset == default.method == DEFAULT
    assert default.controller_config == Controller().config
    edges = GDROConfig("out", use_cpu=True, bf16=False, gdro_difficulty_edges=[0.2, 0.5, 0.8])
    assert edges.gdro_difficulty_bins == 4


def test_two_names_switch_a_script(model: str, tmp_path: Path) -> None:
    """A TRL script with positional arguments and nothing of ours."""
    trainer = GDROTrainer(
        model, [rare], GDROConfig(**settings(tmp_path)), prompts(), None,
        AutoTokenizer.from_pretrained(model),
    )  # fmt: skip
    trainer.train()
    assert torch.isfinite(next(trainer.model.parameters())).all()
