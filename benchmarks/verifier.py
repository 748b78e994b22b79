"""What the verifier gets right and wrong, what it survives, and how long it takes.

    python benchmarks/verifier.py DATA_FOLDER [--part cases golds ...]
    python benchmarks/verifier.py        the page again, from its numbers

DATA_FOLDER holds the problems as JSON lines with the columns prompt and answer,
some of them gzipped, and verifier_cases.jsonl (gold, prediction, expected, tier). Parts:

* cases: labelled pairs, beside math-verify on the whole text.
* golds: each gold verifies against itself, as text and read; wrong answers made from it.
* respellings: what says the same (`respell.py`).
* attacks: what is written to break a verifier (`attacks.py`).
* mutations: random changes of golds; what is accepted is checked by a second reader (`oracle.py`).
* speed: 2048 rows with completions of 8 kB, beside math-verify on the whole text.

Prints tables and writes docs/results/verifier.json and verifier.md; parts not run keep their
figures.
"""

import argparse
import gzip
import json
import logging
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import oracle
from attacks import CLASSES, attacks, box
from respell import bare, mutants, respellings, wrong_answers

from gdro.lab.compare.table import markdown_table as table
from gdro.rewards import check_golds, verify

FILES = {
    "MATH-500": "math500.jsonl", "AIME24": "aime24.jsonl", "AMC23": "amc23.jsonl",
    "OlympiadBench": "olympiadbench.jsonl", "Minerva": "minerva_math.jsonl",
    "GSM8K test": "gsm8k_test.jsonl", "GSM8K train": "gsm8k_train.jsonl",
    "DAPO": "dapo_math_17k_en.jsonl.gz", "MATH train": "math_train_7500.jsonl.gz",
}  # fmt: skip
FORMULAS = ("MATH-500", "OlympiadBench", "Minerva", "MATH train")
TARGETS = {"DAPO": 0.6, "MATH-500": 5.0, "OlympiadBench": 10.0}
"""Seconds on two cores."""

OUT = Path(__file__).parents[1] / "docs" / "results"


def golds_of(data: Path, name: str) -> list[str]:
    """In the order of the file; LaTeX where the row has it, rather than Python."""
    path = data / FILES[name]
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = [json.loads(line) for line in lines]
    return [row.get("answer_latex") or row["answer"] for row in rows]


def marks(pairs: Iterable[tuple[str, str]], policy: str = "last_box") -> list[str]:
    """Verdicts on answers, which are put into boxes unless the policy is ``whole``."""
    pairs = list(pairs)
    fill = str if policy == "whole" else box
    given = [g for g, _ in pairs], [fill(a) for _, a in pairs]
    return [str(v) for v in verify(*given, policy=policy)]


def cases(data: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (data / "verifier_cases.jsonl").read_text().splitlines()]
    verdicts = verify([r["gold"] for r in rows], [r["prediction"] for r in rows])
    ours = [v == "right" for v in verdicts]
    theirs = [math_verify(r["gold"], r["prediction"]) for r in rows]
    found: dict[str, Any] = {}
    for tier in ("must", "policy"):
        these = [n for n, row in enumerate(rows) if row["tier"] == tier]
        found[tier] = {"rows": len(these)}
        for who, given in (("gdro", ours), ("math-verify", theirs)):
            found[tier][who] = {
                "as labelled": sum(given[n] == rows[n]["expected"] for n in these),
                "wrong accepts": sum(given[n] and not rows[n]["expected"] for n in these),
                "wrong rejects": sum(not given[n] and rows[n]["expected"] for n in these),
            }
    found["otherwise"] = [
        {"gold": r["gold"], "prediction": r["prediction"][:100], "expected": r["expected"]}
        for r, given in zip(rows, ours, strict=True)
        if given != r["expected"]
    ]
    return found


def golds(data: Path) -> dict[str, Any]:
    found = {}
    for name in FILES:
        rows = golds_of(data, name)
        empty = [row for row, gold in enumerate(rows) if not gold.strip()]
        some = [gold for gold in rows if gold.strip()]
        as_text = [row for row, v in enumerate(marks((g, g) for g in some)) if v != "right"]
        draw = random.Random(0)
        kinds = sorted(set(some))
        wrong = [
            (gold, answer)
            for gold in kinds
            for _, answer in wrong_answers(gold, kinds, draw)
            if answer != gold
        ]
        verdicts = marks(wrong)
        accepted = [pair for pair, v in zip(wrong, verdicts, strict=True) if v == "right"]
        found[name] = {
            "golds": len(rows),
            "empty": len(empty),
            "as text": len(some) - len(as_text),
            "read": len(some) - len(check_golds(some)),
            "wrong answers": len(wrong),
            "accepted": len(accepted),
            "equal by the oracle": sum(oracle.same(*pair) is True for pair in accepted),
            "to inspect": [pair for pair in accepted if oracle.same(*pair) is not True],
            "verdicts": dict(Counter(verdicts)),
        }
    return found


