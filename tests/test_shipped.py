"""The models that ship: their examples are minima of the model that they come with."""

import numpy as np
import pytest

from asesc import SCCalculator
from asesc.cli.run import read_structure


@pytest.mark.parametrize("name", ["nma", "quartz"])
def test_the_example_is_at_rest(name):
    atoms = read_structure(name)
    atoms.calc = SCCalculator(name)
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 2e-3
    if atoms.pbc.all():
        assert np.abs(atoms.get_stress()).max() < 1e-4
