"""The files beside the page: every figure as PNG and SVG, with the page's data; summary.json."""

import json
import re
import warnings

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from gdro.report import build_report, paper
from gdro.report.allocation import slope
from gdro.report.bins import late_means, snapshots, triptych
from gdro.report.charts import bars
from gdro.report.ends import PATTERNS
from gdro.report.outcome import evaluation, families
from gdro.report.paper import color, draw, draw_files
from gdro.report.runs import load_run
from gdro.report.style import COLORS, DASHES, SYMBOLS, Figure, Look, axis


def axes_of(figure):
    """The figure drawn by matplotlib, a canvas a panel."""
    canvas = Canvas()
    axes = canvas.subplots(1, len(figure.panels), squeeze=False)[0]
    for one, panel in zip(axes, figure.panels, strict=True):
        paper._panel(one, panel)
    return axes


def test_every_figure_and_the_numbers_lie_beside_the_page(run_folder, tmp_path):
    one, two = run_folder("a", steps=12), run_folder("b", steps=12, method="grpo")
    for runs in ([one], [one, two]):
        page = build_report(runs, tmp_path / f"{len(runs)}.html").read_text()
        keys = re.findall(r'<figure id="figure-([\w-]+)"', page)
        files = {path.name for path in (tmp_path / f"{len(runs)}_files").iterdir()}
        assert files == {f"{k}.{e}" for k in keys for e in ("png", "svg")} | {"summary.json"}
        for key in keys:
            path = tmp_path / f"{len(runs)}_files" / f"{key}.png"
            assert matplotlib.image.imread(path)[..., :3].std() > 0.01  # not empty
    summary = json.loads((tmp_path / "1_files" / "summary.json").read_text())
    last = json.loads((one / "evals.jsonl").read_text().splitlines()[-1])
    assert summary["evaluations"]["test"][-1]["mean@8"] == last["mean@8"]
    assert summary["spent"]["tokens"] == 12 * 10240
    assert {finding["verdict"] for finding in summary["health"]} <= {"trouble", "fine", "unknown"}
    both = json.loads((tmp_path / "2_files" / "summary.json").read_text())
    assert [row["method"] for row in both["methods"]] == ["joint", "grpo"]
    assert both["baseline"] == "grpo"
    assert both["differences"]["mean"]["joint"]["pairs"] == 1


def test_no_files_where_none_are_wanted(run_folder, tmp_path):
    build_report([run_folder("a", steps=4)], tmp_path / "page.html", files=False)
    assert not (tmp_path / "page_files").exists()


def test_matplotlib_draws_the_page_s_data(small, run_folder):
    share, *_ = axes_of(triptych(load_run(small)))
    image = share.get_images()[0]
    np.testing.assert_allclose(image.get_array()[0], [0.75, 0, 0.25, 0.5])
    assert image.get_extent() == [-0.5, 3.5, 1.5, -0.5]
    assert [t.get_text() for t in share.get_yticklabels()] == ["0–.5", ".5–1"]
    weight, count = axes_of(late_means(load_run(small)))
    assert [bar.get_height() for bar in weight.patches] == [1.833, 0.5]
    assert [bar.get_height() for bar in count.patches] == [6.333, 2.6]
    run = load_run(run_folder("a", steps=12))
    (points,) = axes_of(slope(load_run(small)))
    assert points.get_xscale() == "log"
    assert not points.xaxis.get_minorticklocs().size  # no labels but ours
    np.testing.assert_allclose(points.lines[-1].get_ydata(), [6.333, 2.6])
    (curves,) = axes_of(evaluation(run))
    points = run.evals["test"]
    np.testing.assert_allclose(curves.lines[0].get_ydata(), [e.passk for e in points], rtol=1e-3)
    by_family, _ = axes_of(families(run))
    assert by_family.get_ylim() == (-0.7, 7.7)


def test_a_legend_of_many_methods_leaves_the_plot_its_room(tmp_path):
    looks = [(f"method {i}", Look(color=COLORS[0])) for i in range(40)]
    panel = bars(["a"], [("x", [1.0], COLORS[0])], "", axis())
    canvas = draw(Figure(key="k", title="t", caption="c", panels=[panel], legend=looks))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "axes sizes collapsed to zero"
        canvas.savefig(tmp_path / "k.png")
    top_of_legend = canvas.legends[0].get_window_extent().y1
    assert canvas.axes[0].get_window_extent().y0 > top_of_legend
    assert canvas.axes[0].get_window_extent().height > 300


def test_the_snapshots_are_drawn_at_the_first_the_middle_and_the_last_place(small):
    axes = draw(snapshots(load_run(small))).axes
    assert [a.get_title(loc="left") for a in axes] == [
        f"Prompts and {what}, step {step}" for step in (0, 2, 3) for what in ("weight", "rollouts")
    ]
    heights = [[bar.get_height() for bar in a.patches] for a in axes]
    assert heights[0] == pytest.approx([0.75, 0.25, 0.9, 0.1])
    assert heights[3] == pytest.approx([0.25, 0.75, 0.5, 0.5])
    assert heights[5] == pytest.approx([0.5, 0.5, 0.6875, 0.3125], abs=1e-4)


def test_the_palette_is_that_of_the_page_on_light_paper():
    assert color("var(--c0)") == color("--c0") == "#0069a8"
    assert color("#123456") == "#123456"
    assert all(re.fullmatch("#[0-9a-f]{6}", color(name)) for name in COLORS)
    assert set(DASHES) <= set(paper._DASH)
    assert set(SYMBOLS) <= set(paper._SYMBOL)
    assert len(PATTERNS) == len(DASHES)


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (0.256, ".0%", "26%"),
        (0.256, ".1%", "25.6%"),
        (0.05, "+.0%", "+5%"),
        (1.5, ".2~f", "1.5"),
        (2.0, ".2~f", "2"),
        (100.0, ".0%", "10000%"),
        (6.333, ".3~g", "6.33"),
        (float("nan"), ".1%", ""),
    ],
)
def test_numbers_are_written_as_on_the_page(value, form, expected):
    assert paper._number(value, form) == expected


def test_hostile_names_are_drawn_as_text(run_folder, tmp_path):
    run = load_run(run_folder("a", steps=6, families=("$\\frac{<b>", "a & b", "<script>")))
    for path in draw_files([families(run)], tmp_path):
        assert path.stat().st_size > 1000
    svg = (tmp_path / "families.svg").read_text()
    assert "<script" not in svg
