"""Nested settings by path."""

from gdro.core.tree import leaves


def test_leaves_have_the_path_to_them():
    tree = {"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}
    assert leaves(tree) == {"a": 1, "b.c": [2], "b.d.e": None}
