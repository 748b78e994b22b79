"""The page in a real browser: every figure drawn, nothing said, nothing fetched."""

import json
import shutil

import pytest

from gdro.report import build_report

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (gdro[dev])")
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        try:
            found = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"needs chromium: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture
def visit(browser):
    """Opens a page and returns it with all that it said, and all that it asked for."""
    contexts = []

    def visit(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        return page, said, [url for url in asked if not url.startswith(("data:", "blob:"))]

    yield visit
    for context in contexts:
        context.close()


def drawn(page):
    """(figures, figures that show at least one mark)."""
    return page.evaluate("""() => {
        const plots = [...document.querySelectorAll(".plot")];
        const marks = ".scatterlayer path, .barlayer path, .heatmaplayer image";
        return [plots.length, plots.filter((p) => p.querySelector(marks)).length];
    }""")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn_and_nothing_leaves_the_page(run_folder, visit, scheme, width):
    one = run_folder("joint", steps=200)
    two = run_folder("grpo", steps=200, method="grpo")
    for runs, plots in (([one], 26), ([one, two], 14)):
        path = build_report(runs, one / "page.html", files=False)
        page, said, asked = visit(
            path, color_scheme=scheme, viewport={"width": width, "height": 800}
        )
        assert said == []
        assert asked == [path.as_uri()]
        assert drawn(page) == [plots, plots]
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, "the page scrolls sideways"


def test_the_theme_button_and_print_redraw(run_folder, visit):
    folder = run_folder("joint")
    path = build_report([folder], folder / "page.html", files=False)
    page, said, _ = visit(path, color_scheme="light")
    color = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.evaluate(color)
    page.click("#theme")  # light
    assert page.evaluate(color) == light
    page.click("#theme")  # dark
    dark = page.evaluate(color)
    assert dark != light
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(color) == light
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(color) == dark
    assert drawn(page) == [26, 26]
    assert said == []


def test_on_paper_every_plot_fits_its_column_and_bins_are_named_level(run_folder, visit):
    one, two = run_folder("joint"), run_folder("grpo", method="grpo")
    for runs in ([one], [one, two]):
        path = build_report(runs, one / "page.html", files=False)
        page, said, _ = visit(path, color_scheme="dark", viewport={"width": 1280, "height": 800})
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        widths = "[...document.querySelectorAll('.main-svg')].map((svg) => svg.clientWidth)"
        assert set(page.evaluate(widths)) == {320, 660}
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 680, "height": 1009})  # A4 less its margins, at 96 dpi
        assert (
            page.evaluate("""() => [...document.querySelectorAll(".plot")].filter((plot) =>
            plot.querySelector(".main-svg").getBoundingClientRect().right
                > plot.parentElement.getBoundingClientRect().right + 1).length""")
            == 0
        )
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        turned = (
            "[...document.querySelectorAll('.xtick text')].map((t) => t.getAttribute('transform'))"
        )
        assert all("rotate" not in (t or "") or "rotate(0" in t for t in page.evaluate(turned))
        assert page.locator("button:visible, input:visible").count() == 0
        assert said == []


HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "<a href='https://evil.example/'>click</a>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.hacked=1>",
    "<svg onload=window.hacked=1><script>window.hacked=1</script></svg>",
    '" onmouseover="window.hacked=1" autofocus onfocus="window.hacked=1',
    "</summary></details><iframe src='https://evil.example/'></iframe>",
    "javascript:window.hacked=1 {{ 7 * 7 }} %{x}<b> \u202e",
)