def respelled(data: Path) -> dict[str, Any]:
    found = {}
    for name in FILES:
        made = [
            (kind, gold, text)
            for gold in sorted({g for g in golds_of(data, name) if g.strip()})
            for kind, text in respellings(gold)
        ]
        verdicts = marks((gold, text) for _, gold, text in made)
        missed = [row for row, v in zip(made, verdicts, strict=True) if v != "right"]
        found[name] = {
            "distinct golds": len({gold for _, gold, _ in made}),
            "respellings": len(made),
            "right": len(made) - len(missed),
            "kinds": len({kind for kind, _, _ in made}),
            "missed": missed,
        }
    return found


def attacked(data: Path) -> dict[str, Any]:
    before = throughput()
    classes = {}
    for name in CLASSES:
        written = attacks(name)
        begin = time.perf_counter()
        verdicts = [
            str(v) for v in verify([a.gold for a in written], [a.completion for a in written])
        ]
        spent = time.perf_counter() - begin
        given = [v == "right" for v in verdicts]
        classes[name] = {
            "attacks": len(written),
            "right ones": sum(a.right for a in written),
            "wrong accepts": sum(g and not a.right for g, a in zip(given, written, strict=True)),
            "wrong rejects": sum(a.right and not g for g, a in zip(given, written, strict=True)),
            "unparsed": verdicts.count("unparsed"),
            "timeouts": verdicts.count("timeout"),
            "seconds": round(spent, 2),
        }
    workers = workers_memory()
    return {
        "classes": classes,
        "largest worker, MiB": max(workers, default=0),
        "rows a second before": round(before),
        "rows a second after": round(throughput()),
    }


def throughput() -> float:
    """Formulas that have to be read, a second, the better of two passes; unlike each other."""
    speeds = []
    for first in random.sample(range(10**6), 2):
        numbers = range(first, first + 300)
        begin = time.perf_counter()
        marks((rf"{n}x+\sqrt{{{n}}}", rf"\sqrt{{{n}}}+{n}x") for n in numbers)
        speeds.append(300 / (time.perf_counter() - begin))
    return max(speeds)


def workers_memory() -> list[float]:
    """Peak resident MiB of this process's children (Linux)."""
    peaks = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "status").read_text()
            except OSError:  # it has ended
                continue
            if f"PPid:\t{os.getpid()}\n" in status and "VmHWM" in status:
                peaks.append(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)  # type: ignore[index]
    return peaks


def mutated(data: Path, count: int, seed: int) -> dict[str, Any]:
    every = sorted({g for name in FORMULAS for g in golds_of(data, name) if g.strip()})
    pairs = list(mutants(every, count, seed))
    begin = time.perf_counter()
    verdicts = marks(pairs, policy="whole")  # a stray brace closes no box
    spent = time.perf_counter() - begin
    accepted = [pair for pair, v in zip(pairs, verdicts, strict=True) if v == "right"]
    said: Counter[str] = Counter()
    inspect = []
    for gold, answer in accepted:
        if same_marks(gold) == same_marks(answer):
            said["alike but for spaces, braces, dollars, stops"] += 1
            continue
        equal = oracle.same(gold, answer)
        said[
            {True: "equal by the oracle", False: "unequal by it", None: "unread by it"}[equal]
        ] += 1
        if not equal:
            inspect.append((gold, answer))
    return {
        "mutants": count, "seed": seed, "verdicts": dict(Counter(verdicts)), "accepted": dict(said),
        "seconds": round(spent, 1), "to inspect": sorted(set(inspect)),
    }  # fmt: skip


def same_marks(text: str) -> str:
    text = re.sub(r"\\[dt]frac", r"\\frac", bare(text))
    return re.sub(r"\\left|\\right|\\[,;! ]|\\displaystyle|\\q?quad|[\s${}.,:;~]", "", text)


FILLER = (
    r"We set $a_{n} = \frac{n(n+1)}{2}$ and look at $\sum a_k$; for $n = 3$ this is $10$. "
    "Then the remaining cases follow in the same way, which leaves only finitely many to check. "
)


