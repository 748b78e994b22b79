"""Models whose scores are known, through the whole path: gold, never, and a coin.

The problems are not in the repository; where the folder is absent those tests are skipped, and
home-made rows in the schema of the hub stand in where there is no file (GPQA, AIME 2025).
"""

import json
import random

import pytest
from scipy.stats import binom
from tests.evals.problems import DATA, FILES, write_rows

from gdro.cli import main
from gdro.evals import run
from gdro.evals.engines.base import request_seed

P, K = 0.3, 8


def word_of(name, tmp_path):
    """`name=path`, or the name alone where the problems come with gdro."""
    if name == "arithmetic":
        return name
    if name in FILES:
        path = DATA / FILES[name]
        if not path.exists():
            pytest.skip(f"{path} is not here; set GDRO_SHARED_DATA to the folder that has it")
        return f"{name}={path}"
    wrong = {f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)}
    rows = [
        {"Record ID": f"rec{i}", "Question": f"Home-made question {i}?", "Subdomain": "Tests",
         "Correct Answer": f"right {i}"} | wrong
        if name == "gpqa_diamond"
        else {"id": str(i), "problem": f"Home-made problem {i}", "answer": f"{7 * i:03d}"}
        for i in range(30)
    ]  # fmt: skip
    return f"{name}={write_rows(tmp_path / f'{name}.jsonl', rows)}"


def holds(summary, name, rate):
    scores, n = summary["scores"][name], summary["benchmarks"][name]["problems"]
    counts = summary["problems"][name]["correct"]
    assert len(counts[0]) == n
    mean, passed = scores[f"mean@{K}"]["value"], scores[f"pass@{K}"]["value"]
    assert mean == pytest.approx(sum(counts[0]) / n / K)
    if rate in (0.0, 1.0):
        assert {mean, passed, scores[f"maj@{K}"]["value"], scores["pass@2"]["value"]} == {rate}
        low, high = scores[f"mean@{K}"]["interval"]
        assert low <= rate <= high
        assert high - low > 0
        return
    low, high = binom.interval(0.999, n * K, P)
    assert low <= round(mean * n * K) <= high
    low, high = binom.interval(0.999, n, 1 - (1 - P) ** K)
    assert low <= round(passed * n) <= high
    for score in (scores[f"mean@{K}"], scores[f"pass@{K}"]):
        assert score["interval"][0] < score["value"] <= score["interval"][1]


@pytest.mark.parametrize("rate", [1.0, 0.0, P])
@pytest.mark.parametrize("name", [*FILES, "aime25", "gpqa_diamond", "arithmetic"])
def test_known_models_behind_a_server(name, rate, serve, tmp_path):
    word, out = word_of(name, tmp_path), tmp_path / "out"
    with serve([word], rate=rate) as server:
        flags = ["--benchmarks", word, "--limit", "24", "-k", str(K), "--out", str(out)]
        assert main(["eval", *server.flags, *flags, "--concurrency", "16"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    holds(summary, name, rate)
    template = "raw" if name == "arithmetic" else "chat"
    assert summary["benchmarks"][name]["template"] == template


class Coin:
    """An engine in this process: for the whole of every benchmark."""

    def __init__(self, gold, rate):
        self.gold, self.rate = gold, rate

    def sample(self, job):
        said = []
        for i, j in job.missing(K):
            key = (job.benchmark, job.id_N[i], job.seed, j)
            rng = random.Random(request_seed(key))
            gold, right = self.gold[key[:2]], rng.random() < self.rate
            text = rf"\boxed{{{gold}}}" if right else "no idea"
            said.append(job.sample(i, j, text=text, tokens=3, truncated=False))
        yield said

    def about(self):
        return {}


@pytest.mark.parametrize("rate", [1.0, P])
def test_known_models_on_the_whole_of_every_benchmark(rate, tmp_path, monkeypatch):
    names = [*FILES, "aime25", "gpqa_diamond"]
    words = [word_of(name, tmp_path) for name in names]

    def engine(planned):
        gold = {(r["benchmark"], r["id"]): r["answer"] for r in planned.rows()}
        return Coin(gold, rate)

    monkeypatch.setattr(run, "engine", engine)
    flags = ["--benchmarks", ",".join(words), "-k", str(K), "--out", str(tmp_path / "out")]
    assert main(["eval", "--model", "arithmetic", *flags]) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    for name in names:
        holds(summary, name, rate)
    tolerant = summary["scores"]["minerva"]["tolerance 0.0001"]
    assert tolerant[f"mean@{K}"]["value"] >= summary["scores"]["minerva"][f"mean@{K}"]["value"]
    sizes = {name: summary["benchmarks"][name]["problems"] for name in names}
    means = {name: summary["scores"][name][f"mean@{K}"]["value"] for name in names}
    found = {name: s[f"mean@{K}"]["value"] for name, s in summary["together"].items()}
    aime = (means["aime24"] + means["aime25"]) / 2
    others = [means[name] for name in names if not name.startswith("aime")]
    assert found["aime"] == pytest.approx(aime)
    assert found["average"] == pytest.approx((sum(others) + aime) / (len(others) + 1))
    pooled = sum(means[n] * sizes[n] for n in names) / sum(sizes.values())
    assert found["pooled"] == pytest.approx(pooled)
