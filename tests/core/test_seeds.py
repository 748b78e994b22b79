"""The paired interval against SciPy's; curves on common knots."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from gdro.core.errors import DataError
from gdro.core.seeds import on_common_knots, paired_difference


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


def test_curves_of_other_knots_have_the_mean_of_their_lines():
    x, y = on_common_knots([([0, 10], [0, 1]), ([0, 4, 8], [0, 1, 0])])
    assert x.tolist() == [0, 4, 8, 10]
    assert y.tolist() == [[0, 0.4, 0.8, 1], [0, 1, 0, 0]]
