"""Profiles, work functions, capacitance and maps against electrostatics in closed form."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.io.cube import read_cube

from asesc import CoulombCalculator, SCCalculator, slabs
from asesc.errors import InputError, PropertyUnavailableError
from asesc.models import QEq
from asesc.units import COULOMB

SIDE = 4.0
AREA = SIDE**2


def sheets(heights, charges, *, dipoles=None, height=20.0, width=0.8) -> Atoms:
    """One atom per plane of a square lattice of edge 4 Å, open along z."""
    atoms = Atoms(
        "X" * len(heights),
        [(0.3 * i, 0.2 * i, z) for i, z in enumerate(heights)],
        cell=(SIDE, SIDE, height),
        pbc=(True, True, False),
    )
    atoms.calc = CoulombCalculator(charges=charges, dipoles=dipoles, width=width)
    return atoms


@pytest.fixture(scope="module")
def metal() -> SCCalculator:
    """A fresh QEq: Gaussian charges of one hardness, which is a classical model electrode."""
    torch.manual_seed(0)
    backbone = {"elements": [13], "cutoff": 3.6, "channels": 4, "radial_width": 8, "layers": 1}
    model = QEq(backbone=backbone, width=1.0, lmax=0)
    return SCCalculator(model, allow_fractional_charge=True)


@pytest.fixture
def aluminium(metal) -> Atoms:
    atoms = fcc111("Al", (1, 1, 4), a=4.05, vacuum=6.0)
    atoms.calc = metal.clone()
    return atoms


def test_dipole_layer_steps_the_potential():
    """Δφ = 4πk_e p/A, positive towards the positive side, and a flat vacuum."""
    profile = slabs.potential_profile(sheets([0.0], [0.0], dipoles=[(0.1, 0.0, 0.3)]))
    step = 4 * math.pi * COULOMB * 0.3 / AREA
    assert profile.dipole_step == pytest.approx(step, abs=1e-8)
    assert profile.vacuum_levels == pytest.approx((-step / 2, step / 2), abs=1e-8)
    assert profile.vacuum_fields == pytest.approx((0, 0), abs=1e-8)


def test_parallel_plates():
    """The voltage is 4πk_e Q d/A: 1/C against the distance has the slope 4πk_e/A."""
    distances = np.array([8.0, 10.0, 13.0])
    charge = 0.2
    inverse = []
    for d in distances:
        profile = slabs.potential_profile(sheets([0.0, d], [charge, -charge]))
        inverse.append(-profile.dipole_step / charge)
        middle = np.interp([0.4 * d, 0.6 * d], profile.heights, profile.potential)
        field = -(middle[1] - middle[0]) / (0.2 * d)
        assert field == pytest.approx(4 * math.pi * COULOMB * charge / AREA, rel=1e-4)
    slopes = np.diff(inverse) / np.diff(distances)
    np.testing.assert_allclose(slopes, 4 * math.pi * COULOMB / AREA, rtol=1e-9)


def test_charged_sheet():
    """Fields ∓2πk_e Q/A beside it; straight lines to the sheet give the same level twice."""
    profile = slabs.potential_profile(sheets([1.5], [0.4]))
    field = 2 * math.pi * COULOMB * 0.4 / AREA
    assert profile.vacuum_fields == pytest.approx((-field, field), abs=1e-8)
    assert profile.vacuum_levels == pytest.approx((0, 0), abs=1e-7)
    assert profile.dipole_step == pytest.approx(0, abs=1e-7)
    assert np.trapezoid(profile.charge, profile.heights) * AREA == pytest.approx(0.4, abs=1e-9)


def test_profile_does_not_know_the_vacuum_nor_the_origin():
    layers = ([0.0, 2.0, 4.5], [0.5, -0.8, 0.3])
    reference = slabs.potential_profile(sheets(*layers, height=8.0))
    tall = slabs.potential_profile(sheets(*layers, height=60.0))
    np.testing.assert_allclose(tall.potential, reference.potential, atol=1e-9)
    moved = sheets(*layers)
    moved.positions += (1.7, -2.9, 0)
    np.testing.assert_allclose(
        slabs.potential_profile(moved).potential, reference.potential, atol=1e-9
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis(axis):
    atoms = sheets([0.0, 2.0], [0.4, -0.4])
    order = np.roll([0, 1, 2], axis + 1)
    atoms.positions = atoms.positions[:, order]
    atoms.cell = np.diag(atoms.cell.lengths()[order])
    atoms.pbc = atoms.pbc[order]
    step = slabs.potential_profile(atoms).dipole_step
    assert step == pytest.approx(-4 * math.pi * COULOMB * 0.8 / AREA, abs=1e-8)


def test_macroscopic_average_of_a_polarised_stack_is_a_straight_line():
    """Layers of dipoles p at distance d: the staircase becomes the slope 4πk_e P, P = p/(A d)."""
    n, d, p = 9, 2.0, 0.05
    profile = slabs.potential_profile(
        sheets(d * np.arange(n), np.zeros(n), dipoles=[(0, 0, p)] * n, width=0.5)
    )
    inside = (profile.heights > 4.0) & (profile.heights < 12.0)
    slope = 4 * math.pi * COULOMB * p / (AREA * d)
    line = slope * (profile.heights - 8.0)
    wiggle = np.abs(profile.potential - line)[inside].max()
    smooth = profile.macroscopic(d)
    assert wiggle > 0.02
    assert np.abs(smooth.potential - line)[inside].max() < 1e-5
    # The layers are neutral: without their wiggle there is no charge inside.
    assert np.abs(smooth.charge[inside]).max() < 1e-3 * np.abs(profile.charge).max()
    assert smooth.dipole_step == pytest.approx(profile.dipole_step, abs=1e-8)


def test_macroscopic_average_of_a_crystal_is_its_mean():
    atoms = sheets([0.0, 1.5], [0.7, -0.7], height=4.0)
    atoms.pbc = True
    profile = slabs.potential_profile(atoms, axis=2)
    assert profile.period == 4.0 and profile.heights[-1] < 4.0
    assert profile.potential.mean() == pytest.approx(0, abs=1e-10)
    assert np.ptp(profile.potential) > 0.5
    np.testing.assert_allclose(profile.macroscopic(4.0).potential, 0, atol=1e-6)


def test_work_function_is_the_energy_that_takes_an_electron_to_the_electrodes(aluminium):
    """½(W_lower + W_upper) = dE/dQ with half the counter-charge on either side, at Q = 0."""
    adsorbed = aluminium.copy()
    adsorbed.positions[-1, 2] += 0.7  # both sides differ
    adsorbed.calc = aluminium.calc
    profile = slabs.potential_profile(adsorbed)
    adsorbed.calc.set(boundary="electrodes")
    energies = []
    for charge in (-0.02, 0.02):
        adsorbed.info["charge"] = charge
        energies.append(adsorbed.get_potential_energy())
    assert np.mean(profile.work_functions) == pytest.approx(np.diff(energies)[0] / 0.04, abs=1e-6)
    lower, upper = profile.work_functions
    assert lower - upper == pytest.approx(profile.dipole_step, abs=1e-9)


def test_metal_screens_an_applied_field(aluminium):
    """φ is flat inside and the whole field drops outside; there the work depends on the place."""
    aluminium.calc.set(electric_field=(0, 0, 0.1))
    profile = slabs.potential_profile(aluminium).macroscopic(4.05 / math.sqrt(3))
    assert profile.vacuum_fields == pytest.approx((0.1, 0.1), abs=1e-7)
    lowest, highest = profile.nuclei
    inside = (profile.heights > lowest + 3.0) & (profile.heights < highest - 3.0)
    assert np.ptp(profile.potential[inside]) < 0.05 * 0.1 * np.ptp(profile.heights[inside])
    with pytest.warns(slabs.TiltedVacuumWarning, match=r"\+0\.100 V/Å"):
        lower, upper = profile.work_functions
    assert lower - upper == pytest.approx(profile.dipole_step - 0.1 * (highest - lowest), abs=1e-7)


def test_capacitance_is_the_curvature_of_the_energy(aluminium):
    """1/C_total = ∂²E/∂Q² between electrodes; 1/C against the distance has the slope 4πk_e/A."""
    profile = slabs.potential_profile(aluminium)
    near, far = (slabs.capacitance(aluminium, distance=d) for d in (8.0, 11.0))
    slope = (far.inverse - near.inverse) / 3.0
    assert slope == pytest.approx(4 * math.pi * COULOMB / profile.area, rel=1e-7)
    assert near.effective_plane == pytest.approx(far.effective_plane, abs=1e-6)
    assert -1.5 < near.effective_plane < 1.5
    assert near.per_area == pytest.approx(near.value / near.area * 1602.1766, rel=1e-6)
    distance = 0.5 * (aluminium.cell[2, 2] - np.ptp(profile.nuclei))
    aluminium.calc.set(boundary="electrodes")
    energies = []
    for charge in (-0.1, 0.0, 0.1):
        aluminium.info["charge"] = charge
        energies.append(aluminium.get_potential_energy())
    curvature = (energies[0] - 2 * energies[1] + energies[2]) / 0.1**2
    aluminium.calc.set(boundary="auto")
    aluminium.info.clear()
    total = slabs.capacitance(aluminium, distance=distance).inverse / 2
    assert total == pytest.approx(curvature, rel=1e-6)


def test_opened_slab_is_whole_and_refuses_crystals():
    atoms = sheets([1.0, 3.0, 19.0], [0.1, 0.2, -0.3])
    atoms.pbc = True
    assert slabs.empty_layer(atoms, 2) == pytest.approx(16.0)
    slab = slabs.opened(atoms, 2)
    assert slab.pbc.tolist() == [True, True, False]
    assert np.ptp(slab.positions[:, 2]) == pytest.approx(4.0)
    assert slab.calc is atoms.calc
    assert slabs.opened(slab, 2) == slab
    atoms.set_cell((SIDE, SIDE, 21.5))
    atoms.positions[:, 2] = [0, 6.0, 17.0]
    with pytest.raises(InputError, match=r"only 4\.50 Å.*crystal"):
        slabs.opened(Atoms("X2", [(0, 0, 0), (0, 0, 4.0)], cell=(4, 4, 8.5), pbc=True), 2)


def test_line_and_plane():
    """Through an ion: k_e/r; on a plane above a slab: the same numbers as at points."""
    ion = Atoms("Na", [(0, 0, 0)])
    ion.calc = CoulombCalculator(charges={"Na": 1}, width=0.5)
    line = slabs.along_line(ion, (6, 0, 0), (12, 0, 0), points=4)
    np.testing.assert_allclose(line.distance, [0, 2, 4, 6])
    np.testing.assert_allclose(line.potential, COULOMB / (6 + line.distance), rtol=1e-10)
    atoms = sheets([0.0, 2.0], [0.4, -0.4])
    plane = slabs.on_plane(atoms, (0.1, 0, 3.0), [(4, 0, 0), (1, 3, 0)], spacing=0.5)
    assert plane.potential.shape == (9, 8) == plane.charge.shape
    np.testing.assert_allclose(plane.points[-1, -1], [5, 3], atol=1e-12)
    scape = atoms.calc.get_landscape(atoms)
    assert plane.potential[8, 7] == pytest.approx(float(scape.potential([5.1, 3, 3])), abs=1e-10)


@pytest.mark.parametrize("quantity", ["potential", "charge"])
def test_cube_round_trip(quantity, tmp_path):
    atoms = sheets([3.0, 5.0], [0.4, -0.4], height=9.0)
    slabs.write_cube(tmp_path / "a.cube", atoms, quantity=quantity, spacing=0.6)
    with open(tmp_path / "a.cube", encoding="utf-8") as file:
        assert f"{quantity} in" in file.readline()
        file.seek(0)
        found = read_cube(file)
    np.testing.assert_allclose(found["atoms"].positions, atoms.positions, atol=1e-5)
    assert found["data"].shape == (7, 7, 15)
    point = np.array([3 / 7, 2 / 7, 8 / 15]) @ atoms.cell.array
    expected = getattr(atoms.calc.get_landscape(atoms), quantity)(point)
    assert found["data"][3, 2, 8] == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(np.array(found["spacing"]) * [[7], [7], [15]], atoms.cell, atol=1e-4)


def test_files(tmp_path, aluminium):
    profile = slabs.potential_profile(aluminium)
    upper, lower = profile.plot(tmp_path / "profile.png", periods=(2.34,))
    assert upper.get_ylabel() == "potential (V)" and lower.get_ylabel() == "charge (e/Å³)"
    assert "QEq" in upper.get_title()
    profile.to_csv(tmp_path / "profile.csv")
    table = np.loadtxt(tmp_path / "profile.csv", delimiter=",", skiprows=1, encoding="utf-8")
    np.testing.assert_array_equal(table[:, 1], profile.potential)
    plane = slabs.on_plane(aluminium, (0, 0, 8), aluminium.cell[:2], spacing=0.4)
    plane.plot(tmp_path / "plane.png", quantity="charge")
    slabs.along_line(aluminium, (0, 0, 0), (0, 0, 20)).plot(tmp_path / "line.png")
    for name in ("profile.png", "plane.png", "line.png"):
        assert (tmp_path / name).stat().st_size > 5000


def test_bad_questions(aluminium):
    crystal = sheets([0.0], [0.0], height=4.0)
    crystal.pbc = True
    with pytest.raises(InputError, match=r"which axis\? .* has 0 open axes"):
        slabs.potential_profile(crystal)
    with pytest.raises(InputError, match=r"needs a vacuum, but the structure repeats every 4 Å"):
        _ = slabs.potential_profile(crystal, axis=2).dipole_step
    with pytest.raises(InputError, match="no average over the planes across axis 0"):
        slabs.potential_profile(aluminium, axis=0)
    with pytest.raises(PropertyUnavailableError, match=r"needs the Fermi level.*QEq"):
        _ = slabs.potential_profile(sheets([0.0], [0.0])).work_functions
    with pytest.raises(InputError, match="periods="):
        slabs.potential_profile(aluminium).macroscopic()
    emt = fcc111("Al", (1, 1, 2), vacuum=5)
    emt.calc = EMT()
    with pytest.raises(PropertyUnavailableError, match="EMT does not give it"):
        slabs.potential_profile(emt)
    aluminium.calc.set(allow_fractional_charge=False)
    with pytest.raises(InputError, match="allow_fractional_charge=True"):
        slabs.capacitance(aluminium, distance=8.0)
    with pytest.raises(InputError, match="quantity='density'"):
        slabs.write_cube("x.cube", aluminium, quantity="density")
    with pytest.raises(InputError, match="span no plane"):
        slabs.on_plane(aluminium, (0, 0, 0), [(1, 0, 0), (2, 0, 0)])
