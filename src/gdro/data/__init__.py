"""Prompts and where they come from: the built-in suites, files, folders, memory, and the hub."""

from gdro.data.prompts import inspect_prompts, load_prompts
from gdro.data.report import Report, table

__all__ = ["Report", "inspect_prompts", "load_prompts", "table"]
