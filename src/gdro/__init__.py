"""RL with verifiable rewards that spends its compute where learning happens (arXiv 2601.19280)."""

from gdro.core.config import ControllerConfig
from gdro.core.controller import Controller
from gdro.core.types import Outcome, Plan

__all__ = ["Controller", "ControllerConfig", "Outcome", "Plan", "__version__"]
__version__ = "0.1.0"
