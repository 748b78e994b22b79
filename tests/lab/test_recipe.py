"""Settings: one name in YAML and as a flag, checked once."""

import pytest
import yaml

from gdro.core.errors import ConfigError
from gdro.lab.recipe import RECIPES, read_settings, resolve

TINY = {"model_name_or_path": "arithmetic"}


@pytest.mark.parametrize("recipe", sorted(p.stem for p in RECIPES.glob("*.yaml")))
def test_shipped_recipes_resolve(recipe):
    found = resolve(read_settings(recipe), ["--bf16", "false"], recipe)
    # 1.7B and 4B are written for one process; 8B for eight, whose batch is eight times this.
    processes = 8 if recipe == "qwen3-8b-dapo" else 1
    rows = processes * found.training.per_device_train_batch_size
    prompts = rows * found.training.steps_per_generation / found.training.num_generations
    assert prompts == (256 if "dapo" in recipe else 64)


def test_settings_in_force_give_the_same_recipe(tmp_path):
    flags = ["--gdro_rollout_n_max", "8", "--learning_rate", "1e-4", "--reward_funcs", "exact"]
    flags += ["--model_init_kwargs", '{"use_cache": false}']
    first = resolve(TINY, flags, "x")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(first.settings))
    again = resolve(read_settings(tmp_path), [], "x")
    assert again.output_dir == tmp_path, "a run folder is continued where it is"
    elsewhere = {"output_dir": None, "logging_dir": None}
    assert again.settings | elsewhere == first.settings | elsewhere
    assert again.training.to_dict() | elsewhere == first.training.to_dict() | elsewhere
    assert again.training.model_init_kwargs == {"use_cache": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nlearning_rate: 1\nseed: 2\n", "the key seed stands twice"),
        ("gdro_preset: joint\ngdro: {preset: grpo}\n", "gdro_preset is given twice"),
    ],
)
def test_nothing_is_given_twice(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_settings(tmp_path / "a.yaml")


def test_yaml_and_flags_mean_the_same(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "model_name_or_path: arithmetic\nlearning_rate: 1e-4\neval_before: false\n"
        "gdro: {preset: rollout, rollout: {n_min: 3}, difficulty: {edges: [.2, .6]}}\n"
    )
    flags = "--learning-rate 1e-4 --no_eval_before --gdro_preset=rollout --gdro_rollout_n_min 3"
    flags += " --gdro_difficulty_edges .2 .6"
    assert resolve(read_settings(path)).settings == resolve(TINY, flags.split()).settings
    config = resolve(read_settings(path)).training.controller_config
    assert (config.rollout.n_min, config.difficulty.bins) == (3, 3)
    assert config.prompt.weigh == "none"


def test_flags_win_and_null_is_none():
    found = resolve(TINY | {"max_steps": 7, "eval_prompts": None}, ["--max_steps", "9"])
    assert found.training.max_steps == 9
    assert found.run.eval_prompts is None


@pytest.mark.parametrize(
    ("settings", "flags", "message"),
    [
        ({"learning_rat": 1}, [], "learning_rat is unknown; did you mean learning_rate"),
        ({"gdro_rollout_nmin": 2}, [], "did you mean gdro_rollout_n_min"),
        ({}, ["--max-stepz", "3"], "max_stepz is unknown; did you mean max_steps"),
        ({"learning_rate": "fast"}, [], "learning_rate: invalid float value: 'fast'"),
        ({"learning_rate": {"a": 1}}, [], "learning_rate: invalid float value"),
        ({}, ["--max_steps", "1.5"], "max_steps: invalid int value: '1.5'"),
        ({}, ["--gdro_rollout_n_min", "1"], "rollout.n_min must be >= 2, got 1"),
        ({}, ["--gdro_preset", "best"], "gdro_preset: invalid choice: 'best'"),
        ({}, ["--eval_k", "0"], "eval_k must be >= 1, got 0"),
        (
            {},
            [
                "--num_generations",
                "16",
                "--per_device_train_batch_size",
                "16",
                "--gdro_rollout_n_max",
                "12",
            ],
            "n_max = 2 .. 12",
        ),
        ({}, ["stray"], "stray is no flag"),
        ({"reward_funcs": []}, [], "reward_funcs must name at least one"),
        ({"model_name_or_path": None}, [], "model_name_or_path is missing"),
        ({"max_steps": None}, [], "max_steps must have a value, got null"),
        ({"no_eval_before": None}, [], "no_eval_before must have a value, got null"),
    ],
)
def test_errors_name_the_setting(settings, flags, message):
    with pytest.raises(ConfigError) as caught:
        resolve(TINY | settings, flags)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- 1", "a: [", "gdro: 3", ""])
def test_broken_files(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match="a.yaml: "):
        read_settings(tmp_path / "a.yaml")


def test_a_folder_that_is_no_run_does_not_hide_a_shipped_recipe(tmp_path, monkeypatch):
    shipped = read_settings("arithmetic")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arithmetic").mkdir()
    assert read_settings("arithmetic") == shipped
    (tmp_path / "arithmetic" / "recipe.yaml").write_text("seed: 3\n")
    assert read_settings("arithmetic") == {"seed": 3, "output_dir": "arithmetic"}
    with pytest.raises(ConfigError, match="no such recipe file"):
        read_settings(tmp_path)


def test_missing_file_names_the_shipped_ones():
    with pytest.raises(ConfigError, match="arithmtic: no such recipe file; .* arithmetic, gsm8k"):
        read_settings("arithmtic")
