"""Multiplicities: what a frame may ask for, and MACEPolar behind the calculator."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io import read, write
from polar import random_polar

from asesc import SCCalculator
from asesc.calculators.inputs import Given
from asesc.calculators.spin import choose_spin, parse_spin
from asesc.errors import InputError

OPENED = SimpleNamespace(model=SimpleNamespace(has_spin=True), name="m")


def chosen(atoms, default=None, *, charge=0.0):
    return choose_spin(atoms, default, charge=Given(charge, "calculator"), opened=OPENED)


@pytest.mark.parametrize(
    ("formula", "charge", "lowest"),
    [("H2O", 0, 1), ("H2O", 1, 2), ("OH", 0, 2), ("OH", -1, 1), ("H", 1, 1), ("H2O", 0.5, 1)],
)
def test_the_lowest_multiplicity_is_the_default(formula, charge, lowest):
    spin = chosen(Atoms(formula), charge=charge)
    assert (spin.value, spin.source) == (lowest, "the lowest possible")


def test_info_overrides_the_calculator_and_none_does_not():
    water = Atoms("H2O")
    assert chosen(water, 3) == Given(3, "calculator")
    for key in ("spin", "multiplicity", "spin_multiplicity"):
        water.info = {key: np.int64(5)}
        assert chosen(water, 3) == Given(5, f"atoms.info[{key!r}]")
    water.info = {"spin": 3, "multiplicity": 3.0}
    assert chosen(water).value == 3
    water.info = {"spin": None}
    assert chosen(water, 3).value == 3
    water.info = {"spin": 3, "multiplicity": 1}
    with pytest.raises(InputError, match="'spin'=3 and 'multiplicity'=1, which mean the same"):
        chosen(water)


@pytest.mark.parametrize(
    ("formula", "charge", "spin", "message"),
    [
        (
            "H2O",
            0,
            2,
            "10 electrons with charge 0 need an odd multiplicity of at most 11; got spin=2",
        ),
        ("H2O", 0, 2, "Try 1 or 3"),
        ("OH", 0, 1, "9 electrons with charge 0 need an even multiplicity.*Try 2 or 4"),
        ("OH", -1, 2, "10 electrons with charge -1 need an odd"),
        ("H", 0, 4, "1 electrons with charge 0 need an even multiplicity of at most 2.*Try 2$"),
        ("H", 1, 3, "0 electrons with charge 1 need an odd multiplicity of at most 1.*Try 1$"),
    ],
)
def test_what_the_electrons_cannot_have_is_refused(formula, charge, spin, message):
    with pytest.raises(InputError, match=message):
        chosen(Atoms(formula), spin, charge=charge)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, r"spin=0\.5 is not a multiplicity 2S\+1 \(1, 2, 3, …\); for S=0\.5 pass 2"),
        (0, r"spin=0 is not a multiplicity .*; for S=0 pass 1"),
        (-1, "is not a multiplicity"),
        (2.3, r"\(1, 2, 3, …\)$"),
        (float("nan"), "is not a multiplicity"),
        ("triplet", "must be one number"),
        (True, "must be one number"),
        ([1, 2], "must be one number"),
        (1j, "must be one number"),
    ],
)
def test_other_things_than_multiplicities_are_refused(value, message):
    with pytest.raises(InputError, match=message):
        parse_spin(value)


@pytest.fixture
def polar():
    return SCCalculator(random_polar())


def test_polar_through_ase(polar, water):
    """Dipole, charges and magnetic moments by ASE's getters; a change of spin is seen."""
    water.calc = polar
    singlet = water.get_potential_energy()
    assert water.get_charges().sum() == pytest.approx(0, abs=1e-12)
    assert water.get_magnetic_moments().sum() == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(water.get_dipole_moment()) > 1e-3
    assert polar.extras["spin"] == 1 and polar.extras["spin_source"] == "the lowest possible"
    water.info["spin"] = 3
    assert abs(water.get_potential_energy() - singlet) > 1e-3
    assert water.get_magnetic_moments().sum() == pytest.approx(2, abs=1e-12)
    assert water.get_magnetic_moment() == pytest.approx(2, abs=1e-12)
    water.info["spin"] = 2
    with pytest.raises(InputError, match="need an odd multiplicity"):
        water.get_potential_energy()
    del water.info["spin"]
    assert water.get_potential_energy() == singlet
    polar.set(spin=3)
    assert water.get_magnetic_moment() == pytest.approx(2, abs=1e-12)
    assert json.loads(json.dumps(polar.todict()))["spin"] == 3


