"""The mechanism benchmark: its closed forms against enumeration, its gradients against a loop."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from benchmarks import headroom
from benchmarks.mechanism import __main__ as command
from benchmarks.mechanism import frozen, noiseless, traces
from benchmarks.mechanism.group_variance import (
    ESTIMATORS,
    N_MAX,
    N_MEAN,
    N_MIN,
    Moments,
    best,
    curves,
    group_variance,
    lower_envelope,
    score_proxy,
)
from benchmarks.mechanism.learning import real_runs
from benchmarks.mechanism.page import page
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.trace import Trace
from gdro.data import arithmetic
from gdro.trainers.trl.advantages import group_advantages

ROOT = Path(__file__).parents[1]
RIGHT = np.array([True, False, True, False])


class Toy:
    """A policy of two parameters over four answers: logits = features @ parameters."""

    def __init__(self, features: np.ndarray, parameters: np.ndarray) -> None:
        logits = features @ parameters
        self.pi = np.exp(logits - logits.max())
        self.pi /= self.pi.sum()
        self.score = features - self.pi @ features

    def moments(self) -> Moments:
        """As `Moments` defines them, by sums over the answers."""
        means, spreads = [], []
        for mine in (RIGHT, ~RIGHT):
            q = self.pi * mine / self.pi[mine].sum()
            means.append(q @ self.score)
            spreads.append(q @ ((self.score - means[-1]) ** 2).sum(axis=1))
        gap = means[0] - means[1]
        values = (self.pi[RIGHT].sum(), gap @ gap, *spreads)
        p, gap2, right, wrong = np.array(values)[:, None]
        return Moments(p=p, gap2=gap2, right=right, wrong=wrong)

    def groups(self, n: int, scaled: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probability, gradient and advantages of every group of n there is."""
        answers = np.array(list(itertools.product(range(4), repeat=n)))
        rewards = torch.as_tensor(RIGHT[answers].reshape(-1), dtype=torch.float64)
        sizes = torch.full((len(answers),), n)
        advantages, _ = group_advantages(rewards, sizes, "group" if scaled else "none")
        a = advantages.view(-1, n).numpy()
        gradient = (a[:, :, None] * self.score[answers]).mean(axis=1)
        return self.pi[answers].prod(axis=1), gradient, a


def toys():
    value = st.floats(-2, 2)
    numbers = st.lists(value, min_size=10, max_size=10).map(np.array)
    return numbers.map(lambda x: Toy(x[:8].reshape(4, 2), x[8:]))


@settings(deadline=None)
@given(toys(), st.integers(2, 4), st.booleans())
def test_the_variance_of_a_group_is_that_of_all_groups_there_are(
    toy: Toy, n: int, scaled: bool
) -> None:
    chance, gradient, _ = toy.groups(n, scaled)
    mean = chance @ gradient
    expected = chance @ (gradient**2).sum(axis=1) - mean @ mean
    got = group_variance(toy.moments(), n, scaled)[0]
    assert got == pytest.approx(expected, rel=2e-3, abs=1e-9)  # TRL's 1e-4 beside the deviation


@settings(deadline=None)
@given(toys(), st.integers(2, 4))
def test_a_neutral_estimator_has_the_variance_of_its_scaled_groups(toy: Toy, n: int) -> None:
    moments = toy.moments()
    scaled_chance, scaled, _ = toy.groups(n, scaled=False)
    scaled = scaled * n / (n - 1) * (N_MEAN - 1) / N_MEAN
    mean = scaled_chance @ scaled
    expected = scaled_chance @ (scaled**2).sum(axis=1) - mean @ mean
    got = curves(moments, "unscaled, neutral")[0, n - N_MIN]
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(toys(), st.integers(2, 4), st.booleans())
def test_the_score_proxy_is_its_mean_over_all_groups(toy: Toy, n: int, scaled: bool) -> None:
    u = (toy.score**2).sum(axis=1)
    chance, _, a = toy.groups(n, scaled)
    answers = np.array(list(itertools.product(range(4), repeat=n)))
    right, wrong = (toy.pi[m] @ u[m] / toy.pi[m].sum() for m in (RIGHT, ~RIGHT))
    got = score_proxy(toy.moments().p, np.array([right]), np.array([wrong]), n, scaled)
    assert got[0] == pytest.approx(chance @ (a**2 * u[answers]).mean(axis=1), rel=2e-3, abs=1e-9)


