"""The dipole along a path: wrapping, whole quanta, changing cells."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from rigid_ions import ionic_crystal
from spring_molecule import diatomic

from asesc import CoulombCalculator
from asesc.errors import InputError, PropertyUnavailableError
from asesc.spectra import ContinuousMoment, MomentRecorder, nearest_branch, unwrapped_moments

CHARGES = {"Na": 0.7, "Cl": -0.7}


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.calc = CoulombCalculator(charges=CHARGES, width=0.6)
    return atoms


def test_ions_that_leave_the_cell_do_not_jump_the_dipole():
    """Wrapped at every step, with charges that are no multiple of e; μ must be Σ q r unwrapped."""
    atoms = salt()
    charges = np.array([CHARGES[s] for s in atoms.symbols])
    whole, start = atoms.positions.copy(), charges @ atoms.positions
    follow = ContinuousMoment(atoms)
    origin = follow()
    generator, crossed = np.random.default_rng(0), 0
    for _ in range(40):
        step = generator.normal(size=(2, 3)) * 0.5 + [[0.3, 0.0, 0.1], [-0.2, 0.3, 0.0]]
        whole += step
        atoms.positions += step
        before = atoms.positions.copy()
        atoms.wrap()
        crossed += int(np.abs(atoms.positions - before).max() > 1)
        np.testing.assert_allclose(follow() - origin, charges @ whole - start, atol=1e-9)
    assert crossed > 5


def test_the_cell_may_change_on_the_way():
    """What is followed is fractional: after a wrap a strain must not bring the jump back."""
    atoms = salt()
    charges = np.array([CHARGES[s] for s in atoms.symbols])
    follow = ContinuousMoment(atoms)
    origin = follow()
    atoms.positions[0, 0] -= 0.2
    atoms.wrap(eps=0)
    follow()
    atoms.set_cell(1.1 * atoms.cell.array, scale_atoms=True)
    reference = bulk("NaCl", "rocksalt", a=5.64)
    reference.positions[0, 0] -= 0.2
    start = charges @ bulk("NaCl", "rocksalt", a=5.64).positions
    np.testing.assert_allclose(
        follow() - 1.1 * origin, 1.1 * (charges @ reference.positions - start), atol=1e-9
    )


class Berry(CoulombCalculator):
    """Returns the polarisation in the cell around zero, as a Berry phase does."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        value = super().get_property(name, atoms, allow_calculation)
        if name != "polarization":
            return value
        fractional = value * atoms.get_volume() @ np.linalg.inv(atoms.cell.array)
        fractional -= np.round(fractional)
        return fractional @ atoms.cell.array / atoms.get_volume()


def test_branches_chosen_by_the_calculator_are_undone():
    atoms = salt()
    atoms.calc = Berry(charges={"Na": 1, "Cl": -1}, width=0.6)
    follow = ContinuousMoment(atoms)
    moments = [follow()]
    stored = [atoms.get_volume() * atoms.calc.get_property("polarization", atoms)]
    for _ in range(20):
        atoms.positions[0] += [0.4, 0.1, -0.2]
        moments.append(follow())
        stored.append(atoms.get_volume() * atoms.calc.get_property("polarization", atoms))
    expected = np.outer(np.arange(21), [0.4, 0.1, -0.2])
    np.testing.assert_allclose(np.array(moments) - moments[0], expected, atol=1e-9)
    assert np.abs(np.diff(stored, axis=0)).max() > 1
    series = unwrapped_moments(stored, atoms.cell.array)
    np.testing.assert_allclose(series - series[0], expected, atol=1e-9)


def test_nearest_branch():
    cell = np.array([[4.0, 0.3, 0.0], [-0.5, 5.0, 0.2], [0.1, 0.4, 6.0]])
    reference, near = np.array([[0.4, -0.3, 0.2], [0.5, -0.5, 0.5]])
    for jumps in [(1, 0, 0), (-2, 1, 3)]:
        far = near + 2.0 * np.array(jumps) @ cell
        np.testing.assert_allclose(nearest_branch(far, reference, cell, quantum=2.0), near)
    np.testing.assert_allclose(nearest_branch(near, reference, cell), near)


def test_the_recorder_follows_molecular_dynamics(tmp_path):
    """Under a drift that carries all ions through the cell; the neutral cell's μ stays put."""
    atoms = ionic_crystal()
    atoms.rattle(0.05, seed=0)
    atoms.set_velocities(np.tile([0.05, 0.02, 0.0], (2, 1)) / units.fs)
    recorder = MomentRecorder(atoms)
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    dynamics.attach(recorder)
    dynamics.attach(lambda: atoms.wrap())
    dynamics.run(60)
    assert recorder.moments.shape == (61, 3)
    assert np.abs(np.diff(recorder.moments, axis=0)).max() < 0.1
    recorder.to_csv(tmp_path / "dipole.csv")
    assert len((tmp_path / "dipole.csv").read_text().splitlines()) == 2 + 61


def test_molecules_and_what_is_not_defined():
    molecule = diatomic(charge=0.4)
    follow = ContinuousMoment(molecule)
    np.testing.assert_allclose(follow(), [0, 0, -0.4 * 0.92])
    recorder = MomentRecorder(molecule, raman=True)
    recorder()
    assert recorder.polarizabilities.shape == (1, 3, 3)
    assert MomentRecorder(molecule).polarizabilities.shape == (0, 3, 3)
    slab = salt()
    slab.pbc = (True, True, False)
    with pytest.raises(InputError, match="not defined along its periodic directions"):
        ContinuousMoment(slab)()
    molecule.pbc, molecule.cell = True, (5, 5, 5)
    with pytest.raises(PropertyUnavailableError, match=r"'polarization' is needed.*pbc=False"):
        ContinuousMoment(molecule)()
