"""The command `gdro`. Every command imports what it needs: help and errors come at once."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gdro.terminal import quiet

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
    except OSError as error:  # of a file that the user named, or a full disk
        if error.filename is None:
            raise
        print(f"gdro: {error.filename2 or error.filename}: {error.strerror}", file=sys.stderr)
        return 2


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


def _train(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(TRAIN + _settings_help())
        return 0
    from gdro.lab.recipe import read_settings, recipe_first, recipe_name, resolve

    source, flags = recipe_first(arguments)
    resume, page = "--resume" in flags, "--no-page" not in flags
    flags = [flag for flag in flags if flag not in ("--resume", "--no-page")]
    settings = read_settings(source)
    recipe = resolve(settings, flags, recipe_name(source))

    from accelerate import PartialState

    from gdro.lab.folder import write_page
    from gdro.lab.run import train

    quiet()
    # A stopped run says so in its folder: SIGTERM ends it as ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = train(recipe, resume=resume)
    PartialState().destroy_process_group()  # at exit its threads may abort a run that is finished
    written = write_page([folder], folder / "report.html") if page else ""
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
    lines.append(
        f"\nThe controller's (values where a preset says nothing; the default is {DEFAULT}):\n"
    )
    for path, leaf, _ in ControllerConfig.fields():
        flag = f"gdro_{path.replace('.', '_')}"
        lines.append(f"  --{flag:<30} {leaf.metadata['help']} [{leaf.default}]")
    return "\n".join(lines)


def _compare(arguments: list[str]) -> int:
    from gdro.lab.compare.command import main

    return main(arguments)


def _report(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gdro report", description="Write the page about runs.")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", type=Path, help="file (default: report.html in the only run)")
    parser.add_argument(
        "--watch", action="store_true", help="make it anew while the runs go on; it reloads itself"
    )
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="with --watch: between two looks [10]"
    )
    known = parser.parse_args(arguments)
    if known.every is not None and not known.watch:
        parser.error("--every goes with --watch")
    only = known.runs[0] if len(known.runs) == 1 else Path()
    out = known.out or only / "report.html"
    if known.watch:
        from rich.console import Console

        from gdro.lab.watch import SECONDS, watch

        seconds = SECONDS if known.every is None else known.every
        watch(known.runs, out, Console(soft_wrap=True), seconds)
        return 0
    from gdro.report import build_report

    print(build_report(known.runs, out))
    return 0


def _runs(arguments: list[str]) -> int:
    from gdro.lab.runs import main

    return main(arguments)


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


COMMANDS = {
    "train": (_train, "train a model as a recipe says"),
    "compare": (_compare, "methods side by side at equal rollouts"),
    "eval": (_eval, "scores of a model on the benchmarks"),
    "report": (_report, "the page about runs"),
    "runs": (_runs, "the runs of a folder, and how far they are"),
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
