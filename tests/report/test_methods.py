"""Several runs: grouped by method, at equal compute, with intervals and paired differences."""

import json

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from gdro.core.trace import read_trace
from gdro.report.compare import about_several
from gdro.report.methods import LOOKS, Comparison, Compute, average, baseline_of, methods_of
from gdro.report.runs import load_run


def fake(folder, method, seed, scores, *, split="test", **about):
    """A run that is evaluated at 0, 100 and 200 rollouts."""
    folder.mkdir()
    lines = [
        {"step": i, "split": split, "k": 8, "rollouts": 100 * i, "tokens": 1000 * i}
        | {"mean@8": score, "pass@8": min(1, 1.5 * score)}
        | {"by_family": {"a": {"mean@8": score / 2}, "b": {"mean@8": 1.5 * score}}}
        for i, score in enumerate(scores)
    ]
    (folder / "evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "run.json").write_text(
        json.dumps({"name": folder.name, "method": method, "seed": seed} | about)
    )
    return load_run(folder)


@pytest.fixture
def study(tmp_path):
    """Three seeds of two methods; `new` has a seed that `grpo` lacks."""
    ends = {"grpo": (0.30, 0.34, 0.32), "new": (0.40, 0.39, 0.44, 0.9)}
    return [
        fake(tmp_path / f"{method}-{seed}", method, seed, [0.2, 0.25, end])
        for method, values in ends.items()
        for seed, end in enumerate(values)
    ]


def test_methods_at_equal_compute_with_t_intervals(study):
    comparison = Comparison(study)
    grpo, new = comparison.table
    assert (grpo["method"], grpo["seeds"], new["seeds"]) == ("grpo", 3, 4)
    assert comparison.where == "200 rollouts"
    assert grpo["mean"].mean == pytest.approx(0.32)
    low, high = t.interval(0.95, 2, loc=0.32, scale=0.02 / np.sqrt(3))
    assert (grpo["mean"].low, grpo["mean"].high) == pytest.approx((low, high))
    assert grpo["worst"].mean == pytest.approx(0.16)
    assert grpo["tokens"] == 2000


def test_differences_are_paired_by_seed(study):
    comparison = Comparison(study)
    ((method, difference),) = comparison.differences["mean"]
    pairs = [(0.40, 0.30), (0.39, 0.34), (0.44, 0.32)]
    scipy = ttest_rel(*zip(*pairs, strict=True)).confidence_interval()
    assert method.label == "new"
    assert difference.pairs == 3
    assert difference.mean == pytest.approx(0.09)
    assert (difference.low, difference.high) == pytest.approx((scipy.low, scipy.high))
    panel = comparison_figure(comparison, "paired").panels[0]
    assert panel.data[0]["x"] == [0.09]
    assert panel.layout["annotations"][0]["text"] == "+9.0% (3)"


def comparison_figure(comparison, key):
    content = about_several(comparison.runs)
    return next(f for figures in content.sections.values() for f in figures if f.key == key)


def test_unequal_compute_is_compared_at_the_least(study, tmp_path):
    short = fake(tmp_path / "short", "short", 0, [0.2, 0.3])  # ends at 100 rollouts
    comparison = Comparison([*study, short])
    assert comparison.compute.equal == 100
    assert comparison.table[0]["mean"].mean == 0.25
    assert "at 100 rollouts" in (about_several([*study, short]).warning or "")
    assert about_several(study).warning is None


def test_a_score_between_two_evaluations_is_on_a_straight_line(tmp_path):
    run = fake(tmp_path / "a", "grpo", 0, [0.2, 0.25, 0.45])
    compute = Compute([run])
    compute.equal = 150
    assert compute.score(run.evals["test"], lambda e: e.mean) == pytest.approx(0.35)
    compute.equal = 250
    assert compute.score(run.evals["test"], lambda e: e.mean) is None


