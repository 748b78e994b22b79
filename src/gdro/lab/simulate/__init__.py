"""A fast simulator of RL training: softmax policies with shared skills, no network.

`population` is what is learnt, `policy` the learner, `run` one training run under the real
controller, `study` many of them, `calibrate` the population's parameters from recorded runs.
"""

from gdro.lab.simulate.calibrate import Calibration, calibrate
from gdro.lab.simulate.population import Population, World
from gdro.lab.simulate.recorded import Recorded, Runs, recorded
from gdro.lab.simulate.run import Training, simulate
from gdro.lab.simulate.study import Block, Variant, many, processes, results, variants

__all__ = [
    "Block",
    "Calibration",
    "Population",
    "Recorded",
    "Runs",
    "Training",
    "Variant",
    "World",
    "calibrate",
    "many",
    "processes",
    "recorded",
    "results",
    "simulate",
    "variants",
]
