"""Nested settings by their paths."""

from collections.abc import Mapping
from typing import Any


def leaves(tree: Mapping[str, Any], room: str = "") -> dict[str, Any]:
    """Every value by its dotted path: ``{"rollout": {"n_min": 2}}`` -> ``{"rollout.n_min": 2}``.

    Args:
        tree: Mappings within mappings.
        room: Beginning of every path.
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, Mapping)
        found |= leaves(value, f"{room}{name}.") if inner else {f"{room}{name}": value}
    return found