def test_the_best_allocation_is_that_of_all_allocations() -> None:
    rng = np.random.default_rng(0)
    x = Moments(
        p=np.array([0.05, 0.4, 0.9]), gap2=np.array([9.0, 2.0, 30.0]), right=np.zeros(3),
        wrong=np.array([1.0, 4.0, 2.0]),
    )  # fmt: skip
    counts = [
        c for c in itertools.product(range(N_MIN, N_MAX + 1), repeat=3) if sum(c) == 3 * N_MEAN
    ]
    for estimator in ESTIMATORS[:2]:  # convex in n; the third is not
        curve = curves(x, estimator)
        least = min(sum(curve[i, n - N_MIN] for i, n in enumerate(c)) for c in counts)
        n_P = best(curve, 3 * N_MEAN, rng)
        assert n_P.sum() == 3 * N_MEAN
        assert curve[np.arange(3), n_P - N_MIN].sum() == pytest.approx(least)


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12).map(np.array))
def test_the_envelope_is_convex_below_and_touches(y: np.ndarray) -> None:
    found = lower_envelope(y)
    assert (found <= y + 1e-9).all()
    assert (np.diff(found, 2) >= -1e-9).all()
    assert found[0] == y[0]
    assert found[-1] == y[-1]
    assert lower_envelope(found) == pytest.approx(found)


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 0.999), min_size=8, max_size=40).map(np.array))
def test_weight_curves_share_out_one_budget(p: np.ndarray) -> None:
    for n in (noiseless.hard_first(p, 2), noiseless.signal(p)):
        assert n.sum() == N_MEAN * p.size
    assert noiseless.error_weights(p).mean() == pytest.approx(1)
    everywhere = noiseless.as_weight(np.full(p.size, N_MEAN), p)
    assert noiseless.CURVES["grpo"](p) == pytest.approx(everywhere)


@pytest.mark.parametrize("method", list(noiseless.ALLOCATED))
def test_drawn_rewards_have_the_curve_as_their_mean(method: str) -> None:
    p, rng = np.array([0.03, 0.2, 0.6, 0.9]), np.random.default_rng(0)
    draws = np.stack([noiseless.drawn(method, p, rng) for _ in range(4_000)])
    curve = "grpo" if method.endswith("neutral") else method.removesuffix(", weight alone")
    error = draws.std(axis=0) / len(draws) ** 0.5
    assert (np.abs(draws.mean(axis=0) - noiseless.CURVES[curve](p) * p) < 5 * error).all()


@pytest.fixture(scope="module")
def base():
    return frozen.load(arithmetic.base_path())


def test_scores_are_those_of_a_loop_with_autograd(base) -> None:
    model, tokenizer = base
    sequences = frozen.answers(tokenizer, arithmetic.generate("train", 3))
    sequences.append((sequences[0][0], sequences[0][1][:2]))
    found = frozen.scores(model, sequences)
    for score, sequence in zip(found, sequences, strict=True):
        own = frozen.weighted_gradient(model, [sequence], np.ones(1))
        assert torch.allclose(score, own, atol=1e-4, rtol=1e-4)
    norms, _ = frozen.squared_norms(model, sequences)
    assert norms == pytest.approx(found.pow(2).sum(dim=1).numpy(), rel=1e-4)


def test_success_is_the_product_of_the_tokens_probabilities(base) -> None:
    model, tokenizer = base
    sequences = frozen.answers(tokenizer, arithmetic.generate("train", 5))
    for p, (prompt, right) in zip(frozen.success(model, sequences), sequences, strict=True):
        product, ids = 1.0, list(prompt)
        for token in right:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            product *= float(logits.softmax(dim=0)[token])
            ids.append(token)
        assert p == pytest.approx(product, rel=1e-4)


def test_a_directly_measured_variance_is_that_of_group_gradients(base) -> None:
    model, tokenizer = base
    ((prompt, right),) = frozen.answers(tokenizer, arithmetic.generate("train", 1))
    unique = [(prompt, right), (prompt, right[:3]), (prompt, [right[0], *right[2:]])]
    correct, count = np.array([True, False, False]), np.array([5, 2, 3])
    found = frozen.directly(model, unique, correct, count, 2)
    kind = np.random.default_rng(0).permutation(np.repeat(np.arange(3), count))
    rewards = torch.tensor(correct[kind]).float()
    advantages, _ = group_advantages(rewards, torch.full((5,), 2), "group")
    terms = advantages[:, None] * frozen.scores(model, unique)[kind]
    gradients = terms.view(5, 2, -1).mean(dim=1).double()
    expected = float(gradients.var(dim=0).sum())
    assert found["direct_std"] == pytest.approx(expected, rel=1e-4)


def test_a_sampled_success_rate_is_the_exact_one(base) -> None:
    model, tokenizer = base
    rows = [r for r in arithmetic.generate("train", 40) if r["level"] == 2][:3]
    for row in rows:
        torch.manual_seed(0)
        found = frozen.measure(model, tokenizer, row, 64)
        assert found["other_right"] == 0
        deviation = (found["p"] * (1 - found["p"]) / 64) ** 0.5
        assert abs(found["p_sampled"] - found["p"]) < 5 * deviation


