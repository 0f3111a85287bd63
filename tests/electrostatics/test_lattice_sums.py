"""Periodic sums against published lattice constants: neutral crystals and charged ones."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from asesc.density import GaussianBasis
from asesc.electrostatics.boundary import Periodic
from asesc.system import System
from asesc.units import COULOMB

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "references" / "lattice_sums.json").read_text(encoding="utf-8")
)

_Q = 4 / math.sqrt(3)  # cubic edge of CsCl-like neighbours at distance 1, times two
CUPRITE = Atoms(
    "Cu4O2",
    scaled_positions=np.array(
        [[1, 1, 1], [3, 3, 1], [3, 1, 3], [1, 3, 3], [0, 0, 0], [2, 2, 2]],
    )
    / 4,
    cell=[_Q] * 3,
    pbc=True,
)
#: Structures with nearest-neighbour distance 1 Å, the charges, and formula units per cell.
CRYSTALS = {
    "NaCl": (bulk("NaCl", "rocksalt", 2.0), [1, -1], 1),
    "CsCl": (bulk("CsCl", "cesiumchloride", _Q / 2), [1, -1], 1),
    "ZnS": (bulk("ZnS", "zincblende", _Q), [1, -1], 1),
    "CaF2": (bulk("CaF2", "fluorite", _Q), [2, -1, -1], 1),
    "Cu2O": (CUPRITE, [1, 1, 1, 1, -2, -2], 2),
}


def lattice_energy(atoms: Atoms, charges: list[float], width: float) -> float:
    """Energy over k_e without the self-interaction of the Gaussians."""
    system = System.from_atoms(atoms)
    basis = GaussianBasis(0, torch.full((len(atoms),), width, dtype=torch.float64))
    q = torch.tensor(charges, dtype=torch.float64)
    energy = Periodic().bind(system, basis, accuracy=1e-15).energy(q[:, None])
    return float(energy) / COULOMB - 0.5 * float(q @ q) / (width * math.sqrt(math.pi))


@pytest.mark.parametrize("name", CRYSTALS)
def test_madelung_constants(name):
    atoms, charges, units = CRYSTALS[name]
    madelung = -lattice_energy(atoms, charges, 0.08) / units
    assert madelung == pytest.approx(REFERENCE["madelung"][name]["value"], abs=1e-10)


def test_madelung_constant_does_not_depend_on_the_cell_chosen():
    atoms, charges, _ = CRYSTALS["NaCl"]
    sheared = atoms.copy()
    sheared.set_cell(np.array([[1, 0, 0], [3, 1, 0], [-2, 4, 1]]) @ atoms.cell.array)
    assert lattice_energy(sheared, charges, 0.1) == pytest.approx(
        lattice_energy(atoms, charges, 0.1), abs=1e-12
    )
    left_handed = atoms.copy()
    left_handed.set_cell(atoms.cell.array[[1, 0, 2]])
    assert lattice_energy(left_handed, charges, 0.1) == pytest.approx(
        lattice_energy(atoms, charges, 0.1), abs=1e-12
    )


@pytest.mark.parametrize("name", ["sc", "bcc", "fcc"])
@pytest.mark.parametrize("width", [0.05, 0.07])
def test_wigner_crystals(name, width):
    """A charged cell: point charges differ from Gaussians by 2π k_e Q Σ q σ²/V (see kernels)."""
    atoms = Atoms("H", cell=bulk("X", name, 1.0).cell, pbc=True)
    volume = atoms.get_volume()
    energy = lattice_energy(atoms, [1.0], width) - 2 * math.pi * width**2 / volume
    radius = (3 * volume / (4 * math.pi)) ** (1 / 3)
    assert energy * radius == pytest.approx(REFERENCE["wigner"][name]["value"], abs=1e-10)


def test_gaussian_width_term_of_mixed_widths_and_charges():
    """The background term is Q Σ q_i σ_i², not Q² times a mean width."""
    cell = np.diag([4.0, 5.0, 6.0])
    atoms = Atoms("H2", positions=[[0, 0, 0], [2.0, 2.5, 3.0]], cell=cell, pbc=True)
    system = System.from_atoms(atoms)
    q = torch.tensor([0.7, 1.6], dtype=torch.float64)

    def energy(widths: list[float]) -> float:
        sigma = torch.tensor(widths, dtype=torch.float64)
        total = Periodic().bind(system, GaussianBasis(0, sigma), accuracy=1e-15)
        self_energy = 0.5 * (q * q / sigma).sum() / math.sqrt(math.pi)
        value = float(total.energy(q[:, None])) / COULOMB - float(self_energy)
        return value - 2 * math.pi * float(q.sum() * (q * sigma**2).sum()) / system.volume.item()

    assert energy([0.2, 0.3]) == pytest.approx(energy([0.25, 0.25]), abs=1e-12)


def test_born_term_of_an_ion_in_a_growing_box():
    """Makov and Payne: E(L) = E_self − k_e ξ q²/2L + 2π k_e σ² q²/L³."""
    width, charge, madelung = 1.0, 2.0, 2.8372974794806
    for edge in (9.0, 14.0, 30.0):
        atoms = Atoms("H", cell=[edge] * 3, pbc=True)
        expected = -madelung / (2 * edge) + 2 * math.pi * width**2 / edge**3
        energy = lattice_energy(atoms, [charge], width)
        # Beyond the overlap erfc(L/2σ)/L of neighbouring images nothing is left.
        assert energy == pytest.approx(charge**2 * expected, abs=1e-12 + 20 * math.erfc(edge / 2))


def test_dipole_in_a_growing_cubic_box():
    """A lattice of parallel dipoles under tin-foil conditions: E − E_self = −2π k_e d²/(3V)."""
    width, dipole = 0.8, torch.tensor([0.3, -0.4, 1.2], dtype=torch.float64)
    free = float(dipole @ dipole) / (12 * math.sqrt(math.pi) * width**3)
    for edge in (10.0, 15.0):
        system = System.from_atoms(Atoms("H", cell=[edge] * 3, pbc=True))
        basis = GaussianBasis(1, torch.tensor([width], dtype=torch.float64))
        p = torch.cat([torch.zeros(1, dtype=torch.float64), dipole])[None]
        energy = float(Periodic().bind(system, basis).energy(p)) / COULOMB
        expected = -2 * math.pi * float(dipole @ dipole) / (3 * edge**3)
        assert energy - free == pytest.approx(expected, abs=1e-9)


def test_point_charge_limit_of_torch_pme():
    torchpme = pytest.importorskip("torchpme")
    from asesc.neighbors import find_edges
    from asesc.testing import example_system

    system = example_system((1, 1, 1, 1, 1), (True, True, True), seed=5)
    q = torch.tensor([0.6, -1.1, 0.4, 0.9, -0.8], dtype=torch.float64)
    edges = find_edges(system, 14.0)
    calculator = torchpme.EwaldCalculator(
        torchpme.CoulombPotential(smearing=1.6), lr_wavelength=0.6, full_neighbor_list=True
    ).to(torch.float64)
    potential = calculator(
        q[:, None],
        system.cell[0],
        system.positions,
        torch.stack([edges.source, edges.target], dim=1),
        edges.vectors(system).norm(dim=-1),
    )
    # torch-pme's potential is half the physical one: its energy is Σ q V.
    expected = float((q[:, None] * potential).sum())
    basis = GaussianBasis(0, torch.full((5,), 0.1, dtype=torch.float64))
    energy = Periodic().bind(system, basis, accuracy=1e-12).energy(q[:, None])
    ours = float(energy) / COULOMB - 0.5 * float(q @ q) / (0.1 * math.sqrt(math.pi))
    assert ours == pytest.approx(expected, rel=1e-8)
