"""Crystals without symmetry, and a model whose Born charges are no symmetric matrices."""

import pytest
from ase import Atoms
from builders import random_model

from asesc import SCCalculator


@pytest.fixture
def silica() -> Atoms:
    """Three atoms in a small triclinic polar cell; not relaxed."""
    atoms = Atoms(
        "SiO2",
        [(0.1, 0.0, 0.2), (1.4, 0.9, 0.1), (0.2, 1.2, 1.5)],
        cell=[(3.4, 0.2, 0.0), (-0.3, 3.7, 0.4), (0.3, 0.1, 4.0)],
        pbc=True,
    )
    atoms.calc = SCCalculator(random_model("SplitChargeEquilibration"))
    return atoms
