"""Policies by name: what may be combined, what is unknown, and one of the user's own."""

from typing import Any

import numpy as np
import pytest

from gdro import Controller, ControllerConfig, Outcome
from gdro.core import checkpoint, registry
from gdro.core.allocate.base import Allocator
from gdro.core.errors import BudgetError, ConfigError
from gdro.core.select.base import Selector
from gdro.core.weigh.base import Weigher

DAPO, ADA = {"select.policy": "dapo"}, {"rollout.allocator": "reinforce_ada"}
DRAWN = {"prompt.weigh": "gdro", "prompt.realisation": "sample"}


@pytest.mark.parametrize("path", ["select.policy", "rollout.allocator", "prompt.weigh"])
def test_an_unknown_policy_is_refused_with_the_known_ones(path: str) -> None:
    names = {"select.policy": registry.SELECT, "rollout.allocator": registry.ALLOCATE,
             "prompt.weigh": registry.WEIGH}[path]  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        ControllerConfig.from_dict({path: "mine"})
    assert (
        str(caught.value) == f"{path} must be one of {', '.join(names)}, module:Class, got 'mine'"
    )


@pytest.mark.parametrize("policy", [n for n in registry.SELECT if n not in ("uniform", "sample")])
def test_a_realisation_by_drawing_takes_no_other_policy(policy: str) -> None:
    match = f"^select.policy must be sample with prompt.realisation=sample, got {policy}$"
    with pytest.raises(ConfigError, match=match):
        ControllerConfig.from_dict(DRAWN | {"select.policy": policy})


@pytest.mark.parametrize("weigh", registry.WEIGH)
def test_drawing_goes_with_any_weight(weigh: str) -> None:
    config = ControllerConfig.from_dict({"select.policy": "sample", "prompt.weigh": weigh})
    assert (config.select.policy, config.prompt.realisation) == ("sample", "omega")


def test_the_realisation_brings_its_policy() -> None:
    config = ControllerConfig.from_dict(DRAWN)
    assert config.select.policy == "sample"
    assert ControllerConfig.from_dict(config.to_dict()) == config
    idle = {"prompt.realisation": "sample"}
    assert ControllerConfig.from_dict(idle).select.policy == "uniform"


def test_two_methods_in_rounds_are_one_too_many() -> None:
    match = "^select.policy=dapo and rollout.allocator=reinforce_ada both generate in rounds"
    with pytest.raises(ConfigError, match=match):
        Controller(ControllerConfig.from_dict(DAPO | ADA))


SURROGATE = {"prompt.weigh": "gdro", "prompt.signal": "surrogate"}
SURROGATE_BANDIT = {"rollout.allocator": "exp3p", "rollout.utility": "surrogate"}


@pytest.mark.parametrize(
    ("rounds", "needs", "named"),
    [
        (DAPO, SURROGATE, "prompt.signal=surrogate"),
        (DAPO, SURROGATE_BANDIT, "rollout.utility=surrogate"),
        (DAPO, {"rollout.proxy": "loss"}, "rollout.proxy=loss"),
        (DAPO, {"rollout.proxy": "score"}, "rollout.proxy=score"),
        (ADA, SURROGATE, "prompt.signal=surrogate"),
        (ADA, {"rollout.proxy": "loss"}, "rollout.proxy=loss"),
        (ADA, {"rollout.proxy": "score"}, "rollout.proxy=score"),
    ],
)
def test_rounds_give_no_losses(rounds: dict[str, str], needs: dict[str, str], named: str) -> None:
    (path, name), = rounds.items()  # fmt: skip
    match = f"^{named} needs to see every rollout train, .*{path}={name}"
    with pytest.raises(ConfigError, match=match):
        Controller(ControllerConfig.from_dict(rounds | needs))
    unused = {"prompt.signal": "surrogate"}
    assert Controller(ControllerConfig.from_dict(rounds | unused)).rounds > 1


# -- one's own --------------------------------------------------------------------------------


