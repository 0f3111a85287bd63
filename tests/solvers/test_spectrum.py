"""Spectral radius of a map: the eigenvalue itself, and its derivative."""

import pytest
import torch
from responses import Response, layout_of

from asesc.solvers import spectral_radius


@pytest.mark.parametrize("kind", ["screening", "indefinite", "general"])
def test_it_is_the_largest_eigenvalue_of_every_structure(kind):
    """``general`` has complex eigenvalues, ``indefinite`` almost ±λ."""
    response = Response.of([3, 5], [0.7, 40.0], kind=kind)
    p = response.constant
    radius = spectral_radius(response.residual, p, layout=response.layout, iterations=80)
    expected = torch.tensor([0.7, 40.0], dtype=torch.float64)
    torch.testing.assert_close(radius, expected, rtol=1e-4, atol=0)


def test_the_default_is_good_enough_for_a_penalty():
    response = Response.of([6], [40.0])
    radius = spectral_radius(response.residual, response.constant, layout=response.layout)
    assert abs(float(radius) / 40.0 - 1) < 0.01


@pytest.mark.parametrize("radius", [0.8, 30.0])
@pytest.mark.parametrize("kind", ["screening", "general"])
def test_its_derivative_is_that_of_finite_differences(kind, radius):
    response = Response.of([4], [radius], kind=kind, limit=2.0)
    p = 0.3 * response.constant

    def of(strength: torch.Tensor) -> torch.Tensor:
        def residual(p: torch.Tensor) -> torch.Tensor:
            return p + torch.sin(strength) * (response.residual(p) - p)

        return spectral_radius(residual, p, layout=response.layout, iterations=60)[0]

    strength = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(of(strength), strength)
    with torch.no_grad():
        difference = (of(strength + 1e-5) - of(strength - 1e-5)) / 2e-5
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=0)


def test_a_map_that_ignores_the_density_has_none():
    layout = layout_of(2)
    p = torch.ones(2, 2, dtype=torch.float64)
    radius = spectral_radius(lambda p: p - 3.0, p, layout=layout)
    assert float(radius) < 1e-100