def test_curves_are_averaged_where_all_of_them_are(study):
    x, mean, low, high = average(
        [([0, 2], [0, 2]), ([0, 1, 3], [1, 1, 1]), ([0, 2, 4], [2.0, 0.0, 0.0])]
    )
    assert x.tolist() == [0, 1, 2]
    assert mean.tolist() == pytest.approx([1, 1, 1])
    half = t.ppf(0.975, 2) * np.std([0, 1, 2], ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(high - mean, [half, 0, half], atol=1e-12)
    np.testing.assert_allclose(mean - low, [half, 0, half], atol=1e-12)
    assert np.isnan(average([([0, 1], [0, 1])] * 2)[2]).all()  # no interval of two
    figure = comparison_figure(Comparison(study), "mean")
    area, *_, line = figure.panels[0].data
    assert area["fill"] == "toself"
    assert line["y"] == pytest.approx([0.2, 0.25, 0.5325])
    assert "95% interval" in figure.caption


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged(tmp_path):
    same = [fake(tmp_path / f"s{i}", "grpo", i, [0.2, 0.3]) for i in range(2)]
    other = fake(tmp_path / "other", "grpo", 2, [0.2, 0.3], model="larger")
    twin = fake(tmp_path / "twin", "grpo", 0, [0.2, 0.3])
    unknown = fake(tmp_path / "unknown", "grpo", None, [0.2, 0.3])
    methods = methods_of([*same, other, twin, unknown])
    assert [len(m.runs) for m in methods] == [2, 1, 1, 1]
    assert len({m.label for m in methods}) == 4
    for run, rate in zip(same, (1e-3, 1e-4), strict=True):
        (run.path / "recipe.yaml").write_text(f"learning_rate: {rate}\nseed: {run.seed}\n")
    assert [len(m.runs) for m in methods_of(same)] == [1, 1]


def test_any_setting_in_which_runs_differ_makes_two_methods_and_tells_them_apart(tmp_path):
    """The reference model, the loss, the reward; not where a run lies or what it logs."""
    runs = []
    for name, more in (("a", ""), ("b", "beta: 0.04\n"), ("c", "loss_type: dr_grpo\n")):
        for seed in (0, 1):
            folder = tmp_path / name / f"grpo-seed{seed}"
            folder.parent.mkdir(exist_ok=True)
            fake(folder, "grpo", seed, [0.2, 0.3])
            own = f"seed: {seed}\noutput_dir: {folder}\nsave_steps: {seed + 1}\n"
            (folder / "recipe.yaml").write_text(f"reward_funcs: [exact]\n{own}{more}")
            runs.append(load_run(folder))
    methods = methods_of(runs)
    assert [(m.label, len(m.runs)) for m in methods] == [
        ("grpo (beta not set, loss_type not set)", 2),
        ("grpo (beta 0.04, loss_type not set)", 2),
        ("grpo (beta not set, loss_type dr_grpo)", 2),
    ]
    labels = [method.label for method in methods_of(runs[:4])]
    assert labels == ["grpo (beta not set)", "grpo (beta 0.04)"]


def test_the_worst_family_is_the_one_that_the_results_of_a_comparison_have(tmp_path):
    families = {"large": {"mean@8": 0.5, "prompts": 30}, "small": {"mean@8": 0.0, "prompts": 9}}
    line = {"step": 1, "k": 8, "by_family": families}
    said = {"worst_family": "other", "worst_family_mean@8": 0.25}
    for name, more, found in (("a", {}, ("large", 0.5)), ("b", said, ("other", 0.25))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evals.jsonl").write_text(json.dumps(line | more) + "\n")
        assert load_run(tmp_path / name).evals["test"][0].worst_family == found


def test_no_two_methods_look_alike_and_more_than_can_be_is_said(tmp_path):
    runs = [fake(tmp_path / f"m{i}", f"m{i}", 0, [0.2, 0.3]) for i in range(LOOKS + 1)]
    methods = methods_of(runs)
    assert len({(m.look.color, m.look.dash) for m in methods[:LOOKS]}) == LOOKS
    assert len({m.look.symbol for m in methods[:7]}) == 7
    same_color = [m.look.symbol for m in methods[::7]]
    assert len(set(same_color[:4])) == 4
    assert any("looks repeat" in line for line in about_several(runs).missing)
    assert not any("looks repeat" in line for line in about_several(runs[:LOOKS]).missing)


def test_benchmarks_are_a_bar_a_method(study):
    bars = comparison_figure(Comparison(study), "benchmarks").panels[0].data
    assert [bar["name"] for bar in bars] == ["grpo", "new"]
    assert bars[0]["y"] == pytest.approx([0.32, 0.48])
    half = t.ppf(0.975, 2) * 0.02 / np.sqrt(3)
    assert bars[0]["error_y"]["array"][0] == pytest.approx(half, rel=1e-3)
    alone = comparison_figure(Comparison(study[:1]), "benchmarks").panels[0].data
    assert all("error_y" not in bar for bar in alone)  # no interval, and no mark of one


def test_families_have_means_and_intervals(study):
    figure = comparison_figure(Comparison(study), "families")
    (panel,) = figure.panels
    assert panel.layout["yaxis"]["ticktext"] == ["b", "a"]
    assert panel.data[0]["x"] == pytest.approx([0.48, 0.16])
    assert [name for name, _ in figure.legend] == ["grpo", "new"]


def test_one_pair_has_no_interval_and_no_pair_is_said(tmp_path):
    a, b = (fake(tmp_path / m, m, 3, [0.2, s]) for m, s in (("grpo", 0.3), ("new", 0.4)))
    ((_, difference),) = Comparison([a, b]).differences["mean"]
    assert (difference.pairs, difference.low) == (1, None)
    c = fake(tmp_path / "c", "new", 4, [0.2, 0.3])
    assert any("no method shares" in line for line in about_several([a, c]).missing)


def test_what_was_spent_and_reached_by_run(run_folder):
    grpo, joint = (run_folder(m, method=m, name=f"run of {m}") for m in ("grpo", "joint"))
    content = about_several([load_run(grpo), load_run(joint)])
    first, second = content.runs
    last = json.loads((joint / "evals.jsonl").read_text().splitlines()[-1])
    worst = min(last["by_family"].items(), key=lambda item: item[1]["mean@8"])
    assert second["mean"][1] == last["mean@8"]
    assert (second["worst"][1], second["worst_name"]) == (worst[1]["mean@8"], worst[0])
    trace = read_trace(joint / "trace.jsonl")
    assert second["rollouts"] == sum(r["rollouts"] for r in trace.records)
    assert first["look"] != second["look"]


def test_a_run_killed_before_its_first_evaluation_does_not_set_the_compute(study, tmp_path):
    killed = fake(tmp_path / "killed", "killed", 0, [0.2])
    comparison = Comparison([*study, killed])
    assert comparison.compute.equal == 200
    assert comparison.table[-1]["mean"] is None


def test_families_are_compared_at_equal_compute_too(study, tmp_path):
    long = fake(tmp_path / "long", "long", 0, [0.2, 0.25, 0.3, 0.9])  # 300 rollouts
    figure = comparison_figure(Comparison([*study, long]), "families")
    assert figure.title == "mean@k by family at 200 rollouts"
    assert figure.panels[0].data[2]["x"] == pytest.approx([0.45, 0.15])


def test_two_variants_of_a_preset_are_named_after_their_runs_less_the_seed(tmp_path):
    runs = [
        fake(tmp_path / f"{name}-seed{seed}", "grpo", seed, [0.2, 0.3], model=name)
        for name in ("plain", "drawn")
        for seed in (0, 1)
    ]
    assert [method.label for method in methods_of(runs)] == ["plain", "drawn"]
    (one,) = methods_of(runs[:1])
    assert one.label == "grpo"


def test_the_baseline_is_grpo_itself_and_not_a_variant_of_it(tmp_path):
    runs = [
        fake(tmp_path / f"{name}-seed0", "grpo", 0, [0.2, 0.3], model=name)
        for name in ("dr_grpo", "grpo", "other")
    ]
    methods = methods_of(runs)
    assert [method.label for method in methods] == ["dr_grpo", "grpo", "other"]
    assert baseline_of(methods).label == "grpo"
    assert baseline_of([methods[2], methods[0]]).label == "other"


def test_runs_of_different_splits_are_said_not_to_be_comparable(tmp_path):
    runs = [
        fake(tmp_path / name, name, 0, [0.2, 0.3, 0.4], split=split)
        for name, split in (("a", "test"), ("b", "validation"))
    ]
    assert "different splits (test, validation)" in (about_several(runs).warning or "")
    assert "splits" not in (about_several(runs[:1]).warning or "")


def test_the_unsolved_third_is_said_to_be_of_which_pass_at_k(run_folder):
    folders = [run_folder("a", method="grpo"), run_folder("b", method="joint")]

    def caption():
        return comparison_figure(Comparison(list(map(load_run, folders))), "hard").caption

    assert "bins with pass@8 below 1/3" in caption()
    trace = folders[1] / "trace.jsonl"
    head, _, rest = trace.read_text().partition("\n")
    header = json.loads(head)
    header["config"]["difficulty"]["k"] = 1
    trace.write_text(f"{json.dumps(header)}\n{rest}")
    assert "pass@1 or pass@8 (curves of different ones do not compare)" in caption()
