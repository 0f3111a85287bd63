"""Rigid ions held by springs: phonons, dielectric constants and infrared spectra known on paper."""

from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from asesc import CoulombCalculator
from asesc.units import COULOMB

MADELUNG = {"rocksalt": 1.7475645946, "zincblende": 1.6380550533}


class RigidIons(Calculator):
    """Point-like charges with springs ½k(d − d₀)² between unlike neighbours; ε∞ = 1, Z* = q."""

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "forces",
        "stress",
        "polarization",
        "born_effective_charges",
        "dielectric_tensor",
    ]

    def __init__(self, charges, *, stiffness, rest, cutoff, width=0.3):
        super().__init__()
        self.charges, self.stiffness, self.rest, self.cutoff = charges, stiffness, rest, cutoff
        self.coulomb = CoulombCalculator(charges=charges, width=width)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, j, d, vector = neighbor_list("ijdD", atoms, self.cutoff)
        unlike = atoms.numbers[i] != atoms.numbers[j]
        i, d, vector = i[unlike], d[unlike], vector[unlike]
        pull = (self.stiffness * (d - self.rest) / d)[:, None] * vector
        forces = self.coulomb.get_property("forces", atoms).copy()
        np.add.at(forces, i, pull)
        virial = 0.5 * np.einsum("na,nb->ab", pull, vector) / atoms.get_volume()
        n = len(atoms)
        charges = np.array([self.charges[symbol] for symbol in atoms.symbols])
        self.results = {
            "energy": self.coulomb.results["energy"]
            + 0.25 * self.stiffness * ((d - self.rest) ** 2).sum(),
            "forces": forces,
            "stress": self.coulomb.results["stress"]
            + virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
            "born_effective_charges": charges[:, None, None] * np.tile(np.eye(3), (n, 1, 1)),
            "dielectric_tensor": np.eye(3),
        }
        if abs(charges.sum()) < 1e-9:
            self.results["polarization"] = self.coulomb.get_property("polarization", atoms)


def ionic_crystal(structure="rocksalt", *, a=5.64, charge=1.0, stiffness=5.0) -> Atoms:
    """NaCl at zero stress: the springs balance the Madelung force."""
    atoms = bulk("NaCl", structure, a=a)
    neighbours = 6 if structure == "rocksalt" else 4
    distance = a / 2 if structure == "rocksalt" else a * np.sqrt(3) / 4
    squeeze = MADELUNG[structure] * COULOMB * charge**2 / (neighbours * stiffness * distance**2)
    atoms.calc = RigidIons(
        {"Na": charge, "Cl": -charge},
        stiffness=stiffness,
        rest=distance + squeeze,
        cutoff=1.2 * distance,
    )
    return atoms


def optical_force_constants(atoms: Atoms, structure: str) -> tuple[float, float]:
    """μω² of the transverse and longitudinal optical mode at Γ, eV/Å².

    Springs give κ = Σ over neighbours of (k_∥ + 2k_⊥)/3, point charges on cubic sites
    −(4π/3) k_e q²/V across and +(8π/3) k_e q²/V along.
    """
    calc = atoms.calc
    distance = atoms.get_distance(0, 1, mic=True)
    neighbours = 6 if structure == "rocksalt" else 4
    across = calc.stiffness * (1 - calc.rest / distance)
    kappa = neighbours * (calc.stiffness + 2 * across) / 3
    plasma = 4 * np.pi * COULOMB * calc.charges["Na"] ** 2 / atoms.get_volume()
    return kappa - plasma / 3, kappa + 2 * plasma / 3
