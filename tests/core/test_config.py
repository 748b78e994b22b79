"""The configuration: what is refused and by which path, and what a method asks of an Outcome."""

import pytest

from gdro import Controller, ControllerConfig
from gdro.core.config import PRESETS, DifficultyConfig, RolloutConfig
from gdro.core.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"difficulty.edges": [0.4, 0.2], "difficulty.bins": 3}, "edges must be strictly ascend"),
        ({"difficulty.edges": [0.2, 0.2], "difficulty.bins": 3}, "edges must be strictly ascend"),
        ({"difficulty.edges": "0.2"}, "difficulty.edges must be a list of numbers, got '0.2'"),
        ({"difficulty.edges": 0.2}, "difficulty.edges must be a list of numbers, got 0.2"),
        ({"difficulty.edges": [0.2, "x"], "difficulty.bins": 3}, "must be of type float, got 'x'"),
        ({"difficulty.half_life": float("inf")}, "difficulty.half_life must be finite, got inf"),
        ({"difficulty.bins": True}, "difficulty.bins must be of type int, got True"),
        ({"difficulty.memory": "none"}, "memory must be one of discounted, window, all, got 'none"),
        ({"rollout.allocator": "fair"}, "rollout.allocator must be one of uniform, .*, got 'fair'"),
        ({"rollout": 4}, "rollout must be a mapping, got 4"),
        ({"prompt.realisation": "sample", "select.policy": "greso"},
         "select.policy must be sample with .*, got select.policy=greso"),
        ({"select.policy": "sample"}, "got select.policy=sample, prompt.realisation=omega"),
        ({"prompt.realisation": "sample", "prompt.weigh": "none", "select.policy": "sample"},
         "got select.policy=sample, prompt.realisation=sample, prompt.weigh=none"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(values, match):
    with pytest.raises(ConfigError, match=match):
        ControllerConfig.from_dict(values)


def test_a_part_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="rollout must be a RolloutConfig, got DifficultyConfig"):
        ControllerConfig(rollout=DifficultyConfig())  # type: ignore[arg-type]
    assert ControllerConfig(rollout=RolloutConfig(n_max=8)).rollout.n_max == 8


def test_nested_and_dotted_values_are_one_and_come_back():
    edges = [0.2, 0.5]
    nested = {"difficulty": {"edges": edges, "bins": 3}, "rollout": {"n_max": 8, "power": 1}}
    dotted = {f"{room}.{k}": v for room, part in nested.items() for k, v in part.items()}
    config = ControllerConfig.from_dict(nested)
    assert config == ControllerConfig.from_dict(dotted)
    assert config.difficulty.boundaries == (0.0, 0.2, 0.5, 1.0)
    assert config.rollout.power == 1.0
    assert isinstance(config.rollout.power, float)
    plain = config.to_dict()
    assert plain["difficulty"]["edges"] == edges
    assert ControllerConfig.from_dict(plain) == config
    for name in PRESETS:
        config = ControllerConfig.preset(name)
        assert ControllerConfig.from_dict(config.to_dict()) == config


def test_sampling_chooses_the_prompts():
    config = ControllerConfig.from_dict({"prompt.realisation": "sample"})
    assert config.select.policy == "sample"
    assert ControllerConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "required"),
    [
        ({}, {}),
        ({"prompt.signal": "surrogate"}, {"loss_R": "prompt.signal=surrogate"}),
        ({"prompt.signal": "surrogate", "prompt.weigh": "none"}, {}),
        ({"rollout.utility": "surrogate"}, {}),
        ({"rollout.utility": "surrogate", "rollout.allocator": "exp3p"},
         {"loss_R": "rollout.utility=surrogate"}),
        ({"rollout.proxy": "loss"}, {"loss_R": "rollout.proxy=loss"}),
        ({"rollout.proxy": "score"}, {"score_R": "rollout.proxy=score"}),
        ({"rollout.proxy": "score", "prompt.signal": "surrogate"},
         {"loss_R": "prompt.signal=surrogate", "score_R": "rollout.proxy=score"}),
    ],
)  # fmt: skip
def test_what_an_outcome_must_hold_and_why(values, required):
    assert ControllerConfig.from_dict(values).required == required


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (
            {"difficulty.source": "column:family"},
            "bind.group=.* and difficulty.source=column:<name> go together",
        ),
        (
            {"difficulty.prior_column": "rate"},
            "bind.prior=.* and difficulty.prior_column go together",
        ),
        (
            {"difficulty.level_column": "level"},
            "bind.level=.* and difficulty.level_column go together",
        ),
    ],
)
def test_a_column_that_is_named_must_be_bound(values, match):
    with pytest.raises(ConfigError, match=match):
        Controller(ControllerConfig.from_dict(values)).bind(["a", "b"])
