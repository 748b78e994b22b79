"""Reports a mutation run: how many mutants the tests killed, by file, and which survived.

`make mutate` runs it. It reads what mutmut leaves in mutants/: one JSON of results beside each
mutated file, and in the file itself each mutant as a function next to the original.
"""

import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

_KILLED, _SURVIVED, _UNTESTED = (1, 3), 0, (5, 33, None)
_TARGET = 85.0


def main() -> int:
    """Prints the table and the survivors; 1 where fewer were killed than the target."""
    total, survivors = Counter(), []
    print(f"{'file':<40}{'mutants':>9}{'killed':>9}{'timeout':>9}{'survived':>9}{'untested':>9}")
    for results in sorted(Path("mutants/src").rglob("*.py.meta")):
        codes = json.loads(results.read_text())["exit_code_by_key"]
        path = results.relative_to("mutants").with_suffix("")
        if codes:
            count = Counter(map(_verdict, codes.values()))
            total += count
            _row(str(path.relative_to("src/gdro/core")), count)
            lived = [name for name, code in codes.items() if _verdict(code) == "survived"]
            survivors += _described(path, lived)
    _row("all", total)
    print("\nsurvivors\n" + "\n".join(survivors))
    return 0 if _share(total) >= _TARGET else 1


def _verdict(code: int | None) -> str:
    if code in _KILLED:
        return "killed"
    if code in _UNTESTED:
        return "untested"
    return "survived" if code == _SURVIVED else "timeout"  # or a crash, which is noticed as well


def _share(count: Counter) -> float:
    return 100 * (count["killed"] + count["timeout"]) / count.total()


def _row(name: str, count: Counter) -> None:
    cells = [count.total(), *(count[k] for k in ("killed", "timeout", "survived", "untested"))]
    print(f"{name:<40}" + "".join(f"{n:>9}" for n in cells) + f"{_share(count):>8.1f}%")


def _described(path: Path, names: list[str]) -> list[str]:
    """file:line, the original line and the mutated one, of each mutant."""
    source, mutated = path.read_text().splitlines(), ("mutants" / path).read_text().splitlines()
    body = {
        node.name: mutated[node.lineno - 1 : node.end_lineno]
        for node in ast.walk(ast.parse("\n".join(mutated)))
        if isinstance(node, ast.FunctionDef)
    }
    found = []
    for name in (name.rpartition(".")[2] for name in names):
        before = body[re.sub(r"__mutmut_\d+$", "__mutmut_orig", name)]
        after = body[name]
        i = next(i for i in range(1, len(before)) if before[i : i + 1] != after[i : i + 1])
        same = 0  # lines alike at the end: what is between has changed, in one line or more
        while before[-1 - same] == after[-1 - same] and same < min(len(before), len(after)) - i:
            same += 1
        old, new = (" ".join(map(str.strip, x[i : len(x) - same])) for x in (before, after))
        found.append((_line(source, before, i), f"{old}  ->  {new}"))
    return [f"{path}:{line}  {change}" for line, change in sorted(found)]


def _line(source: list[str], body: list[str], i: int) -> int:
    """The line in the source of line i of a function, found by the text of its body."""
    text = body[1:]
    starts = (at for at in range(len(source)) if source[at : at + len(text)] == text)
    return next(starts, -1 - i) + i


if __name__ == "__main__":
    sys.exit(main())
