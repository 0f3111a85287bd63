"""Potential and density between the atoms: Poisson, projections, plane averages, every boundary."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from asesc.density import Density, GaussianBasis
from asesc.density.grid import Grid
from asesc.electrostatics import BOUNDARIES, boundary_for
from asesc.electrostatics.landscape import Landscape
from asesc.errors import InputError
from asesc.system import System
from asesc.testing import accepted_pbc, example_system
from asesc.units import COULOMB

FREE, BULK, SLAB = (False,) * 3, (True,) * 3, (True, True, False)
WIDTHS = (0.9, 1.2)


def landscape(pbc, *, n_atoms=4, lmax=2, charge=None, boundary="auto", seed=0) -> Landscape:
    """Random multipoles of two widths; ``charge`` e in total where it is given."""
    system = example_system((1,) * n_atoms, pbc, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    p = torch.randn(n_atoms, (lmax + 1) ** 2, dtype=torch.float64, generator=generator)
    if charge is not None:
        p[:, 0] += (charge - p[:, 0].sum()) / n_atoms
    widths = torch.tensor(WIDTHS, dtype=torch.float64).repeat(n_atoms)[:n_atoms]
    return Landscape(
        boundary_for(boundary, pbc), system, Density(p, GaussianBasis(lmax, widths)), accuracy=1e-12
    )


def operator_potential(scape: Landscape) -> torch.Tensor:
    return scape.boundary.bind(scape.system, scape.density.basis, accuracy=1e-13).potential(
        scape.density.coefficients
    )


@pytest.mark.parametrize("name", BOUNDARIES)
def test_potential_averaged_over_a_gaussian_is_the_potential_of_the_operator(name):
    """v_i,00 = ∫ φ g_i d³r, v_i,1a = ∫ φ (r − r_i)_a/σ_i² g_i d³r, by Gauss–Hermite quadrature."""
    pbc = accepted_pbc(BOUNDARIES[name]())[-1]
    scape = landscape(pbc, boundary=name, lmax=1, n_atoms=2)
    x, w = np.polynomial.hermite_e.hermegauss(16)
    nodes = torch.tensor(np.stack(np.meshgrid(x, x, x), -1).reshape(-1, 3))
    weights = torch.tensor(np.einsum("i,j,k->ijk", w, w, w).ravel() / (2 * np.pi) ** 1.5)
    expected = operator_potential(scape)
    for i, (position, width) in enumerate(
        zip(scape.system.positions, scape.density.basis.widths, strict=True)
    ):
        phi = scape.potential((position + width * nodes)[None])[0]
        assert float(weights @ phi) == pytest.approx(float(expected[i, 0]), abs=5e-6)
        slope = (weights * phi) @ nodes / width
        torch.testing.assert_close(slope, expected[i, 1:4], atol=1e-4, rtol=0)


@pytest.mark.parametrize("pbc", [FREE, BULK, SLAB])
def test_poisson(pbc):
    """∇²φ = −4πk_e (ρ − Q/V) with the background in crystals only, by finite differences."""
    scape = landscape(pbc, charge=1.0)
    generator = torch.Generator().manual_seed(1)
    points = scape.system.positions[None] + torch.randn(1, 4, 3, generator=generator).double()
    step = 0.02
    laplacian = -30 * 3 * scape.potential(points)
    for axis in range(3):
        for n, weight in ((1, 16.0), (2, -1.0)):
            for sign in (n, -n):
                shift = torch.zeros(3, dtype=torch.float64)
                shift[axis] = sign * step
                laplacian = laplacian + weight * scape.potential(points + shift)
    laplacian = laplacian / (12 * step**2)
    background = 1.0 / float(scape.system.volume) if all(pbc) else 0.0
    expected = -4 * math.pi * COULOMB * (scape.charge(points) - background)
    torch.testing.assert_close(laplacian, expected, atol=2e-4, rtol=0)


def test_poisson_on_a_grid():
    """k² φ̃ = 4πk_e ρ̃ for every wave of the grid."""
    scape = landscape(BULK, charge=1.0)
    grid = Grid.over_cell(scape.system, (20, 24, 26))
    phi = np.fft.fftn(scape.potential(grid)[0].numpy())
    rho = np.fft.fftn(scape.charge(grid)[0].numpy())
    waves = [np.fft.fftfreq(n, 1 / n) for n in grid.shape]
    integers = np.stack(np.meshgrid(*waves, indexing="ij"), -1)
    reciprocal = 2 * np.pi * np.linalg.inv(scape.system.cell[0].numpy()).T
    k2 = ((integers @ reciprocal) ** 2).sum(-1)
    difference = np.abs(k2 * phi - 4 * np.pi * COULOMB * rho)
    difference.flat[0] = abs(phi.flat[0])  # the average potential is zero
    assert difference.max() < 1e-9 * np.abs(rho).max() * COULOMB


def test_density_of_a_crystal_is_that_of_all_images():
    scape = landscape(BULK, charge=1.0)
    system, density = scape.system, scape.density
    images = torch.cartesian_prod(*[torch.arange(-3.0, 4.0, dtype=torch.float64)] * 3)
    points = torch.rand(1, 12, 3, generator=torch.Generator().manual_seed(2)).double()
    points = points @ system.cell[0]
    isolated = Landscape(boundary_for("open", FREE), replace(system, pbc=FREE), density)
    seen_from_images = (points[:, :, None] - images @ system.cell[0]).flatten(1, 2)
    total = isolated.charge(seen_from_images).reshape(1, 12, -1).sum(-1)
    torch.testing.assert_close(scape.charge(points), total, atol=1e-10, rtol=0)


@pytest.mark.parametrize("pbc", [BULK, SLAB, FREE])
def test_density_integrates_to_charge_and_dipole(pbc):
    """∫ρ = Q, and ∫ρ r = Σ(q r + d) along open directions; a grid sum converges exponentially."""
    scape = landscape(pbc, lmax=1, charge=0.7)
    grid = box(scape, margin=8.0, spacing=0.5)
    rho = scape.charge(grid)
    assert float(grid.integral(rho)) == pytest.approx(0.7, abs=1e-7)
    p = scape.density.coefficients
    moment = (p[:, :1] * scape.system.positions + p[:, 1:4]).sum(0)
    for direction in open_directions(scape):
        integral = grid.integral(rho * (grid.points @ direction))
        assert float(integral) == pytest.approx(float(moment @ direction), abs=1e-6)


def open_directions(scape: Landscape) -> torch.Tensor:
    pbc = scape.system.pbc
    if sum(pbc) == 2:
        return scape.normal(pbc.index(False))
    return torch.eye(3, dtype=torch.float64)[: 0 if all(pbc) else 3]


def box(scape: Landscape, *, margin: float, spacing: float) -> Grid:
    """A grid over the periodic cell vectors, and over the atoms and a margin along open ones."""
    system = scape.system
    vectors, origin = system.cell.clone(), torch.zeros(1, 3, dtype=torch.float64)
    axes = [axis for axis in range(3) if not system.pbc[axis]]
    for axis, direction in zip(axes, open_directions(scape), strict=True):
        heights = system.positions @ direction
        low, high = float(heights.min()), float(heights.max())
        vectors[0, axis] = (high - low + 2 * margin) * direction
        origin[0] += (low - margin) * direction
    return Grid(origin, vectors, tuple(math.ceil(float(v.norm()) / spacing) for v in vectors[0]))


@pytest.mark.parametrize("pbc", [BULK, SLAB, (True, False, True)])
def test_grids_along_the_lattice_equal_points(pbc):
    """The product over axes and the plain sum, for an origin off the lattice."""
    scape = landscape(pbc)
    cell = scape.system.cell.clone()
    if not all(pbc):
        axis = pbc.index(False)
        normal = Landscape.normal(scape, axis)
        cell[:, axis] = 9.0 * normal
        scape = replace(scape, system=replace(scape.system, cell=cell))
    grid = Grid(torch.tensor([[0.3, -0.4, 0.2]], dtype=torch.float64), cell, (5, 4, 7))
    flat = grid.points.flatten(1, 3)
    for field in (scape.potential, scape.charge):
        torch.testing.assert_close(field(grid).flatten(1), field(flat), atol=1e-10, rtol=0)


@pytest.mark.parametrize("pbc", [BULK, SLAB, (False, True, True)])
def test_plane_average_is_the_mean_over_a_plane(pbc):
    scape = landscape(pbc)
    axis = pbc.index(False) if not all(pbc) else 1
    first, second = ((axis + 1) % 3, (axis + 2) % 3)
    cell, normal = scape.system.cell[0], scape.normal(axis)
    heights = torch.tensor([[-1.0, 0.4, 2.5]], dtype=torch.float64)
    n = torch.arange(24, dtype=torch.float64) / 24
    plane = (n[:, None, None] * cell[first] + n[None, :, None] * cell[second]).reshape(-1, 3)
    points = (heights[0, :, None] * normal)[:, None] + plane
    for field, average in (
        (scape.potential, scape.average_potential),
        (scape.charge, scape.average_charge),
    ):
        mean = field(points.reshape(1, -1, 3)).reshape(3, -1).mean(1)
        torch.testing.assert_close(average(heights, axis=axis)[0], mean, atol=1e-9, rtol=0)


def test_plane_average_of_charges_in_closed_form():
    """φ̄(z) = −(2πk_e/A) Σ q_i [ζ erf(ζ/√2σ) + σ√(2/π) exp(−ζ²/2σ²)], ζ = z − z_i.

    Two integrations of the plane-averaged Gaussian; far away −2πk_e Q|z|/A and the step of the
    dipole, 4πk_e μ_z/A.
    """
    scape = landscape(SLAB, lmax=0, charge=0.5)
    system, q = scape.system, scape.density.charges
    area = float(torch.linalg.cross(system.cell[0, 0], system.cell[0, 1]).norm())
    normal = scape.normal(2)[0]
    z = torch.linspace(-20, 25, 50, dtype=torch.float64)
    zeta = z[:, None] - system.positions @ normal
    width = scape.density.basis.widths
    shape = zeta * torch.erf(zeta / (math.sqrt(2) * width))
    shape = shape + width * math.sqrt(2 / math.pi) * torch.exp(-0.5 * (zeta / width) ** 2)
    expected = -2 * math.pi * COULOMB / area * (shape @ q)
    average = scape.average_potential(z[None], axis=2)[0]
    torch.testing.assert_close(average, expected, atol=1e-9, rtol=0)


def test_dipole_layer_steps_the_potential():
    """φ(+∞) − φ(−∞) = 4πk_e p/A for a sheet of dipoles p along its normal, flat on both sides."""
    cell = torch.tensor([[[3.0, 0, 0], [1.0, 4.0, 0], [0, 0, 5.0]]], dtype=torch.float64)
    system = replace(
        example_system((1,), SLAB), cell=cell, positions=torch.zeros(1, 3, dtype=torch.float64)
    )
    p = torch.tensor([[0.0, 0.3, -0.2, 0.25]], dtype=torch.float64)
    basis = GaussianBasis(1, torch.tensor([1.0], dtype=torch.float64))
    scape = Landscape(boundary_for("slab", SLAB), system, Density(p, basis))
    z = torch.tensor([[-30.0, -9.0, 9.0, 40.0]], dtype=torch.float64)
    below, near_below, near_above, above = scape.average_potential(z, axis=2)[0]
    assert float(above - below) == pytest.approx(4 * math.pi * COULOMB * 0.25 / 12.0, abs=1e-9)
    assert float(near_below) == pytest.approx(float(below), abs=1e-9)
    assert float(near_above) == pytest.approx(float(above), abs=1e-9)


def test_slab_does_not_notice_its_vacuum_or_where_it_lies():
    scape = landscape(SLAB)
    z = torch.linspace(-6, 9, 7, dtype=torch.float64)[None]
    reference = scape.average_potential(z, axis=2)
    system = scape.system
    cell = system.cell.clone()
    cell[:, 2] = 0.0
    shifted = system.positions + 0.37 * system.cell[0, 0] - 1.2 * system.cell[0, 1]
    for other in (replace(system, cell=cell), replace(system, positions=shifted)):
        moved = replace(scape, system=other).average_potential(z, axis=2)
        torch.testing.assert_close(moved, reference, atol=1e-9, rtol=0)


def test_applied_field_acts_along_open_directions():
    """φ contains −E·r along the normal of a slab; a field along a period does not repeat."""
    scape = landscape(SLAB)
    field = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)
    inside = replace(scape, system=replace(scape.system, electric_field=field))
    points = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(3)).double()
    normal = scape.normal(2)[0]
    difference = inside.potential(points) - scape.potential(points)
    expected = -(points[0] @ normal) * (field[0] @ normal)
    torch.testing.assert_close(difference[0], expected, atol=1e-12, rtol=0)
    heights = points[..., 2]
    slope = inside.average_potential(heights, axis=2) - scape.average_potential(heights, axis=2)
    torch.testing.assert_close(slope, -heights * (field[0] @ normal), atol=1e-12, rtol=0)


@pytest.mark.parametrize("pbc", [FREE, BULK, SLAB])
def test_batches_equal_single_structures(pbc):
    frames = [landscape(pbc, n_atoms=n, lmax=1, seed=n) for n in (2, 3)]
    system = System(
        positions=torch.cat([f.system.positions for f in frames]),
        numbers=torch.cat([f.system.numbers for f in frames]),
        cell=torch.cat([f.system.cell for f in frames]),
        pbc=pbc,
        batch=torch.tensor([0, 0, 1, 1, 1]),
        charge=torch.zeros(2, dtype=torch.float64),
        electric_field=torch.zeros(2, 3, dtype=torch.float64),
    )
    density = Density(
        torch.cat([f.density.coefficients for f in frames]),
        GaussianBasis(1, torch.cat([f.density.basis.widths for f in frames])),
    )
    both = Landscape(boundary_for("auto", pbc), system, density, accuracy=1e-12)
    points = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(4)).double()
    for b, alone in enumerate(frames):
        for name in ("potential", "charge"):
            expected = getattr(alone, name)(points[b : b + 1])[0]
            found = getattr(both, name)(points)[b]
            torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_no_average_without_a_plane():
    with pytest.raises(InputError, match=r"no average over the planes across axis 0"):
        landscape(SLAB).average_potential(torch.zeros(1, 2), axis=0)


def test_no_grid_without_a_box():
    scape = landscape(FREE)
    flat = replace(scape.system, cell=torch.zeros(1, 3, 3, dtype=torch.float64))
    with pytest.raises(InputError, match=r"span no volume.*center"):
        Grid.over_cell(flat, (4, 4, 4))
