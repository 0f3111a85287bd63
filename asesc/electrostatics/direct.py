"""Coulomb operator of an isolated system by explicit pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from asesc.density import GaussianBasis
from asesc.electrostatics.gaussian import pair_interaction
from asesc.electrostatics.operator import CoulombOperator, Receivers, require_wider
from asesc.memory import require_memory
from asesc.system import BlockLayout, System


class DirectCoulomb(CoulombOperator):
    """All pairs of every structure, self-interaction included; open boundary.

    Exact to rounding. Time and memory O(n²M²) per structure: meant for molecules and clusters.
    Energy and forces of 2000 atoms with dipoles take 1.5 GB and a few seconds.
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
    """Interaction of receivers ``factor`` times as wide as the density with it, (B, n·M, n·M).

    Made in strips of rows that fit into a processor's cache; of a symmetric matrix only what is
    right of the diagonal. Strips of large structures are made again in the backward pass.
    """
    layout = system.layout
    n_structures, n = layout.shape
    require_memory(
        layout,
        basis.n_components,
        system.positions.device,
        matrices=3,
        purpose="the Coulomb interaction of all pairs",
        advice="Use boundary='open-reciprocal', which forms no pairs, or fewer structures at once",
    )
    positions = layout.pad(system.positions)
    # Padded rows get a width of 1 Å so that they stay finite; their interactions are masked.
    width2 = torch.where(layout.mask, layout.pad(basis.widths) ** 2, 1.0)
    is_symmetric = factor == 1
    recompute = n_structures * n * n > _KEPT_PAIRS
    strips = []
    for first, last in pairwise(_cuts(n_structures, n, is_symmetric)):
        rows, columns = slice(first, last), slice(first if is_symmetric else 0, None)
        arguments = (positions, width2, layout, rows, columns, factor, basis.lmax)
        strips.append(_recomputed(*arguments) if recompute else _strip(*arguments))
    return _Mirrored.apply(*strips) if is_symmetric else torch.cat(strips, dim=1)


#: Pairs in one strip, and in all structures before intermediate numbers are no longer kept.
_STRIP_PAIRS = 2**14
_KEPT_PAIRS = 500_000


def _cuts(n_structures: int, n: int, is_symmetric: bool) -> list[int]:
    """Rows where strips begin and the last one ends; a mirrored strip gets shorter and higher."""
    cuts = [0]
    while cuts[-1] < n:
        length = n_structures * (n - cuts[-1] if is_symmetric else n)
        cuts.append(min(n, cuts[-1] + max(1, _STRIP_PAIRS // length)))
    return cuts


def _strip(
    positions: Tensor,
    width2: Tensor,
    layout: BlockLayout,
    rows: slice,
    columns: slice,
    factor: float,
    lmax: int,
) -> Tensor:
    """Interaction of the atoms of some rows with those of some columns, (B, r·M, c·M)."""
    separation = positions[:, rows, None] - positions[:, None, columns]
    total = factor**2 * width2[:, rows, None] + width2[:, None, columns]
    blocks = pair_interaction(separation, total, lmax)
    if not layout.full:
        pairs = layout.mask[:, rows, None] & layout.mask[:, None, columns]
        blocks = blocks * pairs[..., None, None]
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


def _recomputed(*arguments: Any) -> Tensor:
    """A strip of which only the result is kept; differentiable to any order as well."""
    return checkpoint(_strip, *arguments, use_reentrant=False, preserve_rng_state=False)


class _Mirrored(torch.autograd.Function):
    """A symmetric matrix from strips of rows that begin at the diagonal."""

    @staticmethod
    def forward(ctx: Any, *strips: Tensor) -> Tensor:
        size = strips[0].shape[-1]
        matrix = strips[0].new_empty(len(strips[0]), size, size)
        ctx.heights = [strip.shape[1] for strip in strips]
        first = 0
        for strip, height in zip(strips, ctx.heights, strict=True):
            last = first + height
            matrix[:, first:last, first:] = strip
            matrix[:, last:, first:last] = strip[:, :, height:].transpose(1, 2)
            first = last
        return matrix

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        gradients, first = [], 0
        for height in ctx.heights:
            last = first + height
            mirrored = gradient[:, last:, first:last].transpose(1, 2)
            beyond = gradient[:, first:last, last:] + mirrored
            gradients.append(torch.cat([gradient[:, first:last, first:last], beyond], dim=-1))
            first = last
        return tuple(gradients)
