"""Sampling what is missing, keeping it as it comes, and scoring it."""

import platform
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from gdro.evals import show
from gdro.evals.engines.base import Engine
from gdro.evals.plan import Options, Plan, default_folder, plan
from gdro.evals.score import score, versions
from gdro.evals.store import Store


def run(options: Options, out: Path | None, console: Console) -> tuple[Store, dict[str, Any]]:
    """Evaluates a model, or goes on with an evaluation that was stopped.

    Args:
        options: What is asked.
        out: Folder; None is one named by the model and a hash of the settings.
        console: For what is seen.

    Returns:
        The folder and the summary.

    Raises:
        GdroError: if the options, the data, the model or the server cannot be used, or the folder
            holds another evaluation. Samples that came are kept.
    """
    planned = plan(options)
    store = Store(out or default_folder(planned.settings))
    store.check(planned.settings)
    console.print(f"{store.path}  {show.templates(planned)}", markup=False, highlight=False)
    if any(job.missing(planned.sampling.k) for job in planned.jobs(store.samples())):
        _sample(planned, engine(planned), store, console)
    return store, score_and_show(store, console)


def score_and_show(store: Store, console: Console) -> dict[str, Any]:
    """Scores a folder's samples and prints the table."""
    with console.status("verifying"):
        summary = score(store)
    show.scores(summary, console)
    return summary


def engine(planned: Plan) -> Engine:
    """The engine of a plan, its model loaded."""
    options = planned.options
    common: dict[str, Any] = {
        "sampling": planned.sampling,
        "chat_template_kwargs": options.chat_template_kwargs,
    }
    if options.engine == "openai":
        from gdro.evals.engines.openai import OpenAI

        assert options.base_url is not None, "checked by plan"
        return OpenAI(
            planned.model,
            base_url=options.base_url,
            concurrency=options.concurrency,
            timeout=options.timeout,
            retries=options.retries,
            **common,
        )
    common |= {"revision": options.revision, "arguments": options.engine_args}
    if options.engine == "vllm":
        from gdro.evals.engines.vllm import VLLM

        return VLLM(planned.model, **common)
    from gdro.evals.engines.transformers import Transformers

    return Transformers(planned.model, batch_size=options.batch_size, **common)


def _sample(planned: Plan, model: Engine, store: Store, console: Console) -> None:
    done = store.open(planned.settings, planned.rows())
    start, came = time.perf_counter(), 0
    store.note(
        began=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        found=len(done),
        python=platform.python_version(),
        versions=versions(),
        **model.about(),
    )
    try:
        with show.Meter(planned, done, console) as meter:
            for job in planned.jobs(done):
                if not job.missing(planned.sampling.k):
                    continue
                with closing(model.sample(job)) as lists:
                    for samples in lists:
                        store.add(samples)
                        came += len(samples)
                        meter.add(job.benchmark, len(samples))
    finally:
        seconds = round(time.perf_counter() - start, 1)
        store.note(sampled=came, seconds=seconds, **model.about())
        store.close()
