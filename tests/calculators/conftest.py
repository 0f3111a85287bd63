"""Calculators on small random models, with and without a card."""

import pytest
from ase import Atoms
from ase.build import molecule
from builders import random_model, tiny_card

from asesc import SCCalculator
from asesc.pretrained import save_model


class CountingCalculator(SCCalculator):
    """Knows how often it computed."""

    n_calls = 0

    def evaluate(self, atoms, properties=("energy",)):
        outcome = super().evaluate(atoms, properties)
        self.n_calls += 1
        return outcome


@pytest.fixture
def counting():
    """A calculator that counts its evaluations; this family has every property."""
    return CountingCalculator(random_model("SplitChargeEquilibration"))


@pytest.fixture
def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=1)
    return atoms


@pytest.fixture
def silica() -> Atoms:
    """Three atoms in a small triclinic cell."""
    return Atoms(
        "SiO2",
        [(0.1, 0.0, 0.2), (1.4, 0.9, 0.1), (0.2, 1.2, 1.5)],
        cell=[(3.4, 0.2, 0.0), (-0.3, 3.7, 0.4), (0.3, 0.1, 4.0)],
        pbc=True,
    )


@pytest.fixture
def sheet(silica) -> Atoms:
    """The same as a slab that is open along z."""
    slab = silica.copy()
    slab.cell[0, 2] = slab.cell[1, 2] = 0.0
    slab.pbc = (True, True, False)
    return slab


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry with the model 'tiny' of narrow scope."""
    monkeypatch.setenv("ASESC_MODELS", str(tmp_path / "registry"))
    save_model(
        random_model("SplitChargeEquilibration"), tmp_path / "registry" / "tiny", tiny_card()
    )
    return tmp_path / "registry"
