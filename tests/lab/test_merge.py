"""Comparisons put together from parts, against the whole that the parts were cut from."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from gdro.core.errors import ConfigError, DataError
from gdro.lab.compare.analyse import analyse
from gdro.lab.compare.command import main
from gdro.lab.compare.gather import Raw, read_raw, write_raw
from gdro.lab.compare.merge import merge
from gdro.lab.compare.table import tuning

RESULTS = Path(__file__).parents[2] / "docs/results"


@pytest.fixture(scope="module")
def whole() -> Raw:
    """Eight seeds, four methods, tuned; with contrasts."""
    return read_raw(RESULTS / "replay")


def part(raw: Raw, *, seeds: list[int] | None = None, methods: list[str] | None = None) -> Raw:
    """As a study of fewer seeds or methods would have left it."""
    study = deepcopy(raw.study)
    seeds = study["seeds"] if seeds is None else seeds
    methods = list(study["methods"]) if methods is None else methods
    study |= {"seeds": seeds, "methods": {m: study["methods"][m] for m in methods}}
    study["contrasts"] = {n: w for n, w in study["contrasts"].items() if set(w) <= set(methods)}
    runs = [
        row
        for row in deepcopy(raw.runs)
        if row["method"] is None
        or (row["method"] in methods and (row["phase"] != "test" or row["seed"] in seeds))
    ]
    base = pc.is_null(raw.prompts["method"])
    own = pc.and_(pc.is_in(raw.prompts["method"], value_set=_array(methods)),
                  pc.is_in(raw.prompts["seed"], value_set=_array(seeds)))  # fmt: skip
    return Raw(runs=runs, prompts=raw.prompts.filter(pc.or_(base, own)), study=study)


def _array(values):
    import pyarrow as pa

    return pa.array(values)


def ordered(results):
    """Without what depends on the order in which tables stood."""
    return {k: v for k, v in results.items() if k != "methods"}


@pytest.mark.parametrize("cut", ["seeds", "methods"])
def test_the_parts_of_a_study_are_the_study(whole, cut):
    seeds, methods = whole.study["seeds"], list(whole.study["methods"])
    if cut == "seeds":
        parts = [part(whole, seeds=seeds[:3]), part(whole, seeds=seeds[3:])]
    else:
        parts = [part(whole, methods=methods[:2]), part(whole, methods=methods[2:])]
    merged = merge(parts)
    if cut == "methods":  # a contrast of methods that no part had together is said by none
        merged.study["contrasts"] = whole.study["contrasts"]
    assert merged.study["seeds"] == seeds
    assert ordered(analyse(merged)) == ordered(analyse(whole))
    assert merged.prompts.num_rows == whole.prompts.num_rows


def test_seeds_that_not_every_method_has_are_left_out(whole):
    methods = list(whole.study["methods"])
    seeds = whole.study["seeds"]
    merged = merge(
        [part(whole, methods=methods[:1]), part(whole, methods=methods[1:2], seeds=seeds[2:4])]
    )
    assert merged.study["seeds"] == seeds[2:4]
    assert set(merged.prompts["seed"].to_pylist()) == {None, *seeds[2:4]}
    analyse(merged)


def test_methods_are_chosen_with_the_baseline_first(whole):
    names = ["rollout", "grpo"]
    merged = merge([whole], names)
    assert list(merged.study["methods"]) == names
    assert analyse(merged)["baseline"] == "rollout"
    assert not merged.study["contrasts"]
    with pytest.raises(ConfigError, match="rolout is in no table; there are grpo"):
        merge([whole], ["rolout"])


def test_what_is_no_one_comparison_is_refused(whole):
    other = deepcopy(whole.study)
    other["methods"]["rollout"]["settings"]["gdro_rollout_power"] = 3
    with pytest.raises(DataError, match="rollout has the settings .* these are two methods"):
        merge([whole, replace(whole, study=other)])
    other = deepcopy(whole.study)
    other["suites"]["arithmetic"]["settings"]["max_steps"] = 200
    with pytest.raises(DataError, match=r"max_steps is 150 in replay and 200 in replay"):
        merge([whole, replace(whole, study=other)])
    runs = deepcopy(whole.runs)
    row = next(row for row in runs if row["method"] == "grpo" and row["phase"] == "test")
    row["pass"] += 0.01
    with pytest.raises(DataError, match=r"grpo of arithmetic, seed 10: pass is .* in another"):
        merge([whole, replace(whole, runs=runs)])
    methods = list(whole.study["methods"])
    one = part(whole, methods=methods[:1], seeds=[10])
    with pytest.raises(DataError, match="no seed is common to all methods"):
        merge([one, part(whole, methods=methods[1:], seeds=[11])])


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("reward_funcs", ["numeric"], r"correct_func is \['exact'\] in .* and \['numeric'\] in"),
        ("correct_func", "numeric", r"correct_func is \['exact'\] in .* and \['numeric'\] in"),
        ("max_completion_length", 99, "eval_max_tokens is 12 in .* and 99 in"),
        ("prompt_template", "boxed", "prompt_template is raw in .* and boxed in"),
        ("answer_column", "gold", "answer_column is None in .* and gold in"),
        ("allow_bad_golds", True, "allow_bad_golds is False in .* and True in"),
        ("chat_template_kwargs", "{}", "chat_template_kwargs is None in .* and {} in"),
        ("model_revision", "v2", "model_revision is None in .* and v2 in"),
    ],
)
def test_what_compare_would_not_judge_alike_is_not_put_together(whole, setting, value, said):
    other = deepcopy(whole.study)
    other["suites"]["arithmetic"]["settings"][setting] = value
    with pytest.raises(DataError, match=said):
        merge([whole, replace(whole, study=other)])


def test_what_is_said_and_what_is_by_default_is_one(whole):
    other = deepcopy(whole.study)
    settings = other["suites"]["arithmetic"]["settings"]
    settings |= {"eval_k": 8, "prompt_template": "raw"}
    merged = merge([whole, replace(whole, study=other)])
    assert merged.study["methods"] == whole.study["methods"]
    # Trained by another reward, for as many tokens, and judged alike: another method.
    settings |= {"correct_func": "exact", "reward_funcs": ["numeric"]}
    settings |= {"eval_max_tokens": settings["max_completion_length"]}
    with pytest.raises(DataError, match="these are two methods"):
        merge([whole, replace(whole, study=other)])
    methods = list(whole.study["methods"])
    merge(
        [part(whole, methods=methods[:1]), part(replace(whole, study=other), methods=methods[1:])]
    )


def test_parts_are_tuned_alike_or_not_put_together(whole):
    methods, seeds = list(whole.study["methods"]), whole.study["seeds"]
    one, two = part(whole, methods=methods[:1]), part(whole, methods=methods[1:])
    untuned = [row for row in two.runs if row["phase"] != "tuning"]
    with pytest.raises(
        ConfigError, match="same number of points to tune over, got grpo 3, replay 0"
    ):
        merge([one, replace(two, runs=untuned)])
    with pytest.raises(
        DataError, match="tuning looked at {'grid_split': 'other', .* not tuned alike"
    ):
        merge([one, replace(two, study=two.study | {"grid_split": "other"})])
    tuned = [row | {"seed": seeds[0]} if row["phase"] == "tuning" else row for row in two.runs]
    with pytest.raises(ConfigError, match=f"share {seeds[0]}: a run that was chosen by"):
        merge([one, replace(two, runs=tuned)])
    tuned = [row | {"seed": 8} if row["phase"] == "tuning" else row for row in two.runs]
    merged = merge([one, replace(two, runs=tuned)])
    assert merged.study["grid_seeds"] == [8, 9]
    bare = [row for row in one.runs if row["phase"] != "tuning"]
    merged = merge([replace(one, runs=bare), replace(two, runs=untuned)])  # nothing was tuned
    assert merged.study["grid_seeds"] == [9]


def test_the_point_that_is_used_is_marked_however_a_table_spells_it(whole):
    seeds = whole.study["seeds"]
    first, later = part(whole, seeds=seeds[1:]), part(whole, seeds=seeds[:1])
    for row in later.runs:
        row["values"] = json.dumps({k: float(v) for k, v in json.loads(row["values"]).items()})
    kept = [row for row in later.runs if row["phase"] != "tuning"]
    block = analyse(merge([first, replace(later, runs=kept)]))["suites"]["arithmetic"]
    stars = [row[0] for row in tuning(block) if row[1].endswith(" *")]
    assert stars == list(whole.study["methods"])


def test_points_are_what_they_say_and_not_where_a_grid_has_them(whole):
    """A grid without its first point numbers the others anew."""
    later = deepcopy(part(whole, seeds=whole.study["seeds"][4:]))
    kept = [row for row in later.runs if row["phase"] != "tuning" or row["point"] > 0]
    for row in kept:
        if row["point"] is not None:
            row["point"] -= 1
    parts = [part(whole, seeds=whole.study["seeds"][:4]), replace(later, runs=kept)]
    assert ordered(analyse(merge(parts))) == ordered(analyse(merge([whole])))
    for row in kept:
        if row["method"] == "grpo" and row["phase"] == "test":
            row["values"] = '{"learning_rate": 0.0004}'
    with pytest.raises(DataError, match="grpo of arithmetic was tested at .*8e-4.* in one table"):
        merge(parts)


def test_a_rate_of_the_study_and_one_of_the_method_are_the_same_setting(whole):
    """What a run's settings are in the end decides, not where a study writes them."""
    other = deepcopy(whole.study)
    suite = other["suites"]["arithmetic"]["settings"]
    suite["num_generations"], usual = 8, suite["num_generations"]
    for method in other["methods"].values():
        method["settings"]["num_generations"] = str(usual)
    merged = merge([whole, replace(whole, study=other)])
    assert "num_generations" not in merged.study["methods"]["rollout"]["settings"]


