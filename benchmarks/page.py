"""What the page of a run weighs, and how long a browser takes to open it.

    python benchmarks/page.py [--steps 1000] [--visits 5] [RUN ...]

Without RUN, of a run of a controller with ten bins on simulated prompts. Prints seconds to write
the page, its bytes, and the median over visits of: first paint (text), open (every figure of the
first screen is drawn), ready (every figure of the page is), in milliseconds since the navigation.
Each visit is a new profile: nothing is in a cache. `load` is the machine's, in running processes:
the milliseconds are worth something where it leaves a core free. Needs Chromium and playwright.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from gdro import Controller, ControllerConfig, Outcome
from gdro.core.trace import TraceWriter, header_of
from gdro.report import build_report

MOMENTS = """() => {
    const {open, ready} = document.documentElement.dataset;
    return [performance.getEntriesByName("first-contentful-paint")[0].startTime, +open, +ready];
}"""


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description="What a page weighs.")
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--visits", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        runs = args.runs or [simulated(Path(spare) / "run", args.steps)]
        start = time.perf_counter()
        page = build_report(runs, Path(spare) / "page.html", files=False)
        found = {"build_s": round(time.perf_counter() - start, 2), "bytes": page.stat().st_size}
        found |= visits(page, args.visits) | {"load": round(os.getloadavg()[0], 1)}
        print(json.dumps(found))


def simulated(folder: Path, steps: int) -> Path:
    """A run without a model: each prompt has a pass rate, which grows with every step."""
    rng, prompts = np.random.default_rng(0), 2048
    controller = Controller(ControllerConfig.preset("joint"), n_mean=4, seed=0)
    odds = rng.normal(-3, 2, prompts)
    scores = []
    with TraceWriter(folder / "trace.jsonl", header_of(controller)) as trace:
        for step in range(steps):
            prompt_P = rng.choice(prompts, 64, replace=False)
            plan = controller.plan(prompt_P)
            prompt_R = np.repeat(prompt_P, plan.n_P)
            rate = 1 / (1 + np.exp(-odds - 4 * step / steps))
            correct = (rng.random(prompt_R.size) < rate[prompt_R]).astype(float)
            record = controller.observe(plan, Outcome(prompt_R=prompt_R, correct_R=correct))
            seconds = {"generation": 2.0, "update": 1.0, "step": 3.0}
            trace.append(record.to_dict() | {"reward": correct.mean(), "time": seconds})
            if step % (steps // 10 or 1) == 0:
                mean, passed = rate.mean(), (1 - (1 - rate) ** 8).mean()
                scores.append({"step": step, "split": "test", "k": 8, "mean@8": mean,
                               "pass@8": passed})  # fmt: skip
    (folder / "evals.jsonl").write_text("".join(json.dumps(s) + "\n" for s in scores))
    return folder


def visits(page: Path, count: int) -> dict[str, int]:
    """Medians of the moments, and how many plots there are."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    found, plots = [], 0
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(count):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            tab = context.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            found.append(tab.evaluate(MOMENTS))
            plots = tab.locator(".plot").count()
            context.close()
        browser.close()
    names = ("first_paint_ms", "open_ms", "ready_ms")
    columns = zip(names, zip(*found, strict=True), strict=True)
    return {"plots": plots} | {name: round(statistics.median(v)) for name, v in columns}


if __name__ == "__main__":
    main()
