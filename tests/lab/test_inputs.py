"""What a recipe names is found and checked before anything is trained."""

import json

import pytest

from gdro.core.errors import ConfigError, DataError
from gdro.lab.inputs import bad_golds, load_data, reward_functions
from gdro.lab.recipe import resolve
from gdro.rewards import check_golds

TINY = {"model_name_or_path": "arithmetic", "bf16": False}


def recipe_of(tmp_path, train, test=("5",), flags=(), **settings):
    for name, golds in (("train", train), ("test", test)):
        rows = [
            {"prompt": f"{name} problem {n}", "answer": gold, "id": f"{name}-{n}"}
            for n, gold in enumerate(golds)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    files = {
        "dataset_name": str(tmp_path / "train.jsonl"),
        "dataset_test_name": str(tmp_path / "test.jsonl"),
    }
    return resolve(TINY | files | settings, flags)


def test_bad_golds_stop_the_run_and_are_listed(tmp_path):
    golds = ["5", r"\frac{1}{2}", "x^2"] * 100 + [r"\frac{", r"\left( 3"]
    with pytest.raises(DataError) as caught:
        load_data(recipe_of(tmp_path, golds))
    said = str(caught.value)
    assert "train data: 2 of 302 gold answers" in said
    assert r"row 300 (id train-300): '\\frac{'" in said
    assert "row 301 (id train-301)" in said
    assert "--allow_bad_golds" in said
    assert "answer_column" not in said


@pytest.mark.parametrize("flag", ["--allow_bad_golds", "--allow-bad-golds"])
def test_bad_golds_are_dropped_on_request_and_counted(tmp_path, flag):
    recipe = recipe_of(tmp_path, ["5", r"\frac{", "6"], ["x", r"\frac{"], [flag])
    data = load_data(recipe)
    assert data.train["answer"][:] == ["5", "6"]
    assert data.test["answer"][:] == ["x"]
    assert counts(data.table, "gold that cannot be met") == [-1, -1]
    assert counts(data.table, "prompts kept") == [2, 1]


def counts(table, line):
    (found,) = (row for row in table.splitlines() if row.strip().startswith(line))
    return [int(word) for word in found.split()[-2:]]


def test_rows_are_filtered_and_told_in_one_table(tmp_path):
    texts = [
        "Add 1 and 2.",
        "Add 一 and 2.",
        "Add 1 and 2.",
        "Add 3 and " + "4 " * 60,
        "Add 5 and 6.",
    ]
    lines = "".join(json.dumps({"prompt": t, "answer": "3"}) + "\n" for t in texts)
    (tmp_path / "mine.jsonl").write_text(lines)
    flags = ["--drop_cjk", "--max_prompt_tokens", "40", "--train_prompts", "1"]
    file = str(tmp_path / "mine.jsonl")
    files = {"dataset_name": file, "dataset_test_name": file}
    data = load_data(resolve(TINY | files, flags))
    assert data.train["prompt"][:] == ["Add 1 and 2."]
    assert data.test["prompt"][:] == ["Add 1 and 2.", "Add 5 and 6."]
    for line, expected in {
        "rows read": [5, 5], "same prompt as": [-1, -1], "Chinese": [-1, -1], "too long": [-1, -1],
        "beyond": [-1, 0], "gold that": [0, 0], "prompts kept": [1, 2],
    }.items():  # fmt: skip
        assert counts(data.table, line) == expected


def test_the_verifier_of_a_recipe_is_configured(tmp_path):
    settings = {"verify_policy": "answer_line", "verify_tolerance": 0.01}
    reward = reward_functions(recipe_of(tmp_path, ["5"], **settings))["math"]
    said = ["Answer: 5.04", "Answer: 5.06", r"\boxed{5}"]
    assert reward(completions=said, answer=["5"] * 3) == [1, 0, 0]
    assert reward.__name__ == "math_reward"
    with pytest.raises(ConfigError, match="verify_policy must be one of last_box"):
        recipe_of(tmp_path, ["5"], verify_policy="guess")
    with pytest.raises(ConfigError, match=r"verify_tolerance must be in \[0, 1\), got 1"):
        recipe_of(tmp_path, ["5"], verify_tolerance=1.0)


def test_bad_golds_of_the_test_data_stop_the_run_too(tmp_path):
    with pytest.raises(DataError, match=r"test data: 1 of 2 .*\n  kept row 1 \(id test-1\)"):
        load_data(recipe_of(tmp_path, ["5"], ["5", r"\frac{"]))


def test_nothing_but_bad_golds_is_an_error_in_any_case(tmp_path):
    recipe = recipe_of(tmp_path, [r"\frac{", r"\sqrt{"], allow_bad_golds=True)
    with pytest.raises(DataError, match=r"answer_column the final answer(.|\n)*Nothing is left"):
        load_data(recipe)


def test_golds_are_checked_for_the_function_that_reads_them(tmp_path):
    golds = ["5", "five", r"\frac{"]
    assert len(load_data(recipe_of(tmp_path, golds, reward_funcs=["exact"])).train) == 3
    with pytest.raises(DataError, match="train data: 2 of 3"):
        load_data(recipe_of(tmp_path, golds, reward_funcs=["numeric"]))
    shaped = {"reward_funcs": ["exact"], "correct_func": "math"}
    with pytest.raises(DataError, match="train data: 1 of 3"):
        load_data(recipe_of(tmp_path, golds, **shaped))


def test_a_model_that_is_nowhere_is_told_before_its_prompts_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    recipe = recipe_of(tmp_path, ["5"], max_prompt_tokens=9)
    recipe.model.model_name_or_path = str(tmp_path / "empty")
    with pytest.raises(ConfigError, match="model .*empty: "):
        load_data(recipe)


def test_ten_bad_golds_are_listed_and_the_others_counted():
    golds = ["5"] * 30 + [r"\frac{"] * 13
    said = bad_golds("mine", check_golds(golds), golds)
    assert said.count("\n  kept row ") == 10
    assert said.endswith("  kept row 39: '\\\\frac{'\n  and 3 more")
