"""Harmonic spectra: a diatomic on paper, ASE's own Infrared, crystals, plots and files."""

import csv

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.vibrations import Infrared
from builders import random_model
from rigid_ions import ionic_crystal, optical_force_constants
from spring_molecule import SpringMolecule, bent, diatomic

from asesc import SCCalculator
from asesc.errors import InputError, PropertyUnavailableError
from asesc.spectra import (
    ImaginaryModesWarning,
    UnrelaxedWarning,
    infrared,
    minimum,
    raman,
    relaxed,
    vibrations,
)
from asesc.units import COULOMB
from asesc.workflows.harmonic import ABSORPTION
from asesc.workflows.modes import WAVENUMBER


def reduced_mass(atoms: Atoms) -> float:
    first, second = atoms.get_masses()
    return first * second / (first + second)


def test_a_diatomic_on_paper():
    """ν = √(k/μ)/2πc and A = N_A q²/(12 ε0 c² μ); 1 (D/Å)²/amu is 42.256 km/mol."""
    atoms = diatomic(stiffness=30.0, charge=0.4)
    lines = infrared(atoms)
    mass = reduced_mass(atoms)
    assert lines.wavenumbers == pytest.approx([WAVENUMBER * np.sqrt(30 / mass)], rel=1e-6)
    assert WAVENUMBER == pytest.approx(521.47, abs=0.01)  # 1302.79 cm⁻¹ √(mdyn/Å/amu)
    assert lines.intensities == pytest.approx([ABSORPTION * 0.4**2 / mass], rel=1e-8)
    assert ABSORPTION * units.Debye**2 == pytest.approx(42.256, abs=1e-3)
    assert lines.unit == "km/mol" and lines.title == "HF · SpringMolecule · harmonic"


@pytest.mark.parametrize("slope", [(0.5, 1.5), (0.7, 0.7), (1.0, -2.0)])
def test_raman_of_a_diatomic_on_paper(slope):
    """α' = diag(s⊥, s⊥, s∥)/√μ: a' = (2s⊥ + s∥)/3, γ' = s∥ − s⊥; in Å³ with k_e."""
    atoms = diatomic(slope=slope)
    lines = raman(atoms)
    mean, difference = (2 * slope[0] + slope[1]) / 3, slope[1] - slope[0]
    scale = COULOMB**2 / reduced_mass(atoms)
    expected = scale * (45 * mean**2 + 7 * difference**2)
    assert lines.intensities == pytest.approx([expected], rel=1e-4)
    ratio = 3 * difference**2 / (45 * mean**2 + 4 * difference**2)
    assert lines.details["depolarisation ratio"] == pytest.approx([ratio], abs=1e-6)


def test_infrared_and_raman_share_one_hessian(monkeypatch):
    atoms = bent()
    expected = infrared(atoms), raman(atoms)
    modes = vibrations(atoms)
    monkeypatch.delattr("asesc.workflows.harmonic.hessian")
    for lines, kind in zip(expected, (infrared, raman), strict=True):
        again = kind(atoms, modes=modes)
        np.testing.assert_allclose(again.intensities, lines.intensities, rtol=1e-9)


@pytest.mark.parametrize("which", ["springs", "model"])
def test_infrared_of_ase_on_the_same_calculator(which, tmp_path):
    """Frequencies and intensities to 1 %; ours of the model come from derivatives, not steps."""
    atoms = bent() if which == "springs" else relaxed_water()
    ours = infrared(atoms)
    theirs = Infrared(atoms, name=str(tmp_path / "ir"), delta=0.002)
    theirs.run()
    frequencies = theirs.get_frequencies()[6:].real
    assert len(ours.wavenumbers) == 3
    np.testing.assert_allclose(ours.wavenumbers, frequencies, rtol=0.01)
    np.testing.assert_allclose(ours.intensities, 42.255 * theirs.intensities[6:], rtol=0.01)
    assert ours.intensities.min() > 1e-3


def relaxed_water() -> Atoms:
    """A molecule of a random model at one of its minima."""
    for seed in range(4):
        atoms = molecule("H2O")
        atoms.rattle(0.03, seed=1)
        atoms.calc = SCCalculator(random_model("SplitChargeEquilibration", seed=seed))
        try:
            if BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=1e-4, steps=60):
                return atoms
        except InputError:
            continue  # this random model lets its atoms fall together
    raise AssertionError("no seed binds water")


def test_linear_molecules_have_3n_minus_5_modes():
    atoms = Atoms("OCO", [(-1.16, 0, 0), (0, 0, 0), (1.16, 0, 0)])
    springs = {(0, 1): (90.0, 1.16), (1, 2): (90.0, 1.16), (0, 2): (1.0, 2.32)}
    atoms.calc = SpringMolecule(springs, (-0.4, 0.8, -0.4))
    lines = infrared(atoms)
    assert len(lines.wavenumbers) == 4
    # Springs hold the bend only to fourth order, of which finite steps see a little; the symmetric
    # stretch is silent, the antisymmetric one is not.
    carbon, oxygen = atoms.get_masses()[[1, 0]]
    np.testing.assert_allclose(lines.wavenumbers[:2], 0, atol=10)
    symmetric = WAVENUMBER * np.sqrt((90 + 2) / oxygen)
    antisymmetric = WAVENUMBER * np.sqrt(90 * (1 / oxygen + 2 / carbon))
    np.testing.assert_allclose(lines.wavenumbers[2:], [symmetric, antisymmetric], rtol=1e-5)
    assert lines.intensities[2] < 1e-12 < lines.intensities[3]


