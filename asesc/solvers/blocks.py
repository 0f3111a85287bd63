"""Rows of all structures and blocks of one row per structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from asesc.system import BlockLayout


class Blocks:
    """Converts unknowns (N, M) to (B, d), d = n·M, where every structure is one row.

    Sums over a structure are then sums over the last axis, and structures cannot mix. Padding is
    zero in vectors and the identity in matrices.

    Parameters
    ----------
    layout : BlockLayout
    like : Tensor, (N, M)
        Gives M and the type.
    """

    def __init__(self, layout: BlockLayout, like: Tensor) -> None:
        self._layout = layout
        with torch.no_grad():
            self._padding = self.of(torch.ones_like(like)) == 0

    @property
    def dimension(self) -> int:
        """Unknowns d of the largest structure."""
        return self._padding.shape[1]

    def of(self, rows: Tensor) -> Tensor:
        """(N, M) → (B, d)."""
        return self._layout.pad(rows).flatten(1)

    def rows(self, blocks: Tensor) -> Tensor:
        """(B, d) → (N, M)."""
        return self._layout.unpad(blocks.reshape(*self._layout.shape, -1))

    def matrix(self, blocks: Tensor) -> Tensor:
        """Matrices (B, d, d) with rows and columns of padding replaced by those of the identity."""
        outside = self._padding[:, :, None] | self._padding[:, None, :]
        return torch.where(outside, 0, blocks) + torch.diag_embed(self._padding.to(blocks.dtype))