def speed(data: Path) -> dict[str, Any]:
    """512 golds, 4 completions each: the gold, a respelling, and two golds of other rows."""
    found = {}
    marks([(f"{n}x", f"{n + 1}x - x") for n in range(128)])  # the workers are up
    for name, target in TARGETS.items():
        draw = random.Random(0)
        rows = [g for g in golds_of(data, name) if g.strip()]
        rows = draw.sample(rows, min(512, len(rows)))
        rows += draw.choices(rows, k=512 - len(rows))
        pairs = []
        for gold in rows:
            spelt = draw.choice([text for _, text in respellings(gold)])
            pairs += [
                (gold, text) for text in (bare(gold), spelt, *map(bare, draw.choices(rows, k=2)))
            ]
        texts = [(FILLER * 50)[: 8000 - len(answer)] + box(answer) for _, answer in pairs]
        begin = time.perf_counter()
        verdicts = verify([gold for gold, _ in pairs], texts)
        ours = time.perf_counter() - begin
        begin = time.perf_counter()
        theirs = [math_verify(gold, text) for (gold, _), text in zip(pairs, texts, strict=True)]
        found[name] = {
            "rows": len(pairs), "seconds": round(ours, 2), "at most": target,
            "math-verify, seconds": round(time.perf_counter() - begin, 1),
            "right": sum(v == "right" for v in verdicts), "right by math-verify": sum(theirs),
            "verdicts": dict(Counter(map(str, verdicts))),
        }  # fmt: skip
        found[name]["ratio"] = round(found[name]["math-verify, seconds"] / ours, 1)
    return found


def math_verify(gold: str, text: str) -> bool:
    """As its README has it: the gold between dollars, the completion whole."""
    import math_verify

    wrapped = gold if gold.startswith("$") else f"${gold}$"
    return bool(math_verify.verify(math_verify.parse(wrapped), math_verify.parse(text)))


def columns(found: dict[str, dict[str, Any]], first: str) -> list[str]:
    """A table of what is a number."""
    keys = [k for k, v in next(iter(found.values())).items() if isinstance(v, int | float)]
    rows = [[name, *(f"{row[k]:,}" for k in keys)] for name, row in found.items()]
    return table([first, *keys], rows)


def page(found: dict[str, Any]) -> str:
    lines = ["# Verifier", "", "Generated by `python benchmarks/verifier.py DATA`: CPU, 2 cores. "
             "What counts as equal: [verifier.md](../verifier.md).", ""]  # fmt: skip
    if given := found.get("cases"):
        rows = [
            [tier, given[tier]["rows"], who, *given[tier][who].values()]
            for tier in ("must", "policy")
            for who in ("gdro", "math-verify")
        ]
        head = ["tier", "cases", "verifier", "as labelled", "wrong accepts", "wrong rejects"]
        lines += ["## Labelled cases", "", "math-verify: the whole text, its defaults.", "",
                  *table(head, rows)]  # fmt: skip
        lines += [
            f"Decided otherwise than the label: gold `{o['gold']}`, `{o['prediction']}`."
            for o in given["otherwise"]
        ] + [""]
    if given := found.get("golds"):
        lines += ["## Golds against themselves, and against wrong answers", "",
                  "*As text* and *read* are golds that verify against themselves with and without",
                  "the string path. Wrong answers: other golds, one more, negated, swapped, a",
                  "hedge, other units and brackets; some are equal after all.", "",
                  *columns(given, "set")]  # fmt: skip
        lines += inspected(pair for row in given.values() for pair in row["to inspect"])
    if given := found.get("respellings"):
        lines += ["## Respellings", "", *columns(given, "set")]
    if given := found.get("attacks"):
        lines += ["## Attacks", "", *columns(given["classes"], "class"),
                  f"Largest worker: {given['largest worker, MiB']:.0f} MiB. Formulas a second "
                  f"before the attacks {given['rows a second before']:,}, after "
                  f"{given['rows a second after']:,}.", ""]  # fmt: skip
    if given := found.get("mutations"):
        said = {**given["verdicts"], **{f"accepted, {k}": v for k, v in given["accepted"].items()}}
        lines += ["## Mutations", "", f"{given['mutants']:,} in {given['seconds']:.0f} s.", "",
                  *table(["", "mutants"], [[k, f"{v:,}"] for k, v in said.items()])]  # fmt: skip
    if given := found.get("speed"):
        lines += ["## Speed", "", "512 golds x 4 completions of 8 kB: the gold, a respelling, two "
                  "other golds. math-verify reads the whole completion.", "",
                  *columns(given, "set")]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def inspected(pairs: Iterable[tuple[str, str]]) -> list[str]:
    shown = [f"* gold `{gold}`, answer `{answer}`" for gold, answer in pairs]
    return ["Accepted, and not found equal by the oracle:", "", *shown, ""] if shown else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", help="without: the page again")
    parts = {"cases": cases, "golds": golds, "respellings": respelled, "attacks": attacked,
             "mutations": mutated, "speed": speed}  # fmt: skip
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # math-verify's, one of each timeout, with the whole text
    path = OUT / "verifier.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for part in given.part if given.data else ():
        extra = (given.mutants, given.seed) if part == "mutations" else ()
        found[part] = parts[part](given.data, *extra)
        print("\n".join(page({part: found[part]}).split("\n")[4:]), flush=True)
        if part == "mutations":
            print("\n".join(inspected(found[part].pop("to inspect"))))
        path.write_text(json.dumps(found, indent=1) + "\n")
    (OUT / "verifier.md").write_text(page(found))


if __name__ == "__main__":
    main()
