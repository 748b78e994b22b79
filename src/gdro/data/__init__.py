"""Prompts and where they come from: the built-in suite, files, folders, and the hub."""

from gdro.data.prompts import Report, inspect_prompts, load_prompts

__all__ = ["Report", "inspect_prompts", "load_prompts"]
