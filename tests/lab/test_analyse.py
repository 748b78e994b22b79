"""Numbers of a comparison that runs of any kind give, and its figures."""

import matplotlib.figure
import pytest

from gdro.lab.compare.analyse import _add_at_tokens, _add_curves
from gdro.lab.compare.figure import draw

BASE = {"k": 8, "pass": 0.1, "mean": 0.1}


def row(method, step, spent, score, seed=0):
    return {"phase": "test", "method": method, "seed": seed, "step": step, "rollouts": spent,
            "tokens": 10 * spent, "pass": score, "mean": score / 2}  # fmt: skip


def test_of_evaluations_that_share_their_rollouts_the_last_counts():
    """Two updates of one generation: both of their evaluations stand at the same rollouts."""
    rows = [row("grpo", 4, 512, 0.5), row("grpo", 3, 512, 0.6), row("grpo", 2, 256, 0.3),
            row("x", 2, 256, 0.54), row("x", 3, 512, 0.4), row("x", 4, 512, 0.3)]  # fmt: skip
    methods = {m: {"rollouts": [512], "tokens": [5120]} for m in ("grpo", "x")}
    methods["grpo"] |= {"pass@8": [0.5], "mean@8": [0.25]}
    _add_curves(rows, BASE, [0], methods)
    assert methods["grpo"]["curve"]["rollouts"] == [0, 256, 512]
    assert methods["grpo"]["curve"]["mean"] == [0.1, 0.3, 0.5]
    assert methods["grpo"]["reaches"]["share"] == 1
    assert methods["x"]["reaches"]["share"] == pytest.approx(0.5 * (0.5 - 0.1) / (0.54 - 0.1))
    _add_at_tokens(rows, BASE, [0], methods)
    assert methods["x"]["at_tokens"]["pass@8"]["mean"] == pytest.approx(0.3 - 0.5)
    assert methods["x"]["at_tokens"]["mean@8"]["mean"] == pytest.approx(0.15 - 0.25)


def test_a_figure_has_a_panel_for_each_suite_and_no_empty_one(tmp_path, monkeypatch):
    gap = {"relative": {"mean": 0.1, "low": 0.0, "high": 0.2}}
    found = {"difference": {"pass@8": gap, "mean@8": gap}}
    blocks = {
        str(i): {"recipe": str(i), "k": 8, "seeds": [0], "baseline": "a",
                 "methods": {"a": found, "b": found}}
        for i in range(4)
    }  # fmt: skip
    panels = []
    save = matplotlib.figure.Figure.savefig

    def saved(figure, *given, **more):
        panels.append(len(figure.axes))
        save(figure, *given, **more)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", saved)
    results = {"suites": blocks, "methods": {"a": {}, "b": {}}, "baseline": "a"}
    assert draw(results, tmp_path) == ["gains.svg"]
    assert panels == [4, 4]
