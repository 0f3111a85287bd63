"""Pairs of steps and residual changes: what Anderson mixing and Krylov methods have in common."""

from __future__ import annotations

import torch
from torch import Tensor

#: Part of a residual change that must be new for the pair to be kept.
_NEW = 1e-10


class Subspace:
    """Pairs (z_j, q_j) with A z_j = q_j and orthonormal q_j, one set per structure.

    A is a Jacobian, known through exact products (generalised conjugate residuals) or through
    differences of residuals (Anderson mixing). The best point in the affine space of the steps is
    then reached without a least-squares problem,

        r̄ = r − Σ_j q_j ⟨q_j, r⟩,   x̄ = x − Σ_j z_j ⟨q_j, r⟩,

    which minimises |r̄|. Structures are rows: (B, d); a pair of zeros does nothing, so that
    structures may fall out one by one.

    Parameters
    ----------
    depth : int
        Pairs kept; the oldest is dropped first.

    References
    ----------
    H. He, Z. Tang, S. Zhao, Y. Saad, Y. Xi, SIAM J. Matrix Anal. Appl. 45, 712 (2024),
    doi:10.1137/22M1529476 (nonlinear truncated generalised conjugate residuals).
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._steps: Tensor | None = None
        self._images: Tensor | None = None

    def add(self, step: Tensor, image: Tensor) -> Tensor:
        """Append a pair, both (B, d), after orthogonalisation; the new q, (B, d)."""
        size = torch.linalg.vector_norm(image, dim=-1, keepdim=True)
        for _ in range(2):  # the second pass removes what rounding left of the first
            step, image = self.project(step, image)
        norm = torch.linalg.vector_norm(image, dim=-1, keepdim=True)
        scale = torch.where(norm > _NEW * size, 1 / norm, 0)
        step, image = (torch.where(scale > 0, v * scale, 0)[:, None] for v in (step, image))
        if self._steps is None or self._images is None:
            self._steps, self._images = step, image
        else:
            kept = slice(max(0, self._steps.shape[1] + 1 - self._depth), None)
            self._steps = torch.cat([self._steps[:, kept], step], dim=1)
            self._images = torch.cat([self._images[:, kept], image], dim=1)
        return image[:, 0]

    def forget(self, which: Tensor) -> None:
        """Drop the pairs of the structures where ``which`` (B,) is True."""
        if self._steps is not None and self._images is not None:
            keep = (~which)[:, None, None]
            self._steps = torch.where(keep, self._steps, 0)
            self._images = torch.where(keep, self._images, 0)

    def project(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """The point x̄ of least residual and its predicted residual r̄, both (B, d)."""
        if self._steps is None or self._images is None:
            return x, residual
        overlap = torch.einsum("bkd,bd->bk", self._images, residual)
        x = x - torch.einsum("bk,bkd->bd", overlap, self._steps)
        return x, residual - torch.einsum("bk,bkd->bd", overlap, self._images)

    def precondition(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Approximate A⁻¹ r where the pairs know it, and the rest of r they know nothing of."""
        opposite, rest = self.project(torch.zeros_like(residual), residual)
        return -opposite, rest
