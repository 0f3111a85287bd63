"""Spectra from time series: their scale, shape and corrections, against harmonic ones."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from spring_molecule import bent

from asesc.errors import InputError
from asesc.spectra import (
    MomentRecorder,
    infrared,
    infrared_from_currents,
    infrared_from_moments,
    raman,
    raman_from_polarizabilities,
    without_verlet_shift,
)
from asesc.workflows.derivatives import hessian
from asesc.workflows.harmonic import ABSORPTION
from asesc.workflows.modes import normal_modes

LIGHT = 100 * units._c * 1e-15  # cm/fs
TEMPERATURE = 300.0


def oscillation(wavenumber: float, steps: int, timestep: float) -> tuple[np.ndarray, np.ndarray]:
    """Q(t) and dQ/dt of one mode with kinetic energy kT/2 on average, Å amu^½ (fs⁻¹)."""
    omega = 2 * np.pi * LIGHT * wavenumber
    speed = np.sqrt(2 * units.kB * TEMPERATURE) * units.fs
    times = timestep * np.arange(steps)
    return speed / omega * np.sin(omega * times), speed * np.cos(omega * times)


@pytest.mark.parametrize("wavenumber", [120.0, 1000.0, 3700.0])
def test_one_oscillator_has_its_harmonic_intensity(wavenumber):
    """A classical mode at kT gives the area N_A μ'²/(12 ε0c²), at any frequency and time step."""
    timestep = 1.0
    q, rate = oscillation(wavenumber, 12_000, timestep)
    slope = np.array([0.1, 0.2, -0.2])
    moments, currents = 5.0 + np.outer(q, slope), np.outer(rate, slope)
    expected = ABSORPTION * 0.09
    options = {"temperature": TEMPERATURE, "resolution": 10.0}
    for spectrum in (
        infrared_from_moments(moments, timestep, **options),
        infrared_from_currents(currents, timestep, **options),
    ):
        assert spectrum.integral(wavenumber - 80, wavenumber + 80) == pytest.approx(
            expected, rel=0.02
        )
        assert spectrum.peaks(threshold=0.5) == pytest.approx([wavenumber], abs=1.0)
        top = spectrum.intensities.max()
        above = spectrum.wavenumbers[spectrum.intensities > top / 2]
        assert np.ptp(above) == pytest.approx(10.0, abs=1.0)
        assert spectrum.intensities.min() >= 0


def modes_at_temperature(atoms: Atoms) -> Atoms:
    """Velocities along every internal mode with exactly kT of energy each."""
    modes = normal_modes(hessian(atoms.calc, atoms), atoms)
    speed = np.sqrt(2 * units.kB * TEMPERATURE)
    atoms.set_velocities(speed * modes.displacements.sum(axis=0))
    return atoms


def test_dynamics_agree_with_the_harmonic_spectrum():
    """Small amplitudes of a spring molecule, rid of what Verlet's rule shifts."""
    atoms = bent()
    harmonic = infrared(atoms), raman(atoms)
    modes_at_temperature(atoms)
    scale = 0.1  # amplitudes, so that springs at angles stay linear
    atoms.set_velocities(scale * atoms.get_velocities())
    timestep = 0.4
    recorder = MomentRecorder(atoms, raman=True)
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.attach(recorder)
    dynamics.run(2600)
    options = {"temperature": scale**2 * TEMPERATURE, "resolution": 30.0}
    spectra = (
        infrared_from_moments(recorder.moments, timestep, **options),
        raman_from_polarizabilities(recorder.polarizabilities, timestep, **options),
    )
    for lines, raw in zip(harmonic, spectra, strict=True):
        curve = without_verlet_shift(raw, timestep)
        for position, area in zip(lines.wavenumbers, lines.intensities, strict=True):
            apart = np.abs(lines.wavenumbers - position)
            reach = min(100.0, 0.5 * apart[apart > 1].min())
            near = (curve.wavenumbers > position - reach) & (curve.wavenumbers < position + reach)
            peak = curve.wavenumbers[near][curve.intensities[near].argmax()]
            assert peak == pytest.approx(position, abs=3)
            found = curve.integral(position - reach, position + reach)
            assert found == pytest.approx(area, rel=0.1)


