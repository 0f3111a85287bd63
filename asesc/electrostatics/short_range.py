"""Short-range pairs: what narrow Gaussians have beyond the wider ones that a mesh carries.

A mesh fine enough for Gaussians of 0.3 Å would be mostly empty. Atoms narrower than a chosen width
σ_m are therefore put on the mesh with that width, σ̃ = max(σ, σ_m), and the difference

    k_e [erf(r/√(2γ²)) − erf(r/√(2γ̃²))]/r,    γ² = σ_i² + σ_j²,

and its derivatives for multipoles, is added for the pairs near each other: it decays like
erfc(r/√(2γ̃²)). In a charged cell the mean of the difference, which the mesh leaves out with k = 0,
is a background −2πk_e (γ̃² − γ²) q_i q_j/V.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.density.harmonics import n_components
from asesc.electrostatics.accuracy import spectral_fraction
from asesc.electrostatics.gaussian import hermite_coulomb, pair_interaction, pair_matrix
from asesc.electrostatics.mesh import dense_columns
from asesc.electrostatics.operator import CoulombOperator, Receivers, require_wider
from asesc.electrostatics.stencil import derivative_terms, raised_terms
from asesc.neighbors import Edges, find_edges
from asesc.system import System
from asesc.units import COULOMB

_STRIP = 2**15  # pairs whose intermediate numbers are in memory together


class ShortRangeCoulomb(CoulombOperator):
    """J of narrow Gaussians minus J of the mesh's wider ones, as a sparse matrix of pairs.

    Parameters
    ----------
    mesh_basis : GaussianBasis
        The widths σ̃ ≥ σ on the mesh.
    accuracy : float
        Pairs are left out where less than :func:`~.accuracy.spectral_fraction` of the interaction
        remains, so that one crossing the limit is not felt.

    Notes
    -----
    Time and memory O(N M² n) with n pairs per atom, ∝ σ̃³ and the density.
    """

    def __init__(
        self, system: System, basis: GaussianBasis, *, mesh_basis: GaussianBasis, accuracy: float
    ) -> None:
        super().__init__(system, basis)
        self._wide, self._accuracy = mesh_basis.widths, accuracy
        edges = self._near(1.0)
        once = edges.source < edges.target
        same = edges.source == edges.target
        # Of an atom and its own images one of each opposite pair, the first nonzero shift positive.
        leading = edges.shifts @ edges.shifts.new_tensor([1e12, 1e6, 1.0])
        self._edges = _selected(edges, once | (same & (leading > 0)))
        self._blocks = self._pair_blocks(self._edges, 1.0)
        self._own = self._self_blocks(1.0)
        self._spill = _spill(system, self._wide**2 - basis.widths**2)

    def potential(self, coefficients: Tensor) -> Tensor:
        i, j = self._edges.source, self._edges.target
        to_i = (self._blocks @ coefficients[j, :, None])[..., 0]
        to_j = (self._blocks.transpose(1, 2) @ coefficients[i, :, None])[..., 0]
        own = (self._own @ coefficients[:, :, None])[..., 0]
        v = own.index_add(0, i, to_i).index_add(0, j, to_j)
        if self._spill is None:
            return v
        return v + self._background(coefficients, self._spill, self._spill)

    def dense(self) -> Tensor:
        return dense_columns(self, self.potential)

    def receivers(self, factors: Sequence[float]) -> Receivers:
        return _ShortRangeReceivers(self, require_wider(factors))

    def directed(self, factor: float) -> Callable[[Tensor], Tensor]:
        """p → (N, M) as received by Gaussians ``factor`` times as wide."""
        edges = self._near(factor)
        blocks, own = self._pair_blocks(edges, factor), self._self_blocks(factor)

        def apply(coefficients: Tensor) -> Tensor:
            received = (blocks @ coefficients[edges.target, :, None])[..., 0]
            v = (own @ coefficients[:, :, None])[..., 0].index_add(0, edges.source, received)
            if self._spill is None:
                return v
            return v + self._background(coefficients, factor**2 * self._spill, self._spill)

        return apply

    def _near(self, factor: float) -> Edges:
        """Directed pairs of which at least one atom is narrower than on the mesh."""
        decay = math.sqrt(-2 * math.log(spectral_fraction(self._accuracy)))
        narrow = self._wide > self.basis.widths
        widest = math.hypot(factor, 1.0) * float(self._wide.max())
        edges = find_edges(self.system, decay * widest)
        i, j = edges.source, edges.target
        reach = decay * torch.sqrt((factor * self._wide[i]) ** 2 + self._wide[j] ** 2)
        distance = torch.linalg.vector_norm(edges.vectors(self.system).detach(), dim=-1)
        return _selected(edges, (narrow[i] | narrow[j]) & (distance < reach))

    def _pair_blocks(self, edges: Edges, factor: float) -> Tensor:
        """What atoms i, ``factor`` times as wide, receive from atoms j: (E, M, M)."""
        i, j = edges.source, edges.target
        narrow2, wide2 = (
            (factor * widths[i]) ** 2 + widths[j] ** 2 for widths in (self.basis.widths, self._wide)
        )
        terms = derivative_terms(2 * self.basis.lmax)
        values = _Difference.apply(-edges.vectors(self.system), narrow2, wide2, 2 * self.basis.lmax)
        blocks = values @ pair_matrix(self.basis.lmax, terms).to(values)
        m = n_components(self.basis.lmax)
        return blocks.unflatten(-1, (m, m))

    def _self_blocks(self, factor: float) -> Tensor:
        """The difference at distance zero, (N, M, M)."""
        zero = self.basis.widths.new_zeros(len(self.basis.widths), 3)
        narrow, wide = (
            pair_interaction(zero, (1 + factor**2) * widths**2, self.basis.lmax)
            for widths in (self.basis.widths, self._wide)
        )
        return narrow - wide

    def _background(self, coefficients: Tensor, seen: Tensor, given: Tensor) -> Tensor:
        charges, batch = coefficients[:, 0], self.system.batch
        total = seen * self.system.sum(charges)[batch] + self.system.sum(given * charges)[batch]
        return torch.nn.functional.pad(total[:, None], (0, coefficients.shape[1] - 1))


class _ShortRangeReceivers(Receivers):
    """The same difference for wider receivers, by directed pairs."""

    def __init__(self, operator: ShortRangeCoulomb, factors: Sequence[float]) -> None:
        self._operator = operator
        self._maps = [operator.directed(factor) for factor in factors]

    def potential(self, coefficients: Tensor) -> Tensor:
        return torch.stack([apply(coefficients) for apply in self._maps], dim=1)

    def dense(self) -> Tensor:
        return dense_columns(self._operator, self.potential)


class _Difference(torch.autograd.Function):
    """∂^t k_e [erf(r/√(2γ²)) − erf(r/√(2γ̃²))]/r; its derivative is the same of a higher order."""

    @staticmethod
    def forward(ctx: Any, separation: Tensor, narrow2: Tensor, wide2: Tensor, order: int) -> Tensor:
        ctx.save_for_backward(separation, narrow2, wide2)
        ctx.order = order
        terms = derivative_terms(order)
        out = separation.new_empty(len(separation), len(terms))
        for start in range(0, len(out), _STRIP):
            some = slice(start, start + _STRIP)
            narrow, wide = (
                hermite_coulomb(separation[some], 0.5 / width2[some], order)
                for width2 in (narrow2, wide2)
            )
            for column, term in enumerate(terms):
                torch.sub(narrow[term], wide[term], out=out[some, column])
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        separation, narrow2, wide2 = ctx.saved_tensors
        higher = _Difference.apply(separation, narrow2, wide2, ctx.order + 1)
        raised = torch.tensor(raised_terms(ctx.order), device=gradient.device)
        return torch.einsum("et,etd->ed", gradient, higher[:, raised]), None, None, None


def _spill(system: System, excess: Tensor) -> Tensor | None:
    """−2πk_e (σ̃² − σ²)/V of every atom where all directions repeat, (N,), V/e."""
    if not all(system.pbc):
        return None
    return -2 * math.pi * COULOMB * excess / system.volume[system.batch]


def _selected(edges: Edges, keep: Tensor) -> Edges:
    return Edges(edges.source[keep], edges.target[keep], edges.shifts[keep])
