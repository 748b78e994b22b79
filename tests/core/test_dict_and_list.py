"""The arrays of the controller against the same method written plainly, with dicts and lists."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from gdro import Controller, ControllerConfig, Outcome

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DictAndList = runpy.run_path(str(BENCHMARKS / "dict_and_list.py"))["DictAndList"]
SIZE, BINS, N_MEAN, N_MIN, N_MAX = 300, 6, 4, 2, 9


def both(allocator, textual):
    """The two controllers, of the same prompts, and the id of each prompt.

    Rates known beforehand set all prompts apart, and utilities all arms: ties, which both break as
    they like, are left out.
    """
    rng = np.random.default_rng(3)
    rate = rng.beta(0.3, 0.9, SIZE).astype(np.float32).astype(float)
    ids = [f"prompt {i}" for i in range(SIZE)] if textual else list(range(SIZE))
    utility = rng.normal(0.5, 0.2, (BINS, N_MAX - N_MIN + 1))
    config = ControllerConfig.from_dict({
        "difficulty.bins": BINS, "difficulty.memory": "all", "difficulty.prior": "fixed",
        "difficulty.prior_column": "rate", "rollout.allocator": allocator,
        "prompt.weigh": "gdro", "rollout.choice": "argmax", "rollout.n_min": N_MIN,
        "rollout.n_max": N_MAX,
    })  # fmt: skip
    arrays = Controller(config, n_mean=N_MEAN, seed=0)
    arrays.bind(ids, prior=rate)
    if allocator == "exp3p":
        arrays.method.allocator.load_state_dict(
            arrays.method.allocator.state_dict() | {"mean_BK": utility}
        )
    arms = {(b, N_MIN + j): utility[b, j] for b in range(BINS) for j in range(utility.shape[1])}
    known = dict(zip(ids, rate.tolist(), strict=True))
    return arrays, DictAndList(allocator, N_MEAN, N_MIN, N_MAX, known, arms, BINS), ids


def log_p(plain, prompts, counts):
    """What the joint choice is worth, interpolated where a bin is split."""
    by_bin: dict[int, list[int]] = {}
    for prompt, n in zip(prompts, counts, strict=True):
        by_bin.setdefault(plain.bin_of[prompt], []).append(n)
    return sum(np.mean([plain.log_probability(b)[n] for n in ns]) for b, ns in by_bin.items())


@pytest.mark.parametrize("textual", [False, True])
@pytest.mark.parametrize(
    ("allocator", "balanced"), [("hard_first", False), ("exp3p", True), ("exp3p", False)]
)
def test_both_make_the_same_plans_step_after_step(allocator, balanced, textual):
    """Balanced: as many prompts of each bin, so that no bin needs to be split.

    Otherwise a split bin is worth more than whole ones; the plain way has none.
    """
    arrays, plain, ids = both(allocator, textual)
    rng = np.random.default_rng(0)
    truth = rng.beta(0.3, 1.5, SIZE)
    same = better = 0
    for _ in range(40):
        if balanced:
            held = np.array([plain.bin_of[i] for i in ids])
            places = np.concatenate([
                rng.choice(np.flatnonzero(held == b), 8, replace=False)
                for b in range(BINS) if np.count_nonzero(held == b) >= 8
            ])  # fmt: skip
        else:
            places = rng.choice(SIZE, 48, replace=False)
        prompts = [ids[i] for i in places]
        plan = arrays.plan(prompts)
        counts, n = plan.n_P.tolist(), {}
        assert plan.bin_P.tolist() == [plain.bin_of[p] for p in prompts]
        for b, count in zip(plan.bin_P.tolist(), counts, strict=True):
            n.setdefault(b, set()).add(count)
        if allocator == "hard_first" or all(len(found) == 1 for found in n.values()):
            same += 1
            expected, weights = plain.plan(prompts)
            assert counts == expected
            np.testing.assert_allclose(plan.weight_P, weights, rtol=1e-9)
        else:
            other = plain.whole_arms(prompts)
            assert log_p(plain, prompts, counts) > log_p(plain, prompts, other)
            better += 1
        right = {p: (rng.random(c) < truth[i]).tolist()
                 for p, c, i in zip(prompts, counts, places, strict=True)}  # fmt: skip
        slot = np.repeat(np.arange(len(prompts)), counts)
        ids_R = [prompts[s] for s in slot]
        correct = np.concatenate([right[p] for p in prompts])
        arrays.observe(plan, Outcome(prompt_R=ids_R, slot_R=slot, correct_R=correct))
        plain.observe(ids_R, correct.tolist())
    assert (same, better) == (40, 0) if balanced or allocator == "hard_first" else better > 30
    assert len(set(plain.bin_of.values())) >= BINS - 1
    if allocator == "exp3p":
        assert arrays.method.allocator.metrics()["alloc/price"] == pytest.approx(
            plain.price, rel=1e-9
        )
    moved = [plain.bin_of[i] for i in ids]
    assert arrays.difficulty.bin_P(arrays.difficulty.rows(ids)).tolist() == moved
