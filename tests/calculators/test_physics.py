"""Every number against a finite difference of the energy, per family and boundary."""

import numpy as np
import pytest
from ase.calculators.fd import calculate_numerical_forces
from builders import random_model

from asesc import SCCalculator
from asesc.errors import PropertyUnavailableError
from asesc.models import FAMILIES
from asesc.units import COULOMB

# Å, V/Å or strain; the random models are stiff, so that a larger step would measure itself.
STEP = 3e-6
ION = 1  # e, for the families whose charge is not fixed by the composition


def calculator(family, **options):
    return SCCalculator(random_model(family), **options)


def charge_of(family) -> int:
    return ION if FAMILIES[family].has_variable_charge else 0


def numerical_stress(atoms, a, b, step=STEP) -> float:
    """One component at fixed voltage along the cell vectors.

    ase.calculators.fd keeps the Cartesian field, and strains a slab out of its plane.
    """
    field, energies = np.array(atoms.calc.parameters["electric_field"]), []
    for sign in (1, -1):
        strained, strain = atoms.copy(), np.eye(3)
        strain[a, b] += 0.5 * sign * step
        strain[b, a] += 0.5 * sign * step
        strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        strained.info["electric_field"] = np.linalg.solve(strain, field)
        energies.append(atoms.calc.get_potential_energy(strained))
    return (energies[0] - energies[1]) / (2 * step * atoms.get_volume())


@pytest.mark.parametrize("family", FAMILIES)
def test_forces_of_an_ion_in_a_field(family, water):
    water.calc = calculator(family, charge=charge_of(family), electric_field=(0.05, -0.1, 0.2))
    numerical = calculate_numerical_forces(water, eps=STEP, iatoms=[0, 2])
    assert np.abs(numerical - water.get_forces()[[0, 2]]).max() <= 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_dipole_is_minus_the_field_derivative(family, water):
    water.calc = calculator(family)
    field = np.array([0.02, 0.1, -0.05])
    water.info["electric_field"] = field
    dipole, step, slope = water.get_dipole_moment(), STEP, np.zeros(3)
    if not FAMILIES[family].variational:
        # There the dipole of the density is another number.
        dipole = water.calc.extras["conjugate_dipole"]
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            field[axis] += sign * step
            energies.append(water.get_potential_energy())
            field[axis] -= sign * step
        slope[axis] = (energies[0] - energies[1]) / (2 * step)
    assert np.abs(slope + dipole).max() <= 1e-6
    assert np.abs(dipole).max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_stress_of_a_crystal(family, silica):
    field = (0.0, 0.05, -0.1) if FAMILIES[family].has_itinerant_polarisation else (0, 0, 0)
    silica.calc = calculator(family, electric_field=field)
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    numerical = [numerical_stress(silica, a, b) for a, b in pairs]
    assert np.abs(numerical - silica.get_stress()).max() <= 1e-7
    forces = calculate_numerical_forces(silica, eps=STEP, iatoms=[1])
    assert np.abs(forces - silica.get_forces()[[1]]).max() <= 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_stress_of_a_slab_is_in_plane(family, sheet):
    sheet.calc = calculator(family, electric_field=(0, 0, 0.1))
    stress = sheet.get_stress()
    for voigt, (a, b) in {0: (0, 0), 1: (1, 1), 5: (0, 1)}.items():
        assert abs(numerical_stress(sheet, a, b) - stress[voigt]) <= 1e-7
    assert np.abs(stress[[2, 3, 4]]).max() < 1e-12


def test_a_field_pushes_a_positive_charge_along_it(water):
    """DESIGN §5: force on +q is +qE; MACE's external_field is the opposite."""
    water.calc = calculator("LocalCharges", charge=1)
    free = water.get_forces().sum(axis=0)
    water.info["electric_field"] = (0.0, 0.0, 0.1)
    pushed = water.get_forces().sum(axis=0) - free
    np.testing.assert_allclose(pushed, [0, 0, 0.1], atol=1e-10)
    energy = water.get_potential_energy()
    del water.info["electric_field"]
    water.info["external_field"] = (0.0, 0.0, -0.1)
    assert water.get_potential_energy() == energy


