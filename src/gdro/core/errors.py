"""Errors for users. Each is a `GdroError` and the built-in error that it refines."""


class GdroError(Exception):
    """Base of every error that gdro raises for its user."""


class ConfigError(GdroError, ValueError):
    """A configuration field is unknown, of the wrong type, or out of its bounds."""


class DataError(GdroError, ValueError):
    """A data set, an id, a reward or an outcome cannot be used as given."""


class BudgetError(GdroError, ValueError):
    """No integer allocation within the bounds meets the budget."""


class CheckpointError(GdroError, ValueError):
    """A checkpoint is damaged, of another version, or of another configuration."""


class UnsupportedError(GdroError, NotImplementedError):
    """The engine or mode does not support what was asked; the message says why."""
