"""Prompts that got harder, easier, or were never solved: by evaluations, and by samples."""

import json

import pytest

from gdro.core.errors import DataError
from gdro.report import build_report
from gdro.report.prompts import LONG, SHORT, model_text, prompt_tables
from gdro.report.runs import load_run


def write(folder, name, **value):
    (folder / "evals").mkdir(exist_ok=True)
    (folder / "evals" / name).write_text(json.dumps({"k": 8, **value}))


@pytest.fixture
def run(tmp_path):
    """A run of five prompts; `b` is not in both evaluations."""
    (tmp_path / "evals.jsonl").write_text('{"step": 0, "split": "test", "mean@8": 0.5}\n')
    write(tmp_path, "000000-test.json", id_N=["a", "b", "c", "d", "e"], correct_N=[8, 1, 0, 2, 5])
    write(
        tmp_path,
        "000010-test.json",
        id_N=["e", "d", "c", "a"],
        correct_N=[5, 8, 0, 1],
        groups={"family": ["sum", "sum", "product", "sum"], "level": [1, 2, 3, 4]},
        prompt_N=["1 + 1", "2 + 2", "3 * 3", "4 + 4"],
        answer_N=["2", "4", "8", "<b>9</b>"],
    )
    return tmp_path


def test_prompts_are_matched_by_id_and_told_by_their_gain(run):
    (table,), missing = prompt_tables(load_run(run))
    kinds = {kind: (number, rows) for kind, number, rows in table.kinds}
    assert [(kind, number) for kind, (number, _) in kinds.items()] == [
        ("Got harder", 1),
        ("Got easier", 1),
        ("Never solved", 1),
    ]
    harder = kinds["Got harder"][1][0]
    assert (harder.prompt.short, harder.before, harder.after) == ("4 + 4", "8 of 8", "1 of 8")
    assert harder.answer.short == "<b>9</b>"
    assert harder.group == "sum · level 4"
    assert kinds["Got easier"][1][0].prompt.short == "2 + 2"
    assert kinds["Never solved"][1][0].prompt.short == "3 * 3"
    assert missing == ["sample answers: no prompt was sampled twice (samples/*.jsonl)"]


def test_the_first_rows_are_of_different_families(run):
    names = [f"p{i}" for i in range(20)]
    for file, right in (("000000-test.json", 0), ("000010-test.json", 0)):
        families = ["common"] * 17 + ["rare", "rare", "odd"]
        write(run, file, id_N=names, correct_N=[right] * 20, groups={"family": families})
    (table,), _ = prompt_tables(load_run(run))
    _, number, rows = table.kinds[2]
    assert number == 20
    assert [row.group for row in rows] == ["common", "rare", "odd", "common", "rare", "common"]
    assert "kept no texts" in table.caption


def sample(step, prompt, reward, completion):
    return json.dumps(
        {"step": step, "prompt": prompt, "rewards": {"a": reward, "b": None}}
        | {"completion": completion}
    )


def test_samples_tell_the_first_completion_from_the_last(run):
    chat = [{"role": "user", "content": "count\nto two"}]
    (run / "samples").mkdir()
    (run / "samples" / "000000.jsonl").write_text(
        "\n".join(
            [
                sample(0, "1+1", 1.0, "2"),
                sample(1, chat, 0.0, "one"),
                sample(2, "seen once", 0.0, "?"),
                sample(3, "3*3", 0.0, "8"),
                sample(4, "1+1", 0.0, "3"),
                sample(5, chat, 1.0, [{"role": "assistant", "content": "one\ntwo"}]),
            ]
        )
    )
    (run / "samples" / "000100.jsonl").write_text(
        sample(100, "3*3", 0.0, "7") + "\n" + '{"step": 101, "pro'
    )
    tables, missing = prompt_tables(load_run(run))
    assert not missing
    harder, easier, never = (rows for _, _, rows in tables[1].kinds)
    assert [(r.prompt.short, r.before, r.after, r.answer.short) for r in harder] == [
        ("1+1", "right at 0", "wrong at 4", "3")
    ]
    assert easier[0].prompt.more == "count\nto two"
    assert easier[0].answer.more == "one\ntwo"
    assert [(r.prompt.short, r.answer.short, r.group) for r in never] == [
        ("3*3", "7", "0 of 2 right")
    ]


def test_long_and_odd_texts_are_cut_and_visible():
    text = model_text("x" * 1_000_000)
    assert len(text.short) == SHORT
    assert len(text.more) < LONG + 40
    assert text.more.endswith("(1,000,000 characters)")
    assert model_text("a\u202eb\x00c\td").short == "a b c d"
    assert model_text("one\ntwo").more == "one\ntwo"
    assert model_text("short").more == ""


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("evals/000010-test.json", "{", "is no evaluation by prompt"),
        ("evals/000010-test.json", "[]", "is no evaluation by prompt"),
        ("evals/000010-test.json", '{"k": 8, "id_N": [1], "correct_N": []}', "by prompt"),
        ("samples/000000.jsonl", "hello\n{}\n", "line 1: is no sample"),
        ("samples/000000.jsonl", '{"step": 1}\n', "line 1: is no sample"),
    ],
)
def test_broken_files_are_named(run, file, content, message):
    (run / file).parent.mkdir(exist_ok=True)
    (run / file).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        build_report([run], run / "page.html", files=False)
    assert file in str(error.value)
