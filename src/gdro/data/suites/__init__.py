"""The built-in suites: problems that code makes, with frozen splits, and their base models.

A suite is named as a data set is: ``arithmetic``, ``arithmetic/hard``, ``worded``. `suite` says
what one is, `beliefs` how a base model comes to know it badly, and `base` trains one. Each
collection of families has a folder of its own beside this one.
"""

from pathlib import Path

from gdro.core.errors import DataError
from gdro.data.suites.suite import Suite


def suites() -> dict[str, Suite]:
    """Every suite by its name."""
    from gdro.data import arithmetic, worded

    return {suite.name: suite for suite in (*arithmetic.SUITES, *worded.SUITES)}


def find(name: str) -> Suite | None:
    """The suite of that name; None if it is the name of something else.

    Raises:
        DataError: if it begins with a collection's name, and is no suite and no path.
    """
    known = suites()
    if name not in known and name.partition("/")[0] in known and not Path(name).exists():
        raise DataError(f"{name}: no such suite; there are {', '.join(known)}")
    return known.get(name)


__all__ = ["Suite", "find", "suites"]