@pytest.mark.parametrize("number", [1, len(HOSTILE)])
def test_hostile_names_and_model_output_are_text(run_folder, visit, number):
    runs = [run_folder(f"r{i}", families=HOSTILE) for i in range(number)]
    big = HOSTILE[1] + "x" * 1_000_000
    for folder, name in zip(runs, HOSTILE, strict=False):
        about = dict.fromkeys(("name", "method", "model"), name) | {"seed": 1}
        (folder / "run.json").write_text(json.dumps(about))
        rows = [
            {"step": step, "prompt": text, "completion": answer, "rewards": {"r": 0.0}}
            for text in HOSTILE[:6]
            for step, answer in enumerate((text, big if text == HOSTILE[0] else text))
        ]
        (folder / "samples" / "000000.jsonl").write_text("\n".join(map(json.dumps, rows)))
        for file in (folder / "evals").glob("*.json"):
            value = json.loads(file.read_text())
            value["id_N"] = [f"{HOSTILE[i % len(HOSTILE)]}{i}" for i in range(64)]
            value["answer_N"] = [HOSTILE[-i % len(HOSTILE)] for i in range(64)]
            file.write_text(json.dumps(value))
    path = build_report(runs, runs[0] / "page.html", files=False)
    assert path.stat().st_size < 6e6
    page, said, asked = visit(path)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.mouse.move(300, 300)
    assert page.evaluate("window.hacked") is None
    assert page.locator("a, img, iframe, math, main script, main style").count() == 0
    assert said == []
    assert asked == [path.as_uri()]
    assert "<img src=x onerror=window.h" in page.locator("#figure-families").text_content()
    if number == 1:
        prompts = page.locator("#prompts").text_content()
        assert all(name.replace("\u202e", "").strip() in prompts for name in HOSTILE[:6])
        assert f"({len(big):,} characters)" in prompts


def test_the_slider_moves_every_panel_of_its_figure(run_folder, visit):
    folder = run_folder("joint", steps=60)
    page, said, _ = visit(build_report([folder], folder / "page.html", files=False))
    figure = page.locator("#figure-snapshots")
    shown = """() => [...document.querySelectorAll("#figure-snapshots .plot")].map(
        (plot) => plot.data.map((bar) => bar.y))"""
    frames = page.evaluate(
        """() => JSON.parse(document.getElementById("plots").textContent)
            .filter((plot) => plot.frames.length).map((plot) => plot.frames)"""
    )
    assert page.evaluate(shown) == [panel[-1] for panel in frames]
    slider = figure.locator("input")
    slider.focus()
    page.keyboard.press("Home")
    assert page.evaluate(shown) == [panel[0] for panel in frames]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(shown) == [panel[1] for panel in frames]
    assert figure.locator("output").text_content().startswith("steps ")
    page.click("#theme")
    assert page.evaluate(shown) == [panel[1] for panel in frames]  # a new theme keeps the place
    page.emulate_media(media="print")
    assert figure.locator("output").is_visible()
    assert not slider.is_visible()
    assert said == []


def test_a_page_made_anew_stays_as_its_reader_left_it(run_folder, visit):
    folder = run_folder("joint", steps=60)
    path = build_report([folder], folder / "page.html", files=False)
    page, said, _ = visit(path)
    steps = "document.querySelector('#figure-snapshots output').textContent"
    last = page.evaluate(steps)
    page.locator("#figure-snapshots input").focus()
    page.keyboard.press("ArrowLeft")
    before = page.evaluate(steps)
    assert before != last
    page.click("#theme")  # light
    page.click("#theme")  # dark
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")

    def reload():
        page.reload()
        page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)

    reload()
    assert page.evaluate(steps) == before
    assert page.text_content("#theme") == "Theme: dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    shown = "document.querySelector('#figure-snapshots .plot').data[0].y"
    frames = """JSON.parse(document.getElementById("plots").textContent)
        .find((plot) => plot.frames.length).frames.at(-2)[0]"""
    assert page.evaluate(shown) == page.evaluate(frames)
    page.locator("#figure-snapshots input").focus()
    page.keyboard.press("End")  # who looks at the newest goes on doing so
    grown = run_folder("grown", steps=80)
    build_report([grown], path, files=False)
    reload()
    newest = page.evaluate(steps)
    assert newest not in (before, last)
    assert newest.endswith("79")
    assert said == []
