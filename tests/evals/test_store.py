"""The folder: whatever a crash cuts off, the rest is there, once."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.core.errors import ConfigError, DataError
from gdro.evals.engines.base import Sample
from gdro.evals.score import score
from gdro.evals.store import Store

SETTINGS = {"model": "m", "k": 2, "benchmarks": {"gsm8k": {"template": "raw"}}}
TEXTS = ["plain", "line\nbreak \u2028 \x85 \x1c", "\ud800 half a pair", "x" * 40_000, ""]


def sample(i, text="said"):
    return Sample(
        benchmark="gsm8k", id=f"p{i}", seed=0, sample=0, text=text, tokens=None, truncated=False
    )


def begun(path, members):
    store = Store(path)
    store.open(SETTINGS, [])
    for samples in members:
        store.add(samples)
    store.close()
    return path / "samples.jsonl.gz"


def test_texts_of_any_kind_come_back(tmp_path):
    given_ = [sample(i, text) for i, text in enumerate(TEXTS)]
    file = begun(tmp_path / "out", [given_[:2], given_[2:]])
    assert list(Store(tmp_path / "out").samples().values()) == given_
    assert len(gzip.decompress(file.read_bytes()).splitlines()) == len(TEXTS)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_torn_write_costs_that_write_alone(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("torn") / "out"
    members = [[sample(3 * i + j, "ab" * j) for j in range(3)] for i in range(3)]
    file = begun(path, members[:2])
    whole = file.stat().st_size
    begun(path, members[2:])
    cut = data.draw(st.integers(whole, file.stat().st_size - 1))
    with open(file, "r+b") as torn:
        torn.truncate(cut)
    kept = [s for samples in members[:2] for s in samples]
    assert list(Store(path).samples().values()) == kept
    again = Store(path)
    assert list(again.open(SETTINGS, []).values()) == kept
    assert file.stat().st_size == whole
    again.add(members[2])
    again.close()
    assert len(Store(path).samples()) == 9


def test_damage_is_told_with_its_place(tmp_path):
    file = begun(tmp_path / "out", [[sample(0)], [sample(1)]])
    data = bytearray(file.read_bytes())
    data[12] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(DataError, match="damaged at byte 0 of"):
        Store(tmp_path / "out").samples()


def test_a_sample_that_is_there_twice_is_an_error(tmp_path):
    begun(tmp_path / "out", [[sample(0)], [sample(0)]])
    with pytest.raises(DataError, match="there twice"):
        Store(tmp_path / "out").samples()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"k": 4}, "k = 2, got 4"), ({"benchmarks": {}}, "gsm8k.template = raw, got None"),
     ({"more": 1}, "more = None, got 1")],
)  # fmt: skip
def test_another_evaluation_is_refused_by_what_differs(tmp_path, changes, message):
    begun(tmp_path / "out", [[sample(0)]])
    with pytest.raises(ConfigError, match=message):
        Store(tmp_path / "out").open(SETTINGS | changes, [])
    assert len(Store(tmp_path / "out").samples()) == 1


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ConfigError, match="something else than an evaluation"):
            Store(path).open(SETTINGS, [])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(DataError, match="holds no evaluation"):
        _ = Store(tmp_path / "nowhere").settings


def test_a_start_that_failed_before_its_settings_can_be_repeated(tmp_path):
    (tmp_path / "samples.jsonl.gz").touch()
    (tmp_path / "settings.json.tmp").write_text("{")
    assert Store(tmp_path).open(SETTINGS, []) == {}


def test_one_process_writes_at_a_time(tmp_path):
    first = Store(tmp_path / "out")
    first.open(SETTINGS, [])
    with pytest.raises(ConfigError, match="written by another process"):
        Store(tmp_path / "out").open(SETTINGS, [])
    first.close()
    Store(tmp_path / "out").open(SETTINGS, [])


def test_sessions_are_added_and_are_no_setting(tmp_path):
    for _ in range(2):
        store = Store(tmp_path / "out")
        store.open(SETTINGS, [])
        store.note(device="cpu")
        store.note(retries={"500": 1})
        store.close()
    both = [{"device": "cpu", "retries": {"500": 1}}] * 2
    assert Store(tmp_path / "out").settings["sessions"] == both


def test_where_nothing_was_drawn_other_settings_may_begin(tmp_path):
    begun(tmp_path / "out", [])
    store = Store(tmp_path / "out")
    store.open(SETTINGS | {"k": 4}, [])
    assert store.settings["k"] == 4
    with pytest.raises(ConfigError, match="written by another process"):
        Store(tmp_path / "out").open(SETTINGS, [])


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("settings.json", b'{"k": 2', "settings.json cannot be read: Expecting"),
        ("problems.jsonl.gz", b"{}", "problems.jsonl.gz cannot be read: Not a gzipped"),
        (
            "samples.jsonl.gz",
            gzip.compress(b'{"benchmark": "gsm8k"', mtime=0),
            "samples.jsonl.gz cannot be",
        ),
        (
            "samples.jsonl.gz",
            gzip.compress(b'{"said": "x"}', mtime=0),
            "samples.jsonl.gz cannot be read",
        ),
        ("samples.jsonl.gz", b"{}", "damaged at byte 0 of 2"),
    ],
)
def test_files_that_were_spoilt_are_named(tmp_path, file, data, message):
    begun(tmp_path / "out", [[sample(0)]])
    (tmp_path / "out" / file).write_bytes(data)
    with pytest.raises(DataError, match=message):
        score(Store(tmp_path / "out"))


def test_samples_of_something_else_are_not_scored(tmp_path):
    store = Store(tmp_path / "out")
    settings = SETTINGS | {"k": 1, "seeds": [0]}
    store.open(settings, [{"benchmark": "gsm8k", "id": "p0", "answer": "1", "groups": {}}])
    store.add([sample(0), sample(7)])
    store.close()
    with pytest.raises(DataError, match=r"1 samples are of nothing that was asked, as .*p7"):
        score(store)


@pytest.mark.parametrize("out", ["file/out", "/proc/out"])
def test_a_folder_that_cannot_be_made(tmp_path, out):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="out cannot be written: N"):
        Store(tmp_path / out).open(SETTINGS, [])
