"""Coulomb operator of an isolated system by explicit pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.gaussian import pair_interaction
from asesc.electrostatics.operator import CoulombOperator, Receivers, require_wider
from asesc.system import BlockLayout, System


class DirectCoulomb(CoulombOperator):
    """All pairs of every structure, self-interaction included; open boundary.

    Exact to rounding. Time and memory O(n²M²) per structure: meant for molecules and clusters.
    """

    def __init__(self, system: System, basis: GaussianBasis) -> None:
        super().__init__(system, basis)
        self._blocks = _pair_blocks(system, basis, 1.0)

    def potential(self, coefficients: Tensor) -> Tensor:
        layout = self.system.layout
        p = layout.pad(coefficients)
        v = self._blocks @ p.reshape(len(p), -1, 1)
        return layout.unpad(v.reshape(p.shape))

    def dense(self) -> Tensor:
        return self._blocks

    def receivers(self, factors: Sequence[float]) -> Receivers:
        blocks = [
            self._blocks if factor == 1 else _pair_blocks(self.system, self.basis, factor)
            for factor in require_wider(factors)
        ]
        return _DirectReceivers(self.system.layout, torch.stack(blocks, dim=1))


class _DirectReceivers(Receivers):
    """One dense block per width, (B, W, n·M, n·M)."""

    def __init__(self, layout: BlockLayout, blocks: Tensor) -> None:
        self._layout, self._blocks = layout, blocks

    def potential(self, coefficients: Tensor) -> Tensor:
        p = self._layout.pad(coefficients)
        u = self._blocks @ p.reshape(len(p), 1, -1, 1)
        return self._layout.unpad(u.reshape(len(p), -1, *p.shape[1:]).transpose(1, 2))

    def dense(self) -> Tensor:
        return self._blocks


def _pair_blocks(system: System, basis: GaussianBasis, factor: float) -> Tensor:
    """Interaction of receivers ``factor`` times as wide as the density with it, (B, n·M, n·M)."""
    layout = system.layout
    positions = layout.pad(system.positions)
    # Padded rows get a width of 1 Å so that they stay finite; they are masked below.
    width2 = torch.where(layout.mask, layout.pad(basis.widths) ** 2, 1.0)
    separation = positions[:, :, None] - positions[:, None]
    total = factor**2 * width2[:, :, None] + width2[:, None]
    blocks = pair_interaction(separation, total, basis.lmax)
    if not layout.full:
        pairs = layout.mask[:, :, None] & layout.mask[:, None]
        blocks = blocks * pairs[..., None, None]
    n_structures, n = layout.shape
    rows = n * basis.n_components
    return blocks.transpose(2, 3).reshape(n_structures, rows, rows)
