"""Every prompt its own group: exponential weights on its own failure rate."""

from gdro.core.policy import Batch, Setting
from gdro.core.types import FloatArray, IntArray
from gdro.core.weigh.base import Weigher
from gdro.core.weigh.cap import mean_one_over_seen


class PerPrompt(Weigher):
    """min(s exp(eta (1 - p)), cap), p the posterior mean success rate of the prompt itself.

    Prompt-GDRO without bins: the posterior takes the place of the moving average (Eq. 12), the
    weight that of Eq. 16, with s such that the mean over the seen prompts is 1 (method D7). What
    bins add to it (pooled evidence, hysteresis) is the difference between the two.
    """

    def __init__(self, setting: Setting) -> None:
        self._eta, self._cap = setting.config.prompt.eta, setting.config.prompt.cap

    def weigh(self, batch: Batch, unit_P: FloatArray | IntArray) -> FloatArray:
        return mean_one_over_seen(-self._eta * batch.p_P, batch.bin_P, unit_P, self._cap)
