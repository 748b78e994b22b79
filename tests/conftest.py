"""Profiles of hypothesis; the default is its own."""

from hypothesis import Phase, settings

# For `make mutate`: the same examples every time, and a failure is enough, it needs no shrinking.
settings.register_profile(
    "mutate", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
