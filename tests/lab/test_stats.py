"""The paired interval against SciPy's."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from gdro.core.errors import DataError
from gdro.lab.stats import paired_difference


@pytest.mark.parametrize("n", [2, 3, 5, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_is_scipys(n, confidence):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n))
    found = paired_difference(list(a), list(b), confidence)
    expected = ttest_rel(a, b).confidence_interval(confidence)
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_pair_has_no_interval():
    found = paired_difference([0.7], [0.5])
    assert (found.mean, found.low, found.high) == (pytest.approx(0.2), None, None)


def test_unpaired():
    with pytest.raises(DataError, match="got 2 and 1"):
        paired_difference([1, 2], [1])
