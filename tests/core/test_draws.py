"""What the adversary's mixture becomes of: weights or draws, none of which forgets a prompt."""

import numpy as np
import pytest
from small_run import NAMES, RATES, make, run

from gdro import Outcome
from gdro.core.errors import ConfigError


@pytest.mark.parametrize("realisation", ["omega", "mass", "sample"])
def test_realised_bin_mass(realisation: str) -> None:
    """Method D9: omega gives share * omega, mass and sample give q."""
    controller = make({"prompt.realisation": realisation, "difficulty.source": "column:g",
                       "rollout.allocator": "uniform"})  # fmt: skip
    run(controller, 60)
    q_B = controller.method.adversary.q_B(np.full(5, 0.2))
    rng, mass_B = np.random.default_rng(1), np.zeros(5)
    for _ in range(400):
        rows = controller.select(20) if controller.selects else rng.choice(60, 20, replace=False)
        plan = controller.plan(NAMES[rows])
        mass_B += np.bincount(plan.bin_P, plan.weight_P * plan.n_P, minlength=5)
    mass_B /= mass_B.sum()
    share_B = np.bincount([int(r * 5) for r in RATES], minlength=5) / 60
    omega_B = share_B * np.exp(2 * controller.method.adversary.score_B)
    expected = omega_B / omega_B.sum() if realisation == "omega" else q_B
    np.testing.assert_allclose(mass_B, expected, atol=0.02)
    assert np.abs(q_B - omega_B / omega_B.sum()).max() > 0.1


@pytest.mark.parametrize("ambiguity", ["entropic", "cvar"])
def test_sampling_forgets_no_prompt_and_repeats_none(ambiguity: str) -> None:
    """Method D9: each prompt within a bounded number of epochs, whatever the mixture."""
    controller = make({"prompt.realisation": "sample", "prompt.ambiguity": ambiguity,
                       "prompt.eta": 50.0, "prompt.alpha": 0.1, "prompt.max_gap": 4.0})  # fmt: skip
    drawn = np.concatenate([plan.prompt_P for plan, _ in run(controller, 120, size=12)])
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 60
    assert counts.max() <= np.ceil(4 * 120 * 12 / 60)
    for name in NAMES:
        at = np.flatnonzero(drawn == name)
        gaps = np.diff(np.r_[0, at, len(drawn)])
        # a batch of 12 at a time: overdue rows may have to queue for a few steps
        assert gaps.max() <= (4 + 2) * 60


@pytest.mark.parametrize("lag", [0, 1, 5])
def test_who_waited_for_max_gap_comes_first_however_late_outcomes_are(lag: int) -> None:
    """A late outcome moves a prompt to another bin while it stands in the queue of its old one."""
    config = {"prompt.realisation": "sample", "prompt.eta": 10.0, "prompt.max_gap": 3.0,
              "rollout.allocator": "uniform"}  # fmt: skip
    controller, rng, waiting = make(config), np.random.default_rng(0), []
    pool = controller.pool
    for step in range(400):
        if step % 50 == 0:
            resumed = make(config)
            resumed.load_state_dict(controller.state_dict())
        waited_N = pool.draws - pool.last_N
        chosen = controller.select(4)
        longest = np.sort(waited_N[waited_N > 3.0 * 60])[::-1][:4]
        assert np.sort(waited_N[chosen])[::-1][: len(longest)].tolist() == longest.tolist()
        if step % 50 == 0:
            assert resumed.select(4).tolist() == chosen.tolist()
        plan = controller.plan(NAMES[chosen])
        correct_R = rng.random(16) < RATES[chosen][plan.slot_R]
        waiting.append((plan, Outcome(prompt_R=NAMES[chosen][plan.slot_R], correct_R=correct_R)))
        if len(waiting) > lag:
            controller.observe(*waiting.pop(0))


def test_quotas_are_of_the_groups_that_bind_names() -> None:
    config = {"difficulty.source": "column:g", "rollout.allocator": "fixed"}
    controller = make(config | {"rollout.quotas": [5, 4, 3, 2, 1]})
    plan = run(controller, 1)[0][0]
    assert plan.n_P[plan.bin_P == 0].min() > plan.n_P[plan.bin_P == 4].max()
    with pytest.raises(ConfigError, match=r"rollout\.quotas must have one number .* 5 bins"):
        make(config | {"rollout.quotas": [2, 1]})


@pytest.mark.parametrize("signal", ["error", "failure", "learnability", "surrogate"])
def test_an_adversary_that_only_draws_sees_the_signal_as_well(signal: str) -> None:
    drawing = {"select.policy": "sample", "prompt.weigh": "none", "prompt.signal": signal}
    weighing = make(drawing | {"prompt.weigh": "gdro"})
    scores = []
    for controller in (weighing, make(drawing)):
        run(controller, 5)
        scores.append(controller.method.adversary.score_B)
    np.testing.assert_array_equal(*scores)
