"""Water that a small random model and springs keep together."""

from functools import cache
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator
from ase.md.verlet import VelocityVerlet
from builders import random_model

from asesc.models import FAMILIES, Model


class Springs(Calculator):
    """k/2 |r − r₀|² of every atom, 30 eV/Å² as in a bond of water."""

    implemented_properties = ("energy", "forces")

    def __init__(self, positions: np.ndarray) -> None:
        super().__init__()
        self._origin = positions.copy()

    def calculate(self, atoms=None, properties=(), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        away = atoms.positions - self._origin
        self.results = {"energy": 15.0 * (away**2).sum(), "forces": -30.0 * away}


@cache
def gentle_model(family: str) -> Model:
    """Heads that answer less than those of the other tests: forces of a few eV/Å."""
    rough = random_model(family)
    model = FAMILIES[family](**rough.hyperparameters)
    model.load_state_dict(rough.state_dict())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_head." in name and parameter.ndim == 2:
                parameter.mul_(0.3)
    return model


def dynamics(calculator: Calculator, *, step: float = 0.5) -> VelocityVerlet:
    """One molecule at about 300 K, 0.5 fs."""
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=1)
    atoms.calc = SumCalculator([calculator, Springs(atoms.positions)])
    momenta = np.random.default_rng(0).normal(size=(3, 3))
    atoms.set_momenta(momenta * np.sqrt(0.025 * atoms.get_masses())[:, None])
    return VelocityVerlet(atoms, step * units.fs)


def run(dyn: VelocityVerlet, steps: int) -> dict[str, np.ndarray]:
    """Total energies, forces, positions and maps of every step."""
    rows: dict[str, list[Any]] = {"energy": [], "forces": [], "positions": [], "maps": []}

    def record() -> None:
        atoms: Atoms = dyn.atoms
        rows["energy"].append(atoms.get_total_energy())
        rows["forces"].append(atoms.get_forces())
        rows["positions"].append(atoms.positions.copy())
        rows["maps"].append(atoms.calc.mixer.calcs[0].scf.iterations)

    dyn.attach(record)
    dyn.run(steps)
    return {name: np.array(values) for name, values in rows.items()}
