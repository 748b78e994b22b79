"""The policies behind the three ports, by the names that the configuration uses.

One line a policy: its name, and where its class is. A setting also takes `module:Class` itself, for
a policy that is not of this package; docs/policies.md shows one from end to end.
"""

from importlib import import_module
from typing import Any

from gdro.core.errors import ConfigError

SELECT = {
    "uniform": "gdro.core.select.uniform:Uniform",
    "sample": "gdro.core.select.mixture:Mixture",
    "dapo": "gdro.core.select.dapo:Dapo",
    "greso": "gdro.core.select.greso:Greso",
    "mopps": "gdro.core.select.mopps:Mopps",
    "sec": "gdro.core.select.sec:Sec",
    "adarft": "gdro.core.select.adarft:AdaRFT",
}

ALLOCATE = {
    "uniform": "gdro.core.allocate.uniform:Uniform",
    "fixed": "gdro.core.allocate.fixed:Fixed",
    "hard_first": "gdro.core.allocate.hard_first:HardFirst",
    "second_look": "gdro.core.allocate.second_look:SecondLook",
    "neyman": "gdro.core.allocate.neyman:Neyman",
    "signal": "gdro.core.allocate.signal:Signal",
    "progress": "gdro.core.allocate.progress:Progress",
    "knapsack": "gdro.core.allocate.knapsack:Knapsack",
    "exp3p": "gdro.core.allocate.exp3p:Exp3P",
    "reinforce_ada": "gdro.core.allocate.reinforce_ada:ReinforceAda",
}

WEIGH = {
    "none": "gdro.core.weigh.none:Even",
    "gdro": "gdro.core.weigh.gdro:GDRO",
    "per_prompt": "gdro.core.weigh.per_prompt:PerPrompt",
    "pass_at_k": "gdro.core.weigh.pass_at_k:PassAtK",
    "implied": "gdro.core.weigh.implied:Implied",
}


def load(entry: str) -> Any:
    """The class that `module:Class` names.

    Raises:
        ConfigError: if there is none.
    """
    module, _, name = entry.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the policy {entry} cannot be loaded: {error}") from error