def test_a_crystal_absorbs_at_its_transverse_mode():
    """Per cell and averaged over directions: Σ_m A_m = N_A/(12ε0c²) Tr Σ S = 3 q²/μ there."""
    atoms = ionic_crystal(charge=0.9)
    lines = infrared(atoms)
    mass = reduced_mass(atoms)
    transverse = WAVENUMBER * np.sqrt(optical_force_constants(atoms, "rocksalt")[0] / mass)
    np.testing.assert_allclose(lines.wavenumbers, transverse, rtol=1e-3)
    assert lines.intensities.sum() == pytest.approx(3 * ABSORPTION * 0.81 / mass, rel=1e-9)
    assert lines.title.startswith("NaCl")


def test_raman_of_a_crystal_from_its_dielectric_tensor():
    """ε∞ of rigid ions does not change: no Raman, and no error."""
    assert np.abs(raman(ionic_crystal()).intensities).max() < 1e-12


def test_broadening_keeps_the_area_and_finds_the_lines():
    lines = infrared(bent())
    curve = lines.broadened(width=4.0, wavenumbers=np.arange(0, 20000, 0.1))
    assert curve.integral() == pytest.approx(lines.intensities.sum(), rel=1e-3)
    np.testing.assert_allclose(lines.broadened(width=4.0).peaks(), lines.wavenumbers, atol=1.0)
    first = lines.wavenumbers[0]
    assert curve.integral(first - 2, first + 2) == pytest.approx(lines.intensities[0] / 2, rel=0.05)
    with pytest.raises(InputError, match="width=0 must be positive"):
        lines.broadened(width=0)


def test_plots_and_files_say_what_they_show(tmp_path):
    lines = raman(bent())
    axes = lines.plot(tmp_path / "raman.png", width=20, limits=(500, 4500))
    assert axes.get_ylabel() == "Raman activity (Å⁴/amu per cm⁻¹)"
    assert axes.get_xlabel() == "wave number (cm⁻¹)" and axes.get_xlim() == (500, 4500)
    assert "SpringMolecule" in axes.get_title()
    assert (tmp_path / "raman.png").stat().st_size > 10_000
    lines.to_csv(tmp_path / "raman.csv")
    title, header, *rows = csv.reader((tmp_path / "raman.csv").read_text().splitlines())
    assert title == [f"# {lines.title}"] and header[1] == "Raman activity (Å⁴/amu)"
    assert header[2] == "depolarisation ratio"
    np.testing.assert_allclose([float(row[0]) for row in rows], lines.wavenumbers, rtol=1e-7)
    lines.broadened().to_csv(tmp_path / "curve.csv")
    assert "per cm⁻¹" in (tmp_path / "curve.csv").read_text()


def test_imaginary_modes_are_named_listed_and_not_drawn(tmp_path):
    atoms = bent()
    atoms.calc.springs[1, 2] = (-3.0, 1.52)
    with pytest.warns(ImaginaryModesWarning, match=r"1 imaginary mode of the molecule: \d+i cm"):
        lines = infrared(atoms)
    assert lines.wavenumbers[0] < 0 and lines.broadened().wavenumbers[0] == 0
    assert np.isfinite(lines.broadened().intensities).all()
    lines.to_csv(tmp_path / "ir.csv")
    assert len((tmp_path / "ir.csv").read_text().splitlines()) == 2 + 3


def test_a_saddle_point_is_left():
    """A linear start keeps the molecule linear; its bend is imaginary, and followed down."""
    atoms = bent()
    angle = atoms.get_angle(1, 0, 2)
    atoms.calc.springs[1, 2] = (40.0, 1.52)
    linear = Atoms("OH2", [(0, 0, 0), (1.2, 0, 0), (-1.2, 0, 0)])
    linear.calc = atoms.calc
    with pytest.warns(ImaginaryModesWarning, match="2 imaginary modes"):
        infrared(relaxed(linear))
    found = minimum(linear)
    assert found.get_angle(1, 0, 2) == pytest.approx(angle, abs=0.1)
    assert infrared(found).wavenumbers.min() > 100
    with pytest.raises(InputError, match=r"still \d+i cm⁻¹ after leaving 1 saddle points"):
        minimum(linear, attempts=1)


def test_messages():
    atoms = bent()
    atoms.positions[1] += 0.05
    with pytest.warns(UnrelaxedWarning, match=r"harmonic spectra assume a stationary point"):
        infrared(atoms)
    emt = molecule("H2O", calculator=EMT())
    with pytest.raises(PropertyUnavailableError, match=r"'born_effective_charges' is needed, but"):
        infrared(emt)
    with pytest.raises(PropertyUnavailableError, match=r"EMT has no get_polarizability"):
        raman(emt)
    with pytest.raises(InputError, match="single atom has no vibrations"):
        infrared(Atoms("H", calculator=SpringMolecule({}, (0,))))
    slab = bent()
    slab.pbc, slab.cell = (True, True, False), (9, 9, 9)
    with pytest.raises(PropertyUnavailableError, match="no components along periodic"):
        infrared(slab)
