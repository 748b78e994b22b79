"""One HTML file about one run or several: nothing is loaded from anywhere when it is opened.

Beside `page.html`, in `page_files/`: `summary.json`, and each figure as PNG and SVG.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gdro.core.errors import DataError, UnsupportedError
from gdro.core.files import write_text
from gdro.report.compare import about_several
from gdro.report.content import Content
from gdro.report.paper import draw_files
from gdro.report.runs import load_run
from gdro.report.single import about_one
from gdro.report.words import count, duration, interval, percent

_HERE = Path(__file__).parent


def build_report(runs: Sequence[str | Path], out: str | Path, *, files: bool = True) -> Path:
    """Writes the page about one run, or about several side by side.

    Args:
        runs: Run folders: `trace.jsonl`, `evals.jsonl`, `run.json`, `evals/` and `samples/`, as far
            as they are there; the page names what it could not show.
        out: The HTML file; replaced whole or not at all.
        files: Also write the folder beside it (`page_files` for `page.html`): `summary.json`, and
            the figures as PNG and SVG. That takes some seconds.

    Returns:
        `out`.

    Raises:
        DataError: if no run is given, or a folder cannot be read; the message names file and line.
        UnsupportedError: if the packages of the extra `report` are not installed.
    """
    if not runs:
        raise DataError("a report needs at least one run folder")
    out = Path(out)
    loaded = [load_run(Path(path)) for path in runs]
    content = about_one(loaded[0]) if len(loaded) == 1 else about_several(loaded)
    write_text(out, render(content))
    if files:
        folder = out.with_name(f"{out.stem}_files")
        summary = {"title": content.title, "missing": content.missing, **content.numbers}
        text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(folder / "summary.json", text + "\n")
        draw_files([f for figures in content.sections.values() for f in figures], folder)
    return out


def render(content: Content) -> str:
    """The page's HTML."""
    try:
        import jinja2
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"the page needs {error.name}: pip install 'gdro[report]'") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in (count, duration, percent, interval)}
    plots = [
        {"data": p.data, "layout": p.layout, "frames": p.frames, "steps": figure.steps}
        for figures in content.sections.values()
        for figure in figures
        for p in figure.panels
    ]
    plotly, script = get_plotlyjs(), (_HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        **vars(content),
        plotly=Markup(plotly),
        script=Markup(script),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        plots=Markup(safe_json(plots)),
        hashes=" ".join(map(_hash, (plotly, script))),
    )


def safe_json(value: Any) -> str:
    """JSON that can stand inside a script element: no `<`, `>` or `&` remains."""
    plain = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    """The source expression by which the page's policy allows this script and no other."""
    digest = hashlib.sha256(script.replace("\r\n", "\n").encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
