"""Infrared and Raman spectra from molecular dynamics, on the scale of the harmonic ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log, pi, sqrt
from types import MappingProxyType

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike

from asesc.errors import InputError, did_you_mean
from asesc.units import COULOMB
from asesc.workflows.derivatives import polarizability
from asesc.workflows.evaluations import calculator_of
from asesc.workflows.figure import Path
from asesc.workflows.harmonic import ABSORPTION
from asesc.workflows.polarisation import ContinuousMoment
from asesc.workflows.spectrum import Spectrum, write_csv

#: Speed of light, cm/fs.
_LIGHT = 100 * units._c * 1e-15

#: What a classical line shape is multiplied by, relative to the exact factor of a harmonic
#: oscillator, as a function of x = hcν/kT.
CORRECTIONS: MappingProxyType[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "harmonic": np.ones_like,
        "standard": lambda x: np.tanh(x / 2) / (x / 2),
        "schofield": lambda x: np.sinh(x / 2) / (x / 2),
        "none": lambda x: -np.expm1(-x) / x,
    }
)


class MomentRecorder:
    """Observer of molecular dynamics: ``dyn.attach(recorder, interval=1)``.

    The dipole is followed by continuity, so that wrapping atoms does not jump it.

    Parameters
    ----------
    atoms : Atoms
        With a calculator.
    raman : bool
        Also record polarisabilities, one more evaluation per frame.
    """

    def __init__(self, atoms: Atoms, *, raman: bool = False) -> None:
        self._atoms = atoms
        self._follow = ContinuousMoment(atoms)
        self._raman = raman
        self._moments: list[np.ndarray] = []
        self._alphas: list[np.ndarray] = []

    def __call__(self) -> None:
        """Record the present frame."""
        self._moments.append(self._follow())
        if self._raman:
            self._alphas.append(polarizability(calculator_of(self._atoms), self._atoms))

    @property
    def moments(self) -> np.ndarray:
        """Dipole μ or V P on one branch, (T, 3), e Å."""
        return np.array(self._moments).reshape(-1, 3)

    @property
    def polarizabilities(self) -> np.ndarray:
        """α, (T, 3, 3), e Å²/V; empty without ``raman``."""
        return np.array(self._alphas).reshape(-1, 3, 3)

    def to_csv(self, path: Path) -> None:
        """The recorded dipoles, one row per frame."""
        columns = {"frame": np.arange(len(self._moments))}
        columns |= {f"dipole_{a} (e A)": self.moments[:, k] for k, a in enumerate("xyz")}
        write_csv(path, columns, f"{self._atoms.get_chemical_formula()} dipole")


def infrared_from_moments(
    moments: ArrayLike,
    timestep: float,
    *,
    temperature: float,
    resolution: float = 10.0,
    correction: str = "harmonic",
    title: str = "molecular dynamics",
) -> Spectrum:
    """Infrared absorption from the autocorrelation of dμ/dt along molecular dynamics.

        A(ν) = N_A/(12 ε₀ c²) · (2c/kT) ∫ ⟨J(0)·J(t)⟩ e^{-iωt} dt · f(hcν/kT),   J = dμ/dt

    The area of a band is the integrated absorption in km/mol of molecule or cell, as in
    :func:`~asesc.spectra.infrared`; for condensed matter A is that of n(ν)α(ν), n the refractive
    index. f = 1 is the quantum correction that is exact for harmonic vibrations; the others are
    those of Ramírez, López-Ciudad, Kumar, Marx, J. Chem. Phys. 121, 3973 (2004),
    doi:10.1063/1.1774986, Eqs. 8–11, relative to it.

    Parameters
    ----------
    moments : (T, 3), e Å
        At equal intervals and on one branch, as :class:`MomentRecorder` gives.
    timestep : float, fs
        Between two of them. It must resolve the fastest vibration: 1/(2c·timestep) is the
        highest wave number.
    temperature : float, K
        Of the vibrations in that run.
    resolution : float, cm⁻¹
        Full width at half maximum of the Gaussian that smooths the spectrum.
    correction : str
        ``"harmonic"``, ``"standard"`` (detailed balance of the time-symmetrised correlation),
        ``"schofield"`` or ``"none"``.

    Raises
    ------
    InputError
        Not numbers, too few for the resolution, or an unknown correction.
    """
    series = _checked(moments, (3,), "moments")
    rates = np.diff(series, axis=0) / timestep
    grid, density = _density(rates, timestep, resolution)
    return _absorption(grid, density * _difference(grid, timestep), temperature, correction, title)


def infrared_from_currents(
    currents: ArrayLike,
    timestep: float,
    *,
    temperature: float,
    resolution: float = 10.0,
    correction: str = "harmonic",
    title: str = "molecular dynamics",
) -> Spectrum:
    """As :func:`infrared_from_moments` from currents J = Σ_i Z*_i·v_i, which have no branches.

    Parameters
    ----------
    currents : (T, 3), e Å/fs
    """
    series = _checked(currents, (3,), "currents")
    grid, density = _density(series, timestep, resolution)
    return _absorption(grid, density, temperature, correction, title)


def raman_from_polarizabilities(
    polarizabilities: ArrayLike,
    timestep: float,
    *,
    temperature: float,
    resolution: float = 10.0,
    correction: str = "harmonic",
    title: str = "molecular dynamics",
) -> Spectrum:
    """Raman activity per wave number from the autocorrelation of dα/dt.

        S(ν) = (2c/kT) ∫ [45⟨ȧ(0)ȧ(t)⟩ + 7·(3/2)⟨Tr β̇(0)β̇(t)⟩] e^{-iωt} dt · f

    with a = Tr α/3 and β = α − a. The area of a band is the activity in Å⁴/amu of
    :func:`~asesc.spectra.raman`.

    Parameters
    ----------
    polarizabilities : (T, 3, 3), e Å²/V
        Other parameters as for :func:`infrared_from_moments`.
    """
    series = COULOMB * _checked(polarizabilities, (3, 3), "polarizabilities")
    mean = np.trace(series, axis1=1, axis2=2) / 3
    deviator = series - mean[:, None, None] * np.eye(3)
    weighted = np.column_stack([sqrt(45) * mean, sqrt(10.5) * deviator.reshape(-1, 9)])
    grid, density = _density(np.diff(weighted, axis=0) / timestep, timestep, resolution)
    density *= _difference(grid, timestep)
    curve = _per_energy(temperature) * density * _factor(grid, temperature, correction)
    return Spectrum(grid, curve, "Raman activity", "Å⁴/amu per cm⁻¹", title)


def without_verlet_shift(spectrum: Spectrum, timestep: float) -> Spectrum:
    """The spectrum at the wave numbers that exact dynamics would have.

    Verlet's rule (``VelocityVerlet``, ``Bussi``) makes of a harmonic oscillator of frequency ω an
    exact one of frequency ω', too high by about (ωΔt)²/24:

        sin(ω'Δt/2) = ωΔt/2

    which moves O–H stretches by 16 cm⁻¹ at 0.5 fs. Areas stay what they are. What is above half of
    the highest wave number is dropped.
    Tuckerman, Statistical Mechanics (2010), doi:10.1093/oso/9780198525264.001.0001, Sec. 4.12.

    Parameters
    ----------
    timestep : float, fs
        Of the integrator, however often a frame was recorded.
    """
    if not timestep > 0:
        raise InputError(f"timestep={timestep!r} fs must be positive")
    phase = pi * _LIGHT * spectrum.wavenumbers * timestep
    kept = phase < pi / 4
    phase = phase[kept]
    return replace(
        spectrum,
        wavenumbers=np.sin(phase) / (pi * _LIGHT * timestep),
        intensities=spectrum.intensities[kept] / np.cos(phase),
    )


def _absorption(
    grid: np.ndarray, density: np.ndarray, temperature: float, correction: str, title: str
) -> Spectrum:
    curve = ABSORPTION * _per_energy(temperature) * density
    curve *= _factor(grid, temperature, correction)
    return Spectrum(grid, curve, "infrared absorption", "km/mol per cm⁻¹", title)


def _per_energy(temperature: float) -> float:
    """2c/kT in cm fs⁻¹ amu⁻¹ Å⁻² fs²: spectral density of rates to intensity per cm⁻¹."""
    if not temperature > 0:
        raise InputError(f"temperature={temperature!r} must be positive, K")
    return 2 * _LIGHT / (units.kB * temperature * units.fs**2)


def _factor(grid: np.ndarray, temperature: float, correction: str) -> np.ndarray:
    if correction not in CORRECTIONS:
        raise InputError(
            f"correction={correction!r} is not known.{did_you_mean(str(correction), CORRECTIONS)} "
            f"Choose one of {', '.join(CORRECTIONS)}"
        )
    x = np.maximum(grid * units.invcm / (units.kB * temperature), 1e-9)
    return CORRECTIONS[correction](x)


def _density(
    rates: np.ndarray, timestep: float, resolution: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers and Σ_k ∫⟨x_k(0) x_k(t)⟩ e^{-iωt} dt, smoothed by a Gaussian.

    Biased correlations and a Gaussian window: both have non-negative transforms, and so has the
    result; its integral over all frequencies is exact.
    """
    n = len(rates)
    decay = require_length(n, timestep, resolution)
    size = 1 << int(np.ceil(np.log2(max(2 * n, 8 / (_LIGHT * resolution * timestep)))))
    power = (np.abs(np.fft.rfft(rates - rates.mean(axis=0), size, axis=0)) ** 2).sum(axis=1)
    times = np.minimum(np.arange(size), size - np.arange(size)) * timestep
    correlation = np.fft.irfft(power, size) / n * np.exp(-0.5 * (times / decay) ** 2)
    grid = np.fft.rfftfreq(size, timestep) / _LIGHT
    return grid, timestep * np.maximum(np.fft.rfft(correlation).real, 0.0)


def require_length(frames: int, timestep: float, resolution: float) -> float:
    """Decay time σ of the Gaussian window of a resolution, fs; the run must be twice as long.

    Parameters
    ----------
    timestep : float, fs
    resolution : float, cm⁻¹

    Raises
    ------
    InputError
        If it is not, with the resolution that it is enough for.
    """
    if not timestep > 0 or not resolution > 0:
        raise InputError(f"timestep={timestep!r} fs and resolution={resolution!r} cm⁻¹ must be > 0")
    decay = sqrt(2 * log(2)) / (pi * _LIGHT * resolution)
    length = frames * timestep
    if length < 2 * decay:
        possible = resolution * 2 * decay / length
        raise InputError(
            f"a resolution of {resolution:g} cm⁻¹ needs {2e-3 * decay:.2f} ps, but the run has "
            f"{1e-3 * length:.2f} ps. Run longer, or ask for resolution ≥ {np.ceil(possible):.0f}"
        )
    return decay


def _difference(grid: np.ndarray, timestep: float) -> np.ndarray:
    """(x/sin x)², x = ωΔt/2: what a difference quotient misses of a derivative's power."""
    x = np.maximum(pi * _LIGHT * grid * timestep, 1e-12)
    return (x / np.sin(x)) ** 2


def _checked(series: ArrayLike, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = np.asarray(series, dtype=float)
    if array.shape[1:] != shape or len(array) < 4 or not np.isfinite(array).all():
        raise InputError(
            f"{name} have shape {array.shape}; needed are finite numbers of shape "
            f"(T, {', '.join(map(str, shape))}) with one entry per frame"
        )
    return array
