"""`gdro eval` as a user runs it, on the embedded model: what it writes, and how it goes on."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.evals.problems import write_rows

from gdro.cli import main
from gdro.core.errors import DataError
from gdro.data import arithmetic
from gdro.evals import benchmarks, plan, run, show
from gdro.evals.compare import compare
from gdro.evals.score import together
from gdro.evals.store import Store
from gdro.terminal import terminal

BASE = ["--model", "arithmetic", "--benchmarks", "arithmetic", "--limit", "60", "-k", "4"]
BASE += ["--batch-size", "16"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def evaluate(out, *more):
    return main(["eval", *BASE, "--out", str(out), *map(str, more)])


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "out"
    torch.set_num_threads(1)
    assert evaluate(out, "--seeds", "0,1") == 0
    return out


def without_sessions(summary):
    return {name: value for name, value in summary.items() if name != "sessions"}


def test_the_embedded_model_scores_as_in_training(straight):
    """Twice the path: the sampler of training runs, and the command."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from gdro.evals import evaluate as sampled
    from gdro.rewards import exact_reward

    path = str(arithmetic.base_path())
    ids = summary(straight)["problems"]["arithmetic"]["id"]
    rows = [row for row in arithmetic.generate("test") if row["id"] in ids]
    model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(path)
    for place, seed in enumerate((0, 1)):
        found = sampled(
            model, tokenizer, Dataset.from_list(rows), exact_reward, k=4, batch_size=16,
            max_new_tokens=arithmetic.MAX_COMPLETION_TOKENS, seed=seed,
        )  # fmt: skip
        counts = summary(straight)["problems"]["arithmetic"]["correct"][place]
        assert counts == found.correct_N.tolist()
        assert 0 < found.mean < 1


def test_a_summary_tells_how_to_get_it_again(straight):
    found = summary(straight)
    assert found["model"] == "arithmetic"
    assert found["engine"] == "transformers"
    assert found["seeds"] == [0, 1]
    assert (found["temperature"], found["top_p"], found["top_k"]) == (1.0, 1.0, None)
    (session,) = found["sessions"]
    assert {"device", "dtype", "versions", "python", "began", "seconds"} <= session.keys()
    assert session["sampled"] == 480
    assert {"gdro", "torch", "transformers", "numpy"} <= session["versions"].keys()
    about = found["benchmarks"]["arithmetic"]
    assert about["problems"] == 60
    assert {"spec", "split", "template", "max_tokens", "ids", "content"} <= about.keys()
    scores = found["scores"]["arithmetic"]
    assert {"mean@4", "pass@1", "pass@2", "pass@4", "maj@4"} <= scores.keys()
    assert scores["mean@4"]["value"] <= scores["pass@2"]["value"] <= scores["pass@4"]["value"]
    assert sum(scores["verdicts"].values()) == 480
    assert set(scores["by"]) == {"level", "family"}


