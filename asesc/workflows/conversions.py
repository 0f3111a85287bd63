"""To pymatgen and phonopy and back without losing charge, field and results."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from phonopy.structure.atoms import PhonopyAtoms

from asesc.workflows.born import phonopy_atoms
from asesc.workflows.records import OUTPUTS, from_json, to_json

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

#: Property of a pymatgen object under which the whole frame travels.
_FRAME = "asesc_frame"


def to_pymatgen(atoms: Atoms) -> Structure | Molecule:
    """A structure, or a molecule without periodic directions, whose charge is that of ``info``.

    The whole frame travels as JSON in ``properties`` and survives ``as_dict``; energies, forces and
    fields come back with :func:`from_pymatgen`.
    """
    from pymatgen.core import Lattice, Molecule, Structure

    text = to_json(atoms)
    frame = from_json(text)
    charge = _charge_of(frame)
    properties = {_FRAME: text}
    symbols, positions = frame.get_chemical_symbols(), frame.positions
    if not frame.pbc.any():
        spin = frame.info.get("spin", frame.info.get("spin_multiplicity"))
        return Molecule(
            symbols,
            positions,
            charge=charge,
            spin_multiplicity=spin,
            properties=properties,
            charge_spin_check=False,
        )
    lattice = Lattice(frame.cell.array, pbc=tuple(bool(p) for p in frame.pbc))
    return Structure(
        lattice,
        symbols,
        positions,
        charge=charge,
        coords_are_cartesian=True,
        properties=properties,
    )


def from_pymatgen(structure: Structure | Molecule) -> Atoms:
    """Atoms with the charge of a pymatgen object in ``info``, and with results where it has them.

    Elements, positions, cell and charge are those of the object. As long as they are those it was
    made from, everything else of the frame comes back too, velocities and constraints included;
    the results of another structure are left behind.
    """
    lattice = getattr(structure, "lattice", None)
    atoms = Atoms(
        [site.specie.symbol for site in structure],
        np.array([site.coords for site in structure]),
        cell=None if lattice is None else lattice.matrix,
        pbc=False if lattice is None else lattice.pbc,
    )
    charge = float(structure._charge or 0.0)
    text = structure.properties.get(_FRAME)
    if text is not None:
        frame = from_json(text)
        if _same_structure(frame, atoms):
            if charge == _charge_of(frame):
                return frame
            frame.calc = None
            for key in (OUTPUTS, "total_charge"):
                frame.info.pop(key, None)
            atoms = frame
    if charge != 0 or "charge" in atoms.info:
        atoms.info["charge"] = charge
    return atoms


def _charge_of(atoms: Atoms) -> float:
    return float(atoms.info.get("charge", atoms.info.get("total_charge", 0.0)))


def _same_structure(first: Atoms, second: Atoms) -> bool:
    return (
        np.array_equal(first.numbers, second.numbers)
        and np.allclose(first.positions, second.positions)
        and np.allclose(first.cell, second.cell)
    )


def to_phonopy(atoms: Atoms) -> PhonopyAtoms:
    """Symbols, positions, cell and masses; phonopy's structures hold nothing else."""
    return phonopy_atoms(atoms)


def from_phonopy(cell: PhonopyAtoms, *, like: Atoms) -> Atoms:
    """A cell of phonopy as Atoms with the inputs of the structure it was made from.

    Parameters
    ----------
    like : Atoms
        Where phonopy's cells came from; its ``pbc``, ``info`` and calculator are taken over, and
        charge and unpaired electrons are multiplied by the number of its copies.
    """
    atoms = Atoms(
        cell.symbols, cell.positions, cell=cell.cell, pbc=like.pbc, masses=np.asarray(cell.masses)
    )
    inputs = {k: v for k, v in like.info.items() if k != OUTPUTS}
    atoms.info = repeated_inputs(inputs, len(atoms) / len(like))
    atoms.calc = like.calc
    return atoms


def repeated_inputs(info: Mapping[str, Any], cells: float) -> dict[str, Any]:
    """A copy of ``info`` for that many cells: charge and unpaired electrons 2S are extensive."""
    repeated = copy.deepcopy(dict(info))
    for key in {"charge", "total_charge"} & repeated.keys():
        repeated[key] = cells * repeated[key]
    for key in {"spin", "multiplicity", "spin_multiplicity"} & repeated.keys():
        repeated[key] = round(cells * (repeated[key] - 1)) + 1
    return repeated
