"""How strongly a self-consistency map answers to itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.solvers.blocks import Blocks
from asesc.solvers.jacobian import Jacobian

if TYPE_CHECKING:
    from asesc.system import BlockLayout


def spectral_radius(
    residual: Callable[[Tensor], Tensor],
    p: Tensor,
    *,
    layout: BlockLayout,
    iterations: int = 15,
) -> Tensor:
    """Largest |eigenvalue| of ∂F/∂p for r = p − F(p), per structure, (B,); differentiable.

    Plain iteration of p ← F(p) converges where it is below 1; mixing, Krylov methods and one-map
    dynamics all get dearer as it grows, so that ``penalty = relu(ρ − ρ₀)²`` is a useful term of a
    loss. Two right and two left vectors are iterated without graph, so that a complex pair or
    ±λ is found too, and one bilinear form

        T = (WᵀV)⁻¹ Wᵀ (∂F/∂p) V,   ρ = max |eig T|

    carries the graph: exact to first order in the parameters once the iteration has converged, an
    estimate before.

    Parameters
    ----------
    residual : callable
        (N, M) → (N, M), three times differentiable if ρ is differentiated.
    p : Tensor, (N, M)
        Converged density; if it carries a graph, ρ follows it.
    iterations : int
        Each costs two products with the Jacobian and two with its transpose, about six maps.
    """
    blocks = Blocks(layout, p)
    jacobian = Jacobian(residual, p)
    right = _iterate(lambda v: v - _on_blocks(jacobian.apply, blocks, v), blocks, p, iterations)
    left = _iterate(
        lambda v: v - _on_blocks(jacobian.apply_transposed, blocks, v), blocks, p, iterations
    )
    with torch.enable_grad():
        point = p if p.requires_grad else p.detach().requires_grad_()
        value = residual(point)
        rows = []
        for w in left.unbind(1):
            (pulled,) = torch.autograd.grad(value, point, blocks.rows(w), create_graph=True)
            rows.append(torch.einsum("bd,bkd->bk", w - blocks.of(pulled), right))
        form = torch.stack(rows, dim=1)
        overlap = torch.einsum("bkd,bld->bkl", left, right)
        return _largest_eigenvalue(torch.linalg.pinv(overlap, rtol=1e-10) @ form)


def _iterate(
    apply: Callable[[Tensor], Tensor], blocks: Blocks, p: Tensor, iterations: int
) -> Tensor:
    """Two orthonormal vectors per structure in the dominant subspace, (B, 2, d)."""
    generator = torch.Generator().manual_seed(0)
    seed = torch.randn(blocks.dimension, 2, generator=generator, dtype=torch.float64).T
    like = blocks.of(p.detach())
    vectors = seed.to(like).expand(len(like), 2, -1)
    with torch.no_grad():
        for _ in range(iterations):
            images = torch.stack([blocks.of(blocks.rows(v)) for v in vectors.unbind(1)], 1)
            images = torch.stack([apply(v) for v in images.unbind(1)], dim=1)
            vectors = torch.linalg.qr(images.mT)[0].mT
    return vectors


def _on_blocks(product: Callable[[Tensor], Tensor], blocks: Blocks, vector: Tensor) -> Tensor:
    return blocks.of(product(blocks.rows(vector)))


def _largest_eigenvalue(matrix: Tensor) -> Tensor:
    """max |eig| of 2 × 2 matrices from trace and determinant, (B, 2, 2) → (B,)."""
    half = 0.5 * matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    determinant = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
    gap = half**2 - determinant
    # The square roots have no derivative at zero: the unused branch is kept away from it.
    real = half.abs() + torch.where(gap > 0, gap, 1.0).sqrt()
    pair = torch.where(gap > 0, 1.0, determinant).clamp(min=1e-300).sqrt()
    return torch.where(gap > 0, real, pair)
