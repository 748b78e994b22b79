"""The page about a run, or about several side by side; and its numbers for the terminal."""

from gdro.report.curriculum import curriculum_numbers
from gdro.report.page import build_report

__all__ = ["build_report", "curriculum_numbers"]
