"""The command `gdro eval`. Help comes at once: what takes long to import comes later."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gdro.terminal import integers, quiet, terminal

EVAL = """\
Evaluate a model: sample k completions of each problem, verify them, score them.

  gdro eval --model M --benchmarks math500,aime24 -k 8   mean@k, pass@k and maj@k, with intervals
  gdro eval --model M --protocol paper                   as arXiv 2601.19280 does
  gdro eval ... --engine openai --base-url http://localhost:8000/v1
  gdro eval ... --dry-run                                what that would sample
  gdro eval --rescore FOLDER                             score saved samples, without a model
  gdro eval compare A B                                  two evaluations, paired by problem

A command that was stopped goes on where it stopped when it is given again.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs it, and returns the exit code."""
    if arguments[:1] == ["compare"]:
        return _compare(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="gdro eval",
        description=EVAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", help="hub id, folder (a run's model/), arithmetic, or a server's name for it")
    add("--benchmarks", metavar="NAME[=FILE],...", help="math500, aime24, aime25, amc23, minerva, "
        "olympiadbench, gpqa_diamond, gsm8k, a built-in suite; =FILE has the problems")  # fmt: skip
    add("-k", type=int, help="completions of each problem (default: 8)")
    add("--seeds", default="0", metavar="A,B,...", help="k completions with each (default: 0)")
    add("--protocol", help="paper: k 8, temperature 0.6, top-p 0.8, top-k 20, its benchmarks")
    add("--limit", type=int, metavar="N", help="problems of each benchmark, chosen by their ids")
    add("--out", type=Path, help="folder (default: runs/eval-MODEL-HASH, of the settings)")
    add("--dry-run", action="store_true", help="print what would be sampled, and stop")
    add("--rescore", type=Path, metavar="FOLDER", help="score the samples that are there")
    add = parser.add_argument_group("sampling").add_argument
    add("--temperature", type=float, help="0 is greedy, with k 1 (default: 1)")
    add("--top-p", type=float, help="(default: 1)")
    add("--top-k", type=int, help="0 is off (default: off; with a server, what it does)")
    add("--max-tokens", type=int, help="of a completion (default: the benchmark's, mostly 4096)")
    add("--template", help="raw, boxed, chat, ... (default: the benchmark's, or chat where the "
        "tokenizer has a chat template or a server is asked, else boxed)")  # fmt: skip
    add("--chat-template-arg", action="append", default=[], metavar="NAME=VALUE",
        help="for the chat template, such as enable_thinking=false")  # fmt: skip
    add = parser.add_argument_group("engine").add_argument
    add("--engine", default="transformers", help="transformers (default), vllm or openai")
    add("--revision", help="of a hub model")
    add("--engine-arg", action="append", default=[], metavar="NAME=VALUE",
        help="of from_pretrained or vllm.LLM, such as dtype=bfloat16")  # fmt: skip
    add("--batch-size", type=int, default=64, help="with transformers (default: 64)")
    add("--base-url", help="with openai: http://HOST:PORT/v1; the key is OPENAI_API_KEY's")
    add("--concurrency", type=int, default=64, help="requests at a time (default: 64)")
    add("--timeout", type=float, default=600, help="seconds without an answer (default: 600)")
    add("--retries", type=int, default=8, help="of one request (default: 8)")
    known = parser.parse_args(arguments)
    if known.rescore is None and known.model is None:
        parser.error("--model or --rescore is needed")
    if known.rescore is not None:
        given = {name for name, value in vars(known).items() if value != parser.get_default(name)}
        if others := sorted(given - {"rescore"}):
            parser.error(f"--rescore takes all from the folder: leave {', '.join(others)} out")

    from gdro.evals.plan import Options, plan
    from gdro.evals.run import run, score_and_show
    from gdro.evals.store import Store

    console = terminal()
    if known.rescore is not None:
        score_and_show(Store(known.rescore), console)
        return 0
    options = Options(
        model=known.model,
        benchmarks=known.benchmarks.split(",") if known.benchmarks else None,
        seeds=integers("--seeds", known.seeds),
        engine_args=_values("--engine-arg", known.engine_arg),
        chat_template_kwargs=_values("--chat-template-arg", known.chat_template_arg),
        **{name: getattr(known, name) for name in (
            "k", "protocol", "limit", "temperature", "top_p", "top_k", "max_tokens", "template",
            "engine", "revision", "batch_size", "base_url", "concurrency", "timeout", "retries",
        )},
    )  # fmt: skip
    quiet()
    if known.dry_run:
        from gdro.evals.show import dry_run

        planned = plan(options)
        dry_run(planned, known.out, console)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        store, _ = run(options, known.out, console)
    except KeyboardInterrupt:
        print("gdro: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    print(f"{store.path}: summary.json, samples.jsonl.gz, verdicts.jsonl.gz")
    return 0


def _compare(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gdro eval compare",
        description="Differences of two evaluations of the same problems, paired by problem.",
    )
    parser.add_argument("a", type=Path, help="folder or summary.json; the baseline")
    parser.add_argument("b", type=Path, help="the other")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    known = parser.parse_args(arguments)
    import json

    from gdro.core.errors import ConfigError
    from gdro.evals.compare import compare
    from gdro.evals.show import comparison

    found = compare(known.a, known.b)
    if known.json:
        try:
            known.json.write_text(json.dumps(found, indent=1) + "\n")
        except OSError as error:
            raise ConfigError(f"--json: {known.json}: {error.strerror}") from error
    comparison(found, terminal())
    return 0


def _values(flag: str, words: Sequence[str]) -> dict[str, object]:
    """NAME=VALUE, the value as in YAML."""
    import yaml

    from gdro.core.errors import ConfigError

    found = {}
    for word in words:
        name, given, value = word.partition("=")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            given = ""
        if not (name and given):
            raise ConfigError(f"{flag} must be NAME=VALUE, got {word!r}")
    return found
