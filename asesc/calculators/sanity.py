"""Geometries that cannot be what was meant, and those that are probably not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from ase import Atoms
from ase.geometry import minkowski_reduce

from asesc.errors import InputError
from asesc.neighbors import find_edges
from asesc.system import System

#: Å; no two nuclei are nearer in anything that is not a collision cascade.
CLOSEST = 0.3
#: Å; positions beyond have lost what is behind 1e-7 Å, in float64.
FARTHEST = 1e9
#: Å; no crystal repeats itself after a longer way.
LONGEST = 1e5
#: Å; an empty layer this thick along a periodic direction is vacuum, not a pore.
VACUUM = 10.0
# A cell list costs more, not less, for a shorter cutoff than this.
_LISTED = 1.5


def check_geometry(atoms: Atoms) -> None:
    """Refuse empty structures, positions that are not finite or absurdly far, and missing cells.

    Raises
    ------
    InputError
    """
    if len(atoms) == 0:
        raise InputError("the structure has no atoms; nothing can be computed for it")
    lost = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(lost):
        raise InputError(
            f"{len(lost)} of {len(atoms)} positions are NaN or infinite, the first that of atom "
            f"{lost[0]}: the run before this one exploded, or the file is damaged"
        )
    _require_near(atoms.positions)
    if not np.isfinite(atoms.cell.array).all():
        raise InputError(f"the cell has NaN or infinite entries: {atoms.cell.array.tolist()}")
    for axis, name in enumerate("abc"):
        if atoms.pbc[axis] and not atoms.cell[axis].any():
            raise InputError(
                f"pbc is True along {name} but that cell vector is zero; set it "
                "(atoms.center(vacuum=…)) or set pbc to False there"
            )
    periodic = atoms.cell.array[atoms.pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        raise InputError(
            f"the periodic cell vectors {periodic.tolist()} lie in one "
            f"{'plane' if len(periodic) == 3 else 'line'}; they must span a cell"
        )
    if (longest := np.linalg.norm(periodic, axis=1).max(initial=0.0)) > LONGEST:
        raise InputError(
            f"a periodic cell vector is {longest:.3g} Å long (limit {LONGEST:g} Å). Check units "
            "(Å), or set pbc to False along directions of vacuum"
        )


def _require_near(positions: np.ndarray) -> None:
    farthest = int(np.abs(positions).max(axis=1).argmax())
    if (distance := float(np.abs(positions[farthest]).max())) > FARTHEST:
        raise InputError(
            f"atom {farthest} is {distance:.3g} Å from the origin, where positions have no digits "
            f"left for a bond (limit {FARTHEST:g} Å): the run before this one exploded, or the "
            "units are not Å"
        )


def check_contacts(system: System) -> None:
    """Refuse atoms of one structure nearer than 0.3 Å, where a model only returns noise.

    Raises
    ------
    InputError
        Names the nearest pair, or the period of a lattice that repeats itself within 0.3 Å.
    """
    _require_long_periods(system)
    edges = find_edges(system, _LISTED)
    if len(edges.source) == 0:
        return
    distances = torch.linalg.vector_norm(edges.vectors(system).detach(), dim=-1)
    nearest = int(distances.argmin())
    if float(distances[nearest]) < CLOSEST:
        i, j = sorted((int(edges.source[nearest]), int(edges.target[nearest])))
        pair = f"atoms {i} and {j} are" if i != j else f"atom {i} and its periodic image are"
        raise InputError(
            f"{pair} {float(distances[nearest]):.2f} Å apart (closer than {CLOSEST} Å): the "
            "geometry has overlapping atoms or exploded. Check units (Å), duplicated atoms and "
            "the time step"
        )


def _require_long_periods(system: System) -> None:
    """Refuse a lattice whose images overlap, before all of them are listed."""
    if not any(system.pbc):
        return
    reduced, _ = minkowski_reduce(system.cell[0].detach().cpu().double().numpy(), pbc=system.pbc)
    shortest = float(np.linalg.norm(reduced[list(system.pbc)], axis=1).min())
    if shortest < CLOSEST:
        raise InputError(
            f"the cell {system.cell[0].tolist()} repeats itself every {shortest:.2g} Å, so that "
            f"every atom overlaps with its own images (closer than {CLOSEST} Å). Check units (Å) "
            "and angles of the cell"
        )


def doubts(atoms: Atoms, *, charge: float, charge_source: str) -> Iterator[str]:
    """Advice about inputs that are allowed and rarely meant.

    Parameters
    ----------
    charge : float, e
    charge_source : str
        Where the charge came from; initial charges are no doubt if the frame states its charge.
    """
    if all(atoms.pbc):
        yield from _vacuum_doubts(atoms)
        if charge != 0:
            yield (
                f"charge {charge:+g} in a periodic cell is neutralised by a uniform background; "
                "energies of different cells or charges need a finite-size correction"
            )
    initial = float(atoms.get_initial_charges().sum())
    if charge_source == "calculator" and abs(initial - charge) > 0.5 and abs(initial) > 0.5:
        yield (
            f"initial charges sum to {initial:+g} but the total charge is taken as {charge:g}; "
            f"initial charges are not read. Pass charge={round(initial)}, or state the charge "
            "in atoms.info['charge']"
        )


def _vacuum_doubts(atoms: Atoms) -> Iterator[str]:
    gaps = _empty_layers(atoms)
    empty = [axis for axis in range(3) if gaps[axis] > VACUUM]
    if len(empty) == 3:
        volume = atoms.cell.volume / len(atoms)
        yield (
            f"volume per atom {volume:.0f} Å³ with pbc=TTT, vacuum on all sides; did you mean an "
            "isolated molecule, atoms.pbc=False? It needs no vacuum and has no images"
        )
    if len(empty) == 1:
        name = "abc"[empty[0]]
        yield (
            f"{gaps[empty[0]]:.0f} Å of vacuum along {name} with pbc=TTT: images of a polar slab "
            f"act on each other; did you mean a slab, atoms.pbc[{empty[0]}]=False?"
        )


def _empty_layers(atoms: Atoms) -> np.ndarray:
    """Thickest layer without atoms between the lattice planes of every axis, (3,), Å."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    scaled = np.sort(atoms.cell.scaled_positions(atoms.positions) % 1.0, axis=0)
    gaps = np.diff(scaled, axis=0, append=scaled[:1] + 1.0)
    return gaps.max(axis=0) * heights
