"""An approximate inverse of a Jacobian that is kept for many steps: a matrix or of low rank.

References
----------
A. M. N. Niklasson, J. Chem. Phys. 152, 104103 (2020), doi:10.1063/1.5143270 (kernels of low rank
for dynamics); C. G. Broyden, Math. Comput. 19, 577 (1965), doi:10.1090/S0025-5718-1965-0198670-6.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from asesc.solvers.jacobian import Jacobian

# Broyden's update is left out where its denominator is smaller than this cosine.
_PARALLEL = 0.1
# Krylov vectors, and what they may leave of the residual they were made for.
_VECTORS, _LEFT = 30, 1e-6


class Kernel(ABC):
    """K ≈ A⁻¹ for A = ∂r/∂x of one structure; immutable."""

    #: Part of a residual that may be left by a step −K r before the kernel counts as worn out.
    worn: float
    #: Steps for which it is kept even so.
    least_age: int = 0

    @abstractmethod
    def apply(self, residual: Tensor, *, transposed: bool = False) -> Tensor:
        """K r or Kᵀ r, shaped like r."""

    def updated(self, step: Tensor, change: Tensor) -> Kernel:
        """What a step and the change of the residual that it made teach; here nothing."""
        return self

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

    def updated(self, step: Tensor, change: Tensor) -> DenseKernel:
        """Broyden's update, K + (s − K y)(sᵀ K)/(sᵀ K y), by which K maps the change y to the step.

        Left out where s and K y are almost orthogonal.
        """
        s, y = step.flatten(), change.flatten()
        image = self.matrix @ y
        along = s @ image
        if float(along.abs()) <= _PARALLEL * float(s.norm() * image.norm()):
            return self
        return DenseKernel(self.matrix + torch.outer(s - image, s @ self.matrix) / along)

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
    O(rank d) to apply and to keep. Steps do not improve it: a few dozen of them say too little of
    the many directions of a large structure, and updates by noise were found to spoil it.
    """

    scale: Tensor
    left: Tensor
    right: Tensor
    worn = 0.8
    least_age = 20

    def apply(self, residual: Tensor, *, transposed: bool = False) -> Tensor:
        left, right = (self.right, self.left) if transposed else (self.left, self.right)
        flat = residual.flatten()
        return (self.scale * flat + left.T @ (right @ flat)).view_as(residual)

    def tensors(self) -> dict[str, Tensor]:
        return {"scale": self.scale, "left": self.left, "right": self.right}


def krylov_kernel(jacobian: Jacobian, seed: Tensor) -> LowRankKernel:
    """The inverse of A within the Krylov space of a residual, a number beyond it.

    With Arnoldi's basis Q of m vectors and H = Qᵀ A Q,

        K = Q H⁻¹ Qᵀ + c (1 − Q Qᵀ),   c = 1/H_11,

    which transposes into the same for Aᵀ, so that it serves density and adjoint alike. The extreme
    eigenvalues of A, those of charge that sloshes, are in Q first; H_11 is the mean of the others,
    as often as they occur in residuals like the seed. The space grows until 1e-6 of the seed would
    be left: a dozen vectors for a gentle map, 30 at most for a metal.

    Parameters
    ----------
    seed : Tensor
        A residual of the kind that steps will leave, shaped like x, of any size.
    """
    flat = seed.flatten()
    if not bool(flat.any()):  # nothing moves, so that any direction will do
        flat = torch.ones_like(flat)
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
    scale = 1 / hessenberg[0, 0]
    return LowRankKernel(scale, inverse.T @ rows - scale * rows, rows)


def kernel_from(tensors: dict[str, Tensor]) -> Kernel | None:
    """What :meth:`Kernel.tensors` gave; None for nothing."""
    if not tensors:
        return None
    return DenseKernel(**tensors) if "matrix" in tensors else LowRankKernel(**tensors)
