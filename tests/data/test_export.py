"""What is written for verl, read back by our own reader of verl's layout."""

import pyarrow.parquet as pq

from gdro.cli import main
from gdro.data import load_prompts


def test_a_suite_comes_back_as_it_was(tmp_path):
    path = tmp_path / "data" / "train.parquet"
    words = ["data", "export", "arithmetic", "--split", "train", "--template", "raw"]
    assert main([*words, "--out", str(path)]) == 0
    original, back = load_prompts("arithmetic", split="train"), load_prompts(str(path))
    assert len(back) == len(original) == 960
    contents = [prompt[0]["content"] if isinstance(prompt, list) else prompt
                for prompt in back["prompt"]]  # fmt: skip
    assert contents == list(original["prompt"])
    assert list(back["answer"]) == list(original["answer"])


def test_every_row_has_a_name_of_its_own(tmp_path):
    path = tmp_path / "test.parquet"
    words = ["data", "export", "arithmetic", "--split", "test", "--name", "held-out"]
    assert main([*words, "--out", str(path)]) == 0
    rows = pq.read_table(path).to_pylist()
    infos = [row["extra_info"] for row in rows]
    assert [info["index"] for info in infos] == list(range(512))
    assert {info["split"] for info in infos} == {"held-out"}
    assert {info["family"] for info in infos} >= {"operators", "sorting"}
    assert rows[0]["prompt"][0]["role"] == "user"
    assert "boxed" in rows[0]["prompt"][-1]["content"]


def test_a_file_of_another_kind_is_refused(tmp_path, capsys):
    assert main(["data", "export", "arithmetic", "--out", str(tmp_path / "a.csv")]) == 2
    assert "must be a file that ends in .parquet" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
