"""Coulomb operator of an isolated system by explicit pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.gaussian import pair_interaction
from asesc.electrostatics.operator import CoulombOperator
from asesc.system import System


class DirectCoulomb(CoulombOperator):
    """All pairs of every structure, self-interaction included; open boundary.

    Exact to rounding. Time and memory O(n²M²) per structure: meant for molecules and clusters.
    """

    def __init__(self, system: System, basis: GaussianBasis) -> None:
        super().__init__(system, basis)
        layout = system.layout
        positions = layout.pad(system.positions)
        # Padded rows get a width of 1 Å so that they stay finite; they are masked below.
        width2 = torch.where(layout.mask, layout.pad(basis.widths) ** 2, 1.0)
        separation = positions[:, :, None] - positions[:, None]
        blocks = pair_interaction(separation, width2[:, :, None] + width2[:, None], basis.lmax)
        if not layout.full:
            pairs = layout.mask[:, :, None] & layout.mask[:, None]
            blocks = blocks * pairs[..., None, None]
        n_structures, n = layout.shape
        rows = n * basis.n_components
        self._blocks = blocks.transpose(2, 3).reshape(n_structures, rows, rows)

    def potential(self, coefficients: Tensor) -> Tensor:
        layout = self.system.layout
        p = layout.pad(coefficients)
        v = self._blocks @ p.reshape(len(p), -1, 1)
        return layout.unpad(v.reshape(p.shape))

    def dense(self) -> Tensor:
        return self._blocks
