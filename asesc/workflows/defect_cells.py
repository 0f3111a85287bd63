"""Supercells with one vacancy, substitution or interstitial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms
from ase.build import make_supercell
from ase.data import atomic_numbers
from ase.geometry import find_mic

from asesc.errors import InputError, did_you_mean

#: Å; two positions nearer than this are one site.
_SAME = 1e-3


@dataclass(frozen=True)
class Change:
    """One atom taken away, one put in, or both at one place.

    Parameters
    ----------
    position : ndarray, (3,), Å
        In the crystal.
    removed, added : str or None
        Chemical symbols.
    """

    position: np.ndarray
    removed: str | None
    added: str | None

    @property
    def name(self) -> str:
        """``v_O``, ``Al_Si`` or ``Li_i``."""
        return f"{self.added or 'v'}_{self.removed or 'i'}"

    @property
    def exchanged(self) -> dict[str, int]:
        """Atoms gained, by symbol."""
        gained = {} if self.added is None else {self.added: 1}
        return gained if self.removed is None else {**gained, self.removed: -1}


@dataclass(frozen=True)
class DefectCell:
    """A supercell without and with a defect.

    Parameters
    ----------
    bulk, defect : Atoms
    position : ndarray, (3,), Å
        Of the defect.
    bulk_sites, defect_sites : ndarray, (n,)
        Indices of the atoms that both have, in the same order.
    added : int or None
        Index of the atom that was put in.
    """

    bulk: Atoms
    defect: Atoms
    position: np.ndarray
    bulk_sites: np.ndarray
    defect_sites: np.ndarray
    added: int | None

    def centre(self, defect: Atoms) -> np.ndarray:
        """Where the defect is after relaxation: at the new atom, or at the missing one, (3,), Å."""
        return self.position if self.added is None else defect.positions[self.added].copy()


def vacancy(crystal: Atoms, species: str | int) -> Change:
    """An atom is missing.

    Parameters
    ----------
    species : str or int
        A symbol whose atoms are all equivalent by symmetry, or the index of the atom.
    """
    index = _site(crystal, species)
    return Change(crystal.positions[index].copy(), crystal.symbols[index], None)


def substitution(crystal: Atoms, species: str | int, added: str) -> Change:
    """An atom is replaced by one of another element; see :func:`vacancy`."""
    index = _site(crystal, species)
    removed = crystal.symbols[index]
    if removed == _known(added):
        raise InputError(f"atom {index} already is {added}; nothing would be substituted")
    return Change(crystal.positions[index].copy(), removed, added)


def interstitial(crystal: Atoms, added: str, position: Sequence[float]) -> Change:
    """One atom more.

    Parameters
    ----------
    position : (3,), Å
        Cartesian, in the crystal.
    """
    _require_crystal(crystal)
    place = np.asarray(position, dtype=float)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise InputError(f"position={position!r} must be three Cartesian coordinates in Å")
    _, distances = find_mic(crystal.positions - place, crystal.cell)
    if distances.min() < 0.5:
        raise InputError(
            f"position={position!r} is {distances.min():.2f} Å from atom {distances.argmin()} "
            "of the crystal; an interstitial needs a place between the atoms"
        )
    return Change(place, None, _known(added))


def defect_cell(crystal: Atoms, change: Change, supercell: Sequence[int]) -> DefectCell:
    """Repeat the crystal and change one place.

    Parameters
    ----------
    supercell : 3 integers or (3, 3) integers
        Repeats along the cell vectors, or the rows of the supercell in terms of them.

    Raises
    ------
    InputError
        If the crystal is not periodic in three directions, or this is no supercell of it.
    """
    _require_crystal(crystal)
    bulk = make_supercell(crystal, _matrix(supercell))
    bulk.info = {k: v for k, v in crystal.info.items() if k not in ("charge", "total_charge")}
    defect, kept = bulk.copy(), np.arange(len(bulk))
    if change.removed is None:
        defect.append(change.added)
        defect.positions[-1] = change.position
        return DefectCell(bulk, defect, change.position, kept, kept, len(bulk))
    _, distances = find_mic(bulk.positions - change.position, bulk.cell)
    index = int(distances.argmin())
    position = bulk.positions[index].copy()
    kept = np.delete(kept, index)
    if change.added is None:
        del defect[index]
        return DefectCell(bulk, defect, position, kept, np.arange(len(defect)), None)
    defect.symbols[index] = change.added
    return DefectCell(bulk, defect, position, kept, kept, index)


def _matrix(supercell: Sequence[int]) -> np.ndarray:
    given = np.asarray(supercell)
    matrix = np.diag(given) if given.shape == (3,) else given
    whole = matrix.shape == (3, 3) and np.allclose(matrix, np.round(matrix.astype(float)))
    if not whole or round(np.linalg.det(matrix.astype(float))) < 1:
        raise InputError(
            f"supercell={supercell!r} must be three positive integers, or a (3, 3) matrix of "
            "integers with a positive determinant"
        )
    return np.round(matrix.astype(float)).astype(int)


def _require_crystal(crystal: Atoms) -> None:
    if not crystal.pbc.all():
        raise InputError(
            f"pbc={crystal.pbc.tolist()}: defects in supercells need three periodic directions"
        )


def _site(crystal: Atoms, species: str | int) -> int:
    """Index of the atom that is meant."""
    _require_crystal(crystal)
    if isinstance(species, int | np.integer):
        if not -len(crystal) <= species < len(crystal):
            raise InputError(f"there is no atom {species} among {len(crystal)}")
        return int(species) % len(crystal)
    found = np.flatnonzero(crystal.symbols == species)
    if not len(found):
        known = sorted(set(crystal.symbols))
        raise InputError(
            f"there is no {species!r} in {crystal.get_chemical_formula()}."
            f"{did_you_mean(species, known)} It has {', '.join(known)}"
        )
    kinds = _equivalent(crystal)[found]
    if len(set(kinds)) > 1:
        first = [int(found[list(kinds).index(kind)]) for kind in sorted(set(kinds))]
        raise InputError(
            f"the {species} atoms are on {len(first)} inequivalent sites; say which by its index, "
            f"one of {first}"
        )
    return int(found[0])


def _equivalent(crystal: Atoms) -> np.ndarray:
    """A label per atom, the same for those that symmetry maps onto each other."""
    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    dataset = spglib.get_symmetry_dataset(cell, symprec=_SAME)
    return np.arange(len(crystal)) if dataset is None else dataset.equivalent_atoms


def _known(symbol: str) -> str:
    if symbol not in atomic_numbers:
        raise InputError(
            f"{symbol!r} is no chemical element.{did_you_mean(str(symbol), atomic_numbers)}"
        )
    return symbol
