"""Infrared and Raman spectra in the harmonic approximation."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units

from asesc.errors import InputError
from asesc.units import COULOMB
from asesc.workflows.derivatives import (
    dipole_derivatives,
    displaced,
    hessian,
    polarizability,
    slopes,
)
from asesc.workflows.evaluations import ask, calculator_of, described, require_stationary, tracked
from asesc.workflows.modes import Modes, normal_modes, warn_of_imaginary
from asesc.workflows.spectrum import LineSpectrum

#: N_A e²/(12 ε₀ c² amu): integrated molar absorption of |∂μ/∂Q| = 1 e/√amu, km/mol.
ABSORPTION = units._Nav * units._e**2 / (12 * units._eps0 * units._c**2 * units._amu) / 1e3


def infrared(atoms: Atoms, *, modes: Modes | None = None, progress: bool = False) -> LineSpectrum:
    """Integrated absorption of every mode of a molecule, or of a crystal at Γ.

        A_m = N_A/(12 ε₀ c²) |∂μ/∂Q_m|²

    from one Hessian and ∂μ/∂R. For crystals the lines are the transverse modes and the
    intensities those per cell, averaged over directions; for the longitudinal ones and ε(ω) see
    :func:`asesc.phonons.dielectric_response`.
    Porezag, Pederson, Phys. Rev. B 54, 7830 (1996), doi:10.1103/PhysRevB.54.7830, Eq. 8.

    Parameters
    ----------
    atoms : Atoms
        Relaxed, with a calculator.
    modes : Modes, optional
        Of :func:`vibrations`, so that infrared and Raman share one Hessian.

    Returns
    -------
    LineSpectrum
        km/mol.

    Raises
    ------
    PropertyUnavailableError
        The calculator gives neither Born charges nor a dipole or polarisation.

    Warns
    -----
    UnrelaxedWarning, ImaginaryModesWarning
    """
    calc = calculator_of(atoms)
    derivatives = dipole_derivatives(calc, atoms, progress=progress)
    modes = modes or vibrations(atoms, progress=progress)
    by_mode = modes.derivative(derivatives.transpose(0, 2, 1))
    intensities = ABSORPTION * (by_mode**2).sum(axis=1)
    details = {f"dmu_{axis}/dQ (e/amu^0.5)": by_mode[:, k] for k, axis in enumerate("xyz")}
    title = f"{described(atoms)} · harmonic"
    return LineSpectrum(
        modes.wavenumbers, intensities, "infrared absorption", "km/mol", title, details
    )


def raman(atoms: Atoms, *, modes: Modes | None = None, progress: bool = False) -> LineSpectrum:
    """Raman activity of every mode of a molecule, or of a crystal at Γ.

        S_m = 45 a'² + 7 γ'²,  a = Tr α/3,  γ² = (3/2) |α − a|²

    from one Hessian and ∂α/∂R by central differences (6N polarisabilities). The activity holds
    for randomly oriented scatterers far from resonance; measured intensities follow it times
    (ν₀ − ν)⁴/ν [1 + n(ν)]. The depolarisation ratio 3γ'²/(45a'² + 4γ'²) is in ``details``.
    Porezag, Pederson, Phys. Rev. B 54, 7830 (1996), doi:10.1103/PhysRevB.54.7830, Eqs. 9–12.

    Parameters
    ----------
    atoms, modes
        As for :func:`infrared`.

    Returns
    -------
    LineSpectrum
        Å⁴/amu, of the polarisability in Å³.

    Raises
    ------
    PropertyUnavailableError
        The calculator gives no polarisability.

    Warns
    -----
    UnrelaxedWarning, ImaginaryModesWarning
    """
    calc = calculator_of(atoms)
    frames = displaced(atoms)
    bar = tracked(frames, "polarisabilities" if progress else None)
    alphas = COULOMB * np.array([polarizability(calc, frame) for frame in bar])
    modes = modes or vibrations(atoms, progress=progress)
    by_mode = modes.derivative(slopes(alphas).reshape(len(atoms), 3, 3, 3))
    isotropic, anisotropic = invariants(by_mode)
    activity = 45 * isotropic + 7 * anisotropic
    bottom = np.maximum(45 * isotropic + 4 * anisotropic, np.finfo(float).tiny)
    details = {"depolarisation ratio": 3 * anisotropic / bottom}
    title = f"{described(atoms)} · harmonic"
    return LineSpectrum(modes.wavenumbers, activity, "Raman activity", "Å⁴/amu", title, details)


def invariants(tensors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a² = (Tr α/3)² and γ² = (3/2)|α − a|² of tensors (…, 3, 3)."""
    mean = np.trace(tensors, axis1=-2, axis2=-1) / 3
    deviator = tensors - mean[..., None, None] * np.eye(3)
    return mean**2, 1.5 * (deviator**2).sum(axis=(-2, -1))


def vibrations(atoms: Atoms, *, progress: bool = False) -> Modes:
    """Wave numbers and displacements of the modes of a molecule, or of a crystal at Γ.

    Raises
    ------
    InputError
        For a single atom.

    Warns
    -----
    UnrelaxedWarning, ImaginaryModesWarning
    """
    if len(atoms) < 2:
        raise InputError("a single atom has no vibrations; a spectrum needs at least two")
    calc = calculator_of(atoms)
    require_stationary(
        ask(calc, atoms, "forces", advice="Choose a calculator that does"), "harmonic spectra"
    )
    modes = normal_modes(hessian(calc, atoms, progress=progress), atoms)
    warn_of_imaginary(modes.wavenumbers, "at Γ" if atoms.pbc.any() else "of the molecule")
    return modes
