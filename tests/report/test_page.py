"""The page: its data are the trace's, its text is only text, and bad folders are named."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from gdro.core.errors import DataError
from gdro.core.trace import TraceWriter, read_trace
from gdro.report import build_report
from gdro.report.compare import Comparison
from gdro.report.page import _safe_json
from gdro.report.runs import load_run
from gdro.report.single import SECTIONS, bin_names, triptych, triptych_data
from gdro.report.style import Figure, _spread, clean, smooth, text, thin

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror=window.hacked=1>",
    '" onmouseover="window.hacked=1',
    "<!--",
    "{{ 7 * 7 }}",
    "<a href='https://evil.example/'>click</a>",
    "%{x} &lt;b&gt;",
    "var(--c0)",
    "\u202eabc\u2028\x00",
]


def plots(page):
    """The plots that a page holds, and its text outside scripts."""
    html = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="plots">(.*?)</script>', html, re.S)
    return json.loads(found.group(1)), re.sub(r"<script.*?</script>", "", html, flags=re.S)


@pytest.fixture
def small(tmp_path):
    """A run of four steps and two bins, worked out by hand."""
    folder = tmp_path / "small"
    header = {
        "boundaries": [0, 0.5, 1],
        "bin_names": ["hard", "easy"],
        "n_mean": 4,
        "method": "joint",
        "config": {"difficulty": {"k": 4}},
    }
    with TraceWriter(folder / "trace.jsonl", header) as trace:
        trace.append(
            {
                "step": 0,
                "prompts_B": [3, 1],
                "rollouts_B": [13, 3],
                "weight_B": [1.2, 0.4],
                "reward": 0.25,
                "lead_lag": -0.125,
                "unseen_prompts": 4,
            }
        )
        trace.append(
            {
                "step": 1,
                "prompts_B": [0, 4],
                "rollouts_B": [0, 16],
                "weight_B": [None, 1],
                "reward": 0.5,
                "lead_lag": 0,
            }
        )
        trace.append(
            {
                "step": 2,
                "prompts_B": [1, 3],
                "rollouts_B": [8, 8],
                "reward": 0.75,
                "weight_B": [2.5, 0.5],
                "lead_lag": -0.25,
                "time": {"plan": 0.01, "step": 2},
            }
        )
        trace.append(
            {
                "step": 3,
                "prompts_B": [2, 2],
                "rollouts_B": [11, 5],
                "reward": 0.5,
                "weight_B": [1.5, 0.5],
                "lead_lag": -0.25,
                "time": {"plan": 0.03, "step": 4},
            }
        )
    return folder


def test_the_triptych_by_hand(small):
    trace = read_trace(small / "trace.jsonl")
    x, share, weight, rollouts = triptych_data(trace)
    assert x.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(share, [[0.75, 0.25], [0, 1], [0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(weight, [[1.2, 0.4], [np.nan, 1], [2.5, 0.5], [1.5, 0.5]])
    np.testing.assert_allclose(rollouts, [[13 / 3, 3], [np.nan, 4], [8, 8 / 3], [5.5, 2.5]])
    x, share, weight, rollouts = triptych_data(trace, most=2)  # blocks pool prompts, not ratios
    assert x.tolist() == [0.5, 2.5]
    np.testing.assert_allclose(share, [[3 / 8, 5 / 8], [3 / 8, 5 / 8]])
    np.testing.assert_allclose(weight, [[1.2, 4.4 / 5], [5.5 / 3, 2.5 / 5]])
    np.testing.assert_allclose(rollouts, [[13 / 3, 19 / 5], [19 / 3, 13 / 5]])


def test_the_maps_put_the_hardest_bin_on_top_by_its_range(small):
    figure = triptych(load_run(small))
    assert isinstance(figure, Figure)
    assert [p.title for p in figure.panels] == ["Share of prompts", "Weight", "Rollouts per prompt"]
    axis, data = figure.panels[0].layout["yaxis"], figure.panels[0].data[0]
    assert axis["autorange"] == "reversed"
    assert axis["ticktext"] == ["0–.5", ".5–1"]
    assert data["z"][0] == [0.75, 0, 0.25, 0.5]
    assert "pass@4" in figure.caption
    assert "(20% of all prompts were unseen" in figure.caption  # 4 of 16 + 4
    assert bin_names(load_run(small).trace) == ["0–.5", ".5–1"]


def test_curves_by_hand(small):
    figures = {f.__name__: f(load_run(small)) for fs in SECTIONS.values() for f in fs}
    mean_bin, gap = figures["lead"].panels
    assert mean_bin.data[0]["y"] == [0.25, 1, 0.75, 0.5]
    assert mean_bin.data[1]["y"] == [0.125, 1, 0.5, 0.25]
    assert gap.data[0]["y"] == [-0.125, 0, -0.25, -0.25]
    assert gap.layout["yaxis"]["range"][0] > gap.layout["yaxis"]["range"][1]  # harder is up
    assert figures["reward"].panels[0].data[0]["y"] == [0.25, 0.5, 0.75, 0.5]
    # pass@4 below 1/3 is two thirds of the harder bin; quarters are single steps.
    grey, blue = figures["stages"].panels[0].data
    assert grey["y"] == pytest.approx([2 / 8, 0, 1 / 6, 1 / 3])
    assert blue["y"] == pytest.approx([26 / 48, 0, 1 / 3, 22 / 48])
    assert figures["phases"].panels[0].data[0]["x"] == [0.02, 2.98]
    for missing in ("evaluation", "families", "support", "price", "noise", "mixed"):
        assert isinstance(figures[missing], str)


def test_missing_pieces_are_named(small):
    _, html = plots(build_report([small], small / "page.html"))
    assert "evals.jsonl: not in the folder" in html
    assert "no evaluation was recorded" in html
    assert "this allocator has no shadow price" in html


def test_evaluations_alone_make_a_page(run_folder):
    folder = run_folder("a")
    (folder / "trace.jsonl").unlink()
    found, html = plots(build_report([folder], folder / "out" / "page.html"))
    assert len(found) == 3
    assert "trace.jsonl: not in the folder" in html


def test_a_torn_trace_and_torn_evaluations_are_readable(run_folder):
    folder = run_folder("a")
    for name in ("trace.jsonl", "evals.jsonl"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-20])
    _, html = plots(build_report([folder], folder / "page.html"))
    assert "trace.jsonl: its last line is torn" in html
    assert "evals.jsonl: its last line is torn" in html


def test_a_run_that_has_only_begun_makes_a_page(tmp_path, run_folder):
    for steps in (0, 1):
        folder = run_folder(f"run{steps}", steps=steps or 1)
        if not steps:
            lines = (folder / "trace.jsonl").read_text().splitlines(keepends=True)
            (folder / "trace.jsonl").write_text(lines[0])
            (folder / "evals.jsonl").write_text("")
        page = build_report([folder], folder / "page.html")
        assert ("Not shown, and why" in page.read_text()) == (steps == 0)
    both = build_report([tmp_path / "run0", tmp_path / "run1"], tmp_path / "both.html")
    assert "2 runs compared" in both.read_text()


def test_static_groups_are_named_and_have_no_hard_third(run_folder):
    folder = run_folder("a", bins=3)
    lines = (folder / "trace.jsonl").read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["config"]["difficulty"]["source"] = "column:family"
    header["bin_names"] = ["algebra", "<b>geometry</b>", "counting"]
    (folder / "trace.jsonl").write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    found, html = plots(build_report([folder], folder / "page.html"))
    maps = [p for p in found if p["data"][0]["type"] == "heatmap"]
    assert maps[0]["layout"]["yaxis"]["ticktext"][1] == "&lt;b&gt;geometry&lt;/b&gt;"
    assert "static groups have no hardest third" in html


@pytest.mark.parametrize("seed", range(8))
def test_any_gap_in_the_records_leaves_a_page(run_folder, seed):
    """Keys that are null, absent, zero, or null for a bin: what is left is shown."""
    rng = np.random.default_rng(seed)
    folder = run_folder("a", steps=int(rng.integers(1, 7)), bins=int(rng.integers(2, 6)))
    for name in ("trace.jsonl", "evals.jsonl"):
        first, *lines = map(json.loads, (folder / name).read_text().splitlines())
        always = {key: rng.choice(4) for key in {**first, **(lines[0] if lines else {})}}
        for record in lines:
            for key in set(record) - {"step", "split", "k"}:
                match rng.choice(4) if rng.random() < 0.2 else always[key]:
                    case 0:
                        del record[key]
                    case 1:
                        record[key] = None
                    case 2 if isinstance(record[key], list):
                        record[key] = [rng.choice([0, None, v]) for v in record[key]]
                    case 2 if not isinstance(record[key], dict):
                        record[key] = 0
        (folder / name).write_text("\n".join(map(json.dumps, [first, *lines])) + "\n")
    run = load_run(folder)
    for figures in SECTIONS.values():
        assert all(isinstance(figure(run), Figure | str) for figure in figures)
    Comparison([run, run]).sections()
    build_report([folder], folder / "page.html")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no such run folder"),
        ({}, "neither trace.jsonl nor evals.jsonl"),
        ({"run.json": "{}"}, "neither trace.jsonl nor evals.jsonl"),
        ({"trace.jsonl": ""}, "trace.jsonl: is empty"),
        ({"trace.jsonl": '{"loss": 1}\n'}, "trace.jsonl: is not a gdro trace"),
        ({"evals.jsonl": "hello\n"}, "evals.jsonl, line 1: is not JSON"),
        ({"evals.jsonl": '{"step": 1}\nhello\n{"step": 2}\n'}, "evals.jsonl, line 2: is not JSON"),
        ({"evals.jsonl": '{"loss": 1}\n'}, "line 1: is not an evaluation"),
        ({"evals.jsonl": "[]\n"}, "line 1: is not an evaluation"),
        ({"evals.jsonl": '{"step": 1, "mean@8": "x"}\n'}, "line 1: mean@8 must be a number"),
        ({"evals.jsonl": '{"step": 1, "by_family": [1]}\n'}, "line 1: by_family must map names"),
        ({"evals.jsonl": '{"step": 1}\n', "run.json": "{"}, "run.json: is not JSON"),
        ({"evals.jsonl": '{"step": 1}\n', "run.json": "[]"}, "run.json: must hold a mapping"),
    ],
)
def test_bad_folders_are_named_and_leave_no_page(tmp_path, files, message):
    folder = tmp_path / "run"
    if files is not None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        build_report([folder], tmp_path / "page.html")
    assert str(folder) in str(error.value)
    assert not (tmp_path / "page.html").exists()


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match="at least one run"):
        build_report([], tmp_path / "page.html")


class Elements(HTMLParser):
    """Every element of a page with the names of its attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html.replace(get_plotlyjs(), ""))

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, *sorted(name for name, _ in attrs)))


