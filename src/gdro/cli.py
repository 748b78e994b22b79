"""The command `gdro`. Every command imports what it needs: help and errors come at once."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gdro.terminal import integers, quiet

STDOUT = 1
"""The descriptor of the standard output."""

TRAIN = """\
Train a model as a recipe says.

  gdro train                                    the arithmetic recipe
  gdro train RECIPE [--any_setting value ...]   a YAML file, or the name of a shipped recipe
  gdro train RUN --resume                       continue a run that was stopped
  gdro train ... --no-page                      without the page

Settings are the same flat names in YAML and as flags: every TRL flag, the controller's
(--gdro_preset, --gdro_rollout_n_min, ...), and
"""

COMPARE = """\
Compare methods at equal rollouts: every method gets the same tuning grid, tuned on one split and
tested once on the other, with the same seeds. Each run is a process and a folder of its own; run
the command again to go on where it stopped.

Further flags (--max_steps 100) are settings of all runs, as with `gdro train`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit code: 0; 1 where the command's help says so; 2 for an error of the user's; 130 when
        interrupted; 141 when nobody reads the output any more.
    """
    from gdro.core.errors import GdroError

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _dispatch(arguments)
        finally:
            sys.stdout.flush()
    except GdroError as error:
        print(f"gdro: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        hint = GOES_ON.get(arguments[0], "") if arguments else ""
        print(f"gdro: interrupted{hint}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return 141


def _reader_is_gone() -> bool:
    """Whether the output is a pipe that nobody reads, as after ``| head``; it is then let go."""
    output = select.poll()
    output.register(STDOUT, 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # Python flushes once more as it ends
    return True


def _dispatch(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gdro", description="RL with verifiable rewards, spent where learning happens."
    )
    from gdro import __version__

    parser.add_argument("--version", action="version", version=f"gdro {__version__}")
    parser.add_argument(
        "command",
        choices=COMMANDS,
        metavar="command",
        help="; ".join(f"{name}: {help}" for name, (_, help) in COMMANDS.items()),
    )
    # Only the first word is the main parser's: the rest may hold flags of any kind.
    command = parser.parse_args(arguments[:1]).command
    return COMMANDS[command][0](arguments[1:])


def _recipe_first(arguments: list[str]) -> tuple[str, list[str]]:
    """The recipe stands first if it is given: any later bare word belongs to a flag."""
    from gdro.lab.recipe import DEFAULT_RECIPE

    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    if arguments[:1] == ["--config"] and len(arguments) > 1:  # as TRL's scripts have it
        return arguments[1], arguments[2:]
    return DEFAULT_RECIPE, arguments


def _train(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(TRAIN + _settings_help())
        return 0
    from gdro.lab.recipe import read_settings, recipe_name, resolve

    source, flags = _recipe_first(arguments)
    resume, page = "--resume" in flags, "--no-page" not in flags
    flags = [flag for flag in flags if flag not in ("--resume", "--no-page")]
    settings = read_settings(source)
    recipe = resolve(settings, flags, recipe_name(source))

    from gdro.lab.run import train

    quiet()
    # A stopped run says so in its folder: SIGTERM ends it as ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = train(recipe, resume=resume)
    written = _page([folder], folder / "report.html") if page else ""
    print(f"{folder}: model/, evals.jsonl, trace.jsonl{written}")
    return 0


def _settings_help() -> str:
    import dataclasses

    from gdro.core.config import ControllerConfig
    from gdro.core.presets import DEFAULT
    from gdro.lab.recipe import RunArguments

    lines = []
    for field in dataclasses.fields(RunArguments):
        default = "" if field.default in (None, dataclasses.MISSING) else f" [{field.default}]"
        lines.append(f"  --{field.name:<24} {field.metadata['help']}{default}")
    lines.append(f"\nThe controller's (values of the preset joint; the default is {DEFAULT}):\n")
    for path, leaf, _ in ControllerConfig.fields():
        flag = f"gdro_{path.replace('.', '_')}"
        lines.append(f"  --{flag:<30} {leaf.metadata['help']} [{leaf.default}]")
    return "\n".join(lines)


def _compare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gdro compare [RECIPE]",
        description=COMPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--methods", default="grpo,prompt,rollout,joint", help="presets, the baseline first")
    add("--seeds", default="0,1,2", help="training seeds of the tested runs")
    add("--grid", action="append", default=[], metavar="NAME=A,B", help="values to tune over")
    add("--grid-seeds", default="0", help="training seeds of the tuning runs")
    add("--grid-split", default="validation", help="split that tuning looks at")
    add("--grid-dataset", help="data set of that split (default: the tested one's)")
    add("--parallel", type=int, default=2, help="runs at a time")
    add("--threads", type=int, default=1, help="threads of a run")
    add("--out", required=True, type=Path, help="folder of the comparison")
    source, rest = _recipe_first(arguments)
    known, flags = parser.parse_known_args(rest)

    from gdro.lab.compare import Study, compare, parse_grid
    from gdro.lab.recipe import read_settings, recipe_name

    study = Study(
        recipe=recipe_name(source),
        settings=read_settings(source),
        flags=tuple(flags),
        methods=tuple(known.methods.split(",")),
        seeds=integers("--seeds", known.seeds),
        grid=parse_grid(known.grid),
        grid_seeds=integers("--grid-seeds", known.grid_seeds),
        grid_split=known.grid_split,
        grid_dataset=known.grid_dataset,
        parallel=known.parallel,
        threads=known.threads,
        out=known.out,
    )
    quiet()
    results = compare(study)
    page = _page([known.out / path for path in results["runs"]], known.out / "report.html")
    print(f"{known.out}: results.md, results.json{page}")
    if not results["equal_rollouts"]:
        print("gdro: the runs did not spend equal rollouts: this is no fair comparison",
              file=sys.stderr)  # fmt: skip
        return 1
    return 0


def _report(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gdro report", description="Write the page about runs.")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", type=Path, help="file (default: report.html in the only run)")
    known = parser.parse_args(arguments)
    from gdro.report import build_report

    only = known.runs[0] if len(known.runs) == 1 else Path()
    print(build_report(known.runs, known.out or only / "report.html"))
    return 0


def _eval(arguments: list[str]) -> int:
    from gdro.evals.command import main as run

    return run(arguments)


def _data(arguments: list[str]) -> int:
    from gdro.data.command import main

    return main(arguments)


def _simulate(arguments: list[str]) -> int:
    from gdro.lab.simulate.command import main

    return main(arguments)


def _replay(arguments: list[str]) -> int:
    from gdro.lab.replay import main

    return main(arguments)


def _page(runs: list[Path], out: Path) -> str:
    """Writes the page where its packages are installed, and says in words what became of it."""
    from gdro.core.errors import UnsupportedError
    from gdro.report import build_report

    try:
        return f", {build_report(runs, out).name}"
    except UnsupportedError as error:  # the run is no worse for it
        return f" (no page: {error})"


COMMANDS = {
    "train": (_train, "train a model as a recipe says"),
    "compare": (_compare, "methods side by side at equal rollouts"),
    "eval": (_eval, "scores of a model on the benchmarks"),
    "report": (_report, "the page about runs"),
    "simulate": (_simulate, "scan settings on a fast simulator of training"),
    "replay": (_replay, "what another controller would have decided, given a trace"),
    "data": (_data, "look at prompts, check them against benchmarks"),
}

GOES_ON = {
    "train": "; the same command with --resume goes on",
    "compare": "; the same command goes on where it stopped",
}
"""What to do after an interruption, where there is more to say than to begin anew."""

if __name__ == "__main__":
    sys.exit(main())
