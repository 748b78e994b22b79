"""The configuration: what is refused and by which path, and what a method asks of an Outcome."""

import dataclasses
import re

import pytest

from gdro import Controller, ControllerConfig
from gdro.core.config import DifficultyConfig, RolloutConfig
from gdro.core.errors import ConfigError
from gdro.core.presets import DEFAULT, PRESETS


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
        ({"prompt": {"weigh": "gdro", "realisation": "sample"}, "select.policy": "greso"},
         "select.policy must be sample with prompt.realisation=sample, got greso"),
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


SURROGATE = {"weigh": "gdro", "signal": "surrogate"}


def test_what_is_not_given_is_the_default_without_its_memory():
    assert ControllerConfig() == ControllerConfig.preset("rollout")
    with_memory = ControllerConfig.from_dict({"replay.successes": True})
    assert with_memory == ControllerConfig.preset(DEFAULT) == Controller().config


def test_sampling_chooses_the_prompts():
    config = ControllerConfig.from_dict({"prompt": {"weigh": "gdro", "realisation": "sample"}})
    assert config.select.policy == "sample"
    assert ControllerConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "required"),
    [
        ({}, {}),
        ({"prompt": SURROGATE}, {"loss_R": "prompt.signal=surrogate"}),
        ({"prompt.signal": "surrogate"}, {}),
        ({"prompt.signal": "surrogate", "select.policy": "sample"},
         {"loss_R": "prompt.signal=surrogate"}),
        ({"rollout.utility": "surrogate"}, {}),
        ({"rollout.utility": "surrogate", "rollout.allocator": "exp3p"},
         {"loss_R": "rollout.utility=surrogate"}),
        ({"rollout.proxy": "loss"}, {"loss_R": "rollout.proxy=loss"}),
        ({"rollout.proxy": "score"}, {"score_R": "rollout.proxy=score"}),
        ({"rollout.proxy": "score", "prompt": SURROGATE},
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


def test_every_field_has_a_bound_or_choices_and_says_so() -> None:
    """A new number without a bound, or a message without path, bound and value, fails here."""
    for path, field, hint in ControllerConfig.fields():
        room = path.split(".")[0]
        if hint in (int, float):
            kinds = set(field.metadata["bounds"])
            assert kinds & {"ge", "gt"}, f"{path} has no lower bound"
            assert kinds & {"le", "lt"}, f"{path} has no upper bound"
            for kind, bound in field.metadata["bounds"].items():
                step = {"ge": -1, "gt": 0, "le": max(1, bound), "lt": 0}[kind]
                with pytest.raises(
                    ConfigError, match=rf"{path} must be .*{re.escape(str(bound))}, got"
                ) as caught:
                    ControllerConfig.from_dict({path: hint(bound + step)})
                assert str(hint(bound + step)) in str(caught.value)
        with pytest.raises(ConfigError, match=f"{path} must be"):
            ControllerConfig.from_dict({path: object()})
        assert field.metadata["help"]
        assert room in {f.name for f in dataclasses.fields(ControllerConfig)}


def test_unknown_and_clashing_fields() -> None:
    for values, match in (
        ({"rollout.n_mni": 2}, r"rollout.n_mni is unknown; known are"),
        ({"rolout": {}}, "rolout is unknown; known are difficulty, select, prompt"),
        ({"rollout": {"n_min": 8, "n_max": 4}},
         "rollout.n_max must be >= rollout.n_min = 8, got 4"),
        ({"difficulty.edges": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]},
         r"difficulty.bins must be len\(difficulty.edges\) \+ 1 = 7, got 10"),
        ({"difficulty.delta": 0.06}, "difficulty.delta must be < half the narrowest bin, 0.05"),
        ({"rollout.allocator": "neyman"}, "rollout.aggregation must be prompt or neutral"),
        ({"difficulty.source": "column:"}, "difficulty.source must be online, random or column"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=match):
            ControllerConfig.from_dict(values)
    with pytest.raises(ConfigError, match="preset must be one of grpo"):
        ControllerConfig.preset("ppo")
