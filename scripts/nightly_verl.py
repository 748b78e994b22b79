"""All tests on verl and a local Ray, and what they said: docs/results/verl.md."""

import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs/results/verl.md"
PACKAGES = ("verl", "ray", "torch", "transformers", "TransferQueue", "tensordict")


def main() -> int:
    """Runs pytest and writes the page; returns pytest's exit code."""
    log = ROOT / ".venv-verl/nightly.xml"
    log.unlink(missing_ok=True)
    commit = _git("rev-parse", "--short", "HEAD")
    clean = not _git("status", "--porcelain", "--", "src", "tests", "scripts", "pyproject.toml",
                     "constraints-verl.txt")  # fmt: skip
    started = time.time()
    code = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/trainers/verl", f"--junitxml={log}"], cwd=ROOT
    ).returncode
    rows = []
    for case in ET.parse(log).getroot().iter("testcase"):
        bad = any(case.find(kind) is not None for kind in ("failure", "error"))
        skipped = case.find("skipped") is not None
        state = "failed" if bad else "skipped" if skipped else "passed"
        name = case.get("name", "").removeprefix("test_").replace("_", " ")
        rows.append((case.get("classname", "").rpartition(".")[2], name, state, case.get("time")))
    states = [state for _, _, state, _ in rows]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("passed", "failed", "skipped"))
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    minutes = (time.time() - started) / 60
    table = "\n".join(f"| {room} | {name} | {state} | {float(seconds or 0):.0f} |"
                      for room, name, state, seconds in rows)  # fmt: skip
    OUT.write_text(f"""\
# On verl

Written by `make nightly-verl`: commit {commit}{"" if clean else ", with changes"}, {counts}, in
{minutes:.0f} minutes. {versions}, Python {platform.python_version()}; two FSDP2
ranks on gloo, a Qwen3 of 21k parameters, a rollout back end on transformers.

| tests | what | | seconds |
| --- | --- | --- | --- |
{table}
""")
    return code


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