def test_scoring_saved_samples_anew_needs_no_model_and_changes_nothing(straight, capsys):
    before = summary(straight)
    (straight / "summary.json").unlink()
    code = (
        "import sys, gdro.cli\n"
        f"assert gdro.cli.main(['eval', '--rescore', {str(straight)!r}]) == 0\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("[]\n"), done.stderr
    assert summary(straight) == before
    assert evaluate(straight, "--seeds", "0,1") == 0  # nothing is missing: scored anew as well
    assert summary(straight) == before
    with pytest.raises(SystemExit):
        main(["eval", "--rescore", str(straight), "-k", "2", "--dry-run"])
    assert "--rescore takes all from the folder: leave dry_run, k out" in capsys.readouterr().err


@pytest.mark.parametrize("after", [1, 7])
def test_an_interrupted_run_goes_on_to_the_same_samples(straight, tmp_path, monkeypatch, after):
    add, calls = Store.add, []

    def interrupted(self, samples):
        calls.append(samples)
        if len(calls) > after:
            raise KeyboardInterrupt
        add(self, samples)

    monkeypatch.setattr(Store, "add", interrupted)
    assert evaluate(tmp_path / "out", "--seeds", "0,1") == 130
    monkeypatch.setattr(Store, "add", add)
    with open(tmp_path / "out/samples.jsonl.gz", "ab") as file:
        file.write(gzip.compress(b"torn" * 9)[:20])
    assert len(Store(tmp_path / "out").samples()) == 16 * after
    torch.manual_seed(5)
    assert evaluate(tmp_path / "out", "--seeds", "0,1") == 0
    files = [path / "samples.jsonl.gz" for path in (straight, tmp_path / "out")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert without_sessions(summary(tmp_path / "out")) == without_sessions(summary(straight))


def test_of_a_batch_that_is_there_in_part_the_rest_is_added(straight, tmp_path, monkeypatch):
    add = Store.add

    def half(self, samples):
        add(self, samples[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "add", half)
    assert evaluate(tmp_path / "out", "--seeds", "0,1") == 130
    monkeypatch.setattr(Store, "add", add)
    assert evaluate(tmp_path / "out", "--seeds", "0,1") == 0
    assert Store(tmp_path / "out").samples() == Store(straight).samples()


def test_a_killed_process_loses_nothing_that_it_kept(straight, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "gdro.cli", "eval", *BASE, "--seeds", "0,1", "--out", str(out)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    samples = out / "samples.jsonl.gz"
    deadline = time.monotonic() + 60
    while run.poll() is None and time.monotonic() < deadline:
        if samples.exists() and samples.stat().st_size > 0:
            run.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    assert run.wait() == -signal.SIGKILL
    assert 0 < len(Store(out).samples()) < 480
    assert evaluate(out, "--seeds", "0,1") == 0
    assert samples.read_bytes() == (straight / "samples.jsonl.gz").read_bytes()


def test_other_settings_in_the_folder_are_refused_by_name(straight, capsys):
    assert evaluate(straight, "--seeds", "0,1", "--temperature", "0.5") == 2
    assert "temperature = 1.0, got 0.5" in capsys.readouterr().err
    assert evaluate(straight) == 2
    assert "seeds = [0, 1], got [0]" in capsys.readouterr().err


def test_without_a_name_the_folder_is_that_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more in ([], [], ["--seeds", "3"]):
        assert main(["eval", *BASE, "--limit", "4", *more]) == 0
    folders = [p.name for p in (tmp_path / "runs").iterdir()]
    assert len(folders) == 2
    assert all(name.startswith("eval-arithmetic-") for name in folders)


def test_a_dry_run_samples_nothing_and_loads_no_weights(tmp_path, sums, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    words = f"arithmetic,gsm8k={sums}"
    assert main(["eval", "--model", "arithmetic", "--benchmarks", words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "45,056" in said  # 512 problems x 8 completions x 11 tokens
    assert f"{40 * 8 * 4096:,}" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_table_is_cut_at_the_width_of_a_terminal(
    straight, tmp_path, monkeypatch, capsys, columns
):
    monkeypatch.setenv("COLUMNS", str(columns))
    (tmp_path / "wide").mkdir()
    wide = summary(straight)
    for name in ("scores", "problems", "benchmarks"):  # the longest name
        wide[name] = {"olympiadbench": wide[name]["arithmetic"], "aime24": wide[name]["arithmetic"]}
    wide["together"] = together(wide["scores"])
    (tmp_path / "wide/summary.json").write_text(json.dumps(wide))
    show.scores(wide, terminal())
    assert main(["eval", "compare", *[str(tmp_path / "wide")] * 2]) == 0
    assert evaluate(tmp_path / "out", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= columns
    assert ("pass@2" in said, "tokens" in said.split("A:")[0]) == (columns == 120, columns >= 80)


def test_where_nothing_was_sampled_it_says_so(serve, sums, tmp_path, capsys):
    """As `transformers serve` does with a model whose generation_config lacks do_sample."""
    for rate, same in ((1.0, True), (0.5, False)):
        out = tmp_path / str(rate)
        with serve([f"gsm8k={sums}"], rate=rate) as server:
            flags = ["--benchmarks", f"gsm8k={sums}", "-k", "4", "--out", str(out)]
            assert main(["eval", *server.flags, *flags]) == 0
        assert ("nothing was sampled" in capsys.readouterr().out) == same
    flags = ["--limit", "3", "-k", "1", "--temperature", "0"]
    assert evaluate(tmp_path / "greedy", *flags) == 0  # one each is no wonder
    assert "nothing was sampled" not in capsys.readouterr().out


def test_greedy_is_the_same_every_time(tmp_path):
    flags = ["-k", "1", "--temperature", "0", "--limit", "8"]
    assert evaluate(tmp_path / "a", *flags) == 0
    assert evaluate(tmp_path / "b", *flags, "--seeds", "9") == 0
    texts = [[s.text for s in Store(tmp_path / x).samples().values()] for x in "ab"]
    assert texts[0] == texts[1]


def test_two_evaluations_are_compared_by_problem(straight, tmp_path, capsys):
    assert evaluate(tmp_path / "cold", "--seeds", "0,1", "--temperature", "0.3") == 0
    out = tmp_path / "found.json"
    assert main(["eval", "compare", str(straight), str(tmp_path / "cold"), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "differs: temperature: A 1.0, B 0.3" in said
    lines = json.loads(out.read_text())["benchmarks"]["arithmetic"]
    a, b = (summary(p)["scores"]["arithmetic"] for p in (straight, tmp_path / "cold"))
    for name in ("mean@4", "pass@4", "maj@4"):
        assert lines[name]["difference"] == pytest.approx(b[name]["value"] - a[name]["value"])
        assert lines[name]["interval"][0] < lines[name]["difference"] < lines[name]["interval"][1]
    same = compare(straight, straight)["benchmarks"]["arithmetic"]
    assert same["pass@4"]["difference"] == 0
    assert same["solved"] == {"only_a": 0, "only_b": 0, "p": 1.0}


def test_problems_are_paired_by_id_in_whatever_order_the_files_are(tmp_path):
    rows = [{n: row[n] for n in ("id", "prompt", "answer")} for row in arithmetic.generate("test")]
    rows = rows[:40]
    for name, some in (("a", rows), ("b", rows[::-1])):
        file = write_rows(tmp_path / f"{name}.jsonl", some)
        assert (
            evaluate(tmp_path / name, "--benchmarks", f"arithmetic={file}", "--seeds", "0,1") == 0
        )
    shuffled = compare(tmp_path / "a", tmp_path / "b")["benchmarks"]["arithmetic"]
    a, b = (summary(tmp_path / name)["problems"]["arithmetic"] for name in "ab")
    assert a["id"] == b["id"][::-1]
    (tmp_path / "c").mkdir()
    sorted_b = summary(tmp_path / "b")
    sorted_b["problems"]["arithmetic"] = {
        "id": a["id"],
        "correct": [row[::-1] for row in b["correct"]],
        "majority": [row[::-1] for row in b["majority"]],
    }
    (tmp_path / "c/summary.json").write_text(json.dumps(sorted_b))
    straight = compare(tmp_path / "a", tmp_path / "c")["benchmarks"]["arithmetic"]
    assert shuffled == straight
    assert shuffled["solved"]["only_a"] < sum(map(bool, map(sum, zip(*a["correct"], strict=True))))


def test_other_problems_are_not_compared(straight, tmp_path):
    assert evaluate(tmp_path / "fewer", "--seeds", "0,1", "--limit", "20") == 0
    with pytest.raises(DataError, match="arithmetic: the two are of other problems, 40 are in one"):
        compare(straight, tmp_path / "fewer")
    assert evaluate(tmp_path / "one", "--limit", "60") == 0
    with pytest.raises(DataError, match="2 seeds of k = 4"):
        compare(straight, tmp_path / "one")
    with pytest.raises(DataError, match="no summary of an evaluation"):
        compare(straight, tmp_path)


def test_the_protocol_of_the_paper(tmp_path, monkeypatch, capsys):
    rows = [{"id": str(i), "prompt": f"p{i}", "answer": str(i)} for i in range(3)]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    words = [f"{name}={file}" for name in ("math500", "aime24", "aime25")]
    flags = ["--benchmarks", ",".join(words), "--max-tokens", "2", "--out", str(tmp_path / "out")]
    flags = ["eval", "--model", "arithmetic", "--protocol", "paper", *flags]
    assert main(flags) == 0
    found = summary(tmp_path / "out")
    drawn = {name: found[name] for name in ("k", "temperature", "top_p", "top_k", "protocol")}
    assert drawn == {"k": 8, "temperature": 0.6, "top_p": 0.8, "top_k": 20, "protocol": "paper"}
    assert set(found["together"]) == {"aime", "pooled", "average"}
    assert found["benchmarks"]["aime25"]["template"] == "boxed"  # it has no chat template
    assert main([*flags, "--temperature", "1"]) == 2
    assert "protocol paper means temperature = 0.6, got 1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--benchmarks", "math"], "benchmarks must be of math500, .* got 'math'"),
        (["--benchmarks", "arithmetic,arithmetic"], "arithmetic comes twice"),
        (["--benchmarks", "aime25=nowhere.jsonl"], "aime25: no such file, 'nowhere.jsonl'"),
        (["--benchmarks", ""], "benchmarks must be of .* got none"),
        (["-k", "0"], "k must be >= 1, got 0"),
        (["--temperature", "-1"], "temperature must be >= 0, got -1"),
        (["--temperature", "nan"], "temperature must be >= 0, got nan"),
        (["--temperature", "0"], "temperature 0 gives one completion only"),
        (["--top-p", "0"], r"top_p must be in \(0, 1\], got 0"),
        (["--top-k", "-2"], "top_k must be >= 0, got -2"),
        (["--max-tokens", "0"], "max_tokens must be >= 1, got 0"),
        (["--limit", "0"], "limit must be >= 1, got 0"),
        (["--seeds", "1,1"], "seeds must be different"),
        (["--seeds", "a"], "seeds must be integers"),
        (["--engine", "jax"], "engine must be one of transformers, vllm, openai, got 'jax'"),
        (["--engine", "openai"], "base_url is for engine openai, and that needs it"),
        (["--base-url", "http://x/v1"], "base_url is for engine openai"),
        (["--engine", "vllm"], "engine vllm needs vLLM"),
        (["--template", "poem"], "template must be one of raw, boxed, chat.*got 'poem'"),
        (["--template", "chat"], "the tokenizer of arithmetic has no chat template"),
        (["--protocol", "ours"], "protocol must be one of paper, got 'ours'"),
        (["--model", "./nowhere"], "model: no such folder, ./nowhere"),
        (["--timeout", "inf"], "timeout must be > 0 and finite, got inf"),
        (["--engine-arg", "dtype"], "--engine-arg must be NAME=VALUE, got 'dtype'"),
        (["--engine-arg", "colour=red"], "model .* cannot be loaded"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(tmp_path, capsys, flags, message):
    assert evaluate(tmp_path / "out", *flags) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_an_empty_benchmark_and_no_model(tmp_path, capsys):
    file = tmp_path / "none.jsonl"
    file.write_text("")
    assert evaluate(tmp_path / "out", "--benchmarks", f"amc23={file}") == 2
    assert last_line(capsys) == f"gdro: benchmark amc23: {file}: no rows"
    (tmp_path / "model").mkdir()
    assert evaluate(tmp_path / "out", "--model", tmp_path / "model") == 2
    assert f"model {tmp_path}/model: " in last_line(capsys)
    with pytest.raises(SystemExit):
        main(["eval"])


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_commands_of_the_docs_are_commands(tmp_path, monkeypatch):
    """Every `gdro eval` line of the README and of its page: flags, settings and benchmarks."""
    asked = []

    def planned(options, *_):
        asked.append(checked(options))
        assert benchmarks.find(asked[-1][1])
        return Store(tmp_path), {}

    checked = plan._checked
    for module, name in ((run, "run"), (plan, "plan")):
        monkeypatch.setattr(module, name, planned)
    shown = []
    monkeypatch.setattr(run, "score_and_show", lambda store, _: shown.append(store.path))
    monkeypatch.setattr(show, "dry_run", lambda *_: None)
    monkeypatch.setattr("gdro.evals.compare.compare", lambda *paths: shown.extend(paths))
    monkeypatch.setattr(show, "comparison", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minerva.jsonl").touch()
    root = Path(__file__).parents[2]
    pages = [(root / page).read_text() for page in ("README.md", "docs/evaluation.md")]
    lines = [line for page in pages for line in page.splitlines() if line[:13] == "    gdro eval"]
    for line in lines:
        assert main(line.split()[1:]) == 0
    assert len(asked) == len(lines) - 2 == 7
    assert len(shown) == 3
