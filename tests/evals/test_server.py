"""The path to a server: a real process, over loopback, that fails in every way it can."""

import json
import re

import pytest

from gdro.cli import main
from gdro.core.errors import ConfigError
from gdro.evals.engines import openai
from gdro.evals.engines.base import request_seed
from gdro.evals.store import Store

KINDS = ["500", "503", "529", "429", "timeout", "dropped", "cut", "malformed", "empty", "aborted"]


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(openai, "BACKOFF", 0.01)
    monkeypatch.setattr(openai, "GRACE", 0.5)


def evaluate(server, sums, out, *more):
    flags = ["--benchmarks", f"gsm8k={sums}", "-k", "4", "--out", str(out), "--timeout", "0.6"]
    return main(["eval", *server.flags, *flags, "--concurrency", "16", *map(str, more)])


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize("template", ["chat", "boxed"])
def test_no_failure_loses_or_doubles_a_sample(serve, sums, tmp_path, template):
    with serve([f"gsm8k={sums}"], faults=0.35, kinds=KINDS, rate=0.5) as server:
        assert evaluate(server, sums, tmp_path / "out", "--template", template) == 0
        stats = server.stats()
    rows = Store(tmp_path / "out").samples()
    keys = {(id_, sample) for _, id_, _, sample in rows}
    assert keys == {(f"sum-{i}", j) for i in range(40) for j in range(4)}
    assert len(rows) == 160 == stats["answered"]
    (session,) = summary(tmp_path / "out")["sessions"]
    retries = session["retries"]
    assert set(stats["faults"]) == set(KINDS)
    assert sum(retries.values()) == sum(stats["faults"].values())
    for kind in ("500", "503", "529", "429", "timeout", "aborted"):
        assert retries[kind] == stats["faults"][kind]
    assert retries["connection"] == stats["faults"]["dropped"] + stats["faults"]["cut"]
    assert retries["malformed"] == stats["faults"]["malformed"] + stats["faults"]["empty"]


def test_failures_change_no_sample(serve, sums, tmp_path):
    for name, faults in (("calm", 0.0), ("stormy", 0.3)):
        with serve([f"gsm8k={sums}"], faults=faults, kinds=KINDS, rate=0.5) as server:
            assert evaluate(server, sums, tmp_path / name) == 0
    assert Store(tmp_path / "calm").samples() == Store(tmp_path / "stormy").samples()
    assert summary(tmp_path / "calm")["scores"] == summary(tmp_path / "stormy")["scores"]


def test_a_server_that_stays_down_is_an_error_and_the_folder_goes_on(serve, sums, tmp_path, capsys):
    out = tmp_path / "out"
    with serve([f"gsm8k={sums}"], faults=1, kinds=["500"]) as server:
        # Without retries the first failure ends it; what came before is kept.
        assert evaluate(server, sums, out, "--retries", 0) == 2
        assert re.search(
            r"gsm8k sum-\d+ failed 1 times, last by status 500", capsys.readouterr().err
        )
        assert not (out / "summary.json").exists()
        assert main(["eval", "--rescore", str(out)]) == 2
        assert "160 of 160 samples are missing" in capsys.readouterr().err
    with serve([f"gsm8k={sums}"]) as server:
        assert evaluate(server, sums, out) == 0
    assert summary(out)["scores"]["gsm8k"]["mean@4"]["value"] == 1.0
    assert len(summary(out)["sessions"]) == 2


