"""What is checked before a verl command starts, and who is who in its data."""

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import harness
import pytest
from datasets import Dataset
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from gdro.core.config import ControllerConfig
from gdro.core.errors import ConfigError, DataError, UnsupportedError
from gdro.core.presets import PRESETS
from gdro.trainers.verl import MODES, border
from gdro.trainers.verl.identity import batch_ids, column, columns, dataset_ids
from gdro.trainers.verl.trainer import GDROTrainerColocateAsync, GDROTrainerSync

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
OURS = "trainer.v1.trainer_mode=gdro_sync"


def config_of(*overrides: str, mode: str = "gdro_sync") -> Any:
    """A verl configuration as its own hydra composes it."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(
            "ppo_trainer",
            ["hydra.searchpath=[pkg://gdro.trainers.verl.config]", "+gdro=default",
             *([f"trainer.v1.trainer_mode={mode}"] if mode else []),
             "actor_rollout_ref.rollout.n=4", "algorithm.adv_estimator=grpo", *overrides],
        )  # fmt: skip


def test_every_mode_is_registered_by_the_entry_point() -> None:
    """In a fresh process, by nothing but `import verl`."""
    words = "import verl; from verl.trainer.ppo.v1 import get_trainer_cls as get; "
    words += f"print([get(mode).__name__ for mode in {MODES}])"
    said = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert "GDROTrainerSync" in said.stdout


def test_the_group_is_the_settings() -> None:
    """The shipped file is what the script writes, and null everywhere is the preset."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import verl_config
    finally:
        sys.path.pop(0)
    assert verl_config.PATH.read_text() == verl_config.text()
    for preset in PRESETS:
        found = border.settings_of(config_of(f"gdro.preset={preset}"))
        assert found.method == preset
        assert found.controller == ControllerConfig.preset(preset)


def test_settings_by_the_same_names_as_everywhere() -> None:
    config = config_of("gdro.preset=rollout", "gdro.rollout.n_min=3", "gdro.rollout.power=1",
                       "gdro.difficulty.edges=[.2,.5]", "gdro.seed=7")  # fmt: skip
    found = border.settings_of(config)
    assert found.controller.rollout.n_min == 3
    assert found.controller.rollout.power == 1.0
    assert found.controller.difficulty.edges == (0.2, 0.5)
    assert found.controller.difficulty.bins == 3
    assert (found.seed, found.method) == (7, "rollout, changed")


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(Exception, match="n_mim"):  # hydra's own
        config_of("gdro.rollout.n_mim=3")
    for more in ("+gdro.rollout.n_mim=3", "+gdro.rolout=3", "+gdro.rolout.n_min=3"):
        with pytest.raises(ConfigError, match=r"rol+out.* is unknown; known are"):
            border.settings_of(config_of(more))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("gdro.rollout.n_min=1", "rollout.n_min must be >= 2, got 1"),
        ("gdro.preset=jont", "preset must be one of .*, got 'jont'"),
        ("gdro.seed=a", "gdro.seed must be of type int, got 'a'"),
        ("gdro.seed=-1", "gdro.seed must be >= 0, got -1"),
        ("gdro.correct=null", "gdro.correct must be of type str, got None"),
        ("actor_rollout_ref.rollout.n=1", "must be within rollout.n_min .. rollout.n_max = 2"),
    ],
)
def test_a_wrong_value_is_named(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        border.settings_of(config_of(override))


def test_the_group_alone_sets_the_mode() -> None:
    assert config_of(mode="").trainer.v1.trainer_mode == "gdro_sync"
    ahead = config_of(mode="gdro_colocate_async")
    assert ahead.trainer.v1.trainer_mode == "gdro_colocate_async"


def test_without_the_group_the_words_to_add_are_said() -> None:
    config = OmegaConf.to_container(config_of())
    del config["gdro"]  # type: ignore[arg-type, attr-defined]
    with pytest.raises(ConfigError, match=r"add hydra.searchpath=\[pkg://gdro"):
        border.settings_of(OmegaConf.create(config))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["algorithm.adv_estimator=gae"], "adv_estimator=gae is not supported.*use one of grpo"),
        (["algorithm.filter_groups.enable=True"], "filter_groups.enable=True"),
        (["skip.rollout_tq.enable=True"], "skip.rollout_tq"),
        (["gdro.preset=dapo"], "gdro.preset=dapo is not supported.*in rounds"),
        (["algorithm.rollout_correction.bypass_mode=True"], "bypass_mode=True.*no memory"),
        (["distillation.enabled=True"], "distillation.enabled=True"),
        (
            ["actor_rollout_ref.rollout.enable_rollout_routing_replay=True"],
            "rollout.enable_rollout_routing_replay=True.*no memory",
        ),
        (["algorithm.use_kl_in_reward=True"], "use_kl_in_reward=True"),
        (["algorithm.adv_estimator=rloo"], "adv_estimator=rloo"),
        (["gdro.correct=acc", "reward.reward_model.enable=True"], "gdro.correct=acc.*colocated"),
        (["++trainer.v1.sampler.custom_sampler.path=a.py"], "custom_sampler.path=a.py"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: list[str], words: str) -> None:
    config = config_of(*overrides)
    with pytest.raises(UnsupportedError, match=words):
        border.check(config, border.settings_of(config))


