"""The models that ship: their examples are minima of the model that they come with."""

import numpy as np
import pytest
from ase.geometry import find_mic

from asesc import SCCalculator
from asesc.cli.run import read_structure
from asesc.workflows.polarisation import moment, nearest_branch


@pytest.mark.parametrize("name", ["al-water", "batio3", "nma", "quartz", "silica-vacancy"])
def test_the_example_is_at_rest(name):
    atoms = read_structure(name)
    atoms.calc = SCCalculator(name)
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 2e-3
    if name == "quartz":  # batio3 is in the only cell it knows, and nma has none
        assert np.abs(atoms.get_stress()).max() < 1e-4


def test_barium_titanate_is_polar_and_can_be_switched():
    """The mirror image of the polar crystal has the same energy, and the middle a higher one.

    The polarisation between them, nearly a quantum, is followed along the way.
    """
    polar = read_structure("batio3")
    mirrored = polar.copy()
    mirrored.positions[:, 2] *= -1
    way = find_mic(mirrored.positions - polar.positions, polar.cell)[0]
    calc = SCCalculator("batio3")
    energies, dipoles = [], []
    for share in np.linspace(0, 1, 5):
        atoms = polar.copy()
        atoms.positions += share * (way - way.mean(axis=0))
        energies.append(calc.get_property("energy", atoms))
        dipole = moment(calc, atoms)
        before = dipoles[-1] if dipoles else dipole
        dipoles.append(nearest_branch(dipole, before, polar.cell.array))
    assert energies[-1] == pytest.approx(energies[0], abs=1e-6)
    assert energies[2] > energies[0] + 0.05
    change = dipoles[-1] - dipoles[0]
    assert abs(change[2]) / polar.get_volume() > 0.04  # e/Å², 0.6 C/m²
    assert change[:2] == pytest.approx([0, 0], abs=1e-6)