@pytest.mark.parametrize("number", [1, 2])
def test_hostile_strings_are_text(run_folder, tmp_path, number):
    """A page of hostile strings has the very elements of a page of tame ones."""

    def page(strings, name):
        runs = [run_folder(f"{name}{i}", families=tuple(strings)) for i in range(number)]
        pages = []
        for i in range(0, len(strings), 3):
            values = [strings[(i + j) % len(strings)] for j in range(3)]
            about = json.dumps(dict(zip(("name", "method", "model"), values, strict=True)))
            (runs[i % number] / "run.json").write_text(about)
            pages.append(build_report(runs, tmp_path / "page.html").read_text(encoding="utf-8"))
        return pages

    tame = page([f"string {i}" for i in range(len(HOSTILE))], "tame")
    for hostile, like in zip(page(HOSTILE, "hostile"), tame, strict=True):
        assert Elements(hostile).found == Elements(like).found
        found = re.search(r'id="plots">(.*?)</script>', hostile, re.S).group(1)
        axes = [plot["layout"]["yaxis"] for plot in json.loads(found)]
        labels = "".join(label for axis in axes for label in axis.get("ticktext", []))
        assert "&lt;" in labels
        assert not set("<>") & set(labels)


def test_json_cannot_leave_its_script():
    embedded = _safe_json(HOSTILE)
    assert not set("<>&\u2028") & set(embedded)
    assert json.loads(embedded) == HOSTILE
    with pytest.raises(ValueError):
        _safe_json(float("nan"))