@pytest.mark.parametrize("timestep", [0.5, 2.0])
def test_the_shift_of_verlets_rule_is_undone(timestep):
    """One spring at 3000 cm⁻¹: 0.4 % too high at 0.5 fs, 7 % at 2 fs."""
    wavenumber = 3000.0
    speed = 2 * np.pi * LIGHT * wavenumber * timestep
    expected = 2 * np.arcsin(speed / 2) / (2 * np.pi * LIGHT * timestep)
    q, v, places = 0.0, 1.0, []
    for _ in range(12_000):
        places.append(q)
        half = v - 0.5 * speed**2 * q
        q += half
        v = half - 0.5 * speed**2 * q
    moments = np.outer(places, [1.0, 0.0, 0.0])
    raw = infrared_from_moments(moments, timestep, temperature=TEMPERATURE)
    assert raw.peaks(threshold=0.5) == pytest.approx([expected], abs=1.0)
    assert expected - wavenumber > 10
    curve = without_verlet_shift(raw, timestep)
    assert curve.peaks(threshold=0.5) == pytest.approx([wavenumber], abs=1.0)
    assert curve.integral() == pytest.approx(raw.integral(), rel=1e-3)
    with pytest.raises(InputError, match=r"timestep=0 fs"):
        without_verlet_shift(raw, 0)


@pytest.mark.parametrize(
    ("correction", "factor"),
    [
        ("harmonic", lambda x: 1.0),
        ("standard", lambda x: 2 * (1 - np.exp(-x)) / (x * (1 + np.exp(-x)))),
        ("schofield", lambda x: np.exp(x / 2) * (1 - np.exp(-x)) / x),
        ("none", lambda x: (1 - np.exp(-x)) / x),
    ],
)
def test_quantum_corrections(correction, factor):
    """Q(ω)(1 − e^{−x})/x with the factors Q of Ramírez et al., x = ħω/kT; all are 1 as x → 0."""
    moments = np.outer(oscillation(1500.0, 8000, 1.0)[0], [1.0, 0, 0])
    plain = infrared_from_moments(moments, 1.0, temperature=TEMPERATURE)
    spectrum = infrared_from_moments(moments, 1.0, temperature=TEMPERATURE, correction=correction)
    k = int(plain.intensities.argmax())
    x = plain.wavenumbers[k] * units.invcm / (units.kB * TEMPERATURE)
    assert spectrum.intensities[k] / plain.intensities[k] == pytest.approx(factor(x), rel=1e-6)
    assert spectrum.intensities[1] == pytest.approx(plain.intensities[1], rel=0.02)


def test_isotropic_and_anisotropic_raman():
    """a' = s, γ' = 0 for a breathing sphere; γ'² = 3s² for pure shear α_xy = s: 45s² and 21s²."""
    from asesc.units import COULOMB

    q, _ = oscillation(800.0, 9000, 1.0)
    shear = np.zeros((3, 3))
    shear[0, 1] = shear[1, 0] = 0.3
    for tensor, expected in ((0.3 * np.eye(3), 45 * 0.09), (shear, 21 * 0.09)):
        series = 2 * np.eye(3) + q[:, None, None] * tensor
        curve = raman_from_polarizabilities(series, 1.0, temperature=TEMPERATURE)
        assert curve.integral() == pytest.approx(COULOMB**2 * expected, rel=0.02)
        assert curve.unit == "Å⁴/amu per cm⁻¹"


def test_a_plot_names_the_peak(tmp_path):
    moments = np.outer(oscillation(1500.0, 8000, 1.0)[0], [1.0, 0, 0])
    curve = infrared_from_moments(moments, 1.0, temperature=300, title="one mode")
    axes = curve.plot(tmp_path / "md.png")
    assert [text.get_text() for text in axes.texts] == ["1500"]
    assert axes.get_ylabel() == "infrared absorption (km/mol per cm⁻¹)"
    assert axes.get_title() == "one mode" and 1500 < axes.get_xlim()[1] < 3000


@pytest.mark.parametrize(
    ("moments", "options", "message"),
    [
        (np.zeros((100, 3)), {}, r"needs 2\.50 ps, but the run has 0\.10 ps.*resolution ≥ 25"),
        (np.zeros((9000, 2)), {}, r"moments have shape \(9000, 2\)"),
        (np.full((9000, 3), np.nan), {}, "finite numbers"),
        (np.zeros((9000, 3)), {"correction": "schofeld"}, "Did you mean 'schofield'"),
        (np.zeros((9000, 3)), {"temperature": 0.0}, "temperature=0.0 must be positive"),
        (np.zeros((9000, 3)), {"resolution": -1.0}, "must be > 0"),
    ],
)
def test_messages(moments, options, message):
    with pytest.raises(InputError, match=message):
        infrared_from_moments(moments, 1.0, **{"temperature": 300.0, **options})
