"""`gdro compare`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdro.terminal import integers, quiet, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from gdro.lab.compare.study import Study

DESCRIPTION = """\
Compare methods at equal rollouts: every method gets as many tuning trials, tuned on one split and
tested once on the other, with the same seeds. Each run is a process and a folder of its own; run
the command again to go on where it stopped, or with more seeds, methods or suites.

  gdro compare STUDY.yaml --out F           methods, suites, seeds and grid from a file
  gdro compare [RECIPE] --methods grpo,rollout --seeds 0,1,2 --out F
                                            the same on one recipe
  gdro compare --results F/results          its tables and figures again, from the raw results
  gdro compare [STUDY.yaml] --results F/results G/results --out H
                                            of runs that were made apart: more seeds, more methods

Further flags (--max_steps 100) are settings of all runs, as with `gdro train`. The exit code is 1
where the runs did not spend equal rollouts.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; 1 where compute was not equal."""
    parser = argparse.ArgumentParser(
        prog="gdro compare [STUDY.yaml | RECIPE]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--methods", help="presets, the baseline first [grpo,rollout,rollout_replay]")
    add("--seeds", help="training seeds of the tested runs [0,1,2]")
    add("--grid", action="append", metavar="NAME=A,B", help="values to tune over")
    add("--grid-seeds", help="training seeds of the tuning runs, none of --seeds [1000]")
    add("--grid-split", help="split that tuning looks at [validation]")
    add("--grid-dataset", help="data set of that split [the tested one's]")
    add("--parallel", type=int, help="runs at a time [2, or as many as --devices]")
    add("--threads", type=int, default=1, help="threads of a run [1]")
    add("--devices", help="GPUs, as CUDA_VISIBLE_DEVICES names them: one for each run, as 0,1")
    add("--out", type=Path, help="folder of the comparison")
    add("--results", type=Path, nargs="+", metavar="FOLDER",
        help="raw results to show again; several are put together, in --out, "
        "with the --methods that are named")  # fmt: skip

    from gdro.core.errors import ConfigError
    from gdro.lab.recipe import recipe_first

    source, rest = recipe_first(arguments)
    known, flags = parser.parse_known_args(rest)
    if known.results is not None:
        others = [name for name, value in vars(known).items() if name not in
                  ("results", "out", "methods") and value != parser.get_default(name)]  # fmt: skip
        given = len(rest) < len(arguments)
        if others or flags or (given and not Path(source).is_file()):
            raise ConfigError("--results: all else is in the folders it names, or a study's file")
        study = _study(source, known, []) if given else None
        return _ended(write_results(_one_folder(known, study), terminal()))
    if known.out is None:
        raise ConfigError("--out is missing: the folder of the comparison")
    devices = [name for name in (known.devices or "").split(",") if name]
    parallel = (len(devices) or 2) if known.parallel is None else known.parallel
    for name, value in (("parallel", parallel), ("threads", known.threads)):
        if value < 1:
            raise ConfigError(f"--{name} must be >= 1, got {value}")
    if devices and parallel > len(devices):
        raise ConfigError(f"--parallel must be <= {len(devices)}, the --devices, got {parallel}")
    if devices:  # the base models are evaluated here
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[0]

    from gdro.lab.compare.plan import compare
    from gdro.lab.compare.study import RESULTS
    from gdro.lab.folder import write_page

    study = _study(source, known, flags)
    if known.out.exists() and not known.out.is_dir():
        raise ConfigError(f"--out must be a folder, {known.out} is a file")
    quiet()
    # SIGTERM ends the runs too, as ctrl-C does: none is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = terminal()
    folders = compare(study, known.out, parallel=parallel, threads=known.threads,
                      devices=devices, console=console)  # fmt: skip
    results = write_results(known.out / RESULTS, console)
    for suite, runs in folders.items():
        page = write_page(runs, known.out / suite / "report.html")
        console.print(f"{known.out / suite}: the runs{page}", highlight=False, soft_wrap=True)
    return _ended(results)


def _study(source: str, known: argparse.Namespace, flags: list[str]) -> "Study":
    """The study of a file, or that of a recipe and the flags."""
    from gdro.core.errors import ConfigError
    from gdro.lab.compare.study import KEYS, parse_grid, read_study, study_of
    from gdro.lab.recipe import read_mapping, recipe_name

    path = Path(source)
    names = ("methods", "seeds", "grid", "grid_seeds", "grid_split", "grid_dataset")
    given = {name: getattr(known, name) for name in names if getattr(known, name) is not None}
    if path.is_file() and set(KEYS) & read_mapping(path).keys():
        if given:
            raise ConfigError(f"--{next(iter(given)).replace('_', '-')}: {source} says it")
        return read_study(path, flags)
    values: dict[str, Any] = {"methods": "grpo,rollout,rollout_replay", "seeds": "0,1,2"} | given
    values["methods"] = values["methods"].split(",")
    for name in {"seeds", "grid_seeds"} & values.keys():
        values[name] = list(integers(f"--{name.replace('_', '-')}", values[name]))
    values["grid"] = parse_grid(values.get("grid", []))
    return study_of(recipe_name(source), {"recipe": source} | values, flags)


def _one_folder(known: argparse.Namespace, study: "Study | None") -> Path:
    """The folder of the raw results: the one that is named, or --out, put together from several."""
    from gdro.core.errors import ConfigError
    from gdro.lab.compare.gather import read_raw, write_raw
    from gdro.lab.compare.merge import merge

    names = known.methods.split(",") if known.methods else None
    contrasts = None
    if study is not None:
        names, contrasts = [method.name for method in study.methods], study.contrasts
    if len(known.results) == 1 and known.out is None and names is None:
        return known.results[0]
    if known.out is None:
        raise ConfigError("--out is missing: the folder for what --results is put together to")
    if known.out.resolve() in (folder.resolve() for folder in known.results):
        raise ConfigError(
            f"--out must be none of --results, got {known.out}: their raw tables stay"
        )
    raw = merge([read_raw(folder) for folder in known.results], names, contrasts)
    about = raw.study | {"name": known.out.resolve().name}
    write_raw(known.out, raw.runs, raw.prompts.to_pylist(), about)
    return known.out


def write_results(folder: Path, console: "Console") -> dict[str, Any]:
    """Writes results.json, results.md and the figures from the raw tables beside them.

    Args:
        folder: Of the three raw files.
        console: Where the tables are shown.

    Returns:
        The results, as in results.json.

    Raises:
        DataError: if the raw tables are incomplete.
    """
    from gdro.core.errors import UnsupportedError
    from gdro.core.files import write_json, write_text
    from gdro.lab.compare.analyse import analyse
    from gdro.lab.compare.figure import draw
    from gdro.lab.compare.gather import read_raw
    from gdro.lab.compare.table import console_tables, study_page

    results = analyse(read_raw(folder))
    for block in results["suites"].values():
        for table in console_tables(block):
            console.print(table)
    try:
        figures = draw(results, folder)
        said = ", ".join(figures)
    except UnsupportedError as error:  # the tables are no worse for it
        figures, said = [], f"no figures: {error}"
    write_json(folder / "results.json", results)
    write_text(folder / "results.md", study_page(results, figures))
    console.print(f"{folder}: results.md, results.json, {said}", highlight=False, soft_wrap=True)
    return results


def _ended(results: dict[str, Any]) -> int:
    unequal = [name for name, block in results["suites"].items() if not block["equal_rollouts"]]
    if unequal:
        print(
            f"gdro: the runs did not spend equal rollouts ({', '.join(unequal)}): this is no fair "
            "comparison",
            file=sys.stderr,
        )
    return int(bool(unequal))
