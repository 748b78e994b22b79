"""Prompts from the suite, files and memory: ids, what is dropped and told."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from gdro.core.errors import ConfigError, DataError
from gdro.data import inspect_prompts, load_prompts, table
from gdro.data.templates import TEMPLATES, apply

ROWS = [{"prompt": f"What is {n} + 1?", "answer": str(n + 1), "level": n} for n in range(3)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.csv", "A.JSONL"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files(tmp_path, write, name, suffix):
    name = name.lower() if suffix else name
    spec = write(tmp_path / (name + suffix), ROWS)
    data = load_prompts(spec)
    assert data["prompt"] == [row["prompt"] for row in ROWS]
    assert data["answer"] == ["1", "2", "3"]
    assert [int(level) for level in data["level"]] == [0, 1, 2]
    assert set(data["source"]) == {spec}
    assert len(set(data["id"])) == 3


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        tuple(ROWS),
        Dataset.from_list(ROWS),
        Dataset.from_list(ROWS).to_iterable_dataset(),
        DatasetDict(train=Dataset.from_list(ROWS)),
        {"train": ROWS},
        [{**row, "answer": np.int64(row["answer"])} for row in ROWS],
    ],
    ids=["list", "tuple", "Dataset", "IterableDataset", "DatasetDict", "dict", "numpy"],
)
def test_data_in_memory(tmp_path, write, data):
    expected = load_prompts(write(tmp_path / "a.jsonl", ROWS)).remove_columns("source")
    found = load_prompts(data)
    assert found.remove_columns("source").to_list() == expected.to_list()
    assert set(found["source"]) == {"the data set in memory"}


@pytest.mark.parametrize("whole", [False, True])
def test_saved_data_sets(tmp_path, whole):
    data = Dataset.from_list(ROWS)
    (DatasetDict(test=data) if whole else data).save_to_disk(tmp_path / "saved")
    found = load_prompts(str(tmp_path / "saved"), split="test")
    assert found["answer"] == ["1", "2", "3"]
    if whole:
        with pytest.raises(DataError, match=r"saved \(split train\): no split train; .* test"):
            load_prompts(tmp_path / "saved")


def test_ids_are_those_of_the_problem(tmp_path, write):
    one = load_prompts(write(tmp_path / "a.jsonl", ROWS), template="raw")
    for template in TEMPLATES:
        other = load_prompts(write(tmp_path / "b.parquet", ROWS[::-1]), template=template)
        assert one["id"] == other["id"][::-1]
    given = [{**row, "id": n} for n, row in enumerate(ROWS)]
    assert load_prompts(write(tmp_path / "c.json", given))["id"] == ["0", "1", "2"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_changes_the_prompt_alone(template):
    rows = [{"prompt": " 1 + 1? ", "answer": "2"}]
    raw, made = load_prompts(rows)[0], load_prompts(rows, template=template)[0]
    assert raw["prompt"] == " 1 + 1? "
    assert made == raw | {"prompt": apply(template, " 1 + 1? ")}


def test_messages_stay_as_they_are():
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    data, report = inspect_prompts([{"prompt": chat, "answer": "2"}] * 2)
    assert data[0]["prompt"] == chat
    assert report.duplicates == 1
    with pytest.raises(DataError, match="template must be raw .* got 'boxed'"):
        load_prompts([{"prompt": chat, "answer": "2"}], template="boxed")


def test_what_is_dropped_is_counted(tmp_path, write, caplog):
    rows = [
        {"prompt": "a b", "answer": "1"},
        {"prompt": "a b", "answer": "2"},
        {"prompt": " a b\n", "answer": "2"},
        {"prompt": "a  b", "answer": "1"},
        {"prompt": " ", "answer": "1"},
        {"prompt": None, "answer": ""},
        {"answer": "1"},
        {"prompt": "c", "answer": ""},
        {"prompt": "d"},
        {"prompt": "求和", "answer": "1"},
        {"prompt": "求和", "answer": "1"},
        {"prompt": "e\u2028f", "answer": 5},
        {"prompt": "g", "answer": 5.0},
        {"prompt": "h", "answer": 0.5},
        {"prompt": "much too long", "answer": 0.5},
    ]
    spec = write(tmp_path / "a.jsonl", rows)
    data, report = inspect_prompts(spec, drop_cjk=True, max_prompt_chars=5)
    assert data["prompt"] == ["a b", " a b\n", "a  b", "e\u2028f", "g", "h"]
    assert data["answer"] == ["1", "2", "1", "5", "5", "0.5"]
    dropped = (report.empty_prompts, report.missing_golds, report.duplicates, report.cjk)
    assert dropped == (3, 2, 2, 1)
    assert (report.too_long, report.read, report.kept) == (1, 15, 6)
    assert report.read == report.kept + sum(dropped) + report.too_long
    assert (report.near_duplicates, report.conflicts) == (2, 2)
    assert re.search(r"\n  same prompt as an earlier row +-2\n", str(report))
    assert caplog.text == ""
    load_prompts(spec, drop_cjk=True, max_prompt_chars=5)
    assert str(report) in caplog.text


def test_one_table_of_several_reports():
    reports = [inspect_prompts(ROWS)[1], inspect_prompts("arithmetic", split="test")[1]]
    head, first, *_, kept, _, _ = table(reports).splitlines()
    assert head.split() == ["the", "data", "set", "in", "memory", "arithmetic"]
    assert first.split() == ["rows", "read", "3", "512"]
    assert kept.split() == ["prompts", "kept", "3", "512"]


words = st.text("ab \n", max_size=3)


@given(st.lists(st.tuples(words, st.sampled_from(["", "1", "2"])), min_size=1, max_size=12))
def test_nothing_is_lost_and_nothing_comes_twice(pairs):
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in pairs]
    expected: dict[str, str] = {}
    for prompt, answer in pairs:
        if prompt.strip() and answer:
            expected.setdefault(prompt, answer)
    if not expected:
        with pytest.raises(DataError, match="no row is left"):
            inspect_prompts(rows)
        return
    data, report = inspect_prompts(rows)
    assert dict(zip(data["prompt"], data["answer"], strict=True)) == expected
    assert len(set(data["id"])) == report.kept == len(expected)
    dropped = report.duplicates + report.empty_prompts + report.missing_golds
    assert report.read == len(pairs) == report.kept + dropped
    spaceless = {" ".join(prompt.split()) for prompt in expected}
    assert report.near_duplicates == len(expected) - len(spaceless)


@pytest.mark.parametrize(
    ("prompt", "dropped"),
    [
        ("求和", True),
        ("Find 求", True),
        ("𠀀", True),
        ("ひらがな", True),
        ("カタカナ", True),
        ("한글", True),
        ("\uf900", True),
        ("Find x，y。（￥5） ﬁve", False),  # as in the 14,116 English rows of DAPO
        ("Soit é, ß, π, Ж, ∑ and ∞", False),
    ],
)
def test_the_letters_of_chinese_japanese_and_korean(prompt, dropped):
    rows = [{"prompt": prompt, "answer": "1"}, {"prompt": "Sum?", "answer": "1"}]
    chats = [{**r, "prompt": [{"role": "user", "content": r["prompt"]}]} for r in rows]
    for some in (rows, chats):
        assert inspect_prompts(some, drop_cjk=True)[1].cjk == dropped
        assert inspect_prompts(some)[1].cjk == 0


def test_long_prompts_are_those_that_the_model_sees():
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    from gdro.data import arithmetic

    tokenizer = AutoTokenizer.from_pretrained(arithmetic.base_path())
    first = tokenizer.convert_tokens_to_ids("1")  # stands before every text, but for chats
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="1 $A", special_tokens=[("1", first)]
    )
    rows = [{"prompt": "1 + 1 =", "answer": "2"}, {"prompt": "1 + 1 + 1 =", "answer": "3"}]
    size = len(tokenizer("1 + 1 =")["input_ids"])
    data, report = inspect_prompts(rows, max_prompt_tokens=size, tokenizer=tokenizer)
    assert (data["answer"], report.too_long) == (["2"], 1)
    with pytest.raises(DataError, match=r"no row is left\n(.*\n)+ *too long +-2\n"):
        load_prompts(rows, max_prompt_tokens=size - 1, tokenizer=tokenizer)
    # In a chat template that adds three tokens.
    chats = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    tokenizer.chat_template = "1 1{% for m in messages %} {{ m.content }}{% endfor %} 1"
    chats.append({"prompt": [{"role": "user", "content": "1"}], "answer": "1"})
    counts = [
        inspect_prompts(chats, max_prompt_tokens=n, tokenizer=tokenizer)[1].too_long
        for n in (size + 1, size + 2)
    ]
    assert counts == [2, 1]
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="messages, and the tokenizer has no chat template"):
        load_prompts(chats, max_prompt_tokens=size, tokenizer=tokenizer)
    # In characters, with the instruction.
    texts = [len(apply("boxed", row["prompt"])) for row in rows]
    assert len(load_prompts(rows, template="boxed", max_prompt_chars=texts[0])) == 1
    assert len(load_prompts(rows, template="chat", max_prompt_chars=texts[1])) == 2


def test_columns_and_keep(tmp_path, write):
    rows = [{"q": "a", "gold": "1", "rate": 0.5, "more": {"at": 7, "deep": {"x": "y"}}}]
    columns = {"prompt": "q", "answer": "gold"}
    data = load_prompts(rows, columns=columns, keep=["rate", "more.deep.x"])
    assert data[0] | {"id": ""} == {
        "id": "",
        "prompt": "a",
        "answer": "1",
        "source": "the data set in memory",
        "rate": 0.5,
        "more.deep.x": "y",
    }
    assert load_prompts(rows, columns={**columns, "id": "more.at"})["id"] == ["7"]
    with pytest.raises(
        DataError, match=r"no column question \(for prompt\), hardness; present are q"
    ):
        load_prompts(rows, columns={"prompt": "question", "answer": "gold"}, keep=["hardness"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "qwen"}, "template must be one of raw, boxed, chat, .* got 'qwen'"),
        ({"max_prompt_chars": 0}, "max_prompt_chars must be >= 1, got 0"),
        ({"max_prompt_tokens": -1}, "max_prompt_tokens must be >= 1, got -1"),
        ({"max_prompt_tokens": 5}, "max_prompt_tokens needs a tokenizer"),
        ({"columns": {"promt": "q"}}, "columns must map prompt, answer, .* got promt"),
        ({"layout": "gsm8k"}, "layout must be one of open-r1/DAPO.* got 'gsm8k'"),
        ({"langauge": "en"}, "no such option: langauge"),
    ],
)
def test_unusable_options(options, message):
    with pytest.raises(ConfigError, match=message):
        load_prompts(ROWS, **options)


def test_arithmetic():
    data = load_prompts("arithmetic", split="validation")
    assert set(data.column_names) == {"id", "prompt", "answer", "source", "family", "level"}
    assert len(set(data["id"])) == len(data) > 100
    assert set(data["source"]) == {"arithmetic"}


@pytest.mark.parametrize(
    ("name", "kept", "near", "conflicts"),
    [
        ("dapo_math_17k_en.jsonl.gz", 14_116, 129, 5),
        ("math500.jsonl", 500, 0, 0),
        ("gsm8k_train.jsonl", 7_473, 0, 0),
        ("math_train_7500.jsonl.gz", 7_498, 1, 0),  # two without an answer
    ],
)
def test_real_data(shared, name, kept, near, conflicts):
    data, report = inspect_prompts(shared(name), drop_cjk=True)
    assert (report.cjk, report.duplicates, report.kept) == (0, 0, kept)
    assert (report.near_duplicates, report.conflicts) == (near, conflicts)
    assert len(set(data["id"])) == len(data) == kept


def test_import_is_light():
    code = "import sys, gdro.data; print({'datasets', 'torch', 'pyarrow'} & set(sys.modules))"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "set()", done.stderr