def test_strings_from_data_are_short_and_visible():
    assert clean("a\u202eb\nc\x00d") == "a b c d"
    assert clean("x" * 100, 10) == "x" * 9 + "…"
    assert text("<b>&") == "&lt;b&gt;&amp;"


def test_comparison_spends_and_reaches(run_folder):
    grpo, joint = (run_folder(m, method=m, name=f"run of {m}") for m in ("grpo", "joint"))
    comparison = Comparison([load_run(grpo), load_run(joint)])
    first, second = comparison.table()
    last = json.loads((joint / "evals.jsonl").read_text().splitlines()[-1])
    worst = min(last["by_family"].items(), key=lambda item: item[1]["mean@8"])
    assert second["mean"][1] == last["mean@8"]
    assert second["worst"][1] == worst[1]["mean@8"]
    assert second["worst_name"] == worst[0]
    assert second["rollouts"] == sum(
        r["rollouts"] for r in read_trace(joint / "trace.jsonl").records
    )
    assert [look.label for look in comparison.looks] == ["grpo", "joint"]
    assert first["color"] != second["color"]
    curve = comparison.sections()["Outcome"][0].panels[0].data[1]
    assert curve["x"][-1] == last["rollouts"]
    assert curve["y"][-1] == last["mean@8"]


def test_unequal_compute_is_said(run_folder):
    runs = [load_run(run_folder(m, method=m, steps=n)) for m, n in (("grpo", 20), ("joint", 40))]
    assert "not at their ends" in (Comparison(runs).warning() or "")
    assert Comparison(runs[:1] * 2).warning() is None


