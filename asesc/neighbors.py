"""Neighbour lists as edge tensors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

from asesc.system import System


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
    """
    positions = system.positions.detach().cpu().double().numpy()
    cells = system.cell.detach().cpu().double().numpy()
    first = np.concatenate([[0], np.cumsum(system.counts.cpu().numpy())])
    calculator = NeighborList(cutoff=float(cutoff), full_list=True)
    sources, targets, shifts = [], [], []
    for b, (start, stop) in enumerate(pairwise(first)):
        box = _listing_cell(cells[b], system.pbc)
        i, j, shift = calculator.compute(
            points=_gathered(positions[start:stop], box[~np.array(system.pbc)], cutoff),
            box=box,
            periodic=np.array(system.pbc),
            quantities="ijS",
        )
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
