"""Gaussian multipoles: moments and Fourier transforms by brute-force quadrature, and the orders."""

import numpy as np
import pytest
import torch

from asesc.density import Density, GaussianBasis
from asesc.density.harmonics import (
    MONOMIALS,
    degree,
    double_factorials,
    m_order_matrix,
    n_components,
    solid_harmonics,
)
from asesc.errors import InputError

LMAX = 2
WIDTH = 0.8


def grid() -> tuple[torch.Tensor, float]:
    """Points of a cubic grid that holds a Gaussian to rounding, and the volume of each."""
    step = 0.3
    axis = torch.arange(-8.1, 8.2, step, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis, axis), step**3


def densities(points: torch.Tensor) -> torch.Tensor:
    """φ_lm(r) = R_lm(r) g(r) / (σ^2l (2l − 1)!!), Hobson's theorem written out: (P, M)."""
    gaussian = torch.exp(-(points**2).sum(-1) / (2 * WIDTH**2)) / (2 * np.pi * WIDTH**2) ** 1.5
    degrees = torch.tensor([degree(c) for c in range(n_components(LMAX))], dtype=points.dtype)
    scale = WIDTH ** (2.0 * degrees) * double_factorials(LMAX, like=points)
    return solid_harmonics(points, LMAX) * gaussian[:, None] / scale


def test_coefficients_are_moments():
    """∫ φ_lm R_l'm' d³r is the identity: charge in e, dipole in e Å, quadrupole in e Å²."""
    points, volume = grid()
    moments = densities(points).T @ solid_harmonics(points, LMAX) * volume
    torch.testing.assert_close(moments, torch.eye(9, dtype=torch.float64), atol=1e-12, rtol=0)


def test_fourier_transform():
    points, volume = grid()
    basis = GaussianBasis(LMAX, torch.tensor([WIDTH], dtype=torch.float64))
    k = torch.tensor([[0.3, -0.7, 1.1], [1.5, 0.2, -0.4], [0.0, 0.0, 0.0]], dtype=torch.float64)
    phases = torch.exp(-1j * (points @ k.T))
    numerical = volume * phases.T @ densities(points).to(torch.complex128)
    gaussian = torch.exp(-(k**2).sum(-1, keepdim=True) * WIDTH**2 / 2)
    analytical = basis.form_factors(k) * gaussian
    torch.testing.assert_close(numerical, analytical, atol=1e-12, rtol=0)


def test_solid_harmonics_are_harmonic_and_racah_normalised():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 20, 3, dtype=torch.float64, generator=generator)
    for component in range(n_components(LMAX)):

        def harmonic(r, component=component):
            return solid_harmonics(r, LMAX)[component]

        laplacian = torch.autograd.functional.hessian(harmonic, a[0]).trace()
        assert abs(float(laplacian)) < 1e-12
    cosine = (a * b).sum(-1)
    ra, rb = (a**2).sum(-1), (b**2).sum(-1)
    product = solid_harmonics(a, LMAX) * solid_harmonics(b, LMAX)
    torch.testing.assert_close(product[:, 1:4].sum(-1), cosine)
    torch.testing.assert_close(product[:, 4:].sum(-1), 1.5 * cosine**2 - 0.5 * ra * rb)


def test_dipoles_are_x_y_z():
    basis = GaussianBasis(1, torch.ones(1, dtype=torch.float64))
    density = Density(torch.tensor([[0.5, 1.0, 2.0, 3.0]]), basis)
    assert density.charges.tolist() == [0.5]
    assert density.dipoles.tolist() == [[1.0, 2.0, 3.0]]
    monopoles = Density(torch.tensor([[0.5]]), GaussianBasis(0, torch.ones(1)))
    assert monopoles.dipoles.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("lmax", [0, 1, 2])
def test_m_order_is_orthogonal(lmax):
    matrix = m_order_matrix(lmax)
    identity = torch.eye(n_components(lmax), dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, identity)
    if lmax == 1:  # (q, y, z, x), the order of PolarMACE and graph-longrange
        ours = torch.tensor([5.0, 1.0, 2.0, 3.0], dtype=torch.float64)
        assert (ours @ matrix.T).tolist() == [5.0, 2.0, 3.0, 1.0]


def test_our_order_is_that_of_e3nn_and_the_map_leads_to_the_standard_one():
    from asesc.models.backbone import mace_environment

    generator = torch.Generator().manual_seed(3)
    points = torch.randn(10, 3, dtype=torch.float64, generator=generator)
    with mace_environment():
        from e3nn import o3

        e3nn = o3.spherical_harmonics(
            o3.Irreps.spherical_harmonics(LMAX), points, normalize=False, normalization="norm"
        )
    torch.testing.assert_close(solid_harmonics(points, LMAX), e3nn)
    x, y, z = points.T
    root3 = 3**0.5
    # Condon–Shortley-free real harmonics, m = −2 … 2, Racah-normalised.
    standard = [root3 * x * y, root3 * y * z, z * z - 0.5 * (x * x + y * y), root3 * x * z]
    standard.append(0.5 * root3 * (x * x - y * y))
    mapped = solid_harmonics(points, LMAX) @ m_order_matrix(LMAX).T
    torch.testing.assert_close(mapped[:, 4:], torch.stack(standard, dim=-1))


def test_widths_must_be_positive_and_lmax_available():
    with pytest.raises(InputError, match="widths must be positive"):
        GaussianBasis(0, torch.tensor([1.0, 0.0]))
    with pytest.raises(InputError, match="lmax=3"):
        GaussianBasis(3, torch.ones(1))


def test_every_component_has_its_monomials():
    assert len(MONOMIALS) == n_components(LMAX)
    assert all(sum(power) == degree(c) for c, m in enumerate(MONOMIALS) for power in m)