def test_the_command(whole, tmp_path, capsys):
    seeds = whole.study["seeds"]
    for name, own in (("a", seeds[:2]), ("b", seeds[2:4])):
        raw = part(whole, seeds=own)
        write_raw(tmp_path / name, raw.runs, raw.prompts.to_pylist(), raw.study)
    folders = [str(tmp_path / name) for name in "ab"]
    out = tmp_path / "both"
    assert main(["--results", *folders, "--out", str(out), "--methods", "grpo,rollout"]) == 0
    study = read_raw(out).study
    assert (study["name"], study["seeds"]) == ("both", seeds[:4])
    assert "rollout" in (out / "results.md").read_text()
    with pytest.raises(ConfigError, match="--out is missing"):
        main(["--results", *folders])
    for own in (folders, folders[:1]):
        with pytest.raises(
            ConfigError, match="--out must be none of --results, got .*/a: their raw"
        ):
            main(["--results", *own, "--out", str(tmp_path / "b" / ".." / "a")])
    assert read_raw(tmp_path / "a").study["name"] == whole.study["name"]
    for more in (["--seeds", "1"], ["arithmetic"]):
        with pytest.raises(ConfigError, match="all else is in the folders it names"):
            main([*more, "--results", *folders])


@pytest.mark.parametrize("name", ["worded", "replay"])
def test_the_labels_of_an_axis_are_evenly_apart(name, tmp_path):
    """Half per cents too, which were once rounded away."""
    for file in (RESULTS / name).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert main(["--results", str(tmp_path)]) == 0
    svg = (tmp_path / "gains.svg").read_text()
    at = [float(x) for x in re.findall(r"<!-- ([-+]?[\d.]+)%? -->", svg)]
    assert len(at) > 3
    assert np.ptp(np.diff(at)) < 1e-9


def test_a_study_s_file_names_methods_and_contrasts(whole, tmp_path, capsys):
    folders = []
    for methods in (["grpo", "rollout"], ["replay"]):
        raw = part(whole, methods=methods)
        folders.append(str(tmp_path / methods[0]))
        write_raw(Path(folders[-1]), raw.runs, raw.prompts.to_pylist(), raw.study)
    study = {"recipe": "arithmetic", "methods": ["grpo", "replay", "rollout"], "seeds": [10],
             "contrasts": {"memory": {"replay": 1, "rollout": -1}}}  # fmt: skip
    (tmp_path / "s.yaml").write_text(json.dumps(study))
    for i, source in enumerate(
        ([str(tmp_path / "s.yaml")], ["--config", str(tmp_path / "s.yaml")])
    ):
        out = tmp_path / f"both{i}"
        assert main([*source, "--results", *folders, "--out", str(out)]) == 0
        merged = read_raw(out).study
        assert list(merged["methods"]) == study["methods"]
        assert merged["contrasts"] == study["contrasts"]
