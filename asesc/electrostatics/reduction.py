"""Short vectors of a lattice: a mesh should not be as skewed as the cell it is given."""

from __future__ import annotations

import torch
from ase.geometry import minkowski_reduce
from torch import Tensor

# Cells of fcc and bcc have 1.22, and no reduced cell much more. Cells that are little worse are
# left as they are, so that a cell at the limit of being reduced does not change its mesh.
_SKEWED = 1.5


def short_vectors(cells: Tensor, pbc: tuple[bool, bool, bool]) -> Tensor:
    """Integer matrices T, of determinant one, with T h short and nearly orthogonal: (B, 3, 3).

    Where a cell is not very skewed, and along open axes, T is the identity.

    Parameters
    ----------
    cells : Tensor, (B, 3, 3), Å
        Rows h_a; those along open axes are not used.
    pbc : tuple of 3 bool

    References
    ----------
    P. Q. Nguyen, D. Stehlé, ACM Trans. Algorithms 5, 46 (2009), doi:10.1145/1597036.1597050.
    """
    cells = cells.detach()
    turns = torch.eye(3, dtype=cells.dtype, device=cells.device).repeat(len(cells), 1, 1)
    for b in (skewness(cells, pbc) > _SKEWED).nonzero()[:, 0].tolist():
        turns[b] = torch.as_tensor(minkowski_reduce(cells[b].cpu().numpy(), pbc=pbc)[1])
    return turns


def skewness(cells: Tensor, pbc: tuple[bool, bool, bool]) -> Tensor:
    """Largest length of a periodic cell vector over its height above the others: (B,), ≥ 1."""
    if sum(pbc) < 2:
        return cells.new_ones(len(cells))
    if sum(pbc) == 2:
        # The open direction is the normal, whatever vector the cell has there.
        axis = pbc.index(False)
        normal = torch.linalg.cross(cells[:, axis - 2], cells[:, axis - 1])
        cells = torch.where(cells.new_tensor(pbc)[:, None] > 0, cells, normal[:, None])
    faces = torch.linalg.cross(cells.roll(-1, dims=1), cells.roll(-2, dims=1))
    volume = (cells[:, :1] * faces[:, :1]).sum(-1).abs()
    lengths, areas = (torch.linalg.vector_norm(v, dim=-1) for v in (cells, faces))
    return (lengths * areas / volume).amax(-1)
