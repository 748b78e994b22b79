"""TRL's GRPOTrainer with the controller in its loop: `GDROTrainer`, and `GDROConfig`.

What is named here is imported when it is asked for: the flags need no model library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdro.trainers.trl.config import GDROConfig
    from gdro.trainers.trl.trainer import GDROTrainer

__all__ = ["GDROConfig", "GDROTrainer"]


def __getattr__(name: str) -> Any:
    if name == "GDROConfig":
        from gdro.trainers.trl.config import GDROConfig

        return GDROConfig
    if name == "GDROTrainer":
        from gdro.trainers.trl.trainer import GDROTrainer

        return GDROTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
