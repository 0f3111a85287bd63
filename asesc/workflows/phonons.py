"""Phonons of a crystal by finite displacements, with LO-TO splitting from the same model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import ArrayLike
from phonopy import Phonopy
from phonopy.harmonic.dynmat_to_fc import get_commensurate_points
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import guess_primitive_matrix

from asesc.errors import InputError
from asesc.units import COULOMB
from asesc.workflows.born import born_charges, phonopy_atoms
from asesc.workflows.conversions import repeated_inputs
from asesc.workflows.evaluations import (
    calculator_of,
    described,
    evaluate_all,
    report,
    require_no_field,
    require_stationary,
)
from asesc.workflows.modes import PER_THZ, warn_of_imaginary


def phonons(
    crystal: Atoms,
    supercell: ArrayLike = (3, 3, 3),
    *,
    nac: bool = True,
    displacement: float = 0.01,
    symprec: float = 1e-3,
    progress: bool = True,
) -> Phonopy:
    """Force constants, and with them everything that phonopy can do.

    Symmetry-inequivalent atoms of a supercell are displaced, the forces of the undisplaced cell
    and the net force of each are removed, and the force constants Φ = −∂F/∂R obey the space
    group, Φ_ij = Φ_jiᵀ and Σ_j Φ_ij = 0. With ``nac`` the non-analytic term

        D_ij(q → 0) += (4π k_e/V) (q·Z*_i)(q·Z*_j)/(q·ε∞·q)/√(m_i m_j)

    takes Z*[atom, polarisation, displacement] and ε∞ from the same calculator, at the same zero
    macroscopic field as the forces.
    Gonze, Lee, Phys. Rev. B 55, 10355 (1997), doi:10.1103/PhysRevB.55.10355, Eq. 60.

    Parameters
    ----------
    crystal : Atoms
        A relaxed cell with a calculator; need not be primitive. ``info`` and per-atom arrays are
        kept in the supercells; a charge in ``info`` is multiplied, and so are unpaired electrons.
    supercell : (3,) or (3, 3) integers
        In units of the cell given; rows of a matrix are the new vectors' coefficients. It should
        be wider than twice the range of short forces; the long-range part is treated by ``nac``.
    nac : bool
        Add the term above; needs Born charges and ε∞.
    displacement : float, Å
    symprec : float, Å
        Tolerance of the symmetry search; generous, since relaxed structures are not exact.
    progress : bool
        Progress bar and the violation of the acoustic sum rule on standard error.

    Returns
    -------
    Phonopy
        With ``force_constants`` and ``nac_params``; plot it with
        :func:`~asesc.phonons.band_structure`.

    Raises
    ------
    InputError
        No calculator, no crystal, an applied field, or a supercell that does not fit.
    PropertyUnavailableError
        The calculator lacks what ``nac`` needs.

    Warns
    -----
    UnrelaxedWarning, ImaginaryModesWarning
    """
    calc = calculator_of(crystal)
    matrix = _supercell_matrix(supercell, crystal)
    _refuse_extensive(calc, matrix)
    require_no_field(crystal, "phonons")
    cell = phonopy_atoms(crystal)
    ph = Phonopy(cell, matrix.T, primitive_matrix=_primitive_matrix(cell, symprec), symprec=symprec)
    ph.asesc_title = f"{described(crystal)} · supercell of {len(ph.supercell)} atoms"
    born = None
    if nac:
        # First, since it is cheap and may be refused.
        born = born_charges(crystal, primitive=ph.primitive, symprec=symprec, progress=progress)
        report(str(born), wanted=progress)
    _set_force_constants(ph, crystal, calc, displacement, progress)
    if born is not None:
        ph.nac_params = {
            "born": born.charges,
            "dielectric": born.dielectric,
            "factor": COULOMB,
        }
    _warn_of_imaginary(ph)
    return ph


def _set_force_constants(
    ph: Phonopy, crystal: Atoms, calc: Calculator, displacement: float, progress: bool
) -> None:
    ph.generate_displacements(distance=displacement)
    cells = [ph.supercell, *ph.supercells_with_displacements]
    frames = [_frame(cell, ph, crystal) for cell in cells]
    forces = evaluate_all(calc, frames, "forces", progress="phonons" if progress else None)
    require_stationary(forces[0], "phonons")
    change = forces[1:] - forces[0]
    ph.forces = change - change.mean(axis=1, keepdims=True)
    ph.produce_force_constants(show_drift=False)
    ph.symmetrize_force_constants(show_drift=False)


def _frame(cell: PhonopyAtoms, ph: Phonopy, crystal: Atoms) -> Atoms:
    """A supercell of phonopy as ASE atoms that keep what the crystal carries."""
    unit = [ph.supercell.u2u_map[i] for i in ph.supercell.s2u_map]
    frame = Atoms(cell.symbols, positions=cell.positions, cell=cell.cell, pbc=crystal.pbc)
    for name, values in crystal.arrays.items():
        if name not in ("numbers", "positions"):
            frame.set_array(name, values[unit])
    frame.info = repeated_inputs(crystal.info, len(frame) // len(crystal))
    return frame


def _supercell_matrix(supercell: ArrayLike, crystal: Atoms) -> np.ndarray:
    """Integer matrix M whose rows give the new lattice vectors M @ cell, (3, 3)."""
    if not crystal.pbc.any():
        raise InputError(
            f"{crystal.get_chemical_formula()} has pbc=FFF; phonons need a crystal. For the "
            "vibrations of a molecule use asesc.spectra.infrared"
        )
    try:
        given = np.array(supercell, dtype=float)
    except (TypeError, ValueError):
        given = np.zeros(0)
    matrix = np.diag(given) if given.shape == (3,) else given
    sound = matrix.shape == (3, 3) and np.isfinite(matrix).all()
    if not sound or np.abs(matrix - np.round(matrix)).max() > 1e-8:
        raise InputError(
            f"supercell={supercell!r} does not fit the crystal: give three integers, or a 3 × 3 "
            "matrix of integers whose rows are the new vectors in units of the old"
        )
    matrix = np.round(matrix).astype(int)
    if np.linalg.det(matrix) < 0.5:
        raise InputError(
            f"supercell={supercell!r} has determinant {np.linalg.det(matrix):.0f}; it must be "
            "positive: the number of cells"
        )
    for axis in np.flatnonzero(~crystal.pbc):
        if (matrix[axis] != np.eye(3)[axis]).any() or (matrix[:, axis] != np.eye(3)[axis]).any():
            raise InputError(
                f"supercell={supercell!r} repeats the open axis {'abc'[axis]} (pbc={crystal.pbc}); "
                "it must be 1 there"
            )
    return matrix


def _primitive_matrix(cell: PhonopyAtoms, symprec: float) -> np.ndarray:
    """From the cell given to a primitive one; it keeps its own axes if it is primitive already."""
    guess = guess_primitive_matrix(cell, symprec=symprec)
    return np.eye(3) if abs(np.linalg.det(guess)) > 0.99 else guess


def _refuse_extensive(calc: Calculator, matrix: np.ndarray) -> None:
    """A charge or spin set on the calculator cannot follow the number of cells."""
    given = getattr(calc, "parameters", {})
    for name, none in (("charge", 0), ("spin", 1)):
        value = given.get(name)
        if value not in (None, none) and np.linalg.det(matrix) > 1.5:
            raise InputError(
                f"the calculator's {name}={value!r} would be the {name} of the whole supercell, "
                f"not of each cell. Set atoms.info[{name!r}] instead, which is multiplied, and "
                f"{name}={none} on the calculator"
            )


def _warn_of_imaginary(ph: Phonopy) -> None:
    """At the points where the force constants of the supercell are exact."""
    to_supercell = np.round(np.linalg.inv(ph.primitive_matrix) @ ph.supercell_matrix)
    points = get_commensurate_points(to_supercell.astype(int))
    frequencies = PER_THZ * ph.run_qpoints(points).frequencies
    lowest: Sequence[float] = points[int(frequencies.min(axis=1).argmin())]
    shown = ", ".join(f"{x:.3g}" for x in lowest)
    warn_of_imaginary(
        frequencies.ravel(), f"at the {len(points)} wave vectors of the supercell (lowest: {shown})"
    )
