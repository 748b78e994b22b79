"""What a picky user breaks: every error names the file, and the row or line and the field."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdro.core.errors import DataError
from gdro.data import load_prompts

GOOD = b'{"prompt": "a", "answer": "1"}\n'


def put(folder: Path, name: str, data: bytes) -> str:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", GOOD, "a.txt: must end in .jsonl, .json, .parquet, .csv"),
        ("gz", GOOD, "gz: must end in"),
        ("a.jsonl", b"", "a.jsonl: no rows"),
        ("a.jsonl", b"\n \n", "a.jsonl: no rows"),
        ("a.jsonl", b"null", "a.jsonl line 1: must be an object, got NoneType"),
        ("a.jsonl", GOOD + b'{"prompt"', "a.jsonl line 2: no JSON"),
        ("a.jsonl", GOOD + b"\n" + GOOD[:-1] + b",\n", "a.jsonl line 3: no JSON: Extra data"),
        ("a.jsonl", (GOOD * 2).replace(b"\n", b"\r"), "a.jsonl line 1: no JSON: Extra data"),
        ("a.jsonl", b'{"prompt": "a", "prompt": "b"}', "line 1: field 'prompt' is there twice"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl line 1: no JSON that can be read"),
        ("a.jsonl", b'{"answer": ' + b"1" * 5000 + b"}", "line 1: no JSON that can be read"),
        ("a.jsonl", GOOD + '{"prompt": "é"}'.encode("latin-1"), "a.jsonl line 2: not UTF-8"),
        ("a.jsonl", GOOD.decode().encode("utf-16"), "a.jsonl line 1: not UTF-8"),
        (
            "a.jsonl",
            gzip.compress(GOOD, mtime=0),
            "a.jsonl: is compressed by gzip; .* must end in .gz",
        ),
        ("a.jsonl.gz", GOOD, "a.jsonl.gz: no whole gzip file: Not a gzipped file"),
        (
            "a.jsonl.gz",
            gzip.compress(GOOD * 99, mtime=0)[:-20],
            "no whole gzip file: .* end-of-stream",
        ),
        (
            "a.jsonl.gz",
            gzip.compress(GOOD, mtime=0)[:10] + b"\xff" * 99,
            "a.jsonl.gz: no whole gzip file",
        ),
        ("a.json", b"", "a.json: no rows"),
        ("a.json", b"{}", "a.json: must hold a list of objects, got dict"),
        ("a.json", GOOD * 2, r"a.json the file: no JSON: .* \(lines of JSON belong in a .jsonl\)"),
        ("a.json", b"[" + GOOD + b",]", "a.json the file: no JSON"),
        ("a.json", b"[" + GOOD + b", 5]", "a.json row 2: must be an object, got int"),
        ("a.parquet", b"", "a.parquet: no whole parquet file"),
        ("a.parquet", b"prompt,answer\na,1\n", "a.parquet: no whole parquet file"),
        ("a.parquet", b"PAR1" + b"x" * 99, "a.parquet: no whole parquet file"),
        ("a.csv", b"", "a.csv: no rows"),
        ("a.csv", b"prompt,answer\n", "a.csv: no rows"),
        ("a.csv", b"prompt,answer\na,1\nb,1,2\n", r"row 2 \(line 3\): must have 2 fields, got 3"),
        ("a.csv", b"prompt,answer\na\n", r"a.csv row 1 \(line 2\): must have 2 fields, got 1"),
        ("a.csv", b"prompt,answer,answer\na,1,2\n", "a.csv: column 'answer' is there twice"),
        ("a.csv", b"prompt;answer\na;1\n", "a.csv: no column prompt, answer; .* prompt;answer"),
        ("a.csv", b'prompt,answer\n"a,1\nb,2\n', "a.csv line 3: no CSV: unexpected end of data"),
        ("a.csv", b"prompt,answer\n" + b"x" * 200_000 + b",1\n", "a.csv line 2: no CSV: field"),
    ],
)
def test_unreadable_files(tmp_path, name, data, message):
    with pytest.raises(DataError, match=message) as raised:
        load_prompts(put(tmp_path, name, data))
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b"\xef\xbb\xbf" + GOOD, "a"),
        (GOOD.replace(b"\n", b"\r\n") * 2, "a"),
        (b"\n\n" + GOOD, "a"),
        (GOOD[:-1], "a"),
        ('{"prompt": "a\u2028b\\u0000", "answer": "1"}'.encode(), "a\u2028b\0"),
    ],
)
def test_harmless_oddities_of_lines(tmp_path, data, prompt):
    assert load_prompts(put(tmp_path, "a.jsonl", data))["prompt"] == [prompt]


def test_harmless_oddities_of_csv(tmp_path):
    data = b'\xef\xbb\xbfprompt,answer\r\n"a ""b"",\r\nc",1\r\n\r\n'
    assert load_prompts(put(tmp_path, "a.csv", data))["prompt"] == ['a "b",\r\nc']


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": 5}, "prompt must be text or a list of messages, got int 5"),
        ({"prompt": ["b"]}, r"prompt must be text or a list of messages, got list \['b'\]"),
        ({"prompt": [None]}, r"prompt must be text or a list of messages, got list \[None\]"),
        ({"prompt": [{"role": "user", "content": "b"}]}, "prompt must be str as in the rows bef"),
        ({"prompt": "\ud800"}, "prompt cannot be written as UTF-8"),
        ({"answer": ["1"]}, r"answer must be text or a number, got list \['1'\]"),
        ({"answer": {"value": None}}, "answer must be text or a number, got dict"),
        ({"answer": True}, "answer must be text or a number, got bool True"),
        ({"answer": float("inf")}, "answer must be text or a number, got float inf"),
        ({"answer": "\ud800"}, "answer cannot be written as UTF-8"),
        ({"id": 1.5}, "id must be text or an integer, got float 1.5"),
        ({"id": None}, "id must be text or an integer, got NoneType None"),
        ({"id": ""}, "id must be text or an integer, got str ''"),
        ({"id": "\ud800"}, "id cannot be written as UTF-8"),
        ({"level": "hard"}, "level must be int as in the rows before, got str 'hard'"),
        ({"subject": "\ud800"}, "subject cannot be written as UTF-8"),
    ],
)
def test_values_of_the_wrong_type(tmp_path, row, message):
    first = {"prompt": "a", "answer": "1", "id": "x", "level": 3}
    rows = [first, {"prompt": "b", "answer": "1", "id": "y"} | row]
    spec = put(tmp_path, "a.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())
    for data, where in [(spec, "a.jsonl"), (rows, "the data set in memory")]:
        with pytest.raises(DataError, match=f"{where} row 2: {message}"):
            load_prompts(data)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"question": "a", "answer": "1"}], "no column prompt; present are question, answer"),
        ([{"prompt": "a"}], "no column answer; present are prompt"),
        ([{"prompt": "", "answer": "1"}], r"no row is left\n(.*\n)+ *empty prompt +-1\n"),
        ([{"prompt": "a", "answer": float("nan")}], r"no row is left\n(.*\n)+ *no gold answer +-1"),
        ([{"prompt": "a", "answer": "1", "id": "x"}, {"prompt": "b", "answer": "1", "id": "y"},
          {"prompt": "c", "answer": "1", "id": "x"}],
         "rows 1 and 3 have one id, 'x', and different prompts"),
        ([{"prompt": "a", "answer": "1", "id": 1}, {"prompt": "b", "answer": "1", "id": "1"}],
         "rows 1 and 2 have one id, '1', and different prompts"),
        ([{"prompt": "a", "answer": "1", "level": 10**30}], "level makes no column"),
        ([5], "row 1: must be an object, got int"),
        (None, "must be a Dataset or a list of dicts, got NoneType"),
        (b"a", "must be a Dataset or a list of dicts, got bytes"),
        ({"test": [{"prompt": "a", "answer": "1"}]}, "no split train; there are test"),
    ],
)  # fmt: skip
def test_unusable_data(rows, message):
    with pytest.raises(DataError, match=f"the data set in memory.*{message}"):
        load_prompts(rows)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": [b"a"]}, "row 1: prompt must be text or a list of messages, got bytes b'a'"),
        ({"answer": pa.array([1], pa.timestamp("s"))}, "row 1: answer must be text or a number"),
    ],
)
def test_types_of_parquet(tmp_path, columns, message):
    pq.write_table(pa.table({"prompt": ["a"], "answer": ["1"], **columns}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"a.parquet {message}"):
        load_prompts(str(tmp_path / "a.parquet"))


def test_columns_of_parquet_with_one_name(tmp_path):
    arrays = [pa.array([value]) for value in ("a", "b", "1")]
    found = pa.table(arrays, names=["prompt", "prompt", "answer"])
    pq.write_table(found, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="a.parquet: column 'prompt' is there twice"):
        load_prompts(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        (None, b"", "doesn't contain any data files"),
        ("train.jsonl", GOOD + b'{"prompt"', "JSON parse error"),
        ("train.parquet", b"xx", "Parquet file size is 2 bytes"),
        ("train.csv", b'prompt,answer\n1,"', "EOF inside string"),
        ("state.json", b"{", "neither a `Dataset` directory"),
        ("train.jsonl", GOOD * 2 + b'{"prompt": "b", "answer": true}', ""),
    ],
)
def test_unusable_folders(tmp_path, file, data, message):
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    if file:
        put(folder, file, data)
    with pytest.raises(DataError, match=f"folder.jsonl.*{message}"):
        load_prompts(str(folder))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("none.jsonl", "none.jsonl: no such file"),
        ("~/none/none.csv.gz", "none.csv.gz: no such file"),
        ("./none", "'./none': no such file or folder, and no id of a hub data set"),
        ("", "'': no such file or folder"),
        ("x" * 5000, "xxx: cannot be read: File name too long"),
    ],
)
def test_nothing_there(spec, message):
    with pytest.raises(DataError, match=message):
        load_prompts(spec)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    spec = put(tmp_path, "a.jsonl", GOOD)
    os.chmod(spec, 0)
    with pytest.raises(DataError, match="a.jsonl: cannot be read: Permission denied"):
        load_prompts(spec)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    spec = put(tmp_path, "a.jsonl", GOOD)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="a.jsonl: cannot be read: Permission denied"):
        load_prompts(spec)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["role", "content", "ground_truth", "x"]), inner, max_size=3
        )
    ),
    max_leaves=4,
)
names = ["prompt", "answer", "id", "level", "reward_model", "answer_latex"]


@given(st.lists(st.dictionaries(st.sampled_from(names), values), max_size=4))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_rows_load_or_are_refused_in_words(rows):
    try:
        data = load_prompts(rows)
    except DataError:
        return
    assert len(set(data["id"])) == len(data) > 0
    assert all(isinstance(answer, str) and answer for answer in data["answer"])
