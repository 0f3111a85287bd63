"""An approximate inverse of a Jacobian that is kept for many steps: a matrix or of low rank.

References
----------
A. M. N. Niklasson, J. Chem. Phys. 152, 104103 (2020), doi:10.1063/1.5143270 (kernels of low rank
for dynamics); C. G. Broyden, Math. Comput. 19, 577 (1965), doi:10.1090/S0025-5718-1965-0198670-6.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from asesc.solvers.jacobian import Jacobian

# An update is left out where its denominator is smaller than this cosine.
_PARALLEL = 0.1
# Krylov vectors, what they may leave of the residual they were made for, and the rank up to which
# updates are collected before the weakest are dropped.
_VECTORS, _LEFT, _RANK = 30, 1e-3, 60


class Kernel(ABC):
    """K ≈ A⁻¹ for A = ∂r/∂x of one structure; immutable."""

    #: Part of a residual that may be left by a step −K r before the kernel counts as worn out.
    worn: float

    @abstractmethod
    def apply(self, residual: Tensor, *, transposed: bool = False) -> Tensor:
        """K r or Kᵀ r, shaped like r."""

    @abstractmethod
    def _added(self, left: Tensor, right: Tensor) -> Self:
        """K + left rightᵀ."""

    def updated(self, step: Tensor, change: Tensor) -> Self:
        """Broyden's update, by which K maps the change of the residual to the step that made it.

        K + (s − K y)(sᵀ K)/(sᵀ K y), left out where s and K y are almost orthogonal.
        """
        image = self.apply(change)
        along = (step * image).sum()
        if float(along.abs()) <= _PARALLEL * float(step.norm() * image.norm()):
            return self
        return self._added((step - image) / along, self.apply(step, transposed=True))

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that :func:`kernel_from` needs to make the same one."""


@dataclass(frozen=True)
class DenseKernel(Kernel):
    """The inverse as a matrix, (d, d)."""

    matrix: Tensor
    worn = 0.2

    def apply(self, residual: Tensor, *, transposed: bool = False) -> Tensor:
        matrix = self.matrix.T if transposed else self.matrix
        return (matrix @ residual.flatten()).view_as(residual)

    def _added(self, left: Tensor, right: Tensor) -> DenseKernel:
        return DenseKernel(self.matrix + torch.outer(left.flatten(), right.flatten()))

    def tensors(self) -> dict[str, Tensor]:
        return {"matrix": self.matrix}


@dataclass(frozen=True)
class LowRankKernel(Kernel):
    """K = c 1 + Σ_j a_j b_jᵀ: a number for most directions, the inverse in the stiff ones.

    Parameters
    ----------
    scale : Tensor, ()
        c.
    left, right : Tensor, (rank, d)
        a and b.

    Notes
    -----
    O(rank d) to apply and to keep, O(rank² d) to compress.
    """

    scale: Tensor
    left: Tensor
    right: Tensor
    worn = 0.5

    def apply(self, residual: Tensor, *, transposed: bool = False) -> Tensor:
        left, right = (self.right, self.left) if transposed else (self.left, self.right)
        flat = residual.flatten()
        return (self.scale * flat + left.T @ (right @ flat)).view_as(residual)

    def _added(self, left: Tensor, right: Tensor) -> LowRankKernel:
        grown = LowRankKernel(
            self.scale,
            torch.cat([self.left, left.view(1, -1)]),
            torch.cat([self.right, right.view(1, -1)]),
        )
        return grown if len(grown.left) <= _RANK else grown._compressed(_RANK // 2)

    def _compressed(self, rank: int) -> LowRankKernel:
        """The largest singular values of the part of low rank."""
        left, triangle = torch.linalg.qr(self.left.T)
        right, other = torch.linalg.qr(self.right.T)
        u, s, v = torch.linalg.svd(triangle @ other.T)
        return LowRankKernel(
            self.scale, (left @ u[:, :rank] * s[:rank]).T.contiguous(), v[:rank] @ right.T
        )

    def tensors(self) -> dict[str, Tensor]:
        return {"scale": self.scale, "left": self.left, "right": self.right}


def krylov_kernel(jacobian: Jacobian, seed: Tensor) -> LowRankKernel:
    """The inverse of A within the Krylov space of a residual, a number beyond it.

    With Arnoldi's basis Q of m vectors and H = Qᵀ A Q,

        K = Q H⁻¹ Qᵀ + c (1 − Q Qᵀ),   c = 1/min_j H_jj, at most 1,

    which transposes into the same for Aᵀ, so that it serves density and adjoint alike. The extreme
    eigenvalues of A, those of charge that sloshes, are in Q first; the smallest H_jj is near those
    of all other directions, which are about 1 where r = x − F(x). The space grows until 0.1 % of
    the seed would be left: a few vectors for a gentle map, 30 at most for a metal.

    Parameters
    ----------
    seed : Tensor
        A residual that steps will leave, shaped like x; of any size but zero.
    """
    flat = seed.flatten()
    basis = [flat / flat.norm()]
    hessenberg = flat.new_zeros(_VECTORS, _VECTORS)
    for m in range(1, _VECTORS + 1):
        rows = torch.stack(basis)
        vector = jacobian.apply(basis[-1].view_as(seed)).flatten()
        size = vector.norm()
        for _ in range(2):  # once is not enough where vectors are almost parallel
            overlap = rows @ vector
            hessenberg[:m, m - 1] += overlap
            vector = vector - overlap @ rows
        rest = vector.norm()
        inverse = torch.linalg.inv(hessenberg[:m, :m])
        left = rest * inverse[-1, 0].abs()  # of a seed of norm 1
        if m == _VECTORS or float(left) < _LEFT or float(rest) <= 1e-12 * float(size):
            break
        basis.append(vector / rest)
        hessenberg[m, m - 1] = rest
    scale = (1 / hessenberg.diagonal()[:m].abs().min()).clamp(max=1.0)
    return LowRankKernel(scale, inverse.T @ rows - scale * rows, rows)


def kernel_from(tensors: dict[str, Tensor]) -> Kernel | None:
    """What :meth:`Kernel.tensors` gave; None for nothing."""
    if not tensors:
        return None
    return DenseKernel(**tensors) if "matrix" in tensors else LowRankKernel(**tensors)