def test_bypass_mode_goes_without_the_memory() -> None:
    config = config_of("algorithm.rollout_correction.bypass_mode=True", "gdro.preset=joint")
    settings = border.settings_of(config)
    border.check(config, settings)
    assert not settings.controller.replay.successes


def test_other_methods_of_verl_than_expected_are_found_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import verl
    from verl.trainer.ppo.v1 import PPOTrainer

    border.check_engine(GDROTrainerSync)
    with monkeypatch.context() as patch:
        patch.setattr(verl, "__version__", "0.10.1")
        with pytest.raises(UnsupportedError, match=r"verl must be >=0.9,<0.10, got 0.10.1"):
            border.check_engine(GDROTrainerSync)
    monkeypatch.setattr(PPOTrainer, "_compute_advantage", lambda self, batch: batch)
    with pytest.raises(UnsupportedError, match=r"_compute_advantage takes \('self', 'batch'\)"):
        border.check_engine(GDROTrainerColocateAsync)


def test_what_is_late_is_verl_s_to_say_where_generation_runs_ahead() -> None:
    """A refill of a single prompt is a plan of its own."""
    assert border.settings_of(config_of()).controller.outcome.max_staleness == 64
    ahead = config_of(mode="gdro_colocate_async")
    assert border.settings_of(ahead).controller.outcome.max_staleness == 1_000_000
    ahead.gdro.outcome.max_staleness = 9
    with pytest.raises(ConfigError, match=r"max_staleness must be null .*, got 9"):
        border.settings_of(ahead)