def test_what_came_before_the_failure_is_not_asked_again(serve, sums, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(openai, "GRACE", 5.0)
    with serve([f"gsm8k={sums}"], faults=0.05, kinds=["503"], pace=0.3) as server:
        flags = ["--retries", 0, "--concurrency", 160, "--timeout", 20]
        assert evaluate(server, sums, out, *flags) == 2
        kept = Store(out).samples()
        assert 100 < len(kept) < 160  # those under way came to their end
    with serve([f"gsm8k={sums}"]) as server:
        assert evaluate(server, sums, out) == 0
        assert server.stats()["answered"] == 160 - len(kept)
    assert kept.items() <= Store(out).samples().items()


def test_a_refusal_is_told_at_once_in_the_servers_words(serve, sums, tmp_path, capsys):
    with serve([f"gsm8k={sums}"], always="400") as server:
        assert evaluate(server, sums, tmp_path / "out") == 2
    assert "refuses the request, status 400" in (said := capsys.readouterr().err)
    assert "scripted 400" in said


def test_no_server_and_no_such_model(serve, sums, tmp_path, capsys, caplog):
    out = tmp_path / "out"
    with serve([f"gsm8k={sums}"]) as server:
        assert evaluate(server, sums, out, "--model", "other") == 2
        assert "does not list other, but scripted" in caplog.text
        assert "refuses the request, status 404" in capsys.readouterr().err
        caplog.clear()
        # Nothing was drawn, so the folder is free for the command without the slip.
        assert evaluate(server, sums, out) == 0
        assert caplog.text == ""
    assert len(summary(out)["sessions"]) == 1
    assert evaluate(server, sums, tmp_path / "later") == 2
    assert "cannot be used: connection lost: ConnectionRefusedError" in capsys.readouterr().err
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("listing", ["other", "500", "401", "nonsense"])
def test_a_model_that_is_not_listed_is_asked_all_the_same(serve, sums, tmp_path, listing):
    """`transformers serve` lists what is in its cache, and fails where there is none."""
    with serve([f"gsm8k={sums}"], listing=listing) as server:
        assert evaluate(server, sums, tmp_path / "out", "--model", "not listed") == 0
    assert summary(tmp_path / "out")["scores"]["gsm8k"]["mean@4"]["value"] == 1.0


def test_what_a_request_says(serve, sums, tmp_path, monkeypatch):
    asked = []
    real = openai.OpenAI._send

    def send(self, path, body):
        asked.append((path, body))
        return real(self, path, body)

    monkeypatch.setattr(openai.OpenAI, "_send", send)
    with serve([f"gsm8k={sums}"]) as server:
        flags = ["--limit", 1, "--top-k", 0, "--top-p", 0.8, "--temperature", 0.6]
        assert evaluate(server, sums, tmp_path / "out", *flags, "--max-tokens", 7) == 0
    path, body = asked[1]
    seed = body.pop("seed")
    key = next(k for k in Store(tmp_path / "out").samples() if request_seed(k) == seed)
    (message,) = body.pop("messages")
    assert message["content"].startswith(f"What is {key[1].removeprefix('sum-')} + ")
    assert path == "/chat/completions"
    assert body == {"model": "scripted", "max_tokens": 7, "temperature": 0.6, "top_p": 0.8,
                    "top_k": -1, "n": 1, "stream": False}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 0), ("3", 3), ("1e9", 300), ("-4", 0), ("soon", 0),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2999 07:28:00 GMT", 300)],
)  # fmt: skip
def test_retry_after(value, seconds):
    assert openai._retry_after(value) == seconds


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "http:///v1", "http://a b/v1"])
def test_a_url_that_is_none(url):
    with pytest.raises(ConfigError, match="base_url must be http:// or https://, a host"):
        openai.OpenAI("m", base_url=url, sampling=None, concurrency=1, timeout=1,
                      retries=0, chat_template_kwargs={})  # fmt: skip


def test_the_key_is_sent_and_must_be_one(serve, sums, tmp_path, monkeypatch, capsys):
    with serve([f"gsm8k={sums}"], key="abc") as server:
        assert evaluate(server, sums, tmp_path / "out", "--limit", 1) == 2
        assert "status 401" in capsys.readouterr().err
        monkeypatch.setenv("OPENAI_API_KEY", "abc\n")  # as read from a file
        assert evaluate(server, sums, tmp_path / "out", "--limit", 1) == 0
        monkeypatch.setenv("OPENAI_API_KEY", "a\nb")
        assert evaluate(server, sums, tmp_path / "more", "--limit", 1) == 2
        assert "OPENAI_API_KEY must be printable ASCII" in capsys.readouterr().err