def test_training_without_noise_raises_success(base) -> None:
    found = noiseless.train(arithmetic.base_path(), "grpo", seed=0, steps=2)
    assert found["history"][0]["step"] == 0
    p = frozen.success(base[0], frozen.answers(base[1], arithmetic.generate("test")))
    assert found["history"][0]["mean"] == pytest.approx(p.mean(), rel=1e-4)


def trace(errors: list[list[float | None]], q: list[list[float]]) -> Trace:
    config = {"prompt": {"eta": 1.0, "beta": 0.5, "gamma": 0.0}}
    header = {"bin_names": ["a", "b"], "config": config}
    records = [
        {"step": t, "correct_B": [None if e is None else 1 - e for e in errors[t]], "q_B": q[t],
         "entropy": 0.0}
        for t in range(len(errors))
    ]  # fmt: skip
    return Trace(header=header, records=records)


def test_regret_plays_the_mixture_of_before_the_step() -> None:
    found = traces.regret(trace([[1, 0], [1, 0], [None, 0]], [[1, 0], [0, 1], [1, 0]]))
    assert found["rounds"] == 3
    assert found["regret"] == pytest.approx((3 - (0.5 + 1 + 0)) / 3)  # bin a keeps its error


@pytest.mark.parametrize(
    ("method", "aggregation", "name"),
    [
        ("rollout", "rollout", "rollout"),
        ("rollout, changed", "rollout", "rollout_exp3p"),
        ("rollout, changed", "neutral", "exp3p, neutral"),
    ],
)
def test_a_changed_preset_has_the_name_of_its_run(method, aggregation, name) -> None:
    config = {"rollout": {"allocator": "exp3p", "aggregation": aggregation}}
    header = {"method": method, "config": config}
    run = Path("rollout_exp3p-seed10")
    found = traces.method_of(Trace(header=header, records=[]), run)
    assert found == name


def test_runs_are_read_by_themselves_or_by_folder(tmp_path, monkeypatch) -> None:
    """And only an adversary that plays on errors has a regret in them."""
    for name, signal in (("a", "error"), ("b", "surrogate"), ("c", "error")):
        run = tmp_path / name
        run.mkdir()
        recipe = {"max_steps": 2, "learning_rate": 8e-4, "dataset_name": "arithmetic"}
        (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        config = {
            "rollout": {"aggregation": "rollout"}, "replay": {"successes": False},
            "prompt": {"weigh": "gdro", "signal": signal},
            "difficulty": {"source": "online", "k": 1},
        }  # fmt: skip
        (run / "trace.jsonl").write_text(json.dumps({"method": name, "config": config}))
    monkeypatch.setattr(
        traces,
        "read_trace",
        lambda file: Trace(header=json.loads(file.read_text()), records=[{}, {}]),
    )
    monkeypatch.setattr(traces, "of_trace", lambda trace: {"wse": 0.0})
    monkeypatch.setattr(traces, "regret", lambda trace: {"regret": 0.5})
    assert list(traces.recorded([tmp_path / "a", tmp_path / "b"])["traces"]) == ["a", "b"]
    found = traces.recorded([tmp_path])
    assert found["traces"]["a"]["bins"] == "pass@1"
    assert list(found["traces"]) == ["a", "b", "c"]
    assert list(found["regret"]) == ["a", "c"]


def test_the_page_is_what_its_numbers_give() -> None:
    results = ROOT / "docs" / "results" / "mechanism"
    report = json.loads(results.with_suffix(".json").read_text())
    assert page(report | {"real": real_runs()}) == results.with_suffix(".md").read_text()


def test_a_part_that_a_crash_cut_off_is_done_again(tmp_path, monkeypatch):
    def part(*given):
        return {"a": 1}

    def crash(*given):
        raise OSError("no space")

    runs = (
        lambda: headroom.resumed(tmp_path, None, "one", part),
        lambda: command.resumed(tmp_path / "two.json", part)["found"],
    )
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", crash)
        for run in runs:
            with pytest.raises(OSError, match="no space"):
                run()
    assert not list(tmp_path.glob("*.json"))
    assert [run() for run in runs] == [{"a": 1}, {"a": 1}]


def test_a_prompt_whose_line_a_crash_cut_off_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "load", lambda path: (None, None))
    monkeypatch.setattr(command, "chosen", lambda p: ((row, False) for row in range(3)))
    monkeypatch.setattr(command, "measure", lambda *given: {"x": 0.5})
    file = tmp_path / "moments.jsonl"
    file.write_text('{"row": 0, "x": 0.25}\n{"row": 1, "x"')
    command.moments(tmp_path, [], file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["row"], line["x"]) for line in lines] == [(0, 0.25), (1, 0.5), (2, 0.5)]
