"""The robust value R_eta and its mixture (Eq. 22-26), against a convex solver and autograd."""

import cvxpy as cp
import numpy as np
import pytest
import torch

from gdro.core.theory import entropy, robust_value
from gdro.core.weigh.entropic import entropic

ETAS = (0.1, 0.65, 2.0, 10.0)


def uniform(bins):
    return np.full(bins, 1 / bins)


def test_log_sum_exp_and_softmax_solve_the_regularised_maximum(solve, theory_table):
    """Eq. 22-24: max_q q.L + H(q) / eta."""
    rng, off, off_q = np.random.default_rng(0), 0.0, 0.0
    for eta in ETAS:
        for bins in (2, 3, 10):
            loss_B = rng.normal(size=bins)
            q = cp.Variable(bins)
            value = loss_B @ q + cp.sum(cp.entr(q)) / eta
            best = solve(cp.Problem(cp.Maximize(value), [cp.sum(q) == 1]))
            q_B = entropic(loss_B, uniform(bins), eta)
            off = max(off, abs(robust_value(loss_B, eta) - best))
            off_q = max(off_q, np.abs(q_B - q.value).max())
            assert q_B @ loss_B + entropy(q_B) / eta == pytest.approx(robust_value(loss_B, eta))
    theory_table("R_eta: log-sum-exp against the solver's maximum (Eq. 23)", off, "<=", 1e-6)
    theory_table("R_eta: softmax against the solver's mixture (Eq. 24)", off_q, "<=", 1e-4)


def test_with_a_base_measure_the_regulariser_is_the_divergence_from_it(solve):
    rng = np.random.default_rng(1)
    for eta in ETAS:
        loss_B, base_B = rng.normal(size=5), rng.dirichlet(np.ones(5))
        q = cp.Variable(5)
        value = loss_B @ q - cp.sum(cp.rel_entr(q, base_B)) / eta
        solve(cp.Problem(cp.Maximize(value), [cp.sum(q) == 1]))
        assert entropic(loss_B, base_B, eta) == pytest.approx(q.value, abs=1e-4)


def test_it_lies_between_the_largest_loss_and_log_b_over_eta_more(theory_table):
    """Eq. 25 on random losses of all scales, and both ends attained."""
    rng, below, above = np.random.default_rng(2), np.inf, -np.inf
    for _ in range(2000):
        bins, eta = int(rng.integers(2, 20)), float(np.exp(rng.uniform(-3, 3)))
        excess = robust_value(loss_B := np.exp(rng.uniform(-5, 5)) * rng.normal(size=bins), eta)
        excess -= loss_B.max()
        below, above = min(below, excess), max(above, excess - np.log(bins) / eta)
    theory_table("R_eta - max L, least of 2,000 instances (Eq. 25)", below, ">=", 0)
    theory_table("R_eta - max L - log(B)/eta, most of 2,000 (Eq. 25)", above, "<=", 1e-12)
    # Tight above where the losses are alike, below where one is alone.
    alike = robust_value(np.full(10, 0.3), 2.0) - 0.3
    theory_table("R_eta - max L of ten equal losses = log(B)/eta", alike, "=", np.log(10) / 2)
    alone = robust_value(np.r_[1.0, np.full(9, -100.0)], 2.0)
    theory_table("R_eta of one loss above the others = max L", alone, "=", 1.0, abs=1e-15)
    assert robust_value(np.array([1e300, -1e300]), 1000.0) == 1e300


def test_its_gradient_is_the_mixture_of_the_bins_gradients(theory_table):
    """Eq. 26, for the losses of a small network and by autograd."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    net = net.double()
    x, y, bins = torch.randn(60, 6).double(), torch.rand(60, 1).double(), 5
    off = 0.0

    def losses():
        return ((net(x) - y) ** 2).reshape(bins, -1).mean(dim=1)

    def gradient(value):
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.parameters()))])

    for eta in ETAS:
        robust = torch.logsumexp(eta * losses(), 0) / eta
        assert robust.item() == pytest.approx(robust_value(losses().detach().numpy(), eta))
        q_B = torch.from_numpy(entropic(losses().detach().numpy(), uniform(bins), eta))
        mixed = sum(q * gradient(losses()[b]) for b, q in enumerate(q_B))
        off = max(off, float((gradient(robust) - mixed).abs().max()))
    theory_table("grad R_eta against sum q grad L, by autograd (Eq. 26)", off, "<=", 1e-12)