def test_runs_of_one_method_share_its_colour_and_keep_their_names(run_folder):
    runs = [
        load_run(run_folder(f"r{i}", method=m, seed=i, name="same"))
        for i, m in enumerate(("grpo", "joint", "joint"))
    ]
    a, b, c = Comparison(runs).looks
    assert b.color == c.color != a.color
    assert b.dash != c.dash
    assert [x.label for x in (a, b, c)] == ["same (r0)", "same (r1)", "same (r2)"]


def test_a_thousand_steps_fit(run_folder, tmp_path):
    runs = [run_folder(m, steps=1000, method=m) for m in ("grpo", "prompt", "rollout", "joint")]
    for chosen in (runs[:1], runs):
        assert build_report(chosen, tmp_path / "page.html").stat().st_size < 6e6


def test_thinning_and_smoothing_keep_means():
    values = np.arange(1000.0)
    assert len(thin(values)) == 500
    assert thin(values).mean() == pytest.approx(values.mean())
    flat, width = smooth(np.array([1.0, np.nan, 1.0] * 100))
    assert width == 15
    np.testing.assert_allclose(flat, 1)


@pytest.mark.parametrize(
    "values", [[0.5, 0.5, 0.5], [0, 0, 1], [1, 1, 1, 0.99], [0.2], [0, 0.01, 0.02]]
)
def test_labels_stand_apart_in_order_and_inside(values):
    at = _spread(values, 0.06)
    placed = sorted(at)
    assert all(b - a >= 0.06 - 1e-9 for a, b in pairwise(placed))
    assert placed[0] >= -1e-9
    assert placed[-1] <= 1 + 1e-9
    assert np.argsort(at, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()
