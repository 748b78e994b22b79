"""What the commands share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 140
"""Of tables where the output is no terminal and COLUMNS is not set."""


def terminal() -> "Console":
    """The standard output; wide where it is no terminal, so that no column of a table is cut."""
    import os

    from rich.console import Console

    found = Console()
    wide = not found.is_terminal and "COLUMNS" not in os.environ
    return Console(width=WIDTH) if wide else found


def integers(flag: str, text: str) -> tuple[int, ...]:
    """Of words separated by commas."""
    from gdro.core.errors import ConfigError

    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(f"{flag} must be integers separated by commas, got {text!r}") from None


def quiet() -> None:
    """Silences what our progress line replaces, unless the user asked for it."""
    import os
    import warnings

    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        import datasets
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing. is deprecated.*")
