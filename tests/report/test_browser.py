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
    for runs, plots in (([one], 16), ([one, two], 8)):
        path = build_report(runs, one / "page.html")
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
    path = build_report([folder], folder / "page.html")
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
    assert drawn(page) == [16, 16]
    assert said == []


def test_hostile_names_do_nothing(run_folder, visit):
    names = (
        "<img src=x onerror=window.hacked=1>",
        "</script><script>window.hacked=1</script>",
        "<a href='https://evil.example/'>click</a>",
        "%{x}<b>",
    )
    runs = [run_folder(f"r{i}", families=names) for i in range(len(names))]
    for folder, name in zip(runs, names, strict=True):
        about = dict.fromkeys(("name", "method", "model"), name)
        (folder / "run.json").write_text(json.dumps(about))
    for chosen in (runs[:1], runs):
        path = build_report(chosen, runs[0] / "page.html")
        page, said, asked = visit(path)
        assert page.evaluate("window.hacked") is None
        assert page.locator("a, img").count() == 0
        assert said == []
        assert asked == [path.as_uri()]
        assert "<img src=x onerror=window.h" in page.locator("#figure-families").text_content()