class First(Selector):
    """The first prompts of the data set, further on with every step that was observed."""

    def __init__(self, setting: Any) -> None:
        self.start = 0

    def select(self, pool: Any, num_prompts: int, rng: np.random.Generator) -> Any:
        return (self.start + np.arange(num_prompts)) % pool.size

    def observe(self, feedback: Any) -> None:
        self.start += len(feedback.n_P)

    def state_dict(self) -> dict[str, Any]:
        return {"start": self.start}

    def load_state_dict(self, state: Any) -> None:
        self.start = state["start"]

    def metrics(self) -> dict[str, float]:
        return {"select/start": float(self.start)}


class Greedy(Allocator):
    """As many as may be to the first prompts."""

    def allocate(self, batch: Any, rng: np.random.Generator) -> Any:
        n_P = batch.lo_P.copy()
        for i in range(len(n_P)):
            n_P[i] += min(batch.hi_P[i] - n_P[i], batch.budget - n_P.sum())
        return n_P


class Last(Weigher):
    """All weight on the last prompt."""

    def weigh(self, batch: Any, unit_P: Any) -> Any:
        weight_P = np.zeros(len(unit_P))
        weight_P[-1] = np.sum(unit_P) / unit_P[-1]
        return weight_P


MINE = {"select.policy": "first", "rollout.allocator": "greedy", "prompt.weigh": "last"}


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SELECT, "first", f"{__name__}:First")
    monkeypatch.setitem(registry.ALLOCATE, "greedy", f"{__name__}:Greedy")
    monkeypatch.setitem(registry.WEIGH, "last", f"{__name__}:Last")


@pytest.mark.usefixtures("mine")
def test_policies_of_ones_own_work_behind_every_port(tmp_path: Any) -> None:
    def make() -> Controller:
        controller = Controller(ControllerConfig.from_dict(MINE), n_mean=4)
        controller.bind([f"p{i}" for i in range(6)])
        return controller

    controller = make()
    for start in (0, 4, 2):
        chosen = controller.select(4)
        assert chosen.tolist() == [(start + i) % 6 for i in range(4)]
        plan = controller.plan([f"p{i}" for i in chosen])
        assert plan.n_P.sum() == 16
        if start == 2:  # every prompt is known by now
            assert plan.n_P.tolist() == [10, 2, 2, 2]
        assert plan.weight_P.tolist() == [0, 0, 0, 16 / plan.n_P[-1]]
        ids = np.repeat(plan.prompt_P, plan.n_P)
        record = controller.observe(plan, Outcome(prompt_R=ids, correct_R=np.arange(16) % 2))
        assert record.metrics["select/start"] == controller.method.selector.start  # type: ignore[attr-defined]
        path = tmp_path / "state.npz"
        checkpoint.save(path, controller.state_dict(), fingerprint=controller.fingerprint)
        controller = make()
        controller.load_state_dict(checkpoint.load(path, fingerprint=controller.fingerprint))


def test_the_registry_is_as_it_was() -> None:
    """And an entry that leads nowhere says which."""
    assert not {"first", "greedy", "last"} & {*registry.SELECT, *registry.ALLOCATE, *registry.WEIGH}
    with pytest.raises(ConfigError, match="no_such_module:Mine cannot be loaded: No module"):
        registry.load("no_such_module:Mine")
    with pytest.raises(ConfigError, match=r"gdro.core.types:Mine cannot be loaded: .*Mine"):
        registry.load("gdro.core.types:Mine")


class Careless(Allocator):
    def allocate(self, batch: Any, rng: Any) -> Any:
        return np.ones(len(batch.p_P), np.int64)


def test_an_allocator_that_misses_the_budget_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ALLOCATE, "careless", f"{__name__}:Careless")
    config = ControllerConfig.from_dict({"rollout.allocator": "careless"})
    with pytest.raises(BudgetError, match="careless gave 2 rollouts, the budget is 8"):
        Controller(config).plan(["a", "b"])
