"""Coulomb operator of an isolated system by explicit pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from asesc.density import GaussianBasis
from asesc.density.harmonics import n_components
from asesc.electrostatics.gaussian import pair_interaction
from asesc.electrostatics.operator import CoulombOperator, Receivers, require_wider
from asesc.electrostatics.pair_sums import bilinear_gradient, cuts, pair_sums
from asesc.memory import require_memory
from asesc.system import BlockLayout, System


@dataclass(frozen=True)
class _Geometry:
    """Positions (B, n, 3) and squared widths (B, n) in padded rows, and the basis on them."""

    positions: Tensor
    width2: Tensor
    layout: BlockLayout
    lmax: int

    @property
    def requires_grad(self) -> bool:
        """Whether the matrix has a graph."""
        return self.positions.requires_grad or self.width2.requires_grad

    @property
    def has_sums(self) -> bool:
        """Whether :func:`~asesc.electrostatics.pair_sums.pair_sums` knows this case."""
        return self.lmax <= 1 and not self.width2.requires_grad


#: Applications that are summed pair by pair; more of them are worth a matrix.
_FEW = 3


class DirectCoulomb(CoulombOperator):
    """All pairs of every structure, self-interaction included; open boundary.

    Exact to rounding. Energies, forces and a few applications take O(n²) time and O(n) memory per
    structure. The matrix, O(n²M²), is made where :meth:`dense` or many applications ask for it, and
    for second derivatives. See :mod:`~asesc.electrostatics.pair_sums`.
    """

    def __init__(self, system: System, basis: GaussianBasis) -> None:
        super().__init__(system, basis)
        layout = system.layout
        # Padded rows get a width of 1 Å so that they stay finite; their interactions are masked.
        width2 = torch.where(layout.mask, layout.pad(basis.widths) ** 2, 1.0)
        self._geometry = _Geometry(layout.pad(system.positions), width2, layout, basis.lmax)
        self._blocks: Tensor | None = None
        self._n_applied = 0

    def potential(self, coefficients: Tensor) -> Tensor:
        geometry, layout = self._geometry, self.system.layout
        p = layout.pad(coefficients)
        if not geometry.has_sums:
            return layout.unpad(_product(self.dense(), p))
        return layout.unpad(_Potential.apply(p, geometry.positions, self))

    def energy(self, coefficients: Tensor) -> Tensor:
        if not self._geometry.has_sums:
            return super().energy(coefficients)
        p = self.system.layout.pad(coefficients)
        return _Energy.apply(p, self._geometry.positions, self)

    def dense(self) -> Tensor:
        is_wanted = torch.is_grad_enabled() and self._geometry.requires_grad
        if self._blocks is None or (is_wanted and not self._blocks.requires_grad):
            self._blocks = _pair_blocks(self._geometry, 1.0)
        return self._blocks if is_wanted else self._blocks.detach()

    def receivers(self, factors: Sequence[float]) -> Receivers:
        blocks = [
            self.dense() if factor == 1 else _pair_blocks(self._geometry, factor)
            for factor in require_wider(factors)
        ]
        return _DirectReceivers(self.system.layout, torch.stack(blocks, dim=1))

    def applied(self, p: Tensor) -> Tensor:
        """J p of padded coefficients, (B, n, M), without graph."""
        self._n_applied += 1
        with torch.no_grad():
            if self._blocks is not None or self._n_applied > _FEW:
                return _product(self.dense(), p)
            return self.sums(p)[0]

    def sums(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """J p and ∂(½ p·J p)/∂r of padded coefficients, without graph."""
        geometry = self._geometry
        return pair_sums(geometry.positions, geometry.width2, self.system.counts, p)

    def slope(self, positions: Tensor, u: Tensor, p: Tensor) -> Tensor:
        """∂(u·J p)/∂r, (B, n, 3); with graph where a second derivative will be asked for."""
        geometry = self._geometry
        if not torch.is_grad_enabled():
            return bilinear_gradient(positions, geometry.width2, self.system.counts, u, p)
        # At fixed u and p, which may depend on the positions themselves: through a view of its own.
        here = positions.view_as(positions)
        blocks = _pair_blocks(replace(geometry, positions=here), 1.0)
        energy = (u * _product(blocks, p)).sum()
        return torch.autograd.grad(energy, here, create_graph=True)[0]


class _Potential(torch.autograd.Function):
    """J p of padded coefficients."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, positions: Tensor, operator: DirectCoulomb) -> Tensor:
        ctx.save_for_backward(p, positions)
        ctx.operator = operator
        return operator.applied(p)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        p, positions = ctx.saved_tensors
        on_p = on_positions = None
        if ctx.needs_input_grad[0]:  # J is symmetric
            on_p = _Potential.apply(u, positions, ctx.operator)
        if ctx.needs_input_grad[1]:
            on_positions = ctx.operator.slope(positions, u, p)
        return on_p, on_positions, None


class _Energy(torch.autograd.Function):
    """½ p·J p of every structure: one sum over pairs serves energy and gradients."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, positions: Tensor, operator: DirectCoulomb) -> Tensor:
        potential, gradient = operator.sums(p)
        ctx.save_for_backward(p, positions)
        ctx.operator, ctx.potential, ctx.gradient = operator, potential, gradient
        return 0.5 * (p * potential).sum((1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        p, positions = ctx.saved_tensors
        scale = gradient[:, None, None]
        if not torch.is_grad_enabled():
            return scale * ctx.potential, scale * ctx.gradient, None
        potential = _Potential.apply(p, positions, ctx.operator)
        on_positions = None
        if ctx.needs_input_grad[1]:
            on_positions = ctx.operator.slope(positions, 0.5 * scale * p, p)
        return scale * potential, on_positions, None


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


def _product(blocks: Tensor, p: Tensor) -> Tensor:
    """Blocks (B, n·M, n·M) times padded rows (B, n, M)."""
    return (blocks @ p.reshape(len(p), -1, 1)).reshape(p.shape)


def _pair_blocks(geometry: _Geometry, factor: float) -> Tensor:
    """Interaction of receivers ``factor`` times as wide as the density with it, (B, n·M, n·M).

    Made in strips of rows that fit into a processor's cache; of a symmetric matrix only what is
    right of the diagonal. Strips of large structures are made again in the backward pass.
    """
    positions, width2, layout, lmax = (
        geometry.positions,
        geometry.width2,
        geometry.layout,
        geometry.lmax,
    )
    n_structures, n = layout.shape
    require_memory(
        layout,
        n_components(lmax),
        positions.device,
        matrices=3,
        purpose="the Coulomb interaction of all pairs",
        advice="Use boundary='open-reciprocal', which forms no pairs, or fewer structures at once",
    )
    is_symmetric = factor == 1
    recompute = n_structures * n * n > _KEPT_PAIRS
    strips = []
    for first, last in pairwise(cuts(n_structures, n, is_symmetric=is_symmetric)):
        rows, columns = slice(first, last), slice(first if is_symmetric else 0, None)
        arguments = (positions, width2, layout, rows, columns, factor, lmax)
        strips.append(_recomputed(*arguments) if recompute else _strip(*arguments))
    return _Mirrored.apply(*strips) if is_symmetric else torch.cat(strips, dim=1)


#: Pairs in all structures before intermediate numbers are no longer kept.
_KEPT_PAIRS = 500_000


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