def test_a_polar_field_edited_in_place_is_seen(polar, water):
    """mace-torch 0.3.16 returns the energy without field, as it skips arrays in info."""
    water.calc = polar
    without = water.get_potential_energy()
    water.info["electric_field"] = np.array([0.0, 0.0, 0.3])
    along = water.get_potential_energy()
    water.info["electric_field"] *= -1
    against = water.get_potential_energy()
    assert abs(along - without) > 1e-3 and abs(along - against) > 1e-3
    del water.info["electric_field"]
    water.info["external_field"] = np.array([0.0, 0.0, -0.3])
    assert water.get_potential_energy() == pytest.approx(along, abs=1e-12)


def test_polar_ions_need_whole_charges(water):
    water.calc = SCCalculator(random_polar(), charge=0.5)
    with pytest.raises(InputError, match="is not an integer"):
        water.get_potential_energy()


def test_polar_forces_are_slopes_of_the_energy_in_a_field(water):
    water.calc = SCCalculator(random_polar(), charge=1, electric_field=(0.1, 0.05, -0.2))
    numerical = calculate_numerical_forces(water, eps=1e-4)
    np.testing.assert_allclose(water.get_forces(), numerical, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:charge")
@pytest.mark.parametrize("charge", [0, 1])
def test_polar_stress_contains_the_long_range_part(silica, sheet, charge):
    """Finite differences of the energy, in a crystal and in a slab, where the plane counts."""
    for atoms in (silica, sheet):
        atoms.calc = SCCalculator(random_polar(), charge=charge)
        numerical = calculate_numerical_stress(atoms, eps=1e-4)
        analytic = atoms.get_stress()
        rows = slice(None) if all(atoms.pbc) else [0, 1, 5]
        np.testing.assert_allclose(analytic[rows], numerical[rows], rtol=0, atol=1e-7)
        assert abs(analytic[rows]).max() > 1e-4


def test_both_dipoles_are_reported(polar, water):
    """The density's under ASE's name, the slope −∂E/∂field in the extras."""
    water.calc = polar
    dipole, step = water.get_dipole_moment(), 1e-3
    slope = polar.extras["conjugate_dipole"]
    energies = []
    for sign in (1, -1):
        polar.set(electric_field=(0, 0, sign * step))
        energies.append(water.get_potential_energy())
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(slope[2], abs=1e-5)
    assert abs(slope - dipole).max() > 1e-3


def test_polar_results_survive_a_file(polar, water, tmp_path):
    water.calc = polar
    water.get_forces()
    write(tmp_path / "water.xyz", water)
    again = read(tmp_path / "water.xyz")
    np.testing.assert_allclose(again.get_dipole_moment(), water.get_dipole_moment(), atol=1e-7)
    np.testing.assert_allclose(again.get_charges(), water.get_charges(), atol=1e-7)


def test_polar_copies_and_molecules_of_different_size(polar):
    """One calculator for several molecules; the pickle rebuilds it from tensors."""
    for name in ("H2O", "H2", "SiH4"):
        atoms = molecule(name)
        atoms.calc = polar
        fresh = molecule(name)
        fresh.calc = polar.clone()
        assert atoms.get_potential_energy() == fresh.get_potential_energy()
