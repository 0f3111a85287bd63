"""Sums over pairs against the matrix and its automatic derivatives."""

import pytest
import torch
from torch import Tensor

from asesc.electrostatics import pair_sums as module
from asesc.electrostatics.compiled import is_available
from asesc.electrostatics.gaussian import pair_interaction
from asesc.electrostatics.pair_sums import bilinear_gradient, pair_sums
from asesc.units import COULOMB

COUNTS = torch.tensor([9, 6])


@pytest.fixture(params=["tensors", "compiled"], autouse=True)
def implementation(request, monkeypatch):
    """Both, whichever the processor would choose; strips of few rows."""
    if request.param == "compiled" and not is_available():
        pytest.skip("numba is not installed")
    monkeypatch.setattr(module, "is_available", lambda: request.param == "compiled")
    monkeypatch.setattr(module, "STRIP_PAIRS", 30)


def structures(n_components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, squared widths and multipoles; two atoms coincide, padded rows are zero."""
    generator = torch.Generator().manual_seed(n_components)
    positions = 6 * torch.rand(2, 9, 3, dtype=torch.float64, generator=generator) + 100
    positions[0, 1] = positions[0, 0]
    width2 = 0.5 + torch.rand(2, 9, dtype=torch.float64, generator=generator)
    p = torch.randn(2, 9, n_components, dtype=torch.float64, generator=generator)
    p[1, 6:] = 0
    return positions, width2, p


def matrix(positions: Tensor, width2: Tensor, n_components: int) -> Tensor:
    separation = positions[:, :, None] - positions[:, None]
    total = width2[:, :, None] + width2[:, None]
    blocks = pair_interaction(separation, total, 0 if n_components == 1 else 1)
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


@pytest.mark.parametrize("n_components", [1, 4])
def test_potential_and_gradient_are_those_of_the_matrix(n_components):
    positions, width2, p = structures(n_components)
    positions.requires_grad_()
    rows = p.flatten(1)
    blocks = matrix(positions, width2, n_components)
    expected = torch.einsum("bij,bj->bi", blocks, rows).reshape(p.shape)
    (slope,) = torch.autograd.grad(0.5 * (p * expected).sum(), positions)
    potential, gradient = pair_sums(positions.detach(), width2, COUNTS, p)
    for b, n in enumerate(COUNTS):
        torch.testing.assert_close(
            potential[b, :n], expected.detach()[b, :n], rtol=1e-12, atol=1e-12
        )
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 0.0])
def test_two_densities_meet(scale):
    positions, width2, p = structures(4)
    u = scale * p.flip(1)
    u[1, 6:] = 0
    positions.requires_grad_()
    blocks = matrix(positions, width2, 4)
    energy = torch.einsum("bi,bij,bj->", u.flatten(1), blocks, p.flatten(1))
    (expected,) = torch.autograd.grad(energy, positions)
    found = bilinear_gradient(positions.detach(), width2, COUNTS, u, p)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11 * scale)


def test_nothing_pulls_at_nothing_and_nan_is_not_hidden():
    positions, width2, p = structures(4)
    for pair in ((0 * p, p), (p, 0 * p)):
        assert not bilinear_gradient(positions, width2, COUNTS, *pair).any()
    wrong = p.clone()
    wrong[0, 0, 0] = torch.nan
    assert bilinear_gradient(positions, width2, COUNTS, wrong, p).isnan().any()


def test_far_apart_they_are_points():
    """q/r, and the field of a point dipole, 1000 Å from the origin."""
    positions = torch.tensor([[[1000.0, 0, 0], [1000.0, 0, 20]]], dtype=torch.float64)
    p = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 1.0]]], dtype=torch.float64)
    width2 = torch.ones(1, 2, dtype=torch.float64)
    potential, gradient = pair_sums(positions, width2, torch.tensor([2]), p)
    # A dipole along z is seen from below at −μ/r²; the charge pushes with ∂²(1/r)/∂z².
    assert float(potential[0, 0, 0] - COULOMB * -1 / 400) == pytest.approx(COULOMB / torch.pi**0.5)
    assert float(gradient[0, 1, 2]) == pytest.approx(2 * COULOMB / 20**3, rel=1e-12)
    torch.testing.assert_close(gradient.sum(1), torch.zeros(1, 3, dtype=torch.float64))
