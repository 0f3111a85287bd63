"""Slabs: exact two-dimensional sums, charged and polar sheets, any open axis, any vacuum."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import erf, erfc

from asesc.density import GaussianBasis
from asesc.electrostatics.boundary import Electrodes, Periodic, Slab
from asesc.errors import InputError
from asesc.system import System
from asesc.testing import example_system
from asesc.units import COULOMB

IN_PLANE = (True, True, False)
WIDTHS = torch.tensor([0.7, 0.9, 1.1, 0.8], dtype=torch.float64)
CHARGES = torch.tensor([0.8, -1.3, 0.4, 0.9], dtype=torch.float64)


def slab_system(*, seed: int = 3) -> System:
    """Four atoms in a triclinic in-plane cell; the open vector is neither long nor normal."""
    return example_system((1, 1, 1, 1), IN_PLANE, seed=seed)


def multipoles(*, lmax: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    p = torch.randn(4, (lmax + 1) ** 2, dtype=torch.float64, generator=generator)
    p[:, 0] = CHARGES
    return p


def energy(system: System, p: torch.Tensor, boundary=None) -> float:
    lmax = math.isqrt(p.shape[1]) - 1
    basis = GaussianBasis(lmax, WIDTHS)
    return float((boundary or Slab()).bind(system, basis, accuracy=1e-13).energy(p))


def exact_sum(system: System, charges: np.ndarray, widths: np.ndarray) -> float:
    """Gaussian charges in two periodic directions: lateral Fourier series, exact along z.

    D. E. Parry, Surf. Sci. 49, 433 (1975), doi:10.1016/0039-6028(75)90362-3, with 1/(2η) replaced
    by the width γ of each pair.
    """
    a, b = system.cell[0, 0].numpy(), system.cell[0, 1].numpy()
    normal = np.cross(a, b)
    area = np.linalg.norm(normal)
    normal /= area
    r = system.positions.numpy()
    z = (r @ normal)[:, None] - r @ normal
    gamma = np.sqrt(widths[:, None] ** 2 + widths**2)
    flat = z * erf(z / (math.sqrt(2) * gamma))
    flat += gamma * math.sqrt(2 / math.pi) * np.exp(-(z**2) / (2 * gamma**2))
    matrix = -2 * math.pi * flat
    reciprocal = 2 * np.pi * np.linalg.inv(np.stack([a, b, normal])).T[:2]
    for n in np.ndindex(41, 41):
        k_vector = (np.array(n) - 20) @ reciprocal
        k = np.linalg.norm(k_vector)
        if not 0 < k < 12.0:
            continue
        phase = r @ k_vector
        up = np.exp(k * z) * erfc(k * gamma / math.sqrt(2) + z / (math.sqrt(2) * gamma))
        down = np.exp(-k * z) * erfc(k * gamma / math.sqrt(2) - z / (math.sqrt(2) * gamma))
        matrix += math.pi / k * np.cos(phase[:, None] - phase) * (up + down)
    return COULOMB * 0.5 * charges @ matrix @ charges / area


def test_charged_slab_equals_the_exact_two_dimensional_sum():
    system = slab_system()
    exact = exact_sum(system, CHARGES.numpy(), WIDTHS.numpy())
    assert energy(system, CHARGES[:, None]) == pytest.approx(exact, abs=1e-9)


def test_polar_slab_equals_a_huge_cell_with_dipole_correction():
    """E_2D = E_3D + 2π k_e M_z²/V up to exp(−k∥ gap), for neutral slabs of any multipoles.

    I.-C. Yeh, M. L. Berkowitz, J. Chem. Phys. 111, 3155 (1999), doi:10.1063/1.479595, eq. 8.
    """
    system = slab_system()
    p = multipoles(lmax=2)
    p[:, 0] -= p[:, 0].mean()
    normal = torch.linalg.cross(system.cell[0, 0], system.cell[0, 1])
    normal = normal / normal.norm()
    cell = system.cell.clone()
    cell[0, 2] = 60.0 * normal
    wide = replace(system, cell=cell, pbc=(True, True, True))
    moment = (p[:, :1] * system.positions + p[:, 1:4]).sum(0) @ normal
    correction = 2 * math.pi * COULOMB * float(moment) ** 2 / float(wide.volume)
    assert energy(system, p) == pytest.approx(energy(wide, p, Periodic()) + correction, abs=1e-8)


@pytest.mark.parametrize("open_vector", [[0, 0, 3.0], [4.0, -7.0, 11.0], [0, 0, 80.0], [0, 0, 0]])
def test_energy_does_not_depend_on_the_open_vector(open_vector):
    """Neither on the vacuum, nor on its direction, nor on whether there is any."""
    system = slab_system()
    cell = system.cell.clone()
    cell[0, 2] = torch.tensor(open_vector, dtype=torch.float64)
    p = multipoles(lmax=2)
    assert energy(replace(system, cell=cell), p) == pytest.approx(energy(system, p), abs=1e-9)


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_any_axis_may_be_the_open_one(order):
    """Reordering the cell vectors, which also changes their handedness, changes nothing."""
    system = slab_system()
    turned = replace(
        system, cell=system.cell[:, list(order)], pbc=tuple(IN_PLANE[axis] for axis in order)
    )
    p = multipoles()
    assert energy(turned, p) == pytest.approx(energy(system, p), abs=1e-10)


def test_energy_does_not_depend_on_the_in_plane_origin_nor_on_images():
    system = slab_system()
    p = multipoles()
    reference = energy(system, p)
    shift = 0.37 * system.cell[0, 0] - 1.61 * system.cell[0, 1]
    assert energy(replace(system, positions=system.positions + shift), p) == pytest.approx(
        reference, abs=1e-10
    )
    wrapped = system.positions.clone()
    wrapped[1] += 3 * system.cell[0, 0] - 2 * system.cell[0, 1]
    assert energy(replace(system, positions=wrapped), p) == pytest.approx(reference, abs=1e-10)


def plates(gap: float, *, charge: float, edge: float = 2.0, width: float = 1.0) -> float:
    """Energy per cell of two square lattices of Gaussian charges ±q at distance ``gap``."""
    system = System(
        positions=torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.9, gap]], dtype=torch.float64),
        numbers=torch.ones(2, dtype=torch.int64),
        cell=torch.diag(torch.tensor([edge, edge, 1.0], dtype=torch.float64))[None],
        pbc=IN_PLANE,
        batch=torch.zeros(2, dtype=torch.int64),
        charge=torch.zeros(1, dtype=torch.float64),
        electric_field=torch.zeros(1, 3, dtype=torch.float64),
    )
    p = torch.tensor([[charge], [-charge]], dtype=torch.float64)
    basis = GaussianBasis(0, torch.full((2,), width, dtype=torch.float64))
    return float(Slab().bind(system, basis, accuracy=1e-13).energy(p))


def test_parallel_plate_capacitor():
    """The energy grows by ½ (Q²/ε₀A) per distance, 1/C = d/(ε₀A), and nothing leaks outside."""
    charge, area = 0.3, 4.0
    slope = (plates(30.0, charge=charge) - plates(18.0, charge=charge)) / 12.0
    assert slope == pytest.approx(2 * math.pi * COULOMB * charge**2 / area, abs=1e-9)


def test_charged_sheet_has_its_zero_of_energy_at_the_plane():
    """Two equal sheets repel with −2πk_e Q₁Q₂|z|/A beyond their widths (see SlabKernel)."""
    system = slab_system()
    p = torch.tensor([[0.5], [0.0], [0.0], [0.25]], dtype=torch.float64)
    a, b = system.cell[0, 0], system.cell[0, 1]
    normal = torch.linalg.cross(a, b)
    area = normal.norm()
    alone = [energy(system, p * torch.tensor(m)[:, None]) for m in ([1, 0, 0, 0.0], [0, 0, 0, 1])]

    def interaction(height: float) -> float:
        positions = system.positions.clone()
        positions[3] = positions[0] + height * normal / area
        moved = replace(system, positions=positions)
        return energy(moved, p) - sum(alone)

    expected = -2 * math.pi * COULOMB * 0.5 * 0.25 * 25.0 / float(area)
    assert interaction(25.0) == pytest.approx(expected, abs=1e-8)
    assert interaction(-25.0) == pytest.approx(expected, abs=1e-8)


def test_electrodes_add_the_energy_of_their_counter_charges():
    """−Q/2 on planes at ±L/2 make the constant potential πk_e QL/A between them: E gains ½Q times
    it, πk_e Q²L/2A; a neutral slab notices nothing, whatever the tilt of the open vector."""
    system = slab_system()
    cell = system.cell.clone()
    cell[0, 2] = torch.tensor([4.0, -7.0, 30.0], dtype=torch.float64)
    system = replace(system, cell=cell)
    normal = torch.linalg.cross(cell[0, 0], cell[0, 1])
    area = float(normal.norm())
    height = abs(float(normal @ cell[0, 2])) / area
    p = multipoles()
    charge = float(p[:, 0].sum())
    gain = energy(system, p, Electrodes()) - energy(system, p)
    expected = math.pi * COULOMB * charge**2 * height / (2 * area)
    assert gain == pytest.approx(expected, abs=1e-9) and expected > 0.1
    p[:, 0] -= p[:, 0].mean()
    assert energy(system, p, Electrodes()) == pytest.approx(energy(system, p), abs=1e-10)


def test_electrodes_must_enclose_the_slab():
    system = slab_system()
    cell = system.cell.clone()
    cell[0, 2] *= 0.01
    with pytest.raises(InputError, match="Give the cell vector along the open axis room"):
        Electrodes().bind(replace(system, cell=cell), GaussianBasis(0, WIDTHS))
