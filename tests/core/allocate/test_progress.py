"""Expected progress of pass@k against quadrature and enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import beta
from tests.core.allocate.batches import RNG, config, make_batch, setting

from gdro.core.aggregation import gradient_scale
from gdro.core.allocate.progress import Progress, progress


@pytest.mark.parametrize("std_scaled", [True, False])
@pytest.mark.parametrize("k", [1, 4, 8])
def test_progress_is_the_mean_over_the_posterior(k, std_scaled):
    a, b = np.array([0.3, 2.0, 1.0]), np.array([5.0, 2.0, 1.0])
    gain = progress(a, b, k, 12, std_scaled)
    for i in range(3):
        for n in range(2, 13):

            def at(p, n=n):
                h = gradient_scale(np.array([n]), np.array([p]))[0] if std_scaled else (n - 1) / n
                return (1 - p) ** (k - 1) * h

            # the weight of the quadrature takes the posterior's singular ends
            mean = quad(at, 0, 1, weight="alg", wvar=(a[i] - 1, b[i] - 1))[0] / beta(a[i], b[i])
            assert gain[i, n - 2] == pytest.approx(mean, rel=1e-7)


@given(st.floats(0, 1), st.integers(3, 200))
def test_what_a_group_makes_of_a_gradient_is_concave_in_its_size(p, n):
    below, at, above = gradient_scale(np.array([n - 1, n, n + 1]), np.full(3, p))
    assert below <= at <= above
    assert above - at <= at - below + 1e-9


def test_progress_maximises_what_pass_at_k_is_expected_to_gain():
    batch = make_batch([0.02, 0.3, 0.5, 0.99], n_max=7, budget=15)
    n = Progress(setting(config(k=4))).allocate(batch, RNG(0))
    gain = progress(batch.a_P, batch.b_P, 4, 7)

    def worth(m):
        return sum(gain[i, k - 2] for i, k in enumerate(m))

    every = [m for m in itertools.product(range(2, 8), repeat=4) if sum(m) == 15]
    assert worth(n) == pytest.approx(max(map(worth, every)))
    assert n[0] == max(n) > n[3] == 2
