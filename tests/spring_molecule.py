"""A molecule of springs, point charges and bond polarisabilities: spectra known on paper."""

from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes


class SpringMolecule(Calculator):
    """E = Σ ½k(d − d₀)² over all pairs, μ = Σ q r, α = Σ (a + a' (d − d₀)) of bonds.

    Parameters
    ----------
    springs : dict of (int, int) to (k, d0)
    charges : sequence of float, e
    slope : (2,), e Å/V
        a' across and along a bond; the polarisability at rest is 1 e Å²/V.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "dipole"]

    def __init__(self, springs, charges, slope=(0.5, 1.5)):
        super().__init__()
        self.springs, self.charges, self.slope = springs, np.array(charges), slope

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        for (i, j), (stiffness, rest) in self.springs.items():
            vector = atoms.positions[j] - atoms.positions[i]
            d = np.linalg.norm(vector)
            energy += 0.5 * stiffness * (d - rest) ** 2
            forces[i] += stiffness * (d - rest) / d * vector
            forces[j] -= stiffness * (d - rest) / d * vector
        dipole = self.charges @ atoms.positions
        self.results = {"energy": energy, "forces": forces, "dipole": dipole}

    def get_polarizability(self, atoms):
        total = np.zeros((3, 3))
        for (i, j), (_, rest) in self.springs.items():
            vector = atoms.positions[j] - atoms.positions[i]
            d = np.linalg.norm(vector)
            along = np.outer(vector, vector) / d**2
            across, parallel = 1 + np.array(self.slope) * (d - rest)
            total += across * (np.eye(3) - along) + parallel * along
        return total


def diatomic(*, stiffness=30.0, charge=0.4, slope=(0.5, 1.5)) -> Atoms:
    """HF of one spring along z."""
    atoms = Atoms("HF", [(0, 0, 0), (0, 0, 0.92)])
    atoms.calc = SpringMolecule({(0, 1): (stiffness, 0.92)}, (charge, -charge), slope)
    return atoms


def bent() -> Atoms:
    """Water: two bonds, and the angle held by a spring between the hydrogens."""
    atoms = Atoms("OH2", [(0, 0, 0), (0.76, 0.59, 0), (-0.76, 0.59, 0)])
    bond = float(atoms.get_distance(0, 1))
    springs = {(0, 1): (50.0, bond), (0, 2): (50.0, bond), (1, 2): (12.0, 1.52)}
    atoms.calc = SpringMolecule(springs, (-0.8, 0.4, 0.4))
    return atoms
