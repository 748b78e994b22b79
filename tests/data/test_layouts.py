"""Known data sets, on home-made rows of their schemas; docs/data.md lists them all."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from gdro.core.errors import DataError
from gdro.data import inspect_prompts, load_prompts
from gdro.data.layouts import LAYOUTS, boxed_in_solution, whole_number
from gdro.data.sources import SUFFIXES
from gdro.data.templates import TEMPLATES

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()

CHAT = [{"role": "user", "content": "One and one?"}]
VERL = {
    "data_source": "math_dapo",
    "prompt": CHAT,
    "ability": "MATH",
    "reward_model": {"ground_truth": "2", "style": "rule"},
    "extra_info": {"index": "9a9b6eb4-a1cb"},
}
MATH = {"problem": "Halve.", "level": "Level 3", "type": "Algebra",
        "solution": r"First $\boxed{1}$; no: $\boxed{\frac{1}{2}}$."}  # fmt: skip
GPQA = {
    "Question": "Which one?\n",
    "Correct Answer": "this\n",
    "Incorrect Answer 1": "that",
    "Incorrect Answer 2": "those",
    "Incorrect Answer 3": "these",
    "Record ID": "rec0",
    "Subdomain": "Genetics",
}

HUB = {
    "open-r1/DAPO-Math-17k-Processed": (
        [{"prompt": "One and one?", "solution": "2", "data_source": "math_dapo",
          "source_prompt": CHAT, "ability": "MATH", "reward_model": VERL["reward_model"],
          "extra_info": VERL["extra_info"]}],
        {"prompt": "One and one?", "answer": "2", "source": "math_dapo"},
    ),
    "BytedTsinghua-SIA/DAPO-Math-17k": (
        [VERL], {"prompt": CHAT, "answer": "2", "source": "math_dapo"}
    ),
    "agentica-org/DeepScaleR-Preview-Dataset": (
        [{"problem": "Halve.", "answer": r"\frac12", "solution": "long"}],
        {"prompt": "Halve.", "answer": r"\frac12"},
    ),
    "openai/gsm8k": (
        [{"question": "Sheep?", "answer": "500 + 500 = <<500+500=1000>>1000\n#### 1,000"}],
        {"prompt": "Sheep?", "answer": "1000"},
    ),
    **dict.fromkeys(
        ["DigitalLearningGmbH/MATH-lighteval", "EleutherAI/hendrycks_math",
         "qwedsacf/competition_math"],
        ([MATH, {**MATH, "problem": "Twice.", "level": "Level ?", "solution": r"$\boxed 4$"}],
         {"prompt": "Halve.", "answer": r"\frac{1}{2}", "level": 3, "subject": "Algebra"}),
    ),
    **dict.fromkeys(
        ["HuggingFaceH4/MATH-500", "nlile/hendrycks-MATH-benchmark"],
        ([{"problem": "Halve.", "answer": r"\frac{1}{2}", "level": 3, "subject": "Algebra",
           "unique_id": "test/1.json", "solution": "?"}],
         {"prompt": "Halve.", "answer": r"\frac{1}{2}", "level": 3, "id": "test/1.json"}),
    ),
    "HuggingFaceH4/aime_2024": (
        [{"id": 60, "problem": "Aya?", "solution": "?", "answer": "025", "year": "2024"}],
        {"id": "60", "prompt": "Aya?", "answer": "25"},
    ),
    "math-ai/aime24": (
        [{"id": 0, "problem": "Aya?", "solution": r"\boxed{204}", "url": ""}],
        {"prompt": "Aya?", "answer": "204"},
    ),
    "Maxwell-Jia/AIME_2024": (
        [{"ID": "2024-II-4", "Problem": "Aya?", "Solution": "?", "Answer": 33}],
        {"id": "2024-II-4", "prompt": "Aya?", "answer": "33"},
    ),
    "math-ai/aime25": (
        [{"id": "0", "problem": "Base?", "answer": "70"}], {"prompt": "Base?", "answer": "70"}
    ),
    "opencompass/AIME2025": (
        [{"question": "Base?", "answer": "070"}], {"prompt": "Base?", "answer": "70"}
    ),
    "yentinglin/aime_2025": (
        [{"id": 0, "problem": "Arc?", "answer": r"336^\circ", "solution": "", "year": "2025"}],
        {"prompt": "Arc?", "answer": "336"},
    ),
    "math-ai/amc23": (
        [{"id": 0, "question": "Miles?", "answer": "27.0", "url": ""}],
        {"id": "0", "prompt": "Miles?", "answer": "27"},
    ),
    "math-ai/minervamath": (
        [{"question": "How far?", "answer": "4.5e33\n"}], {"prompt": "How far?", "answer": "4.5e33"}
    ),
    "Hothan/OlympiadBench": (
        [{"id": 1606, "subfield": "Combinatorics", "context": None, "question": "Who wins?",
          "final_answer": ["2"], "unit": None, "is_multiple_answer": False},
         {"id": 1607, "subfield": "Algebra", "context": "Let $a>0$.", "question": "Roots?",
          "final_answer": ["1 ", "-1"], "unit": None, "is_multiple_answer": True},
         {"id": 1608, "subfield": "Algebra", "context": "", "question": "None?",
          "final_answer": None, "unit": None, "is_multiple_answer": False}],
        {"id": "1606", "prompt": "Who wins?", "answer": "2", "subject": "Combinatorics"},
    ),
    "Idavidrein/gpqa": ([GPQA], {"id": "rec0", "subject": "Genetics"}),
}  # fmt: skip


def folder_of(tmp_path: Path, write, name: str, rows: list[dict]) -> Path:
    """A folder as the hub has it: a card that lists configurations, each with its split."""
    folder, layout = tmp_path / name, LAYOUTS[name]
    cards = []
    for config in layout.configs or ("default",):
        file = f"{config}/{layout.split}-00000-of-00001.parquet"
        write(folder / file, rows)
        files = [{"split": layout.split, "path": file}]
        cards.append({"config_name": config, "data_files": files})
        rows = [{**row, **{k: f"{row[k]} {config}" for k in ("problem", "question") if k in row}}
                for row in rows]  # fmt: skip
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(cards)}\n---\n")
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_known_data_sets_in_hub_layout(tmp_path, write, name):
    rows, expected = HUB[name]
    folder = folder_of(tmp_path, write, name, rows)
    data, report = inspect_prompts(str(folder))
    assert {key: data[0][key] for key in expected} == expected
    assert report.read == len(rows) * max(1, len(LAYOUTS[name].configs))
    assert report.kept + report.missing_golds == report.read
    with pytest.raises(DataError, match="split dev"):
        load_prompts(str(folder), split="dev")


def test_a_file_below_a_folder_of_that_name(tmp_path, write):
    rows, expected = HUB["openai/gsm8k"]
    data = load_prompts(write(tmp_path / "openai/gsm8k/main/test.jsonl.gz", rows))
    assert {key: data[0][key] for key in expected} == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_rows_anywhere_by_the_name_of_the_layout(tmp_path, write, name):
    rows, expected = HUB[name]
    for data in (rows, write(tmp_path / "my.parquet", rows)):
        found = load_prompts(data, layout=name)
        assert {key: found[0][key] for key in expected} == expected


def test_what_a_layout_need_not_have():
    rows = [{"problem": "Halve.", "solution": r"\boxed{1}"}]
    data = load_prompts(rows, layout="EleutherAI/hendrycks_math")
    assert data.column_names == ["id", "prompt", "answer", "source"]
    with pytest.raises(DataError, match=r"no column level \(for family\)"):
        load_prompts(rows, layout="EleutherAI/hendrycks_math", columns={"family": "level"})
    bare = [{k: v for k, v in VERL.items() if k in ("prompt", "reward_model")}]
    assert load_prompts(bare)["answer"] == ["2"]


def test_olympiad_bench_has_a_context_and_several_answers(tmp_path, write):
    folder = folder_of(tmp_path, write, "Hothan/OlympiadBench", HUB["Hothan/OlympiadBench"][0])
    data, report = inspect_prompts(str(folder))
    assert data["prompt"] == ["Who wins?", "Let $a>0$.\n\nRoots?"]
    assert data["answer"] == ["2", "1, -1"]
    assert report.missing_golds == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [("025", "25"), ("000", "0"), ("27.0", "27"), (r"336^\circ", "336"), (r"336^{\circ}", "336"),
     ("$33$", "33"), (r"\boxed{204}", "204"), ("1.5", "1.5"), ("-3", "-3"), ("", "")],
)  # fmt: skip
def test_answers_of_competitions_are_plain_integers(text, number):
    assert whole_number(text) == number


def test_the_last_box_of_a_solution():
    assert boxed_in_solution(r"\boxed{1} then \boxed{\{2\}}.") == r"\{2\}"
    assert boxed_in_solution(r"\boxed{1") == boxed_in_solution("none") == ""


def test_verl_rows_anywhere(tmp_path, write):
    other = {**VERL, "prompt": [{"role": "user", "content": "Two?"}], "reward_model": None}
    spec = write(tmp_path / "train.parquet", [VERL, other])
    data, report = inspect_prompts(spec)
    assert data.to_list() == load_prompts([VERL, other]).to_list()
    assert (data[0]["prompt"], data[0]["answer"], data[0]["source"]) == (CHAT, "2", "math_dapo")
    assert report.missing_golds == 1
    index = load_prompts(spec, columns={"id": "extra_info.index"}, keep=["ability"])
    assert (index["id"], index["ability"]) == (["9a9b6eb4-a1cb"], ["MATH"])
    assert load_prompts([VERL], columns={"answer": "ability"})["answer"] == ["MATH"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward_model": "2"}, "row 2: reward_model.ground_truth must lead into objects, got str"),
        ({"reward_model": {"ground_truth": ["2"]}},
         "row 2: reward_model.ground_truth must be text or a number, got list"),
        ({"prompt": ["One?"]}, "row 2: prompt must be text or a list of messages, got list"),
        ({"prompt": [{"role": "user", "content": None}]}, "row 2: prompt must be text or a list"),
        ({"prompt": "One?"}, r"row 2: prompt must be list as in the rows before, got str 'One\?'"),
    ],
)  # fmt: skip
def test_unusable_verl_rows(change, message):
    with pytest.raises(DataError, match=message):
        load_prompts([VERL, {**VERL, **change}])


def test_minerva_prefers_latex():
    rows = [{"prompt": "a", "answer": "1/2", "answer_latex": r"\frac12"},
            {"prompt": "b", "answer": "3", "answer_latex": None},
            {"prompt": "c", "answer": "4"}]  # fmt: skip
    assert load_prompts(rows)["answer"] == [r"\frac12", "3", "4"]
    assert load_prompts(rows, columns={"answer": "answer"})["answer"] == ["1/2", "3", "4"]


def test_minerva_itself(shared):
    rows = [
        json.loads(line) for line in Path(shared("minerva_math.jsonl")).read_text().splitlines()
    ]
    assert sum(bool(row.get("answer_latex")) for row in rows) == 65
    expected = [(row.get("answer_latex") or row["answer"]).strip() for row in rows]
    assert load_prompts(shared("minerva_math.jsonl"))["answer"] == expected


def gpqa(n: int) -> list[dict]:
    return [{**GPQA, "Record ID": f"rec{i}", "Question": f"Which of {i}?"} for i in range(n)]


def test_gpqa_letters_name_the_right_choice_in_an_order_of_the_row_alone(tmp_path, write):
    rows = gpqa(200)
    data = load_prompts(write(tmp_path / "gpqa_diamond.csv", rows))
    for row, made in zip(rows, data, strict=True):
        question, listed = made["prompt"].split("\n\n")[:2]
        choices = dict(line.split(") ") for line in listed.splitlines())
        assert question == row["Question"]
        assert list(choices) == list("ABCD")
        assert sorted(choices.values()) == ["that", "these", "this", "those"]
        assert choices[made["answer"]] == "this"
    assert data["id"] == [row["Record ID"] for row in rows]
    letters = Counter(data["answer"])
    assert all(letters[letter] in range(30, 71) for letter in "ABCD")  # 50 +- 3.3 deviations
    # Other rows, and another order of the wrong choices, change nothing.
    swapped = [{**row, "Incorrect Answer 1": row["Incorrect Answer 2"],
                "Incorrect Answer 2": row["Incorrect Answer 1"]} for row in rows]  # fmt: skip
    again = load_prompts(swapped[100:][::-1]).to_list()[::-1]
    assert [r["prompt"] for r in again] == data["prompt"][100:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Incorrect Answer 2": None}, "row 2: Incorrect Answer 2 must be text, got None"),
        ({"Question": " "}, "row 2: Question must be text, got ' '"),
        ({"Incorrect Answer 1": "this"}, "row 2: Correct Answer is among the incorrect ones"),
    ],
)
def test_unusable_gpqa_rows(change, message):
    with pytest.raises(DataError, match=message):
        load_prompts([GPQA, {**GPQA, **change}])


def test_the_page_lists_every_layout_template_and_suffix():
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in PAGE.splitlines()]
    table = {row[0].strip("`"): row[1:] for row in cells if len(row) == 4 and "`" in row[0]}
    assert list(table) == list(LAYOUTS)
    for name, (configs, split, columns) in table.items():
        layout = LAYOUTS[name]
        assert configs == (", ".join(f"`{c}`" for c in layout.configs) or "-"), name
        assert split == layout.split, name
        named = re.findall(r"`([^`]*)`", columns)
        assert set(layout.columns.values()) <= set(named), name
    for name in (*TEMPLATES, *SUFFIXES):
        assert f"`{name}`" in PAGE
