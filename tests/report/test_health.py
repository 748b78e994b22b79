"""Every check of the health section, on hand-made traces: with the trouble, and without."""

import numpy as np
import pytest

from gdro.core.trace import Trace
from gdro.report import health
from gdro.report.health import CHECKS, check_health
from gdro.report.runs import Evaluation, load_run

FEW = {"difficulty": {"k": 8}, "prompt": {"cap": 4.0, "weigh": "gdro"}}


def trace(steps=100, bins=4, **columns):
    """A trace whose columns are constants, or one value a step."""
    edges = [i / bins for i in range(bins + 1)]
    records = [
        {
            "step": t,
            **{k: v[t].tolist() if isinstance(v, np.ndarray) else v for k, v in columns.items()},
        }
        for t in range(steps)
    ]
    header = {"boundaries": edges, "bin_names": ["b"] * bins, "config": FEW}
    return Trace(header=header, records=records)


def evaluation(step, mean, passk, k=8):
    return Evaluation(
        step=step, split="test", k=k, mean=mean, passk=passk, rollouts=None, tokens=None,
        trained=None, groups={},
    )  # fmt: skip


T = np.arange(100.0)


def moves(easy_T):
    """Ten prompts, so many of them in the easiest bin and the others in the hardest."""
    return np.stack([10 - easy_T, 0 * easy_T, 0 * easy_T, easy_T], axis=1)


CASES = {
    "Price oscillates": [
        (trace(price=1 + 0.6 * (-1) ** T), (), True),  # from .4 to 1.6 and back
        (trace(price=1 + 0.6 * np.sin(T / 3)), (), True),
        (trace(price=1 + 0.2 * (-1) ** T), (), False),  # to and fro, but by 40%
        (trace(price=0.1 + 0.02 * T), (), False),  # far, but one way
        (trace(price=1 + 0.6 * (-1) ** T * (T < 50)), (), False),  # settled in the second half
        (trace(), (), None),
    ],
    "Weights at the cap or the floor": [
        (trace(prompts_B=[2, 8, 0, 0], weight_B=[4, 0.5, None, None]), (), True),  # a fifth at 4
        (trace(prompts_B=[1, 19, 0, 0], weight_B=[4, 0.5, None, None]), (), False),  # a twentieth
        (trace(prompts_B=[6, 4, 0, 0], weight_B=[1.6, 0.01, None, None]), (), True),
        (trace(prompts_B=[8, 2, 0, 0], weight_B=[1.2, 0.01, None, None]), (), False),
        (trace(prompts_B=[5, 5, 0, 0], weight_B=[1, 1, None, None]), (), False),
        (trace(prompts_B=[5, 5, 0, 0]), (), None),
    ],
    "Bins have collapsed": [
        (trace(prompts_B=[0, 0, 1, 31]), (), True),
        (trace(prompts_B=[8, 0, 0, 8]), (), False),
        (trace(prompts_B=[8, 0, 0, 8], effective_support=1.1), (), True),
        (trace(prompts_B=[8, 0, 0, 8], effective_support=3.1), (), False),
        (trace(bins=2, prompts_B=[0, 8]), (), None),
        (trace(), (), None),
    ],
    "Most groups carry no gradient": [
        (trace(mixed_fraction=0.4), (), True),
        (trace(mixed_fraction=0.6), (), False),
        (trace(mixed_fraction=np.where(T < 60, 0.1, 0.6)), (), False),  # the end counts
        (trace(), (), None),
    ],
    "Difficulty estimates are off": [
        # Half at .125 and half at .875: .5.
        (trace(population_B=[50, 0, 0, 50]), [evaluation(99, 0.3, 0.7)], True),
        (trace(population_B=[50, 0, 0, 50]), [evaluation(99, 0.3, 0.6)], False),
        (trace(population_B=[50, 0, 0, 50]), [evaluation(99, 0.3, 0.7, k=4)], None),
        (trace(), [evaluation(99, 0.3, 0.7)], None),
        (trace(population_B=[50, 0, 0, 50]), (), None),
    ],
    "Learning rate too high": [
        (trace(), [evaluation(s, m, 0.5) for s, m in ((0, 0.2), (50, 0.4), (100, 0.36))], True),
        (trace(), [evaluation(s, m, 0.5) for s, m in ((0, 0.2), (50, 0.4), (100, 0.38))], False),
        (trace(population_B=moves(np.where(T < 80, 8, 4))), (), True),  # .725 to .425
        (trace(population_B=moves(np.where(T < 80, 4, 8))), (), False),
        (trace(population_B=moves(np.where(T < 20, 8, 4))), (), False),  # before the second half
        (trace(reward=np.where(T < 80, 0.5, 0.2)), [evaluation(0, 0.2, 0.5)], None),
    ],
    "No headroom": [
        (trace(), [evaluation(0, 0.97, 0.99)], True),
        (trace(), [evaluation(0, 0.01, 0.02)], True),
        (trace(), [evaluation(0, 0.50, 0.51)], True),
        (trace(), [evaluation(0, 0.28, 0.41)], False),
        (trace(), [evaluation(50, 0.97, 0.99)], None),  # none before training
        (trace(), (), None),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "case"), [(key, i) for key, cases in CASES.items() for i in range(len(cases))]
)
def test_each_check_tells_trouble_from_none_and_from_not_known(key, case):
    given, points, expected = CASES[key][case]
    trouble, text, cure = CHECKS[key](given, points)
    assert (None if trouble is None else bool(trouble)) is expected
    assert text.endswith(".")
    assert cure.endswith(".") or expected is None or not cure


def test_every_check_has_cases_of_all_verdicts():
    assert CASES.keys() == CHECKS.keys()
    for cases in CASES.values():
        assert {expected for *_, expected in cases} == {True, False, None}


def test_thresholds_are_those_that_the_cases_straddle():
    """The cases above say what the numbers mean; who changes one, changes the other."""
    assert (health.SWING, health.AT_CAP, health.AT_FLOOR, health.FLOOR) == (0.5, 0.1, 0.25, 0.05)
    assert (health.SUPPORT, health.MIXED, health.OFF, health.DROP) == (1.5, 0.5, 0.15, 0.03)


def test_trouble_comes_first_with_its_cure_and_what_is_unknown_last(run_folder):
    folder = run_folder("a")
    text = (folder / "trace.jsonl").read_text()
    (folder / "trace.jsonl").write_text(
        text.replace('"mixed_fraction":0.5', '"mixed_fraction":0.1')
    )
    findings = check_health(load_run(folder))
    assert len(findings) == len(CHECKS)
    assert findings[0].verdict == "trouble"
    by_key = {finding.key: finding for finding in findings}
    few = by_key["Most groups carry no gradient"]
    assert few.verdict == "trouble"
    assert "num_generations" in few.cure
    assert "replay.successes" in few.cure
    assert "hard_first" not in few.cure, "it is in use already"
    assert all(not f.cure for f in findings if f.verdict != "trouble")
    order = [("trouble", "fine", "unknown").index(f.verdict) for f in findings]
    assert order == sorted(order)


def test_without_a_trace_the_evaluations_are_still_checked(run_folder):
    folder = run_folder("a")
    (folder / "trace.jsonl").unlink()
    verdicts = {finding.key: finding.verdict for finding in check_health(load_run(folder))}
    assert verdicts["No headroom"] == "fine"
    assert verdicts["Bins have collapsed"] == "unknown"
