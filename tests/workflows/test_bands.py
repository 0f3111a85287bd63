"""Bands, densities of states and thermodynamics: sum rules, limits, and what plots say."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from rigid_ions import ionic_crystal

from asesc.phonons import (
    band_structure,
    density_of_states,
    dielectric_response,
    phonons,
    plot_bands_and_dos,
    thermal_properties,
)
from asesc.workflows.modes import PER_THZ


@pytest.fixture(scope="module")
def salt():
    return phonons(ionic_crystal(), (2, 2, 2), progress=False)


def test_bands_split_at_the_zone_centre(salt):
    """Approaching Γ along any segment the highest band is LO and the next two are TO."""
    bands = band_structure(salt, points=21)
    (pair,) = dielectric_response(salt).splittings((1, 0, 0))
    names = dict(bands.ticks)
    ends = [
        values[end]
        for distance, values in zip(bands.distances, bands.wavenumbers, strict=True)
        for end in (0, -1)
        if names[round(float(distance[end]), 9)] == "Γ"
    ]
    assert len(ends) >= 3
    for values in ends:
        np.testing.assert_allclose(values[:3], 0, atol=2)
        expected = [pair.transverse, pair.transverse, pair.longitudinal]
        np.testing.assert_allclose(values[3:], expected, atol=0.5)
    assert names[0.0] == "Γ" and "X" in names.values() and "U|K" in names.values()


def test_the_path_is_in_the_axes_of_the_cell_given():
    """The same crystal with other primitive vectors: the same wave numbers at X and L."""
    copper = bulk("Cu", a=3.59)
    other = copper.copy()
    other.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]]) @ copper.cell.array)
    spectra = []
    for atoms in (copper, other):
        atoms.calc = EMT()
        bands = band_structure(phonons(atoms, np.diag([1, 1, 1]) * 2, nac=False, progress=False))
        found = {}
        for distance, values in zip(bands.distances, bands.wavenumbers, strict=True):
            for end in (0, -1):
                found[dict(bands.ticks)[round(float(distance[end]), 9)]] = values[end]
        spectra.append(found)
    for name in ("Γ", "X", "L", "W"):
        np.testing.assert_allclose(spectra[0][name], spectra[1][name], atol=1.0)
    assert spectra[0]["X"].min() > 50


def test_states_are_counted(salt):
    states = density_of_states(salt)
    assert np.trapezoid(states.total, states.wavenumbers) == pytest.approx(6, rel=1e-3)
    parts = {name: np.trapezoid(c, states.wavenumbers) for name, c in states.projected.items()}
    assert parts == pytest.approx({"Na": 3, "Cl": 3}, rel=1e-3)
    np.testing.assert_allclose(sum(states.projected.values()), states.total)
    # The heavy ion moves in the low modes.
    low = states.wavenumbers < 200
    assert states.projected["Cl"][low].sum() > 1.5 * states.projected["Na"][low].sum()


def test_thermodynamics(salt):
    """F(0) = ½Σħω; C → 3N k_B; −dF/dT = S; T dS/dT = C."""
    result = thermal_properties(salt, np.arange(0, 3001, 10.0))
    states = density_of_states(salt, width=2.0)
    energies = states.wavenumbers * units.invcm
    zero_point = 0.5 * np.trapezoid(energies * states.total, states.wavenumbers)
    assert result.zero_point_energy == pytest.approx(zero_point, rel=2e-3)
    assert result.heat_capacity[-1] == pytest.approx(6 * units.kB, rel=5e-3)
    slope = np.gradient(result.free_energy, result.temperatures)
    np.testing.assert_allclose(slope[10:-5], -result.entropy[10:-5], rtol=1e-2)
    slope = result.temperatures * np.gradient(result.entropy, result.temperatures)
    np.testing.assert_allclose(slope[10:-5], result.heat_capacity[10:-5], rtol=1e-2)


def test_plots_have_units_and_the_model(salt, tmp_path):
    axes = band_structure(salt, points=21).plot(tmp_path / "bands.png")
    assert axes.get_ylabel() == "wave number (cm⁻¹)" and axes.get_title().startswith("NaCl · Rigid")
    assert axes.get_ylim()[0] == 0
    assert density_of_states(salt).plot(tmp_path / "dos.png").get_xlabel() == "wave number (cm⁻¹)"
    axes = thermal_properties(salt).plot(tmp_path / "thermal.png")
    assert axes.get_xlabel() == "temperature (K)"
    plot_bands_and_dos(salt, tmp_path / "both.png")
    for name in ("bands", "dos", "thermal", "both"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.filterwarnings("ignore::asesc.phonons.ImaginaryModesWarning")
def test_imaginary_bands_are_shown_below_zero(tmp_path):
    ph = phonons(ionic_crystal(stiffness=0.9), (1, 1, 1), progress=False)
    bands = band_structure(ph, points=11)
    assert min(values.min() for values in bands.wavenumbers) < -50
    axes = bands.plot(tmp_path / "bands.png")
    assert axes.get_ylim()[0] < -50
    assert axes.get_legend().get_texts()[0].get_text() == "imaginary"
    assert density_of_states(ph).wavenumbers[0] < -50


def test_phonopy_plots_its_own_bands(salt, tmp_path):
    """The object is phonopy's own: its automatic path works too."""
    plot = salt.auto_band_structure(npoints=11, plot=True)
    plot.savefig(tmp_path / "auto.png")
    plot.close("all")
    assert PER_THZ * salt.band_structure.frequencies[0].max() > 400
