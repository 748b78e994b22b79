"""One HTML file about one run or several: nothing is loaded from anywhere when it is opened."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gdro.core.config import ControllerConfig
from gdro.core.errors import DataError, UnsupportedError
from gdro.report.compare import Comparison
from gdro.report.runs import Run, load_run
from gdro.report.single import SECTIONS
from gdro.report.style import Figure, clean

_HERE = Path(__file__).parent
_ABOUT = ("method", "model", "seed", "started", "device")


def build_report(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Writes the page about one run, or about several side by side.

    Args:
        runs: Run folders: `trace.jsonl`, `evals.jsonl` and `run.json`, as far as they are there;
            the page names what it could not show.
        out: The HTML file; replaced whole or not at all.

    Returns:
        `out`.

    Raises:
        DataError: if no run is given, or a folder cannot be read; the message names file and line.
        UnsupportedError: if the packages of the extra `report` are not installed.
    """
    if not runs:
        raise DataError("a report needs at least one run folder")
    loaded = [load_run(Path(path)) for path in runs]
    html = _render(_one(loaded[0]) if len(loaded) == 1 else _several(loaded))
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    spare = out.with_name(out.name + ".tmp")
    spare.write_text(html, encoding="utf-8")
    os.replace(spare, out)
    return out


def _one(run: Run) -> dict[str, Any]:
    about = [(key, clean(run.about[key])) for key in _ABOUT if run.about.get(key) is not None]
    return {
        "title": clean(run.name),
        "about": about or [("method", clean(run.method))],
        "tiles": _tiles(run),
        "table": None,
        "warning": None,
        "config": _config(run),
        **_figures(
            {name: [(f.__name__, f(run)) for f in figures] for name, figures in SECTIONS.items()},
            run.notes,
        ),
    }


def _several(runs: list[Run]) -> dict[str, Any]:
    comparison = Comparison(runs)
    notes = [f"{clean(run.name)}: {note}" for run in runs for note in run.notes]
    sections = {
        name: [(f"{name.lower()} {i + 1}", f) for i, f in enumerate(figures)]
        for name, figures in comparison.sections().items()
    }
    return {
        "title": f"{len(runs)} runs compared",
        "about": [],
        "tiles": [],
        "config": None,
        "table": comparison.table(),
        "warning": comparison.warning(),
        **_figures(sections, notes),
    }


def _figures(
    sections: Mapping[str, Sequence[tuple[str, Figure | str]]], notes: list[str]
) -> dict[str, Any]:
    shown = {
        name: [f for _, f in figures if isinstance(f, Figure)] for name, figures in sections.items()
    }
    missing = [
        f"{key}: {f}" for figures in sections.values() for key, f in figures if isinstance(f, str)
    ]
    return {
        "sections": {name: figures for name, figures in shown.items() if figures},
        "missing": notes + missing,
    }


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """(value, what it is, a second line) of the numbers at the top."""
    tiles = []
    points = run.evals.get(run.split or "", [])
    if points:
        first, last = points[0], points[-1]
        for name, before, after in (
            (f"mean@{last.k}", first.mean, last.mean),
            (f"pass@{last.k}", first.passk, last.passk),
        ):
            if after is not None:
                once = first is last or before is None
                change = "measured once" if once else f"from {before:.1%}"
                tiles.append((f"{after:.1%}", f"{name} on {clean(run.split)}", change))
        if (worst := last.worst_family()) is not None:
            tiles.append((f"{worst[1]:.1%}", "worst family", clean(worst[0])))
    steps = len(run.trace.records) if run.trace is not None else 0
    for value, name in ((run.spent("rollouts"), "rollouts"), (run.spent("tokens"), "tokens")):
        if value is not None:
            tiles.append((_count(value), name, f"{_count(value / steps)} a step" if steps else ""))
    if run.seconds is not None:
        tiles.append((_duration(run.seconds), "wall time", f"{steps:,} steps"))
    return tiles


def _config(run: Run) -> list[dict[str, Any]] | None:
    """Every leaf of the controller's configuration; `changed` where it is not the default."""
    if run.trace is None or not run.trace.header.get("config"):
        return None
    default = dict(_leaves(ControllerConfig().to_dict()))
    top = {"n_mean": run.trace.header.get("n_mean")}
    return [
        {
            "path": clean(path),
            "value": _value(value),
            "default": _value(default.get(path)),
            "changed": path in default and default[path] != value,
        }
        for path, value in _leaves(top | run.trace.header["config"])
    ]


def _value(value: Any) -> str:
    return clean(value if isinstance(value, str) else json.dumps(value), 200)


def _leaves(tree: Mapping[str, Any], room: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in tree.items():
        path = f"{room}{key}"
        found += _leaves(value, f"{path}.") if isinstance(value, dict) else [(path, value)]
    return found


def _render(content: dict[str, Any]) -> str:
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
    environment.filters |= {"count": _count, "percent": _percent, "duration": _duration}
    plots = [
        [{"data": p.data, "layout": p.layout} for p in figure.panels]
        for figures in content["sections"].values()
        for figure in figures
    ]
    plotly, script = get_plotlyjs(), (_HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        **content,
        plotly=Markup(plotly),
        script=Markup(script),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        plots=Markup(_safe_json([p for panels in plots for p in panels])),
        hashes=" ".join(map(_hash, (plotly, script))),
    )


def _safe_json(value: Any) -> str:
    """JSON that can stand inside a script element: no `<`, `>` or `&` remains."""
    plain = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    """The source expression by which the page's policy allows this script and no other."""
    digest = hashlib.sha256(script.replace("\r\n", "\n").encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _count(value: float | None) -> str:
    if value is None:
        return "–"
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= size:
            return f"{value / (1000 if suffix == ' k' else size):.3g}{suffix}"
    return f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _duration(value: float | None) -> str:
    if value is None:
        return "–"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours:,} h {minutes:02} min"
        if hours
        else f"{minutes} min {seconds:02} s"
        if minutes
        else f"{value:.1f} s"
    )
