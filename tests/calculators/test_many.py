"""Batches of structures: the numbers of single ones, and their messages."""

import numpy as np
import pytest
from ase.build import molecule
from builders import random_model

from asesc import SCCalculator
from asesc.errors import InputError


@pytest.fixture
def calc():
    return SCCalculator(random_model("SplitChargeEquilibration"), charge=1)


def assert_same(calc, frames, properties=("forces",)):
    together = calc.evaluate_many(frames, properties)
    for frame, found in zip(frames, together, strict=True):
        expected = calc.evaluate(frame, properties).results
        for name in ("energy", "forces", "charges", *properties):
            np.testing.assert_allclose(found.results[name], expected[name], atol=1e-9)


def test_sizes_charges_and_fields_may_differ(calc):
    water, dimer = molecule("H2O"), molecule("H2O2")
    water.rattle(0.05, seed=0)
    dimer.info.update(charge=-1, electric_field=[0.0, 0.1, 0.0])
    assert_same(calc, [water, dimer, water])


def test_crystals(calc, silica):
    silica.info["charge"] = 0
    frames = []
    for seed in range(3):
        frames.append(silica.copy())
        frames[-1].rattle(0.05, seed=seed)
    assert_same(calc, frames)


def test_what_does_not_fit_is_evaluated_one_by_one(calc, silica, water):
    silica.info["charge"] = 0
    assert_same(calc, [water, silica])
    assert_same(calc, [silica, silica], ("stress",))


def test_the_cache_is_left_alone(calc, water):
    water.calc = calc
    energy = water.get_potential_energy()
    other = water.copy()
    other.rattle(0.1, seed=3)
    calc.evaluate_many([other, other])
    assert calc.results["energy"] == energy


def test_a_bad_structure_is_named(calc, water):
    crushed = water.copy()
    crushed.positions[1] = crushed.positions[0] + 0.1
    with pytest.raises(InputError, match=r"atoms 0 and 1 are 0\.17 Å apart"):
        calc.evaluate_many([water, crushed])
