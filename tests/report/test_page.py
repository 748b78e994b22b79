"""The page: its data are the trace's, its text is only text, and bad folders are named."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from gdro.core.errors import DataError
from gdro.report import build_report
from gdro.report.charts import spread_labels
from gdro.report.compare import about_several
from gdro.report.health import check_health
from gdro.report.page import safe_json
from gdro.report.runs import load_run
from gdro.report.single import SECTIONS
from gdro.report.style import Figure, clean, smooth, text, thin

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


def test_missing_pieces_are_named(small):
    _, html = plots(build_report([small], small / "page.html", files=False))
    assert "evals.jsonl: not in the folder" in html
    assert "no evaluation was recorded" in html
    assert "neither WSE nor VarProxy was recorded" in html


def test_evaluations_alone_make_a_page(run_folder):
    folder = run_folder("a")
    (folder / "trace.jsonl").unlink()
    found, html = plots(build_report([folder], folder / "out" / "page.html", files=False))
    assert len(found) == 4
    assert "trace.jsonl: not in the folder" in html


def test_a_torn_trace_and_torn_evaluations_are_readable(run_folder):
    folder = run_folder("a")
    for name in ("trace.jsonl", "evals.jsonl"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-20])
    _, html = plots(build_report([folder], folder / "page.html", files=False))
    assert "trace.jsonl: its last line is torn" in html
    assert "evals.jsonl: its last line is torn" in html


def test_a_run_that_has_only_begun_makes_a_page(tmp_path, run_folder):
    for steps in (0, 1):
        folder = run_folder(f"run{steps}", steps=steps or 1)
        if not steps:
            lines = (folder / "trace.jsonl").read_text().splitlines(keepends=True)
            (folder / "trace.jsonl").write_text(lines[0])
            (folder / "evals.jsonl").write_text("")
        page = build_report([folder], folder / "page.html", files=False)
        assert ("holds no step yet" in page.read_text()) == (steps == 0)
    both = build_report([tmp_path / "run0", tmp_path / "run1"], tmp_path / "both.html", files=False)
    assert "2 runs compared" in both.read_text()


def test_static_groups_are_named_and_have_no_hard_third(run_folder):
    folder = run_folder("a", bins=3)
    lines = (folder / "trace.jsonl").read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["config"]["difficulty"]["source"] = "column:family"
    header["bin_names"] = ["algebra", "<b>geometry</b>", "counting"]
    (folder / "trace.jsonl").write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    found, html = plots(build_report([folder], folder / "page.html", files=False))
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
            for key in sorted(set(record) - {"step", "split", "k"}):
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
    check_health(run)
    about_several([run, run])
    build_report([folder], folder / "page.html", files=False)


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
        build_report([folder], tmp_path / "page.html", files=False)
    assert str(folder) in str(error.value)
    assert not (tmp_path / "page.html").exists()


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match="at least one run"):
        build_report([], tmp_path / "page.html", files=False)


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
            written = build_report(runs, tmp_path / "page.html", files=False)
            pages.append(written.read_text(encoding="utf-8"))
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
    embedded = safe_json(HOSTILE)
    assert not set("<>&\u2028") & set(embedded)
    assert json.loads(embedded) == HOSTILE
    with pytest.raises(ValueError):
        safe_json(float("nan"))


def test_strings_from_data_are_short_and_visible():
    assert clean("a\u202eb\nc\x00d") == "a b c d"
    assert clean("x" * 100, 10) == "x" * 9 + "…"
    assert text("<b>&") == "&lt;b&gt;&amp;"


def test_a_thousand_steps_fit(run_folder, tmp_path):
    runs = [run_folder(m, steps=1000, method=m) for m in ("grpo", "prompt", "rollout", "joint")]
    for chosen in (runs[:1], runs):
        assert build_report(chosen, tmp_path / "page.html", files=False).stat().st_size < 6e6


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
    at = spread_labels(values, 0.06)
    placed = sorted(at)
    assert all(b - a >= 0.06 - 1e-9 for a, b in pairwise(placed))
    assert placed[0] >= -1e-9
    assert placed[-1] <= 1 + 1e-9
    assert np.argsort(at, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()
