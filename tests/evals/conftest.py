"""Problems, and a scripted server that answers them."""

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.evals.problems import write_rows

from gdro.evals import benchmarks


class Scripted:
    """A running server and what it can tell."""

    def __init__(self, url):
        self.url = f"{url}/v1"
        self.flags = ["--model", "scripted", "--engine", "openai", "--base-url", self.url]

    def stats(self):
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats") as answer:
            return json.load(answer)


@pytest.fixture
def serve(tmp_path):
    @contextmanager
    def serving(words, *, rate=1.0, **script):
        """Serves answers to the problems of benchmarks, given as `--benchmarks` takes them."""
        gold, boxed = {}, True
        for name, benchmark in benchmarks.find(words).items():
            problems = benchmarks.load(name, benchmark)
            gold |= dict(zip(problems.prompt_N, problems.answer_N, strict=True))
            boxed = benchmark.policy != "exact"
        file = tmp_path / "script.json"
        file.write_text(json.dumps({"gold": gold, "boxed": boxed, "rate": rate} | script))
        server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("scripted_server.py"), file],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            yield Scripted(f"http://127.0.0.1:{int(server.stdout.readline())}")
        finally:
            server.kill()
            server.wait()
            server.stdout.close()

    return serving


@pytest.fixture
def sums(tmp_path):
    """Forty home-made problems, in our own schema."""
    rows = [
        {"id": f"sum-{i}", "prompt": f"What is {i} + {i * i}?", "answer": str(i + i * i)}
        for i in range(40)
    ]
    return write_rows(tmp_path / "sums.jsonl", rows)
