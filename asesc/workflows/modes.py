"""Harmonic modes: eigenvectors of mass-weighted force constants without rigid motions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import sqrt

import numpy as np
from ase import Atoms, units

from asesc.errors import IllPosedError

#: Wave number of a mode with force constant 1 eV/Å² and mass 1 amu, cm⁻¹ (ħ√(k/m)/hc).
WAVENUMBER = units._hbar * units.J * units.s / units.invcm

#: cm⁻¹ in 1 THz.
PER_THZ = 1e12 / (100 * units._c)

#: Below minus this, cm⁻¹, a mode is imaginary and not merely noise.
NOISE = 1.0


class ImaginaryModesWarning(UserWarning):
    """The structure is not a minimum: some squared frequencies are negative."""


@dataclass(frozen=True)
class Modes:
    """Internal harmonic modes Q of a molecule, or of a crystal at Γ.

    Parameters
    ----------
    wavenumbers : ndarray, (M,), cm⁻¹
        Ascending; an imaginary frequency is negative, as usual.
    displacements : ndarray, (M, N, 3), amu^-½
        ∂R/∂Q with Q in Å amu^½: the unit eigenvectors divided by √mass.
    """

    wavenumbers: np.ndarray
    displacements: np.ndarray

    def derivative(self, cartesian: np.ndarray) -> np.ndarray:
        """∂X/∂Q from ∂X/∂R: (N, 3, …) → (M, …), per amu^½."""
        return np.einsum("mic,ic...->m...", self.displacements, cartesian)


def wavenumbers_of(eigenvalues: np.ndarray) -> np.ndarray:
    """Wave numbers, cm⁻¹, of squared frequencies in eV Å⁻² amu⁻¹; negative where imaginary."""
    return WAVENUMBER * np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues))


def normal_modes(force_constants: np.ndarray, atoms: Atoms) -> Modes:
    """Diagonalise D = M^-½ Φ M^-½ in the space orthogonal to rigid motions.

    Rigid motions are the three translations, and for isolated molecules the rotations (two for a
    linear one). They are projected out, not recognised by their frequency.

    Parameters
    ----------
    force_constants : ndarray, (3N, 3N), eV/Å²
    """
    weights = np.repeat(atoms.get_masses() ** -0.5, 3)
    internal = _internal_space(atoms)
    dynamical = weights[:, None] * force_constants * weights
    eigenvalues, vectors = np.linalg.eigh(internal.T @ dynamical @ internal)
    displacements = weights[:, None] * (internal @ vectors)
    return Modes(wavenumbers_of(eigenvalues), displacements.T.reshape(-1, len(atoms), 3))


def rigid_motions(atoms: Atoms) -> np.ndarray:
    """Mass-weighted translations, and rotations of isolated molecules, (3N, R)."""
    root = np.sqrt(atoms.get_masses())
    motions = [np.outer(root, axis) for axis in np.eye(3)]
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        motions += [root[:, None] * np.cross(axis, arms) for axis in np.eye(3)]
    return np.array(motions).reshape(len(motions), -1).T


def _internal_space(atoms: Atoms) -> np.ndarray:
    """Orthonormal basis of what is left beside rigid motions, (3N, M)."""
    left, sizes, _ = np.linalg.svd(rigid_motions(atoms), full_matrices=True)
    rank = int((sizes > 1e-4 * sizes[0]).sum())
    return left[:, rank:]


def warn_of_imaginary(wavenumbers: np.ndarray, where: str) -> None:
    """Name imaginary modes, if there are any, in an :class:`ImaginaryModesWarning`."""
    imaginary = wavenumbers[wavenumbers < -NOISE]
    if imaginary.size:
        shown = ", ".join(f"{-value:.0f}i" for value in np.sort(imaginary)[:5])
        warnings.warn(
            f"{imaginary.size} imaginary mode{'s' if imaginary.size > 1 else ''} {where}: {shown} "
            "cm⁻¹. The structure is not a minimum of this model's energy: relax it, distort it "
            "along the mode, or enlarge the supercell",
            ImaginaryModesWarning,
            stacklevel=3,
        )


def inverse_force_constants(force_constants: np.ndarray) -> np.ndarray:
    """Inverse of force constants at Γ on displacements without net translation, (3N, 3N), Å²/eV.

    Raises
    ------
    IllPosedError
        If some force constant is not positive: there is no static response about a saddle point.
    """
    n = len(force_constants) // 3
    translations = np.tile(np.eye(3), (n, 1)) / sqrt(n)
    internal = np.linalg.svd(translations, full_matrices=True)[0][:, 3:]
    reduced = internal.T @ force_constants @ internal
    smallest = float(np.linalg.eigvalsh(reduced).min(initial=np.inf))
    if smallest <= 1e-6:
        raise IllPosedError(
            f"the smallest force constant at Γ is {smallest:.2e} eV/Å²: about a saddle point or a "
            "free shift the static response does not exist. Relax the crystal, or follow the "
            "imaginary mode to a minimum"
        )
    return internal @ np.linalg.inv(reduced) @ internal.T
