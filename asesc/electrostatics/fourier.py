"""A scalar field as a sum over the wave vectors of a lattice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asesc.density.grid import Grid
from asesc.electrostatics.kernels import Lattice
from asesc.electrostatics.reciprocal import phases

#: Complex numbers per piece of points × columns of wave vectors; bounds the memory.
_FACTORS = 4_000_000


@dataclass(frozen=True)
class FourierSeries:
    """f(r) = Re Σ_k f_k e^(−ik·r).

    Parameters
    ----------
    lattice : Lattice
    coefficients : Tensor, (B, C·H), complex
        f_k, doubled where −k is represented by k.
    """

    lattice: Lattice
    coefficients: Tensor

    def at(self, points: Tensor) -> Tensor:
        """Values at any points, (B, P, 3) → (B, P); time O(KP) in matrix products."""
        lattice, table = self.lattice, self._table
        pieces = []
        for some in points.split(max(1, _FACTORS // table[..., 0].numel()), dim=1):
            angles = some @ lattice.reciprocal[:, list(lattice.axes)].transpose(1, 2)
            columns = phases(-angles[..., :2] @ lattice.columns.T)
            heights = phases(-angles[..., 2:] * lattice.heights)
            pieces.append(((columns @ table) * heights).sum(-1).real)
        return torch.cat(pieces, dim=1)

    def on(self, grid: Grid) -> Tensor:
        """Values on a grid, (B, N₁, N₂, N₃); time O(K^⅓ P) where it follows the lattice."""
        turns = self.lattice.reciprocal @ grid.vectors.transpose(1, 2)
        along_edges = turns.diagonal(dim1=1, dim2=2)
        if not bool((turns - torch.diag_embed(along_edges)).abs().max() < 1e-9):
            return self.at(grid.points.flatten(1, 3)).unflatten(1, grid.shape)
        return self._separable(grid, along_edges)

    def plane_average(self, normal: Tensor) -> FourierSeries:
        """The waves along a normal (B, 3) of lattice planes: the average over these planes."""
        k = self.lattice.wave_vectors.detach()
        in_plane = k - (k * normal[:, None]).sum(-1, keepdim=True) * normal[:, None]
        flat = in_plane.square().sum(-1) < 1e-16 * self.lattice.k2.detach().amax()
        return replace(self, coefficients=self.coefficients * flat)

    @property
    def _table(self) -> Tensor:
        """f_k per column and height, (B, C, H)."""
        return self.coefficients.unflatten(1, (len(self.lattice.columns), -1))

    def _separable(self, grid: Grid, turns: Tensor) -> Tensor:
        """One matrix product per axis; ``turns`` (B, 3) are the angles b_a·h_a along the edges."""
        lattice = self.lattice
        first, second, last = lattice.axes
        start = (lattice.reciprocal @ grid.origin[..., None])[..., 0]
        # The columns inside a sphere, as a full table: heights, second index, first index.
        bounds = lattice.columns.abs().amax(0)
        index = (lattice.columns + bounds).long()
        rows, stacks = (int(2 * bound) + 1 for bound in bounds)
        table = self.coefficients.new_zeros(len(start), len(lattice.heights), stacks, rows)
        table[:, :, index[:, 1], index[:, 0]] = self._table.transpose(1, 2)
        integers = {
            last: lattice.heights,
            second: torch.arange(stacks).to(bounds) - bounds[1],
            first: torch.arange(rows).to(bounds) - bounds[0],
        }
        for axis, n in integers.items():
            angle = start[:, axis, None] + turns[:, axis, None] * grid.fractions(axis)
            waves = phases(-n[:, None] * angle[:, None])
            table = torch.einsum("bi...,bix->b...x", table, waves)
        order = [1 + (last, second, first).index(axis) for axis in range(3)]
        return table.real.permute(0, *order)
