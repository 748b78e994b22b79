"""Experiments: a run from a recipe, and methods compared at equal compute."""
