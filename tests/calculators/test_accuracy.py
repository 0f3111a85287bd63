"""One number for the Coulomb interaction: it reaches the engine, and an engine says what it is."""

import numpy as np
import pytest
from ase.build import bulk
from builders import random_model

from asesc import SCCalculator
from asesc.errors import InputError


def ionic_crystal():
    atoms = bulk("MgO", "rocksalt", 4.2, cubic=True)
    atoms.numbers[:] = [8, 1] * 4
    atoms.rattle(0.1, seed=0)
    return atoms


def test_accuracy_reaches_the_engine_and_is_never_stale():
    atoms = ionic_crystal()
    atoms.calc = calc = SCCalculator(random_model("LocalCharges"), accuracy=1e-2)
    rough = atoms.get_forces()
    assert calc.extras["coulomb_engine"].startswith("direct-k, estimated force error")
    errors = []
    for accuracy in ("fast", "default", "high"):
        calc.set(accuracy=accuracy)
        errors.append(atoms.get_forces())
        assert calc.todict()["accuracy"] == accuracy
    exact = errors[-1]
    assert 0 < np.abs(rough - exact).max() < 1e-2 * np.abs(exact).max()
    assert np.abs(errors[1] - exact).max() < 1e-6 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("accuracy", "message"),
    [
        ("hgih", "unknown accuracy 'hgih'.*high"),
        (0.5, "accuracy=0.5 must be the relative error"),
        (True, "accuracy=True must be"),
        (float("nan"), "accuracy=nan must be"),
    ],
)
def test_bad_accuracies_are_refused(accuracy, message):
    with pytest.raises(InputError, match=message):
        SCCalculator(random_model("LocalCharges"), accuracy=accuracy)