def test_free_energy_is_the_energy_of_the_forces(water):
    water.calc = calculator("QEq")
    energy = water.get_potential_energy()
    assert water.get_potential_energy(force_consistent=True) == energy
    assert sum(water.calc.extras["contributions"].values()) == pytest.approx(energy, abs=1e-12)


def test_charges_add_up_to_the_total_charge(water):
    for family in FAMILIES:
        water.calc = calculator(family, charge=charge_of(family))
        assert abs(water.get_charges().sum() - charge_of(family)) < 1e-10


def test_dipole_of_an_ion_moves_with_it(water):
    water.calc = calculator("QEq", charge=1)
    before = water.get_dipole_moment()
    water.positions += (10.0, 0.0, 0.0)
    np.testing.assert_allclose(water.get_dipole_moment(), before, atol=1e-9)
    np.testing.assert_allclose(water.calc.extras["dipole_origin"], water.get_center_of_mass())
    about_zero = before + water.get_center_of_mass()
    np.testing.assert_allclose(water.calc.extras["conjugate_dipole"], about_zero, atol=1e-9)


def test_dipole_of_a_slab_has_its_open_component_only(sheet):
    sheet.calc = calculator("SplitCharges")
    dipole = sheet.get_dipole_moment()
    assert dipole[:2].tolist() == [0, 0] and dipole[2] != 0
    assert sheet.calc.extras["conjugate_dipole"][2] == pytest.approx(dipole[2], abs=1e-12)


def test_polarisation_is_the_field_derivative_per_volume(silica):
    silica.calc = calculator("SplitChargeEquilibration")
    step, volume = STEP, silica.get_volume()
    silica.info["electric_field"] = np.array([0.0, 0.0, step])
    up = silica.get_potential_energy()
    silica.info["electric_field"][2] = -step
    slope = (up - silica.get_potential_energy()) / (2 * step)
    silica.info["electric_field"][2] = 0.0
    polarisation = silica.calc.get_property("polarization", silica)
    assert slope == pytest.approx(-polarisation[2] * volume, abs=1e-6)


def test_born_charges_are_field_derivatives_of_forces(water):
    water.calc = calculator("SplitChargeEquilibration", electric_field=(0, 0, 0))
    born = water.calc.get_property("born_effective_charges", water)
    step, forces = STEP, []
    for sign in (1, -1):
        water.calc.set(electric_field=(0, 0, sign * step))
        forces.append(water.get_forces())
    np.testing.assert_allclose(born[:, 2], (forces[0] - forces[1]) / (2 * step), atol=1e-6)
    water.calc.get_born_effective_charges(water)
    assert np.abs(water.calc.extras["acoustic_sum_error"]).max() < 1e-10


def test_polarizability_is_the_field_derivative_of_the_dipole(water):
    water.calc = calculator("QEq")
    alpha, step, dipoles = water.calc.get_polarizability(water), STEP, []
    for sign in (1, -1):
        water.calc.set(electric_field=(0, sign * step, 0))
        dipoles.append(water.get_dipole_moment())
    np.testing.assert_allclose(alpha[:, 1], (dipoles[0] - dipoles[1]) / (2 * step), atol=1e-7)


def test_hessian_is_the_derivative_of_forces(water):
    water.calc = calculator("SplitChargeEquilibration", charge=1)
    hessian, step, forces = water.calc.get_hessian(water), STEP, []
    for sign in (1, -1):
        moved = water.copy()
        moved.positions[1, 2] += sign * step
        forces.append(water.calc.get_forces(moved).ravel())
    numerical = -(forces[0] - forces[1]) / (2 * step)
    np.testing.assert_allclose(hessian[:, 5], numerical, rtol=1e-6, atol=1e-5)


def test_dielectric_tensor_belongs_to_the_polarizability(silica):
    silica.calc = calculator("SplitChargeEquilibration")
    alpha = silica.calc.get_polarizability(silica)
    expected = np.eye(3) + 4 * np.pi * COULOMB * alpha / silica.get_volume()
    np.testing.assert_allclose(silica.calc.get_dielectric_tensor(silica), expected)
    assert "dielectric_tensor" not in silica.calc.results


def test_born_charges_of_a_crystal_need_a_polarisation(silica):
    with pytest.raises(PropertyUnavailableError, match="no polarisation along periodic"):
        calculator("LocalCharges").get_born_effective_charges(silica)
