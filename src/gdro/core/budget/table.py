"""Tables of some classes by their total, and how one more class is laid over them."""

from dataclasses import dataclass

import numpy as np

from gdro.core.types import FloatArray


@dataclass(frozen=True, eq=False)
class Table:
    """A value for each total t = start, start + 1, ... of some classes."""

    start: int
    value_T: FloatArray

    @property
    def end(self) -> int:
        """The last total, inclusive."""
        return self.start + self.value_T.size - 1

    def before(self, c: int, arms: int, start: int, end: int, nothing: float) -> FloatArray:
        """What the totals start..end come from when a class of c items is added.

        Returns:
            A view [arms, end - start + 1] whose entry (j, t) is the value of the total t - c j, and
            `nothing` where the table has none. Its rows overlap: it must not be written to.
        """
        reach = c * (arms - 1)
        wide = np.empty(reach + end - start + 1)
        wide.fill(nothing)
        first, last = max(self.start, start - reach), min(self.end, end)
        offset = start - reach  # the total of wide[0]
        wide[first - offset : last - offset + 1] = self.value_T[
            first - self.start : last - self.start + 1
        ]
        shape, step = (arms, end - start + 1), wide.itemsize
        return np.ndarray(shape, wide.dtype, wide, reach * step, (-c * step, step))


def interpolated(value_K: FloatArray, c: int) -> FloatArray:
    """Value of a class of c items at every x = 0..c (K - 1), linear between its arms."""
    slope_K = (value_K[1:] - value_K[:-1]) / c
    found_X = np.empty(c * slope_K.size + 1)
    between = found_X[:-1].reshape(slope_K.size, c)
    np.multiply(slope_K[:, None], np.arange(c), out=between)
    between += value_K[:-1, None]
    found_X[-1] = value_K[-1]
    return found_X
