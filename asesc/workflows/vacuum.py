"""From a crystal's cell with vacuum to a slab."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from asesc.errors import InputError

#: Å; below this an empty layer is the gap between two atomic layers of a crystal.
LEAST_VACUUM = 5.0


def empty_layer(atoms: Atoms, axis: int) -> float:
    """Thickest layer without nuclei between lattice planes across an axis, Å."""
    height = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array)[:, axis])
    fractions = np.sort(atoms.cell.scaled_positions(atoms.positions)[:, axis] % 1.0)
    gaps = np.diff(fractions, append=fractions[0] + 1.0)
    return float(gaps.max() * height)


def opened(atoms: Atoms, axis: int) -> Atoms:
    """A copy that does not repeat along an axis, with all atoms on one side of the vacuum.

    The slab is kept whole: atoms below the thickest empty layer are moved up by one period.

    Raises
    ------
    InputError
        If there are less than 5 Å of vacuum, so that bonds of a crystal would be cut.
    """
    if not atoms.pbc[axis]:
        return atoms.copy()
    vacuum = empty_layer(atoms, axis)
    if vacuum < LEAST_VACUUM:
        raise InputError(
            f"only {vacuum:.2f} Å between the atomic layers along axis {axis}: this is a crystal, "
            "or a slab with too little vacuum to tell which of its bonds are cut. Add vacuum with "
            f"atoms.center(vacuum=…, axis={axis}) first; as a slab its thickness does not matter"
        )
    slab = atoms.copy()
    fractions = atoms.cell.scaled_positions(atoms.positions)[:, axis] % 1.0
    order = np.sort(fractions)
    gaps = np.diff(order, append=order[0] + 1.0)
    # The atoms above the gap come first, from there upwards.
    start = order[(int(gaps.argmax()) + 1) % len(order)]
    lifted = (fractions - start) % 1.0 + start
    shift = lifted - atoms.cell.scaled_positions(atoms.positions)[:, axis]
    slab.positions += np.round(shift)[:, None] * atoms.cell.array[axis]
    slab.pbc[axis] = False
    slab.calc = atoms.calc
    return slab
