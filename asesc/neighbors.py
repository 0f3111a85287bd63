"""Neighbour lists as edge tensors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

from asesc.errors import InputError
from asesc.system import System

# Into so many cells vesin divides space at most.
_CELLS = 1e5


@dataclass(frozen=True)
class Edges:
    """Directed pairs within a cutoff; both (i, j, S) and (j, i, −S) are present.

    Parameters
    ----------
    source, target : Tensor, (E,), int64
        Indices i and j of the pair.
    shifts : Tensor, (E, 3)
        Integer lattice translation S of the target.
    """

    source: Tensor
    target: Tensor
    shifts: Tensor

    def translations(self, system: System) -> Tensor:
        """Cartesian translation S·h of every target, (E, 3), Å; differentiable in the cell."""
        cell = system.cell[system.batch[self.source]]
        return torch.einsum("ea,eab->eb", self.shifts.to(cell.dtype), cell)

    def vectors(self, system: System) -> Tensor:
        """r_j + S·h − r_i, (E, 3), Å; differentiable in positions and cell."""
        separation = system.positions[self.target] - system.positions[self.source]
        return separation + self.translations(system)


def find_edges(system: System, cutoff: float) -> Edges:
    """All directed pairs closer than ``cutoff`` (Å), images included.

    Cost is linear in the number of atoms (cell lists of vesin). The list itself carries no
    gradient; :meth:`Edges.vectors` does.

    Raises
    ------
    InputError
        If positions or cells are not finite.
    """
    positions = system.positions.detach().cpu().double().numpy()
    cells = system.cell.detach().cpu().double().numpy()
    if not (np.isfinite(positions).all() and np.isfinite(cells).all()):
        raise InputError(
            "there are positions or cells that are NaN or infinite: the run before this one "
            "exploded, or the file is damaged"
        )
    first = np.concatenate([[0], np.cumsum(system.counts.cpu().numpy())])
    periodic = np.array(system.pbc)
    sources, targets, shifts = [], [], []
    for b, (start, stop) in enumerate(pairwise(first)):
        box = _listing_cell(cells[b], system.pbc)
        points = _gathered(positions[start:stop], box[~periodic], cutoff)
        reach = _listing_cutoff(points, box, periodic, cutoff)
        i, j, shift, lengths = NeighborList(cutoff=reach, full_list=True).compute(
            points=points, box=box, periodic=periodic, quantities="ijSd"
        )
        if reach > cutoff:
            i, j, shift = (a[lengths < cutoff] for a in (i, j, shift))
        sources.append(i.astype(np.int64) + start)
        targets.append(j.astype(np.int64) + start)
        shifts.append(shift.astype(np.int64))
    device = system.positions.device
    return Edges(
        *(torch.as_tensor(np.concatenate(a), device=device) for a in (sources, targets, shifts))
    )


def _listing_cell(cell: np.ndarray, pbc: tuple[bool, bool, bool]) -> np.ndarray:
    """The cell with unit normals for open vectors, as the cell list wants a full one."""
    full = cell.copy()
    for axis in range(3):
        if not pbc[axis]:
            full[axis] = 0.0
    missing = [axis for axis in range(3) if not pbc[axis]]
    if not missing:
        return full
    _, _, basis = np.linalg.svd(full)
    for axis, vector in zip(missing, basis[::-1], strict=False):
        full[axis] = vector
    return full


def _listing_cutoff(
    points: np.ndarray, box: np.ndarray, periodic: np.ndarray, cutoff: float
) -> float:
    """The cutoff, Å, or a longer one with which vesin divides long and flat spaces into few cells.

    Where there would be more than it allows it takes fewer along every direction, rounded down one
    after the other, and where that leaves none along a short one it ends the process.
    """
    normals = np.linalg.inv(box)
    extents = np.where(periodic, 1.0, np.ptp(points @ normals, axis=0))
    heights = extents / np.linalg.norm(normals, axis=0)
    reach = float(cutoff)
    while True:
        cells = np.maximum(1.0, heights // reach)
        # Four of them survive the rounding.
        if cells.prod() <= _CELLS or cells.min() * (_CELLS / cells.prod()) ** (1 / 3) > 4:
            return reach
        reach *= 1.25


def _gathered(points: np.ndarray, directions: np.ndarray, cutoff: float) -> np.ndarray:
    """The points with empty layers along open directions narrowed to two cutoffs.

    Neighbours stay neighbours, and nobody else becomes one. vesin divides space into cells; with
    an atom that was lost 10⁶ Å away there are so many that it ends the process.
    """
    for direction in directions:
        heights = points @ direction
        order = np.argsort(heights)
        excess = np.maximum(np.diff(heights[order]) - 2 * cutoff, 0.0)
        if excess.any():
            points = points.copy()
            points[order[1:]] -= np.cumsum(excess)[:, None] * direction
    return points
