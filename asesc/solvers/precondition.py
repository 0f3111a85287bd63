"""Long waves, which need most iterations: screened in a map, inverted in a quadratic form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.solvers.blocks import Blocks
from asesc.solvers.jacobian import Jacobian

if TYPE_CHECKING:
    from asesc.system import BlockLayout

#: Part of a vector that must be independent of the others.
_INDEPENDENT = 1e-6


def long_waves(depth: Tensor, *, layout: BlockLayout, n_components: int, count: int = 8) -> Tensor:
    """Neutral standing waves of charge, cos(π m z), m = 1 … ``count``: (N, M, count).

    Parameters
    ----------
    depth : Tensor, (N,)
        Position z of every atom across its structure, from 0 to 1: the normal of a slab.
    n_components : int
        M; the waves have monopoles only.
    """
    order = torch.arange(1, count + 1, dtype=depth.dtype, device=depth.device)
    padded = layout.pad(torch.cos(math.pi * depth[:, None] * order))
    inside = layout.mask[..., None].to(depth.dtype)
    mean = padded.sum(1, keepdim=True) / inside.sum(1, keepdim=True)
    waves = layout.unpad(padded - mean)
    return torch.nn.functional.pad(waves[:, None], (0, 0, 0, n_components - 1))


def long_wave_inverse(diagonal: Tensor, waves: Tensor) -> Callable[[Tensor], Tensor]:
    """r → (D + W Wᵀ)⁻¹ r for the waves in which the Coulomb operator is largest.

    By Woodbury's identity  D⁻¹ − D⁻¹ W (1 + Wᵀ D⁻¹ W)⁻¹ Wᵀ D⁻¹, symmetric positive definite however
    the atoms cluster, since the overlap of the waves is not approximated. What is left to conjugate
    gradients does not grow with the structure until waves beyond those of W are long again.

    Parameters
    ----------
    diagonal : Tensor, (n,)
        D > 0.
    waves : Tensor, (n, K)
        W, e.g. of :meth:`~asesc.electrostatics.CoulombOperator.lowk_basis`.

    Notes
    -----
    Time O(n K²) once and O(n K) per product; memory O(n K).
    """
    scaled = waves / diagonal[:, None]
    gram = torch.eye(waves.shape[1], dtype=waves.dtype, device=waves.device) + waves.T @ scaled
    factor = torch.linalg.cholesky(gram)

    def apply(r: Tensor) -> Tensor:
        inside = torch.cholesky_solve((scaled.T @ r)[:, None], factor)[:, 0]
        return r / diagonal - scaled @ inside

    return apply


def estimate_susceptibility(
    residual: Callable[[Tensor], Tensor],
    p: Tensor,
    vectors: Tensor,
    potential: Callable[[Tensor], Tensor],
    *,
    layout: BlockLayout,
) -> Tensor:
    """χ of every structure, as (N, M), from one product with the Jacobian of its map.

    Least squares of A w − w = χ (J w − ⟨J w⟩) for the charges of the sum w of the vectors: how
    much charge one volt moves. Dipoles are given none.
    """
    w = vectors.sum(-1)
    answer = (Jacobian(residual, p).apply(w) - w)[:, :1]
    with torch.no_grad():
        drive = _without_mean(layout.pad(potential(w)[:, :1]), layout)
    strength = (layout.pad(answer) * drive).sum((1, 2)) / (drive * drive).sum((1, 2))
    spread = torch.zeros_like(layout.pad(p))
    spread[..., 0] = torch.nan_to_num(strength).clamp(min=0)[:, None]
    return layout.unpad(spread)


def screening(
    vectors: Tensor,
    potential: Callable[[Tensor], Tensor],
    susceptibility: Tensor,
    *,
    layout: BlockLayout,
) -> Callable[[Tensor], Tensor]:
    """Approximate inverse P of the response 1 + χ J to slow modes of the density.

    In a metal charge sloshes: the eigenvalue of χ J that belongs to a wave of length λ grows like
    λ², and with it the number of iterations. Kerker mixing divides every plane wave by that
    eigenvalue. Here, with the waves as columns of W and Y = (1 + χ J) W,

        P = 1 − (Y − W) (Wᵀ Y)⁻¹ Wᵀ,

    which undoes the model response on the waves exactly, P Y = W, and leaves alone whatever is
    orthogonal to them. χ J drives no net charge. P only has to be near the truth: it changes the
    number of iterations, not the answer.

    Parameters
    ----------
    vectors : Tensor, (N, M, K)
        Slow modes, e.g. :func:`long_waves`.
    potential : callable
        v = J p, (N, M) → (N, M); applied K times when P is first used.
    susceptibility : Tensor, (N, M)
        Diagonal model susceptibility χ, e/V for charges; a value on the large side is safe.
    layout : BlockLayout

    References
    ----------
    G. P. Kerker, Phys. Rev. B 23, 3082 (1981), doi:10.1103/PhysRevB.23.3082.
    """
    return _Screening(vectors, potential, susceptibility, layout)


class _Screening:
    """Builds P on first use; metals only get there."""

    def __init__(
        self,
        vectors: Tensor,
        potential: Callable[[Tensor], Tensor],
        susceptibility: Tensor,
        layout: BlockLayout,
    ) -> None:
        self._vectors, self._potential = vectors.detach(), potential
        self._susceptibility, self._layout = susceptibility.detach(), layout
        self._blocks = Blocks(layout, susceptibility)
        self._parts: tuple[Tensor, Tensor] | None = None

    def __call__(self, residual: Tensor) -> Tensor:
        with torch.no_grad():
            if self._parts is None:
                self._parts = self._build()
            waves, change = self._parts
            r = self._blocks.of(residual)
            return self._blocks.rows(r - (change @ (waves.mT @ r[..., None]))[..., 0])

    def _build(self) -> tuple[Tensor, Tensor]:
        """W, orthonormal, and (Y − W)(Wᵀ Y)⁻¹, both (B, d, K)."""
        waves, answers = [], []
        for wave in self._vectors.unbind(-1):
            drive = self._layout.pad(self._potential(wave))
            weight = self._layout.pad(self._susceptibility)
            answer = weight * drive
            share = weight[..., :1] / weight[..., :1].sum(1, keepdim=True).clamp(min=1e-300)
            answer[..., :1] = answer[..., :1] - share * answer[..., :1].sum(1, keepdim=True)
            waves.append(self._blocks.of(wave))
            answers.append(answer.flatten(1))
        w, change = torch.stack(waves, -1), torch.stack(answers, -1)
        left, sizes, right = torch.linalg.svd(w, full_matrices=False)
        independent = sizes > _INDEPENDENT * sizes.amax(-1, keepdim=True)
        left = torch.where(independent[:, None], left, 0)
        change = change @ right.mT
        change = torch.where(independent[:, None], change / sizes[:, None], 0)
        gram = torch.eye(sizes.shape[-1], dtype=w.dtype, device=w.device) + left.mT @ change
        return left, torch.linalg.solve(gram, change, left=False)


def _without_mean(padded: Tensor, layout: BlockLayout) -> Tensor:
    """(B, n, 1) minus its mean over the atoms of every structure; padding zero."""
    inside = layout.mask[..., None].to(padded.dtype)
    return inside * (padded - (padded * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True))
