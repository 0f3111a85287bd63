"""Bare multipoles: lattice sums, point-charge limits, derivatives, messages."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from asesc import CoulombCalculator
from asesc.errors import InputError, PropertyUnavailableError
from asesc.units import COULOMB

IONS = {"Na": 1.0, "Cl": -1.0}


@pytest.fixture
def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.arange(9).reshape(3, 3) / 9), True)
    atoms.rattle(0.1, seed=0)
    return atoms


def rigid(n_atoms: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n_atoms, 3)) * 0.3


def test_madelung_constant_of_rock_salt():
    """1.74756459463318219… (OEIS A085469), from Gaussians too narrow to overlap."""
    atoms, width = bulk("NaCl", "rocksalt", a=5.64), 0.25
    atoms.calc = CoulombCalculator(charges=IONS, width=width)
    self_energy = 2 * COULOMB / (2 * width * np.sqrt(np.pi))
    madelung = -(atoms.get_potential_energy() - self_energy) * 2.82 / COULOMB
    assert madelung == pytest.approx(1.7475645946331822, abs=1e-9)


def test_two_distant_charges():
    pair = Atoms("NaCl", [(0, 0, 0), (0, 0, 8)])
    pair.calc = CoulombCalculator(charges=[1, -1], width={"Na": 0.4, "Cl": 0.6})
    np.testing.assert_allclose(pair.get_forces()[:, 2], [COULOMB / 64, -COULOMB / 64], rtol=1e-9)
    self_energy = COULOMB / (2 * np.sqrt(np.pi)) * (1 / 0.4 + 1 / 0.6)
    assert pair.get_potential_energy() == pytest.approx(self_energy - COULOMB / 8, rel=1e-9)
    np.testing.assert_allclose(pair.get_dipole_moment(), [0, 0, -8])


@pytest.mark.parametrize("pbc", [False, True, (True, True, False)], ids=["FFF", "TTT", "TTF"])
def test_derivatives(pbc, salt):
    salt.pbc = pbc
    field = (0.0, 0.0, 0.0) if np.any(pbc) else (0.1, 0.0, -0.2)
    salt.calc = CoulombCalculator(charges=IONS, dipoles=rigid(2), electric_field=field)
    numerical = calculate_numerical_forces(salt, eps=1e-4)
    assert np.abs(numerical - salt.get_forces()).max() <= 1e-6
    if np.all(pbc):
        numerical = calculate_numerical_stress(salt, eps=1e-4)
        assert np.abs(numerical - salt.get_stress()).max() <= 1e-7


def test_force_on_an_ion_in_a_field():
    ion = Atoms("Na")
    ion.calc = CoulombCalculator(charges=[2], electric_field=(0, 0, 0.1))
    np.testing.assert_allclose(ion.get_forces(), [[0, 0, 0.2]])
    ion.info["external_field"] = np.array([0.0, 0.0, 0.3])
    np.testing.assert_allclose(ion.get_forces(), [[0, 0, -0.6]])
    ion.info["external_field"][2] = -0.1
    np.testing.assert_allclose(ion.get_forces(), [[0, 0, 0.2]])


def test_energy_of_a_dipole_in_a_field():
    atom = Atoms("H")
    atom.calc = CoulombCalculator(charges=[0], dipoles=[(0, 0, 0.5)], electric_field=(0, 0, 0.2))
    assert atom.calc.get_property("energy", atom) == pytest.approx(
        atom.calc.extras["contributions"]["coulomb"] - 0.1
    )
    np.testing.assert_allclose(atom.get_dipole_moment(), [0, 0, 0.5])


def test_polarisation_of_a_crystal(salt):
    salt.calc = CoulombCalculator(charges=IONS)
    expected = (salt.positions[0] - salt.positions[1]) / salt.get_volume()
    np.testing.assert_allclose(salt.calc.get_property("polarization", salt), expected)
    with pytest.raises(PropertyUnavailableError, match="not defined for pbc=TTT"):
        salt.get_dipole_moment()


def test_an_array_edited_later_changes_nothing(salt):
    charges = np.array([1.0, -1.0])
    salt.calc = CoulombCalculator(charges=charges)
    energy = salt.get_potential_energy()
    charges[:] = 0
    salt.rattle(0)
    assert salt.get_potential_energy() == energy
    salt.calc.set(charges=[0.5, -0.5], width=1.0)
    assert salt.get_potential_energy() == pytest.approx(energy / 4)
    assert salt.calc.todict()["charges"] == (0.5, -0.5)


def test_parameters_edited_in_place_are_noticed(salt):
    salt.calc = CoulombCalculator(charges=IONS)
    energies = [salt.get_potential_energy()]
    salt.calc.parameters["charges"]["Na"], salt.calc.parameters["charges"]["Cl"] = 0.5, -0.5
    energies.append(salt.get_potential_energy())
    assert energies[1] == pytest.approx(energies[0] / 4)
    for name, value in (
        ("width", 0.7),
        ("charges", np.array([0.2, -0.2])),
        ("dipoles", np.ones((2, 3))),
        ("electric_field", np.array([0.0, 0.0, 0.1])),
    ):
        salt.calc.parameters[name] = value
        energies.append(salt.get_potential_energy())
        assert not salt.calc.check_state(salt)
    assert len(set(energies)) == len(energies)
    fresh = CoulombCalculator(**salt.calc.parameters)
    assert fresh.get_potential_energy(salt) == energies[-1]


def test_a_charged_cell_takes_no_field():
    ion = Atoms("Na", cell=[5, 5, 5], pbc=True)
    ion.calc = CoulombCalculator(charges=[1], electric_field=(0, 0, 0.1))
    with pytest.raises(InputError, match="neutral cell"):
        ion.get_potential_energy()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"charges": {"Na": 1}}, "charges has no entry for Cl; it knows Na"),
        ({"charges": {11: 1, 17: -1}}, "charges has no entry for Cl, Na; it knows 11, 17"),
        ({"charges": [1, -1, 0]}, "charges has 3 entries, but the structure has 2 atoms"),
        ({"charges": ["a", "b"]}, "charges must be numbers"),
        ({"charges": {"Na": "x", "Cl": 1}}, r"charges\['Na'\] must be numbers"),
        ({"charges": [[1], [1]]}, "one number per atom"),
        ({"charges": IONS, "width": 0}, "widths must be positive"),
        ({"charges": IONS, "width": [1, 1]}, "width must be finite, one number"),
        ({"charges": IONS, "dipoles": [[1, 0, 0]]}, r"dipoles have shape \(1, 3\)"),
        ({"charges": IONS, "dipoles": [1, 0, 0]}, "one vector per atom"),
        ({"charges": IONS, "boundary": "slab"}, "contradicts atoms.pbc"),
        ({"charges": IONS, "boundary": "perodic"}, "Did you mean 'periodic'"),
    ],
)
def test_messages(options, message, salt):
    with pytest.raises(InputError, match=message):
        CoulombCalculator(**options).get_potential_energy(salt)


def test_unknown_keyword():
    with pytest.raises(TypeError, match=r"no parameter 'widht'. Did you mean 'width'"):
        CoulombCalculator(charges=IONS, widht=1)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"charge": 1}, r"atoms\.info\['charge'\] is 1, but the charges given .* add up to 0 e"),
        ({"efield": [0, 0, 0.1]}, r"atoms\.info\['efield'\] looks like 'electric_field'"),
    ],
)
def test_info_that_is_not_read_is_told(info, message, salt):
    salt.info.update(info)
    with pytest.warns(UserWarning, match=message):
        CoulombCalculator(charges=IONS).get_potential_energy(salt)


def test_info_that_agrees_or_means_something_else_is_left_alone(salt):
    salt.info.update(charge=0, Spin=1)
    CoulombCalculator(charges=IONS).get_potential_energy(salt)
