"""Phonons: rigid ions on paper, the non-analytic term in a crystal without symmetry, messages."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from rigid_ions import RigidIons, ionic_crystal, optical_force_constants

from asesc import CoulombCalculator
from asesc.errors import IllPosedError, InputError, PropertyUnavailableError
from asesc.phonons import (
    ImaginaryModesWarning,
    UnrelaxedWarning,
    born_charges,
    dielectric_response,
    elastic_response,
    phonons,
    relaxed,
)
from asesc.units import COULOMB
from asesc.workflows.derivatives import hessian
from asesc.workflows.modes import PER_THZ, WAVENUMBER, normal_modes


def reduced_mass(atoms: Atoms) -> float:
    first, second = atoms.get_masses()
    return first * second / (first + second)


@pytest.mark.parametrize(("structure", "a"), [("rocksalt", 5.64), ("zincblende", 5.41)])
def test_rigid_ions_on_paper(structure, a):
    """TO and LO of a cubic rigid-ion crystal, and ε0/ε∞ = ω_LO²/ω_TO².

    Lyddane, Sachs, Teller, Phys. Rev. 59, 673 (1941), doi:10.1103/PhysRev.59.673.
    """
    atoms = ionic_crystal(structure, a=a, stiffness=8.0)
    transverse, longitudinal = optical_force_constants(atoms, structure)
    response = dielectric_response(phonons(atoms, (2, 2, 2), progress=False))
    scale = WAVENUMBER / np.sqrt(reduced_mass(atoms))
    np.testing.assert_allclose(response.wavenumbers, scale * np.sqrt(transverse), rtol=2e-4)
    for direction in [(1, 0, 0), (1, -2, 3)]:
        (pair,) = response.splittings(direction)
        assert pair.longitudinal == pytest.approx(scale * np.sqrt(longitudinal), rel=2e-4)
        assert pair.transverse == pytest.approx(scale * np.sqrt(transverse), rel=2e-4)
    static = longitudinal / transverse
    np.testing.assert_allclose(response.static, static * np.eye(3), rtol=5e-4, atol=1e-9)


def test_force_constants_of_a_distorted_cell():
    """Each commensurate wave vector of 1 × 1 × 2 cells is a Γ mode of the doubled cell."""
    atoms = ionic_crystal(stiffness=8.0)
    atoms.set_cell(atoms.cell.array + 0.1 * np.eye(3)[[1, 2, 0]], scale_atoms=True)
    atoms.rattle(0.05, seed=0)
    with pytest.warns(UnrelaxedWarning, match="largest force"):
        ph = phonons(atoms, (1, 1, 2), nac=False, progress=False)
    q = ph.run_qpoints([[0, 0, 0], [0, 0, 0.5]]).frequencies
    double = atoms.repeat((1, 1, 2))
    modes = normal_modes(hessian(atoms.calc, double), double)
    found = np.sort(PER_THZ * q.ravel())
    acoustic = np.argsort(np.abs(found))[:3]
    assert np.abs(found[acoustic]).max() < 0.1
    np.testing.assert_allclose(np.delete(found, acoustic), modes.wavenumbers, rtol=3e-4)


LOWERED = pytest.mark.filterwarnings("ignore:Warning. Point group symmetries:UserWarning")


@LOWERED
def test_supercell_matrix_is_in_rows():
    """Rows of the matrix are the new vectors, as in ase.build.make_supercell."""
    atoms = ionic_crystal()
    matrix = [[1, 0, 0], [1, 2, 0], [0, 0, 1]]
    ph = phonons(atoms, matrix, nac=False, progress=False)
    np.testing.assert_allclose(ph.supercell.cell, np.array(matrix) @ atoms.cell.array)


def test_a_conventional_cell_gives_the_primitive_phonons():
    atoms = ionic_crystal()
    conventional = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    conventional.calc = atoms.calc
    ph = phonons(conventional, (1, 1, 1), progress=False)
    assert len(ph.primitive) == 2 and ph.nac_params["born"].shape == (2, 3, 3)
    expected = dielectric_response(phonons(atoms, (1, 1, 1), progress=False))
    response = dielectric_response(ph)
    np.testing.assert_allclose(response.wavenumbers, expected.wavenumbers, rtol=1e-5)
    np.testing.assert_allclose(response.static, expected.static, rtol=1e-5, atol=1e-9)


@pytest.mark.filterwarnings("ignore::asesc.phonons.UnrelaxedWarning")
@pytest.mark.filterwarnings("ignore::asesc.phonons.ImaginaryModesWarning")
def test_the_non_analytic_term_is_the_depolarising_field(silica):
    """Forces on a longitudinal pattern come out of the model itself, by finite differences.

    In an insulator a pattern of wave vector q → 0 makes the field E = −4πk_e q̂(q̂·P)/(q̂·ε∞·q̂)
    with the polarisation P of clamped electrons; F(u, E) must be −D u of phonopy. No Born charge
    enters, and in this cell they are far from symmetric, so that a transpose shows.
    """
    ph = phonons(silica, (1, 1, 1), displacement=1e-3, progress=False)
    born = ph.nac_params["born"]
    assert np.abs(born - born.transpose(0, 2, 1)).max() > 0.05
    direction = np.array([0.3, -0.5, 0.81])
    direction /= np.linalg.norm(direction)
    q = ph.primitive.cell @ direction  # in units of the reciprocal vectors
    epsilon = silica.calc.get_dielectric_tensor(silica)
    root = np.repeat(np.sqrt(silica.get_masses()), 3)
    transposed = {**ph.nac_params, "born": born.transpose(0, 2, 1)}
    for seed in range(2):
        pattern = np.random.default_rng(seed).normal(size=(3, 3))
        force = longitudinal_force(silica, pattern, direction, epsilon)
        errors = []
        for params in (ph.nac_params, transposed):
            ph.nac_params = params
            ph.dynamical_matrix.run([0, 0, 0], q_direction=q)
            matrix = ph.dynamical_matrix.dynamical_matrix * np.outer(root, root)
            errors.append(np.abs(-matrix @ pattern.ravel() - force.ravel()).max())
        ph.nac_params = {**transposed, "born": born}
        assert errors[0] < 0.05 < 1.0 < errors[1]


def longitudinal_force(
    crystal: Atoms, pattern: np.ndarray, direction: np.ndarray, epsilon: np.ndarray
) -> np.ndarray:
    """dF/du of a pattern in the field that it makes at q → 0 along a direction."""
    step, forces = 1e-3, []
    rest = crystal.calc.get_property("polarization", crystal)
    for sign in (-1, 1):
        frame = crystal.copy()
        frame.positions += sign * step * pattern
        change = crystal.calc.get_property("polarization", frame) - rest
        size = -4 * np.pi * COULOMB * direction @ change / (direction @ epsilon @ direction)
        frame.info["electric_field"] = size * direction
        forces.append(crystal.calc.get_property("forces", frame))
    slope = (forces[1] - forces[0]) / (2 * step)
    return slope - slope.mean(axis=0)


class Flawed(RigidIons):
    """Born charges with a known violation of the sum rule and of site symmetry."""

    bias = np.diag([0.03, -0.01, 0.02]) + 0.005

    def calculate(self, *args, **keywords):
        super().calculate(*args, **keywords)
        self.results["born_effective_charges"][0] += self.bias


def test_born_charges_obey_sum_rule_and_symmetry_and_say_what_was_wrong(capsys):
    atoms = ionic_crystal()
    calc = atoms.calc
    atoms.calc = Flawed(calc.charges, stiffness=5.0, rest=calc.rest, cutoff=calc.cutoff)
    born = born_charges(atoms)
    np.testing.assert_allclose(born.acoustic_sum_error, Flawed.bias, atol=1e-12)
    np.testing.assert_allclose(born.charges.sum(axis=0), 0, atol=1e-12)
    value = 1 + np.trace(Flawed.bias) / 6
    np.testing.assert_allclose(born.charges[0], value * np.eye(3), atol=1e-12)
    assert born.correction == pytest.approx(0.035 - np.trace(Flawed.bias) / 6, abs=1e-3)
    phonons(atoms, (1, 1, 1))
    assert "raw acoustic sum |ΣZ*| ≤ 3.5e-02 e" in capsys.readouterr().err
    phonons(atoms, (1, 1, 1), progress=False)
    assert capsys.readouterr().err == ""


def test_born_charges_by_differences_of_the_polarisation(monkeypatch):
    atoms = ionic_crystal(charge=0.8)
    names = [n for n in RigidIons.implemented_properties if n != "born_effective_charges"]
    monkeypatch.setattr(RigidIons, "implemented_properties", names)
    atoms.positions[0] -= 0.004  # displaced images lie on both sides of the cell's face
    charges = born_charges(atoms).charges
    np.testing.assert_allclose(charges, np.multiply.outer([0.8, -0.8], np.eye(3)), atol=1e-9)


@pytest.mark.parametrize(
    ("epsilon", "message"),
    [
        (2e4, r"ε = 2e\+04 screens like a metal's, .*pass nac=False"),
        (np.inf, "not finite, as in a metal"),
        (-3.0, r"eigenvalue -3: .*not stable"),
    ],
)
def test_crystals_without_a_gap_have_no_splitting(epsilon, message, monkeypatch):
    crystal = ionic_crystal()
    calculate = RigidIons.calculate

    def metallic(self, *arguments, **keywords):
        calculate(self, *arguments, **keywords)
        self.results["dielectric_tensor"] = np.diag([1.0, epsilon, 2.0])

    monkeypatch.setattr(RigidIons, "calculate", metallic)
    with pytest.raises(InputError, match=message):
        phonons(crystal, (1, 1, 1), progress=False)


def test_imaginary_modes_are_named():
    """Springs too weak for the Lorentz field: the polar catastrophe."""
    atoms = ionic_crystal(stiffness=0.9)
    assert optical_force_constants(atoms, "rocksalt")[0] < 0
    with pytest.warns(ImaginaryModesWarning, match=r"imaginary modes? at the 1 wave vector.*i.*cm"):
        ph = phonons(atoms, (1, 1, 1), progress=False)
    response = dielectric_response(ph)
    assert (response.wavenumbers < 0).all()
    with pytest.raises(IllPosedError, match="static dielectric tensor does not exist"):
        _ = response.static


@LOWERED
def test_what_the_crystal_carries_reaches_the_supercells():
    seen = []

    class Watching(EMT):
        def get_property(self, name, atoms=None, allow_calculation=True):
            seen.append(atoms.copy())
            return super().get_property(name, atoms, allow_calculation)

    copper = bulk("Cu")
    copper.set_masses([65.0])
    copper.set_initial_magnetic_moments([0.3])
    copper.info.update(charge=1, electric_field=[0.0, 0.0, 0.1], note="keep", spin=2)
    copper.calc = Watching()
    ph = phonons(copper, (2, 1, 1), nac=False, progress=False)
    assert ph.primitive.masses == pytest.approx([65.0])
    frame = seen[-1]
    expected = {"charge": 2, "electric_field": [0.0, 0.0, 0.1], "note": "keep", "spin": 3}
    assert frame.info == expected
    np.testing.assert_array_equal(frame.get_initial_magnetic_moments(), 0.3)
    assert copper.info["charge"] == 1 and frame.pbc.all()


@LOWERED
def test_batches_give_the_same_as_single_structures():
    class Batched(RigidIons):
        sizes: list = []  # noqa: RUF012

        def evaluate_many(self, frames, properties, progress):
            self.sizes.append(len(frames))
            answers = []
            for frame in frames:
                self.calculate(frame, properties)
                answers.append(type("Answer", (), {"results": self.results}))
            return answers

    atoms = ionic_crystal()
    expected = phonons(atoms, (1, 1, 2), progress=False).force_constants
    calc = atoms.calc
    atoms.calc = Batched(calc.charges, stiffness=5.0, rest=calc.rest, cutoff=calc.cutoff)
    found = phonons(atoms, (1, 1, 2), progress=False).force_constants
    np.testing.assert_array_equal(found, expected)
    assert len(Batched.sizes) == 1 and Batched.sizes[0] > 2


@pytest.mark.parametrize(
    ("supercell", "message"),
    [
        ((2, 2), "does not fit the crystal"),
        ((2, 2, 1.5), "does not fit the crystal"),
        ("222", "does not fit the crystal"),
        ((0, 1, 1), "determinant 0"),
        (-np.eye(3), "determinant -1"),
    ],
)
def test_supercells_that_do_not_fit(supercell, message):
    with pytest.raises(InputError, match=message):
        phonons(ionic_crystal(), supercell)


def test_messages():
    crystal, copper = ionic_crystal(), bulk("Cu", cubic=True)
    copper.calc = EMT()
    with pytest.raises(InputError, match=r"has no calculator; set atoms\.calc"):
        phonons(bulk("Cu"))
    with pytest.raises(PropertyUnavailableError, match=r"'dielectric_tensor' is needed, but EMT"):
        phonons(copper, (1, 1, 1))
    water = molecule("H2O")
    water.calc = EMT()
    with pytest.raises(InputError, match=r"asesc\.spectra\.infrared"):
        phonons(water)
    crystal.pbc = (True, True, False)
    with pytest.raises(InputError, match="repeats the open axis c"):
        phonons(crystal, (2, 2, 2))
    with pytest.raises(InputError, match="pass nac=False"):
        phonons(crystal, (1, 1, 1))
    copper.calc.parameters["charge"] = 1
    with pytest.raises(InputError, match="charge of the whole supercell"):
        phonons(copper, (2, 2, 2), nac=False)
    with pytest.raises(InputError, match="no nac_params"):
        dielectric_response(phonons(ionic_crystal(), (1, 1, 1), nac=False, progress=False))


def test_relaxed_keeps_the_symmetry_and_the_original():
    atoms = ionic_crystal()
    atoms.set_cell(1.02 * atoms.cell.array, scale_atoms=True)
    before = atoms.cell.array.copy()
    result = relaxed(atoms, cell=True, fmax=1e-5)
    np.testing.assert_array_equal(atoms.cell.array, before)
    edge = (4 * result.get_volume()) ** (1 / 3)
    assert edge == pytest.approx(5.64, abs=1e-3) and result.constraints == []
    np.testing.assert_allclose(result.cell.angles(), 60, atol=1e-6)
    with pytest.raises(InputError, match="not relaxed to 1e-05 eV/Å within 1 steps"):
        relaxed(atoms, cell=True, fmax=1e-5, steps=1)
    atoms.pbc = False
    with pytest.raises(InputError, match="three periodic directions"):
        relaxed(atoms, cell=True)


def test_a_field_breaks_the_symmetry_and_is_refused():
    crystal = ionic_crystal()
    crystal.calc = CoulombCalculator(charges={"Na": 1, "Cl": -1}, electric_field=(0.1, 0, 0))
    with pytest.raises(InputError, match="phonons are those at zero macroscopic field"):
        phonons(crystal, (1, 1, 1))
    with pytest.raises(InputError, match="Born charges are those at zero macroscopic field"):
        born_charges(crystal)
    with pytest.raises(InputError, match="elastic tensors are those at zero macroscopic field"):
        elastic_response(crystal)
    crystal.calc.set(electric_field=(0, 0, 0))
    crystal.info["external_field"] = (0.1, 0, 0)
    with pytest.raises(InputError, match="phonons are those at zero macroscopic field"):
        phonons(crystal, (1, 1, 1))


def test_relaxed_in_a_field_reaches_zero_forces():
    """Symmetry alone would hold both sublattices where they are."""
    crystal = ionic_crystal()
    crystal.calc.parameters["electric_field"] = (0.1, 0, 0)
    crystal.calc.coulomb.set(electric_field=(0.1, 0, 0))
    assert np.abs(crystal.get_forces()).max() > 0.05
    moved = relaxed(crystal, fmax=1e-4)
    np.testing.assert_allclose(moved.get_forces(), 0, atol=1e-4)
