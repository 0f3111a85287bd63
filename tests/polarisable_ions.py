"""Ions of fixed charge whose dipoles follow the field: a dielectric in a few lines."""

from typing import ClassVar

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes

from asesc.density import GaussianBasis
from asesc.electrostatics import boundary_for
from asesc.system import System
from asesc.units import COULOMB

CHARGES = {"Mg": 2.0, "O": -2.0}
POLARISABILITIES = {"Mg": 0.005, "O": 0.06}  # e Å²/V


class PolarisableIons(Calculator):
    """E = ½⟨p, Jp⟩ + Σ d²/2α, minimised over the dipoles by conjugate gradients."""

    implemented_properties: ClassVar[list[str]] = ["energy", "charges", "dielectric_tensor"]

    def __init__(self, width=1.0):
        super().__init__()
        self.width, self.extras = width, {}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        charges = torch.tensor([CHARGES[s] for s in atoms.symbols], dtype=torch.float64)
        energy, potential, _ = self.solve(atoms, charges)
        self.extras = {"potential": potential.numpy()}
        self.results = {"energy": energy, "charges": charges.numpy()}
        if "dielectric_tensor" in properties:
            self.results["dielectric_tensor"] = self.dielectric(atoms, charges)

    def solve(self, atoms, charges, field=(0.0, 0.0, 0.0)):
        system = System.from_atoms(atoms)
        widths = torch.full((len(atoms),), self.width, dtype=torch.float64)
        basis = GaussianBasis(1, widths)
        coulomb = boundary_for("auto", system.pbc).bind(system, basis, accuracy=1e-9)
        stiffness = 1 / torch.tensor([POLARISABILITIES[s] for s in atoms.symbols]).double()[:, None]
        p = torch.zeros(len(atoms), 4, dtype=torch.float64)
        p[:, 0] = charges

        def respond(dipoles):
            only = torch.zeros_like(p)
            only[:, 1:] = dipoles
            return stiffness * dipoles + coulomb.potential(only)[:, 1:]

        force = torch.tensor(field, dtype=torch.float64) - coulomb.potential(p)[:, 1:]
        p[:, 1:] = conjugate_gradients(respond, force, 1 / stiffness)
        potential = coulomb.potential(p)
        energy = 0.5 * (p * potential).sum() + 0.5 * (stiffness * p[:, 1:] ** 2).sum()
        return float(energy), potential, p[:, 1:].sum(0)

    def dielectric(self, atoms, charges):
        still = self.solve(atoms, charges)[2]
        step = 0.01
        response = [(self.solve(atoms, charges, step * e)[2] - still) / step for e in np.eye(3)]
        alpha = torch.stack(response, dim=1).numpy()
        return np.eye(3) + 4 * np.pi * COULOMB * alpha / atoms.get_volume()


def conjugate_gradients(apply, right, inverse):
    x = inverse * right
    residual = right - apply(x)
    direction = z = inverse * residual
    for _ in range(200):
        if float(residual.abs().max()) < 1e-10:
            return x
        product = apply(direction)
        old = (residual * z).sum()
        step = old / (direction * product).sum()
        x, residual = x + step * direction, residual - step * product
        z = inverse * residual
        direction = z + (residual * z).sum() / old * direction
    raise AssertionError("dipoles did not converge")
