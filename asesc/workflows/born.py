"""Born charges and ε∞ of a primitive cell, made to obey what symmetry demands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.symmetry import symmetrize_borns_and_epsilon

from asesc.errors import InputError
from asesc.workflows.derivatives import dipole_derivatives
from asesc.workflows.evaluations import ask, calculator_of, require_no_field

_WITHOUT = (
    "Without it there is no LO-TO splitting: choose a model that responds to fields, pass "
    "nac=False, or set ph.nac_params from another source"
)


#: ε above which a crystal screens like a metal.
METALLIC = 1e3


@dataclass(frozen=True)
class BornCharges:
    """Z* and ε∞ of a primitive cell at zero macroscopic field.

    Parameters
    ----------
    charges : ndarray, (N, 3, 3), e
        [atom, polarisation, displacement], after the acoustic sum rule and site symmetry.
    dielectric : ndarray, (3, 3)
        ε∞ with the symmetry of the crystal.
    acoustic_sum_error : ndarray, (3, 3), e
        Σ Z* per primitive cell as the calculator gave it; zero if the dipole does not notice a
        translation.
    correction : float, e
        Largest change of a component by sum rule and symmetry together.
    """

    charges: np.ndarray
    dielectric: np.ndarray
    acoustic_sum_error: np.ndarray
    correction: float

    def __str__(self) -> str:
        raw = float(np.abs(self.acoustic_sum_error).max())
        return (
            f"Born charges: raw acoustic sum |ΣZ*| ≤ {raw:.1e} e per primitive cell, removed; "
            f"sum rule and symmetry changed them by ≤ {self.correction:.1e} e"
        )


def born_charges(
    crystal: Atoms,
    *,
    primitive: PhonopyAtoms | None = None,
    symprec: float = 1e-3,
    progress: bool = False,
) -> BornCharges:
    """Born charges and ε∞ of the model that forces come from, for the primitive cell.

    They are evaluated in the cell that was given, averaged over its space group, rid of the
    violation of Σ Z* = 0, and read off for the atoms of the primitive cell.

    Parameters
    ----------
    primitive : PhonopyAtoms, optional
        The cell whose atoms are wanted, in their order; the one given if absent.
    symprec : float, Å
        Tolerance of the symmetry search.

    Raises
    ------
    InputError
        If the crystal is not periodic in three directions, in a field, or screens like a metal.
    PropertyUnavailableError
        If the calculator lacks Born charges (and a polarisation to differentiate) or ε∞.
    """
    calc = calculator_of(crystal)
    if not crystal.pbc.all():
        raise InputError(
            f"Born charges with ε∞ need three periodic directions, not pbc={crystal.pbc}; slabs "
            "have no bulk LO-TO splitting: pass nac=False"
        )
    require_no_field(crystal, "these Born charges")
    dielectric = ask(calc, crystal, "dielectric_tensor", advice=_WITHOUT)
    require_insulator(dielectric, "in which no field goes along with a phonon: pass nac=False")
    raw = dipole_derivatives(calc, crystal, progress=progress)
    cell = phonopy_atoms(crystal)
    charges, _ = symmetrize_borns_and_epsilon(raw, dielectric, cell, symprec=symprec)
    correction = float(np.abs(charges - raw).max())
    charges, dielectric = symmetrize_borns_and_epsilon(
        raw, dielectric, cell, primitive=primitive, symprec=symprec
    )
    cells = len(crystal) / len(charges)
    return BornCharges(charges, dielectric, raw.sum(axis=0) / cells, correction)


def require_insulator(dielectric: np.ndarray, consequence: str) -> None:
    """Refuse ε of a crystal without a gap.

    Raises
    ------
    InputError
        If ε is above :data:`METALLIC`, not finite, or not positive.
    """
    if not np.isfinite(dielectric).all():
        raise InputError(f"ε∞ is not finite, as in a metal, {consequence}")
    values = np.linalg.eigvalsh(0.5 * (dielectric + dielectric.T))
    if values[0] <= 0:
        raise InputError(
            f"ε∞ has the eigenvalue {values[0]:.3g}: the electrons of this model are not stable in "
            "a field; check crystal and model"
        )
    if values[-1] > METALLIC:
        raise InputError(
            f"ε = {values[-1]:.3g} screens like a metal's, {consequence}; if it should not, check "
            "crystal and model"
        )


def phonopy_atoms(atoms: Atoms) -> PhonopyAtoms:
    """The same cell for phonopy, with the masses of its isotopes."""
    return PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell.array,
        positions=atoms.positions,
        masses=atoms.get_masses(),
    )
