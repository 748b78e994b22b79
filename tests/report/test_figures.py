"""Each figure's data against a trace of four steps and two bins, worked out by hand."""

import json
import shutil

import numpy as np
import pytest

from gdro.core.trace import Trace, read_trace
from gdro.report.allocation import quantile_passk, slope_points
from gdro.report.bins import bin_names, dynamics, pooled, triptych
from gdro.report.compare import about_several
from gdro.report.cost import phase_seconds, spent
from gdro.report.paths import mass_above
from gdro.report.runs import load_run
from gdro.report.single import SECTIONS
from gdro.report.style import Figure, blocks


@pytest.fixture
def figures(small):
    """Every figure of the run by its name; a string where there is none."""
    run = load_run(small)
    return {f.__name__: f(run) for functions in SECTIONS.values() for f in functions}


def test_blocks_pool_prompts_and_rollouts_not_ratios(small):
    trace = read_trace(small / "trace.jsonl")
    each = pooled(trace, blocks(4, 10))
    assert each.step.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(each.share, [[0.75, 0.25], [0, 1], [0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(each.weight, [[1.2, 0.4], [np.nan, 1], [2.5, 0.5], [1.5, 0.5]])
    np.testing.assert_allclose(each.count, [[13 / 3, 3], [np.nan, 4], [8, 8 / 3], [5.5, 2.5]])
    np.testing.assert_allclose(each.correct, [[0, 1], [np.nan, 0.5], [0.25, 0.5], [0, 0.8]])
    two = pooled(trace, blocks(4, 2))
    assert two.step.tolist() == [0.5, 2.5]
    np.testing.assert_allclose(two.share, [[3 / 8, 5 / 8], [3 / 8, 5 / 8]])
    np.testing.assert_allclose(two.weight, [[1.2, 4.4 / 5], [5.5 / 3, 2.5 / 5]])
    np.testing.assert_allclose(two.mass, [[3.6 / 8, 4.4 / 8], [5.5 / 8, 2.5 / 8]])
    np.testing.assert_allclose(two.count, [[13 / 3, 19 / 5], [19 / 3, 13 / 5]])
    np.testing.assert_allclose(two.budget, [[13 / 32, 19 / 32], [19 / 32, 13 / 32]])
    np.testing.assert_allclose(two.correct, [[0, 11 / 19], [2 / 19, 8 / 13]])


def test_blocks_are_equally_long_so_that_maps_and_slider_move_evenly():
    assert [len(b) for b in blocks(7, 3)] == [3, 3, 1]
    assert [b.tolist() for b in blocks(4, 4)] == [[0], [1], [2], [3]]
    assert np.concatenate(blocks(1001, 200)).tolist() == list(range(1001))
    assert max(len(blocks(n, 40)) for n in range(1, 500)) == 40
    assert blocks(0, 5) == []


def test_the_maps_put_the_hardest_bin_on_top_by_its_range(small):
    figure = triptych(load_run(small))
    assert isinstance(figure, Figure)
    titles = [p.title for p in figure.panels]
    assert titles == ["Share of prompts", "Weight", "Share of correct rollouts"]
    axis, data = figure.panels[0].layout["yaxis"], figure.panels[0].data[0]
    assert axis["autorange"] == "reversed"
    assert axis["ticktext"] == ["0–.5", ".5–1"]
    assert data["z"][0] == [0.75, 0, 0.25, 0.5]
    assert figure.panels[2].data[0]["z"] == [[0, None, 0.25, 0], [1, 0.5, 0.5, 0.8]]
    assert "pass@4" in figure.caption
    assert "; 20% of all prompts were unseen" in figure.caption  # 4 of 16 + 4
    assert bin_names(load_run(small).trace) == ["0–.5", ".5–1"]


def test_the_slider_shows_shares_of_prompts_weight_and_rollouts(figures):
    figure = figures["snapshots"]
    assert figure.steps == ["step 0", "step 1", "step 2", "step 3"]
    weight, budget = figure.panels
    assert weight.frames[0] == [[0.75, 0.25], [0.9, 0.1]]  # 3 * 1.2 and 1 * .4 of 4
    assert weight.frames[1] == [[0, 1], [0, 1]]
    assert budget.frames[2] == [[0.25, 0.75], [0.5, 0.5]]
    assert [bar["y"] for bar in weight.data] == weight.frames[-1] == [[0.5, 0.5], [0.75, 0.25]]


def test_the_late_means_are_of_the_last_two_steps(figures):
    figure = figures["late_means"]
    assert "steps 2–3" in figure.title
    weight, count = figure.panels
    assert weight.data[0]["y"] == [1.833, 0.5]
    assert count.data[0]["y"] == [6.333, 2.6]
    assert count.layout["shapes"][0]["y0"] == 4


def test_where_prompts_weights_and_rollouts_are(figures, small):
    mean_bin, mass, in_use = figures["drift"].panels
    assert [one["y"] for one in mean_bin.data] == [
        [0.25, 1, 0.75, 0.5],
        [0.1, 1, 0.375, 0.25],  # 3 * 1.2 and 1 * .4 of 4; 4; 2.5 and 1.5 of 4; 3 and 1 of 4
        [0.1875, 1, 0.5, 0.3125],
    ]
    assert [one["y"] for one in mass.data] == [
        [0.625, 1, 0.875, 0.75],
        [0.25, 1, 0.75, 0.5],
        [0.125, 0.5, 0.375, 0.25],
    ]
    even, skew = 2.0, round(float(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))), 3)
    assert in_use.data[0]["y"] == [skew, 1, skew, even]
    assert in_use.data[0]["customdata"][3] == 0.693
    assert mass_above(read_trace(small / "trace.jsonl"), 1.0).tolist() == [0, 0, 0, 0]


def test_lead_stages_reward_and_time(figures):
    (gap,) = figures["lead"].panels
    assert [one["name"] for one in gap.data] == ["Eq. 32", "weight", "rollouts"]
    assert [one["y"] for one in gap.data] == [
        [-0.125, 0, -0.25, -0.25],
        [-0.15, 0, -0.375, -0.25],
        [-0.0625, 0, -0.25, -0.1875],
    ]
    assert gap.layout["yaxis"]["range"][0] > gap.layout["yaxis"]["range"][1]  # harder is up
    assert figures["reward"].panels[0].data[0]["y"] == [0.25, 0.5, 0.75, 0.5]
    # pass@4 below 1/3 is two thirds of the harder bin; quarters are single steps.
    grey, blue = figures["stages"].panels[0].data
    assert grey["y"] == pytest.approx([2 / 8, 0, 1 / 6, 1 / 3])
    assert blue["y"] == pytest.approx([26 / 48, 0, 1 / 3, 22 / 48])
    assert figures["phases"].panels[0].data[0]["x"] == [0.02, 2.98]


def test_the_phases_add_up_to_the_step():
    spans = {"plan": 0.01, "observe": 0.02, "hook": 0.05, "generation": 1, "reward": 0.25}
    record = {"step": 0, "time": spans | {"update": 0.7, "step": 2}}
    timed = phase_seconds(Trace(header={"bin_names": ["all"]}, records=[record]))
    assert list(timed) == [
        "generation", "reward", "update", "plan", "observe", "rest of gdro",
    ]  # fmt: skip
    assert list(timed.values()) == pytest.approx([1, 0.25, 0.7, 0.01, 0.02, 0.02])


def test_the_frontier_is_the_median_by_passk(figures):
    quantiles = quantile_passk(np.array([[3, 1], [0, 4], [1, 3], [0, 0]]), (0, 0.5, 1), 0.5)
    np.testing.assert_allclose(quantiles, [1 / 3, 0.75, 2 / 3, np.nan])
    area, prompts, rollouts = figures["frontier"].panels[0].data
    assert prompts["y"] == [0.3333, 0.75, 0.6667, 0.5]
    assert rollouts["y"] == [0.3077, 0.75, 0.5, 0.3636]
    assert area["y"][0] == pytest.approx(0.25 * 0.5 * 16 / 13, abs=1e-4)
    assert len(area["x"]) == 8


def test_rollouts_price_and_slope(figures, small):
    price, count = figures["price"].panels
    assert price.data[0]["y"] == [0.02, 0.03, 0.04, 0.03]
    assert count.data[0]["y"] == [4, 4, 4, 4]
    per_prompt, share = figures["dynamics"].panels
    assert per_prompt.data[0]["z"] == [[4.333, None, 8, 5.5], [3, 4, 2.667, 2.5]]
    assert share.data[0]["z"] == [[0.8125, 0, 0.5, 0.6875], [0.1875, 1, 0.5, 0.3125]]
    v_B, n_B, there = slope_points(read_trace(small / "trace.jsonl"))
    assert there == [0, 1]
    np.testing.assert_allclose(v_B, [0.04, 0.16])
    np.testing.assert_allclose(n_B, [19 / 3, 13 / 5])
    fitted = figures["slope"].panels[0].data[0]
    assert fitted["name"] == "slope -0.64"  # log(2.6 / 6.333) / log 4
    assert fitted["y"] == [6.333, 2.6]  # through both points


@pytest.mark.parametrize("row", ["[0,0]", "[null,5]"])
def test_rollouts_without_prompts_of_their_bin_draw_no_map(small, row):
    lines = (small / "trace.jsonl").read_text().splitlines(keepends=True)[:2]
    lines[1] = lines[1].replace('"prompts_B":[3,1]', '"prompts_B":[3,0]')
    lines[1] = lines[1].replace('"rollouts_B":[13,3]', f'"rollouts_B":{row}')
    (small / "trace.jsonl").write_text("".join(lines))
    assert dynamics(load_run(small)) == "no rollouts by bin were recorded"


def test_what_was_spent_and_what_is_not_known(small, run_folder):
    assert spent(load_run(small)) == [
        ("rollouts", 80, None, None),
        ("seconds of the steps", 6, None, None),
    ]
    rollouts, tokens, _ = spent(load_run(run_folder("whole", steps=5)))
    assert rollouts[1:] == (rollouts[1], rollouts[1], 0)
    assert tokens == ("completion tokens", 5 * 10240, 5 * 10240, 0)


def test_the_weight_s_share_is_of_all_weight_where_weights_do_not_average_to_one(small):
    text = (small / "trace.jsonl").read_text()
    (small / "trace.jsonl").write_text(text.replace("[2.5,0.5]", "[2,1]"))
    each = pooled(read_trace(small / "trace.jsonl"), blocks(4, 10))
    np.testing.assert_allclose(each.mass[2], [0.4, 0.6])  # 1 * 2 and 3 * 1 of 5


@pytest.fixture
def scored(small):
    """Figures of the same run with its noise, its mixed groups, and evaluations of two splits."""
    more = {
        "mixed_fraction": [0.5, 1, 0, 0.25],
        "wse": [1, 2, 3, None],
        "wse_uniform": [2, 2, 4, 1],
        "varproxy": [3, 1, 1, 1],
        "varproxy_uniform": [2, 2, 1, 0],
    }
    first, *lines = (small / "trace.jsonl").read_text().splitlines()
    rows = [
        json.dumps(json.loads(line) | {name: values[t] for name, values in more.items()})
        for t, line in enumerate(lines)
    ]
    (small / "trace.jsonl").write_text("\n".join([first, *rows]) + "\n")
    families = {0: {"a": 0.4, "b": 0.1}, 2: {"a": 0.2, "b": 0.3}, 4: {"a": 0.5, "b": 0.6}}
    evals = [
        {"step": step, "split": split, "k": 4, "mean@4": low + step / 10, "pass@4": low + step / 5}
        | {"by_family": {f: {"mean@4": v} for f, v in families[step].items()}}
        for step in families
        for split, low in (("test", 0.1), ("aime", 0.05))
    ]
    (small / "evals.jsonl").write_text("".join(json.dumps(e) + "\n" for e in evals))
    run = load_run(small)
    return {f.__name__: f(run) for functions in SECTIONS.values() for f in functions}


def test_evaluations_before_and_after_by_split_and_by_family(scored):
    passed, mean = scored["evaluation"].panels[0].data  # of test, the split that stands for a run
    assert (passed["name"], mean["name"]) == ("pass@4", "mean@4")
    assert passed["x"] == mean["x"] == [0, 2, 4]
    assert passed["y"] == pytest.approx([0.1, 0.5, 0.9])
    assert mean["y"] == pytest.approx([0.1, 0.3, 0.5])
    panels = scored["benchmarks"].panels
    assert [p.title for p in panels] == ["mean@4", "pass@4"]
    assert all(p.layout["xaxis"]["ticktext"] == ["test", "aime"] for p in panels)
    assert [[bar["y"] for bar in p.data] for p in panels] == [
        [[0.1, 0.05], [0.5, 0.45]],
        [[0.1, 0.05], [0.9, 0.85]],
    ]
    (panel,) = scored["families"].panels
    *lines, before, after = panel.data
    assert panel.layout["yaxis"]["ticktext"] == ["b", "a"]  # from the best to the worst, at the end
    assert (before["x"], after["x"]) == ([0.1, 0.4], [0.6, 0.5])
    assert [one["x"] for one in lines] == [[0.1, 0.6], [0.4, 0.5]]


def test_noise_is_a_ratio_to_uniform_and_mixed_groups_are_a_share(scored):
    wse, proxy = scored["noise"].panels[0].data
    assert (wse["name"], wse["y"]) == ("WSE", [0.5, 1, 0.75, None])
    assert (proxy["name"], proxy["y"]) == ("VarProxy", [1.5, 0.5, 1, None])
    assert scored["mixed"].panels[0].data[0]["y"] == [0.5, 1, 0, 0.25]


def test_curves_of_several_runs_stand_over_the_rollouts_spent(small, tmp_path):
    text = (small / "trace.jsonl").read_text()
    for step, value in enumerate((1, 2, 1.5, 2)):
        text = text.replace(f'"step":{step},', f'"step":{step},"effective_support":{value},')
    (small / "trace.jsonl").write_text(text)
    twin = shutil.copytree(small, tmp_path / "twin")
    sections = about_several([load_run(small), load_run(twin)]).sections
    found = {f.key: f.panels[0].data for figures in sections.values() for f in figures}
    assert {key: len(data) for key, data in found.items()} == dict.fromkeys(
        ("reward", "hard", "lead", "weights", "support"), 2
    )
    expected = {
        "reward": [0.25, 0.5, 0.75, 0.5],
        "hard": [26 / 48, 0, 1 / 3, 22 / 48],  # two thirds of the harder bin's rollouts, of 16
        "lead": [-0.0625, 0, -0.25, -0.1875],
        "weights": [-0.15, 0, -0.375, -0.25],
        "support": [1, 2, 1.5, 2],
    }
    for key, y in expected.items():
        for line in found[key]:
            assert line["x"] == [32, 48, 64, 80]
            assert line["y"] == pytest.approx(y, abs=1e-4)


def test_what_was_not_recorded_is_said(figures):
    for missing in ("evaluation", "benchmarks", "families", "noise", "mixed"):
        assert isinstance(figures[missing], str)


def test_weights_that_are_all_one_are_not_drawn_as_an_adversary(small):
    """The mean bin of equal weights is that of the bins present: it would look like a lead."""
    text = (small / "trace.jsonl").read_text()
    for row in ("[1.2,0.4]", "[2.5,0.5]", "[1.5,0.5]"):
        text = text.replace(f'"weight_B":{row}', '"weight_B":[1,1]')
    (small / "trace.jsonl").write_text(text)
    run = load_run(small)
    found = {f.__name__: f(run) for functions in SECTIONS.values() for f in functions}
    assert [p.title for p in found["triptych"].panels] == [
        "Share of prompts",
        "Share of correct rollouts",
    ]
    assert [one["name"] for one in found["lead"].panels[0].data] == ["rollouts"]
    assert [one["name"] for one in found["drift"].panels[0].data] == ["prompts", "rollouts"]
    assert [p.title for p in found["late_means"].panels] == ["Rollouts a prompt"]
    assert [p.title for p in found["snapshots"].panels] == ["Prompts and rollouts"]
