"""A trace fed to another controller."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gdro.cli import main
from gdro.core.errors import DataError, UnsupportedError
from gdro.core.trace import Trace, read_trace
from gdro.lab.replay import APPROXIMATION, by_bin, other, replay
from gdro.lab.settings import method
from gdro.lab.simulate import Population, Training, simulate


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Traces of simulated runs, by method: bins fill in the second epoch."""
    folder = tmp_path_factory.mktemp("traces")
    population, training = Population(train=160, test=40), Training(steps=60, prompts=32)
    for name in ("joint", "grpo"):
        simulate(method(name, {}), population, training, 0, folder / name / "trace.jsonl")
    return folder


def test_the_same_configuration_decides_nearly_the_same(recorded):
    """By stage and bin, and bins of few prompts less surely."""
    trace = read_trace(recorded / "joint" / "trace.jsonl")
    found = replay(trace, other(trace, None, {}))
    then, now = by_bin(found.recorded), by_bin(found.replayed)
    np.testing.assert_array_equal(then["prompts"], now["prompts"])
    often = then["prompts"] > 1
    assert often.sum() >= 8
    assert np.abs(then["rollouts"] - now["rollouts"])[often].max() < 1.0
    assert np.abs(then["weight"] - now["weight"])[often].max() < 0.15
    # The differences of bins are far larger than those of the two.
    assert np.ptp(then["rollouts"][often]) > 2.5


def test_every_step_has_its_budget_and_its_reward(recorded):
    trace = read_trace(recorded / "grpo" / "trace.jsonl")
    found = replay(trace, other(trace, "joint", {}))
    np.testing.assert_array_equal(found.replayed.column("rollouts"), trace.column("rollouts"))
    # Carried remainders: a bin's right rollouts are as many as its rate says, over all steps.
    rollouts, rate = trace.per_bin("rollouts_B"), found.replayed.per_bin("rollouts_B")
    expected = np.nansum(rate * trace.per_bin("correct_B"), 0)
    right = np.nansum(rate * found.replayed.per_bin("correct_B"), 0)
    np.testing.assert_allclose(right, expected, atol=1.01)
    assert rollouts.sum() == rate.sum()


def test_another_configuration_moves_rollouts_to_hard_bins(recorded):
    trace = read_trace(recorded / "grpo" / "trace.jsonl")
    now = by_bin(replay(trace, other(trace, "rollout", {"rollout.power": 3})).replayed)["rollouts"]
    assert now[-1, 0] > 5 > 3 > now[-1, -1]
    same = by_bin(replay(trace, other(trace, None, {})).replayed)["rollouts"]
    assert np.nanmax(np.abs(same - 4)) == 0


def test_a_replay_repeats_itself(recorded):
    trace = read_trace(recorded / "joint" / "trace.jsonl")
    config = other(trace, None, {"rollout.allocator": "exp3p"})
    first, second = (replay(trace, config, seed=2).replayed.per_bin("rollouts_B") for _ in "ab")
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("dapo", {}, "in rounds"),
        ("reinforce_ada", {}, "in rounds"),
        ("second_look", {}, "in rounds"),
        ("paper", {}, "no losses"),
        (None, {"difficulty.bins": 5}, "bins stay"),
    ],
)
def test_what_cannot_be_replayed_is_said(recorded, preset, changes, message):
    trace = read_trace(recorded / "joint" / "trace.jsonl")
    with pytest.raises(UnsupportedError, match=message):
        replay(trace, other(trace, preset, changes))


def test_unscaled_advantages_are_replayed_unscaled(tmp_path):
    """The weight that an allocation implies depends on them."""
    population, training = Population(train=160, test=40), Training(steps=60, prompts=32)
    config = method("grpo", {"prompt.weigh": "implied"})
    for scaled in (True, False):
        path = tmp_path / f"{scaled}.jsonl"
        simulate(config, population, replace(training, scale_rewards=scaled), 0, path)
        trace = read_trace(path)
        wrong = replace(trace, header=trace.header | {"std_scaled": not scaled})
        often, then = by_bin(trace)["prompts"] > 1, by_bin(trace)["weight"]
        right, other_way = (
            np.abs(by_bin(replay(t, config).replayed)["weight"] - then)[often].mean()
            for t in (trace, wrong)
        )
        assert right < 0.05 < 0.09 < other_way


def test_a_trace_that_does_not_say_its_mean_rollouts_is_an_error(recorded):
    trace = read_trace(recorded / "joint" / "trace.jsonl")
    header = {name: value for name, value in trace.header.items() if name != "n_mean"}
    bare = Trace(header=header, records=trace.records)
    for preset in ("rollout", None):
        with pytest.raises(DataError, match="does not say n_mean"):
            replay(bare, other(bare, preset, {}))


def test_a_trace_without_the_bins_counts_is_an_error(recorded):
    trace = read_trace(recorded / "joint" / "trace.jsonl")
    config = other(trace, None, {})
    bare = Trace(header=trace.header, records=[{"step": 0}])
    with pytest.raises(DataError, match="prompts_B"):
        replay(bare, config)


def test_the_command_shows_both_and_the_approximation(recorded, tmp_path, capsys):
    run, out = str(recorded / "joint"), tmp_path / "numbers.json"
    assert main(["replay", run, "--gdro_preset", "rollout", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "recorded → replayed" in text
    assert "pass@1 bin" in text
    assert "the classifier of rollout is another one" in text
    assert APPROXIMATION.split(".")[0] in " ".join(text.split())
    assert main(["replay", run, "--out", str(tmp_path)]) == 2
    assert "--out must be a file" in capsys.readouterr().err
    found = json.loads(out.read_text())
    assert found["replayed"]["hard_prompts"] == found["recorded"]["hard_prompts"]
    assert main(["replay", run, "--gdro_prompt_etaa", "1"]) == 2
