"""Where a localised charge sits, chosen through ``atoms.info``."""

import numpy as np
import pytest
from ase import Atoms
from builders import random_model
from functional_models import uniform_model

from asesc import SCCalculator
from asesc.errors import InputError, SeveralMinimaWarning


@pytest.fixture
def dimer():
    """H2+ whose charge stays where it is put."""
    atoms = Atoms("H2", [(0, 0, 0), (2.5, 0, 0)])
    model = uniform_model("localised", conductance=5.0, well=3.0, quadratic=True)
    atoms.calc = SCCalculator(model, charge=1)
    return atoms


def test_the_entry_decides_and_its_changes_are_seen(dimer):
    dimer.info["charge_sites"] = [1]
    assert dimer.get_charges()[1] > 0.9
    dimer.info["charge_sites"][0] = 0
    assert dimer.get_charges()[0] > 0.9
    dimer.info["charge_sites"] = np.array([1, 1, 0])  # two thirds fall into the well
    assert dimer.get_charges()[1] > 0.9
    del dimer.info["charge_sites"]
    with pytest.warns(SeveralMinimaWarning, match="charge_sites"):
        assert dimer.get_charges()[0] > 0.9


@pytest.mark.parametrize("wrong", [[2], [-1], [0.5], [], "0", [[0, 1]], None])
def test_anything_but_atoms_is_refused(dimer, wrong):
    dimer.info["charge_sites"] = wrong
    with pytest.raises(InputError, match=r"list of atom indices 0 … 1"):
        dimer.get_potential_energy()


def test_other_families_refuse_the_entry(dimer):
    dimer.calc = SCCalculator(random_model("QEq"), charge=1)
    dimer.info["charge_sites"] = [0]
    with pytest.raises(InputError, match="the charge finds its own place"):
        dimer.get_potential_energy()