def test_slices_of_a_dispatch_are_refused() -> None:
    more = "trainer.v1.separate_async.parameter_sync_step"
    config = config_of(f"{more}=4", mode="gdro_separate_async")
    with pytest.raises(UnsupportedError, match="parameter_sync_step=4 is not supported"):
        border.check(config, border.settings_of(config))
    for fine in ([f"{more}=1"], [f"{more}=4", "gdro.preset=prompt"]):
        config = config_of(*fine, mode="gdro_separate_async")
        border.check(config, border.settings_of(config))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("verl.experimental.fully_async_policy.fully_async_main", ["+gdro=default"]),
        ("verl.trainer.main_ppo_v0", ["+gdro=default"]),
        ("verl.trainer.main_ppo", [OURS, "+gdro=default", "trainer.use_v1=False"]),
        ("verl.trainer.main_ppo", ["+gdro.preset=paper"]),
        ("verl.trainer.main_ppo", ["+gdro=default", "trainer.v1.trainer_mode=sync"]),
    ],
)
def test_a_command_that_would_ignore_the_controller_is_stopped(name: str, words: list[str]) -> None:
    with pytest.raises(SystemExit, match="nothing of gdro would happen"):
        border.check_command(["python", "-m", name, *words])
    path = f"/site-packages/{name.replace('.', '/')}.py"
    with pytest.raises(SystemExit, match="nothing of gdro would happen"):
        border.check_command(["python", path, *words])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("verl.trainer.main_ppo", [OURS, "+gdro=default"]),
        ("verl.trainer.main_ppo", ["+gdro=default", "gdro.preset=paper"]),
        ("verl.trainer.main_ppo", ["--config-name=mine", "gdro.preset=rollout"]),
        (
            "verl.trainer.main_ppo",
            ["+gdro=default", "trainer.default_local_dir=/verl/experimental/1"],
        ),
        (
            "verl.trainer.main_ppo",
            [
                "+gdro=default",
                "reward.reward_manager.module.path=pkg://verl.experimental.reward_loop.reward_manager",
            ],
        ),
        ("verl.trainer.main_ppo", ["trainer.project_name=gdro", "trainer.use_v1=False"]),
        ("verl.experimental.fully_async_policy.fully_async_main", ["data.path=/data/gdro/base"]),
        ("pytest", ["tests/trainers/verl", "-k", "gdro"]),
    ],
)
def test_other_commands_are_left_alone(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    border.check_command(["python", "-X", "faulthandler", "-m", name, *words])
    assert capsys.readouterr().err == ""


def test_a_program_that_is_not_verl_s_is_told_what_it_must_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    border.check_command(["python", "-u", "recipes/mine.py", "+gdro=default"])
    assert "recipes/mine.py is not verl.trainer.main_ppo" in capsys.readouterr().err
    border.check_command(["python", "-m", "gdro.trainers.verl"])
    assert capsys.readouterr().err == ""


@pytest.mark.nightly
def test_fully_async_refuses_in_its_own_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "verl.experimental.fully_async_policy.fully_async_main",
               "+gdro=default"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert said.returncode != 0
    assert "gives every prompt rollout.n rollouts" in said.stderr


# -- data --------------------------------------------------------------------------------------


def data(rows: list[dict[str, Any]]) -> Any:
    return types.SimpleNamespace(dataframe=Dataset.from_list(rows))


def row(index: Any, source: str = "toy", **more: Any) -> dict[str, Any]:
    return {"data_source": source, "level": 2, "extra_info": {"index": index} | more}


def test_ids_of_a_batch_are_those_of_the_data() -> None:
    rows = [row(0, split="train"), row(0, source="other", split="train"), row(0, split="b")]
    infos = [r["extra_info"] for r in rows]
    ids = dataset_ids(data(rows))
    assert ids == ["toy/train/0", "other/train/0", "toy/b/0"]
    assert batch_ids([r["data_source"] for r in rows], infos).tolist() == ids


def test_ids_of_the_rows_that_a_filter_left(assets: Path) -> None:
    """verl drops long prompts: rows are then an index into a file, and order is kept."""
    import pandas as pd

    frame = Dataset.from_list([row(i, split="train") for i in range(6)])
    kept = types.SimpleNamespace(dataframe=frame.select([4, 1, 3]))
    assert dataset_ids(kept) == ["toy/train/4", "toy/train/1", "toy/train/3"]
    whole = Dataset.from_pandas(pd.read_parquet(assets / "train.parquet"))
    assert len(dataset_ids(types.SimpleNamespace(dataframe=whole))) == harness.PROMPTS


def test_duplicates_and_missing_indices_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"rows 1 and 2 of the training data are both 'toy/train/5'"
    ):
        dataset_ids(data([row(4, split="train"), row(5, split="train"), row(5, split="train")]))
    with pytest.raises(DataError, match="no extra_info.index"):
        dataset_ids(data([{"data_source": "a", "extra_info": {"split": "train"}}]))
    with pytest.raises(DataError, match="row 1 of the training data has no extra_info.index"):
        dataset_ids(data([row(0), row(None)]))
    with pytest.raises(UnsupportedError, match="must be verl's RLHFDataset"):
        dataset_ids([row(0)])


def test_columns_of_the_classifier() -> None:
    rows = data([row(i, level=i % 2, rate=i / 4) for i in range(4)])
    config = ControllerConfig.from_dict({
        "difficulty.prior_column": "extra_info.rate", "difficulty.source": "column:level",
    })  # fmt: skip
    assert columns(rows, config) == {"prior": [0.0, 0.25, 0.5, 0.75], "group": [2] * 4}
    with pytest.raises(DataError, match="no column 'lvl'; they have data_source"):
        column(rows, "lvl")
    with pytest.raises(DataError, match="'extra_info' of the training data has no field 'lvl'"):
        column(rows, "extra_info.lvl")


@pytest.mark.parametrize("size", ["1.7B", "4B", "8B"])
def test_the_launch_script_composes(size: str, tmp_path: Path) -> None:
    """Every setting is one of verl's or ours, and what comes of them is fit to train."""
    for name in ("dapo", "math500"):
        (tmp_path / f"{name}.parquet").touch()
    for method in ("grpo", "prompt", "rollout", "joint") if size == "8B" else ("rollout_replay",):
        said = subprocess.run(
            ["bash", ROOT / "examples/verl/qwen3_dapo.sh", size, method, "--cfg", "job"],
            env=os.environ | {"DATA": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"},
            capture_output=True, text=True,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr[-2000:]
        config = OmegaConf.create(said.stdout[said.stdout.index("actor_rollout_ref:") :])
        settings = border.settings_of(config)
        border.check(config, settings)
        assert settings.method == method
        assert config.actor_rollout_ref.model.path == f"Qwen/Qwen3-{size}-Base"
        assert (
            config.data.train_batch_size % config.actor_rollout_ref.actor.ppo_mini_batch_size == 0
        )


def test_the_launch_script_knows_its_sizes() -> None:
    said = subprocess.run(["bash", ROOT / "examples/verl/qwen3_dapo.sh", "7B"],
                          capture_output=True, text=True)  # fmt: skip
    assert said.returncode == 2
    assert "must be 1.7B, 4B or 8B, got 7B" in said.stderr
