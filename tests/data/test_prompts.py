"""Prompts from the suite, files, folders in hub layout; what is dropped, and what is an error."""

import csv
import gzip
import json
import os
from pathlib import Path

import pytest
from datasets import Dataset

from gdro.core.errors import ConfigError, DataError
from gdro.data import inspect_prompts, load_prompts
from gdro.data.templates import BOXED

SHARED = Path(
    os.environ.get("GDRO_SHARED_DATA") or Path(__file__).parents[2].parent / "shared/data"
)

ROWS = [{"prompt": f"What is {n} + 1?", "answer": str(n + 1), "level": n} for n in range(3)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write(path: Path, rows: list[dict]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.removesuffix(".gz").rsplit(".")[-1]
    plain = path.with_name(path.name.removesuffix(".gz"))
    if kind == "parquet":
        Dataset.from_list(rows).to_parquet(plain)
    elif kind == "csv":
        with plain.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        plain.write_text(lines if kind == "jsonl" else json.dumps(rows))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return str(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.csv"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files(tmp_path, name, suffix):
    spec = write(tmp_path / (name + suffix), ROWS)
    data = load_prompts(spec)
    assert data["prompt"] == [row["prompt"] for row in ROWS]
    assert data["answer"] == ["1", "2", "3"]
    assert [int(level) for level in data["level"]] == [0, 1, 2]
    assert set(data["source"]) == {spec}
    assert len(set(data["id"])) == 3


def test_ids_are_those_of_the_problem(tmp_path):
    one = load_prompts(write(tmp_path / "a.jsonl", ROWS), template="raw")
    two = load_prompts(write(tmp_path / "b.parquet", ROWS[::-1]), template="chat")
    assert one["id"] == two["id"][::-1]
    given = [{**row, "id": n} for n, row in enumerate(ROWS)]
    assert load_prompts(write(tmp_path / "c.json", given))["id"] == ["0", "1", "2"]


def test_templates(tmp_path):
    spec = write(tmp_path / "a.jsonl", [{"prompt": " 1 + 1? ", "answer": "2"}])
    assert load_prompts(spec)[0]["prompt"] == " 1 + 1? "
    text = f" 1 + 1? \n{BOXED}"
    assert load_prompts(spec, template="boxed")[0]["prompt"] == text
    chat = [{"role": "user", "content": text}]
    assert load_prompts(spec, template="chat")[0]["prompt"] == chat
    with pytest.raises(ConfigError, match="template must be one of raw, boxed, chat, got 'qwen'"):
        load_prompts(spec, template="qwen")


def test_chats_pass_through(tmp_path):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    spec = write(tmp_path / "a.jsonl", [{"prompt": chat, "answer": "2"}] * 2)
    data, report = inspect_prompts(spec)
    assert data[0]["prompt"] == chat
    assert report.duplicates == 1
    with pytest.raises(DataError, match="template must be raw .* got 'boxed'"):
        load_prompts(spec, template="boxed")


def test_what_is_dropped_is_counted(tmp_path, caplog):
    rows = [
        {"prompt": "a b", "answer": "1"},
        {"prompt": "a b", "answer": "1"},
        {"prompt": " a b\n", "answer": "2"},
        {"prompt": "a  b", "answer": "1"},
        {"prompt": " ", "answer": "1"},
        {"prompt": None, "answer": "1"},
        {"prompt": "c", "answer": ""},
        {"prompt": "d"},
        {"prompt": "e\u2028f", "answer": 5},
        {"prompt": "g", "answer": 5.0},
        {"prompt": "h", "answer": 0.5},
    ]
    data, report = inspect_prompts(write(tmp_path / "a.jsonl", rows))
    assert data["prompt"] == ["a b", "a  b", "e\u2028f", "g", "h"]
    assert data["answer"] == ["1", "1", "5", "5", "0.5"]
    counts = (report.read, report.duplicates, report.conflicts, report.empty_prompts)
    assert counts == (11, 2, 1, 2)
    assert (report.missing_golds, report.near_duplicates, report.kept) == (2, 1, 5)
    assert (
        report.read == report.kept + report.duplicates + report.empty_prompts + report.missing_golds
    )
    assert "same prompt as an earlier row" in str(report)
    assert str(report) in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "a", "answer": "1"}],
         "a.jsonl: no column prompt; present are question, answer"),
        ([{"prompt": "a"}], "no column answer; present are prompt"),
        ([{"prompt": "a", "answer": "1"}, {"prompt": 5, "answer": "1"}],
         "a.jsonl row 2: prompt must be text or a list of messages, got int 5"),
        ([{"prompt": "a", "answer": ["1"]}],
         r"row 1: answer must be text or a number, got list \['1'\]"),
        ([{"prompt": "a", "answer": True}],
         "row 1: answer must be text or a number, got bool True"),
        ([{"prompt": "a", "answer": "1", "id": 1.5}],
         "row 1: id must be text or an integer, got float 1.5"),
        ([{"prompt": "a", "answer": "1", "id": "x"}, {"prompt": "b", "answer": "1", "id": "y"},
          {"prompt": "c", "answer": "1", "id": "x"}],
         "rows 1 and 3 have one id, 'x', and different prompts"),
        ([], "a.jsonl: no rows"),
        ([{"prompt": "", "answer": "1"}], "no row has both a prompt and a gold answer"),
        ([5], "a.jsonl line 1: must be an object, got int"),
    ],
)  # fmt: skip
def test_unusable_data(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        load_prompts(write(tmp_path / "a.jsonl", rows))


def test_unusable_files(tmp_path):
    def put(name, data):
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    for spec, message in [
        (str(tmp_path / "none.jsonl"), "no such file"),
        (str(tmp_path / "none"), "no such file or folder"),
        (put("a.txt", b"x"), "must end in .jsonl, .json, .parquet, .csv"),
        (put("a.jsonl", b'{"prompt": "a", "answer": "1"}\n{"prompt"'), "line 2: no JSON"),
        (put("b.jsonl", b"\xff\xfe"), "not UTF-8"),
        (put("a.json", b"{}"), "must hold a list of objects, got dict"),
        (put("a.jsonl.gz", b"no gzip"), "no whole gzip file"),
        (put("a.parquet", b"no parquet"), "a.parquet: "),
        (put("a.csv", b"prompt,answer\na,1,2\n"), "row 1: must have 2 fields"),
        (put("empty.jsonl", b""), "no rows"),
    ]:
        with pytest.raises(DataError, match=message):
            load_prompts(spec)


def test_columns_and_keep(tmp_path):
    rows = [{"q": "a", "gold": "1", "rate": 0.5}]
    spec = write(tmp_path / "a.jsonl", rows)
    data = load_prompts(spec, columns={"prompt": "q", "answer": "gold"}, keep=["rate"])
    assert data[0] | {"id": ""} == {
        "id": "",
        "prompt": "a",
        "answer": "1",
        "source": spec,
        "rate": 0.5,
    }
    with pytest.raises(
        DataError, match=r"no column question \(for prompt\), hardness; present are q"
    ):
        load_prompts(spec, columns={"prompt": "question", "answer": "gold"}, keep=["hardness"])


HUB = {
    "open-r1/DAPO-Math-17k-Processed": (
        "en/train-00000-of-00001.parquet",
        [{"prompt": "One and one?", "solution": "2", "data_source": "math_dapo"}],
        {"prompt": "One and one?", "answer": "2"},
    ),
    "openai/gsm8k": (
        "main/train-00000-of-00001.parquet",
        [{"question": "Sheep?", "answer": "500 + 500 = <<500+500=1000>>1000\n#### 1,000"}],
        {"prompt": "Sheep?", "answer": "1000"},
    ),
    "DigitalLearningGmbH/MATH-lighteval": (
        "data/train-00000-of-00001.parquet",
        [{"problem": "Halve.", "level": "Level 3", "type": "Algebra",
          "solution": r"First $\boxed{1}$; no: $\boxed{\frac{1}{2}}$."},
         {"problem": "Twice.", "level": "Level ?", "type": "Algebra", "solution": r"$\boxed 4$"}],
        {"prompt": "Halve.", "answer": r"\frac{1}{2}", "level": 3, "subject": "Algebra"},
    ),
    "HuggingFaceH4/MATH-500": (
        "train.jsonl",
        [{"problem": "Halve.", "answer": r"\frac{1}{2}", "level": 3, "subject": "Algebra",
          "unique_id": "test/1.json", "solution": "?"}],
        {"prompt": "Halve.", "answer": r"\frac{1}{2}", "level": 3, "id": "test/1.json"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_known_data_sets_in_hub_layout(tmp_path, name):
    file, rows, expected = HUB[name]
    folder = tmp_path / name
    write(folder / file, rows)
    config = file.split("/")[0] if name.startswith("open") else None
    if config:
        card = {
            "config_name": config,
            "data_files": [{"split": "train", "path": f"{config}/train-*"}],
        }
        (folder / "README.md").write_text(f"---\nconfigs:\n- {json.dumps(card)}\n---\n")
    data = load_prompts(str(folder))
    assert {key: data[0][key] for key in expected} == expected
    assert len(data) == len(rows)
    with pytest.raises(DataError, match="split dev"):
        load_prompts(str(folder), split="dev")


def test_arithmetic():
    data = load_prompts("arithmetic", split="validation")
    assert set(data.column_names) == {"id", "prompt", "answer", "source", "family", "level"}
    assert len(set(data["id"])) == len(data) > 100
    assert set(data["source"]) == {"arithmetic"}


@pytest.mark.parametrize(
    ("name", "read", "kept", "conflicts"),
    [
        # 74 rows differ from an earlier one by space at the ends alone, 55 more by inner space.
        ("dapo_math_17k_en.jsonl.gz", 14_116, 14_042, 5),
        ("math500.jsonl", 500, 500, 0),
        ("gsm8k_train.jsonl", 7_473, 7_473, 0),
        ("math_train_7500.jsonl.gz", 7_500, 7_498, 0),  # two without an answer
    ],
)
def test_real_data(name, read, kept, conflicts):
    if not (SHARED / name).exists():
        pytest.skip(f"{SHARED / name} is not here; set GDRO_SHARED_DATA to the folder that has it")
    data, report = inspect_prompts(str(SHARED / name))
    assert (report.read, report.kept, report.conflicts) == (read, kept, conflicts)
    assert len(set(data["id"])) == len(data) == kept


def test_import_is_light():
    import subprocess
    import sys

    code = "import sys, gdro.data; print({'datasets', 'torch', 'pyarrow'} & set(sys.modules))"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "set()", done.stderr
