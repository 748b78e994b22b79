"""What gdro's own work costs, as sections of docs/results/README.md; see results.py."""

from typing import Any

from gdro.core.presets import DEFAULT
from gdro.lab.compare.table import markdown_table as table


def controller(found: dict[str, Any]) -> list[str]:
    """Time and memory of the controller."""

    def ms(times: dict[str, float]) -> str:
        return f"{times['median']:.2f} ({times['min']:.2f})"

    sizes = [key for key in found["milliseconds"][0] if key != "method"]
    methods = [
        [row["method"], *(f"{row[s]['plan']['median']:.2f} + {row[s]['observe']['median']:.2f} = "
                          f"{ms(row[s]['both'])}" for s in sizes)]
        for row in found["milliseconds"]
    ]  # fmt: skip
    record = next(row for row in found["milliseconds"] if row["method"] == DEFAULT)
    record = record[sizes[0]]["record"]
    plain = [
        [row["allocator"], row["size"], ms(row["ours"]), ms(row["plain"]), f"{row['ratio']:.0f}"]
        for row in found["plain"]
    ]
    lines = [
        "## Cost of the controller",
        "",
        "`benchmarks/controller.py`, processor time on one core, ms a step, plan + observe, median",
        "(and minimum) of the quickest of three passes; drawing the prompts, for those that do, is",
        "part of planning, the memory of successes (256 tokens each) of observing; of the known",
        "prompts below none is remembered beforehand:",
        "",
        *table(["method", *(f"{s} rollouts" for s in sizes)], methods),
        f"Reading a step's record, for the trace and a logger, takes {ms(record)} ms more.",
        "",
        "The same method written plainly (`benchmarks/dict_and_list.py`: a dict of counts, rows",
        "one by one, a DP over a dict of sums that carry their choices), in turn on the same",
        "prompts, a stretch of steps each, ten active bins:",
        "",
        *table(["allocator", "rollouts", "ours, ms", "dicts and lists, ms", "ratio"], plain),
    ]
    for key, name in (("rows", "prompts of a step, x 4"), ("known", "known prompts, 512 x 4")):
        timed = [column for column in found[key][0] if column != key]
        rows = [[f"{row[key]:,}", *(ms(row[name]) for name in timed)] for row in found[key]]
        lines += table([name, *(f"{name}, ms" for name in timed)], rows)
    lines += table(
        ["state", "bytes a prompt"], [[k, f"{v:.0f}"] for k, v in found["bytes"].items()]
    )
    if big := found.get("large"):
        lines += [
            f"{big['ids']:,} integer ids, each observed once: {big['peak_gib']:.1f} GiB at most "
            "(the whole process),",
            f"then {ms(big['step'])} ms for a step of 512 x 4 on any of them.",
            "",
        ]
    times = found["import"]
    took = f"`import gdro` takes {times['gdro'] - times['numpy']:.2f} s more than `import numpy`."
    return [*lines, took, ""]


def verl_driver(found: dict[str, Any]) -> list[str]:
    """What gdro takes in verl's driver."""
    head = ["prompts known", "prompts x rollouts", "plan, ms", "observe, ms", "to workers, KiB",
            "successes kept", "checkpoint, MiB", "save, s"]  # fmt: skip
    rows = [
        [f"{size['prompts']:,}", name, f"{step['plan_ms']:.1f}", f"{step['observe_ms']:.1f}",
         f"{step['counts_bytes'] / 1024:.0f}", f"{step['remembered']:,}",
         f"{step['state_mib']:.1f}",
         f"{step['save_seconds']:.2f}"]
        for size in found["sizes"] for name, step in size["steps"].items()
    ]  # fmt: skip
    starts = [
        f"{size['prompts']:,} prompts take {size['ids_seconds'] + size['bind_seconds']:.1f} s at "
        f"the start, and {size['peak_gib'] - size['before_gib']:.2f} GiB at the steps' peak"
        for size in found["sizes"]
    ]
    return [
        "## On verl",
        "",
        "Tests through its own trainer: [verl.md](verl.md). In the driver, prompts keyed by",
        "strings, `joint_replay` (draws and memory): `benchmarks/verl_driver.py`, processor",
        f"time of a step. {'; '.join(starts)}.",
        "To the workers go the counts of a step beside its prompts, and advantages, four bytes a",
        "token, are written once more where weights differ from 1.",
        "",
        *table(head, rows),
        "A success is kept with its tokens, here 900 of four bytes. verl loads the plugin in every",
        "process, which costs least where much of verl is imported anyway, as its workers do:",
        "",
        *table(
            ["import", "without, s", "MiB", "with, s", "MiB"],
            [
                [
                    f"`{one['module']}`",
                    *(
                        cell
                        for state in ("without", "with")
                        for cell in (f"{one[state]['seconds']:.1f}", f"{one[state]['mib']:.0f}")
                    ),
                ]
                for one in found["plugin"]
            ],
        ),
    ]
