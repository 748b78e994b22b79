"""Prompt-GDRO: the weight of a prompt is that of its bin (paper 3.2, Eq. 16)."""

from gdro.core.policy import Batch, Setting
from gdro.core.types import FloatArray, IntArray
from gdro.core.weigh.base import Weigher


class GDRO(Weigher):
    """The adversary's answer over bins, as `prompt.realisation` says (method D9).

    The scores are the controller's `Adversary`, which sees every outcome.
    """

    def __init__(self, setting: Setting) -> None:
        self._adversary = setting.adversary

    def weigh(self, batch: Batch, unit_P: FloatArray | IntArray) -> FloatArray:
        return self._adversary.weight_P(batch.bin_P, unit_P)
