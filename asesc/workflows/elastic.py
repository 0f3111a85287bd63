"""Elastic and piezoelectric tensors, with ions clamped to the strain and relaxed in it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from asesc.errors import InputError
from asesc.workflows.derivatives import dipole_derivatives, hessian
from asesc.workflows.evaluations import (
    UnrelaxedWarning,
    ask,
    calculator_of,
    require_no_field,
    require_stationary,
)
from asesc.workflows.modes import inverse_force_constants
from asesc.workflows.polarisation import moment, nearest_branch

#: Strain of the central differences.
STRAIN = 1e-3

#: Stress above which tensors are no longer those of the unstressed crystal, GPa.
_STRESSED = 0.5

#: Voigt order xx, yy, zz, yz, xz, xy; shear strains are 2ε.
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class ElasticResponse:
    """Second derivatives of the energy with respect to strain, and of it with the field.

    Relaxed-ion tensors follow from clamped ones by the displacements u = Φ⁻¹Λε that a strain
    causes, with the force response Λ = ∂F/∂ε:

        C = C̄ − Λᵀ Φ⁻¹ Λ/V,   e = ē + Z* Φ⁻¹ Λ/V

    Wu, Vanderbilt, Hamann, Phys. Rev. B 72, 035105 (2005), doi:10.1103/PhysRevB.72.035105,
    Eqs. 16 and 17. Voigt order xx, yy, zz, yz, xz, xy with shear strains 2ε; at fixed zero
    macroscopic field.

    Parameters
    ----------
    elastic_clamped, elastic : ndarray, (6, 6), eV/Å³
        C̄ and C.
    piezoelectric_clamped, piezoelectric : ndarray, (3, 6), e/Å², or None
        Proper tensors ē and e [polarisation, strain]; None if they were not asked for.
    """

    elastic_clamped: np.ndarray
    elastic: np.ndarray
    piezoelectric_clamped: np.ndarray | None
    piezoelectric: np.ndarray | None

    @property
    def elastic_gpa(self) -> np.ndarray:
        """C in GPa, (6, 6)."""
        return self.elastic / units.GPa

    @property
    def piezoelectric_si(self) -> np.ndarray:
        """e in C/m², (3, 6).

        Raises
        ------
        InputError
            If it was not asked for.
        """
        return _required(self.piezoelectric) * units.m**2 / units.C

    @property
    def piezoelectric_strain(self) -> np.ndarray:
        """d = e C⁻¹, strain per field and charge per stress, (3, 6), pm/V = pC/N.

        Raises
        ------
        InputError
            If the piezoelectric tensor was not asked for.
        """
        return 100 * _required(self.piezoelectric) @ np.linalg.inv(self.elastic)


def elastic_response(
    crystal: Atoms, *, piezoelectric: bool = True, progress: bool = False
) -> ElasticResponse:
    """Stress, forces and polarisation of 12 strained cells, and one Hessian.

    Proper piezoelectric tensors are derivatives of the fractional dipole, which does not notice
    that a strain moves charges along; they do not depend on the branch of the polarisation.

    Parameters
    ----------
    crystal : Atoms
        Relaxed with its cell. Any periodic cell; the primitive one is cheapest.
    piezoelectric : bool
        Also the piezoelectric tensors; needs a polarisation and Born charges.

    Raises
    ------
    InputError
        Not periodic in three directions, or in a field.
    PropertyUnavailableError
        The calculator lacks the stress, or the polarisation.
    IllPosedError
        The crystal is not a minimum at fixed cell.

    Warns
    -----
    UnrelaxedWarning
        Forces or stress are not small.
    """
    calc = calculator_of(crystal)
    if not crystal.pbc.all():
        raise InputError(f"elastic tensors need three periodic directions, not pbc={crystal.pbc}")
    require_no_field(crystal, "elastic tensors")
    crystal = crystal.copy()
    crystal.set_constraint()
    _require_relaxed(calc, crystal)
    clamped, internal, strained = _strain_derivatives(calc, crystal, piezoelectric)
    volume = crystal.get_volume()
    shift = inverse_force_constants(hessian(calc, crystal, progress=progress)) @ internal
    relaxed = clamped - internal.T @ shift / volume
    if strained is None:
        return ElasticResponse(clamped, relaxed, None, None)
    born = dipole_derivatives(calc, crystal, progress=progress)
    ionic = born.transpose(1, 0, 2).reshape(3, -1) @ shift / volume
    return ElasticResponse(clamped, relaxed, strained, strained + ionic)


def _require_relaxed(calc: Calculator, crystal: Atoms) -> None:
    forces = ask(calc, crystal, "forces", advice="Choose a calculator that does")
    require_stationary(forces, "elastic tensors")
    stress = ask(calc, crystal, "stress", advice="Choose a model with stress in periodic cells")
    largest = float(np.abs(stress).max()) / units.GPa
    if largest > _STRESSED:
        warnings.warn(
            f"the stress is {largest:.2f} GPa: the tensors are those of the stressed crystal. "
            "Relax the cell, e.g. with asesc.phonons.relaxed(crystal, cell=True)",
            UnrelaxedWarning,
            stacklevel=3,
        )


def _strain_derivatives(
    calc: Calculator, crystal: Atoms, piezoelectric: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """C̄ (6, 6), Λ (3N, 6) and ē (3, 6) by central differences."""
    cell, volume = crystal.cell.array, crystal.get_volume()
    reference = moment(calc, crystal) if piezoelectric else None
    stresses, forces, dipoles = [], [], []
    for first, second in _VOIGT:
        for sign in (-1, 1):
            frame = _strained(crystal, first, second, sign * STRAIN)
            stresses.append(ask(calc, frame, "stress", advice=""))
            forces.append(ask(calc, frame, "forces", advice="").ravel())
            if reference is not None:
                dipoles.append(_fractional(calc, frame, reference, cell) @ cell)
    clamped = _slope(stresses)
    strained = _slope(dipoles).T / volume if dipoles else None
    return 0.5 * (clamped + clamped.T), _slope(forces).T, strained


def _strained(crystal: Atoms, first: int, second: int, size: float) -> Atoms:
    """r → (1 + ε) r with one Voigt component of that size."""
    strain = np.zeros((3, 3))
    strain[first, second] += 0.5 * size
    strain[second, first] += 0.5 * size
    frame = crystal.copy()
    frame.set_cell(crystal.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return frame


def _fractional(
    calc: Calculator, frame: Atoms, reference: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """Fractional dipole of a strained cell on the branch of the unstrained one, (3,), e."""
    moved = reference @ np.linalg.inv(cell) @ frame.cell.array
    present = nearest_branch(moment(calc, frame), moved, frame.cell.array)
    return present @ np.linalg.inv(frame.cell.array)


def _slope(values: list[np.ndarray]) -> np.ndarray:
    """Central differences over the Voigt strains, (6, …)."""
    stacked = np.array(values)
    return (stacked[1::2] - stacked[0::2]) / (2 * STRAIN)


def _required(tensor: np.ndarray | None) -> np.ndarray:
    if tensor is None:
        raise InputError(
            "the piezoelectric tensor was not computed; call "
            "elastic_response(crystal, piezoelectric=True)"
        )
    return tensor
