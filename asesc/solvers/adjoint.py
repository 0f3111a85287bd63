"""Attach derivatives to a converged solution, whatever solver found it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from asesc.errors import IllPosedError, SCFError
from asesc.solvers.blocks import Blocks
from asesc.solvers.jacobian import Jacobian
from asesc.solvers.krylov import solve_krylov
from asesc.solvers.options import SCFOptions

if TYPE_CHECKING:
    from asesc.system import BlockLayout

#: Accuracy of a matrix-free solve, relative and in the units of the right-hand side.
_RELATIVE, _ABSOLUTE = 1e-10, 1e-14


def attach_derivatives(
    x: Tensor,
    residual: Callable[[Tensor], Tensor],
    inverse: Callable[[Tensor, bool], Tensor],
    *,
    order: int = 2,
) -> Tensor:
    """Make a solution of r(x; θ) = 0 differentiable in θ to the given order.

    ``order`` Newton corrections with the frozen Jacobian J₀ = ∂r/∂x,

        x ← x − J₀⁻¹ r(x; θ),

    leave the value as it is and each makes one more derivative exact: the error after k of them
    is O(δθ^(k+1)). No graph of the solver's iterations is kept; the linear solves with J₀ happen
    in the forward pass on a vanishing residual and in the backward pass with J₀ᵀ.

    Parameters
    ----------
    x : Tensor
        Converged solution; its own graph is ignored.
    residual : callable
        r(x), differentiable in x and, by closure, in θ.
    inverse : callable
        ``inverse(v, transposed)`` = J₀⁻¹ v, or J₀⁻ᵀ v if ``transposed``; carries no graph.
    order : int
        2 is enough for forces and response properties and for training on them.
    """
    x = x.detach()
    if not torch.is_grad_enabled():
        return x
    for _ in range(order):
        x = x - frozen_inverse(residual(x), inverse)
    return x


def frozen_inverse(vector: Tensor, inverse: Callable[[Tensor, bool], Tensor]) -> Tensor:
    """J₀⁻¹ v, differentiable with respect to v only, to any order; ``inverse`` as above."""
    return _FrozenInverse.apply(vector, inverse, False)


class _FrozenInverse(torch.autograd.Function):
    """v → J₀⁻¹ v, differentiated with respect to v only, to any order."""

    @staticmethod
    def forward(
        ctx: Any, vector: Tensor, inverse: Callable[[Tensor, bool], Tensor], transposed: bool
    ) -> Tensor:
        ctx.inverse, ctx.transposed = inverse, transposed
        return inverse(vector.detach(), transposed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _FrozenInverse.apply(gradient, ctx.inverse, not ctx.transposed), None, None


def frozen_jacobian(
    residual: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    layout: BlockLayout,
    options: SCFOptions | None = None,
    jacobian: Callable[[Tensor], Tensor] | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[Tensor, bool], Tensor]:
    """``inverse(v, transposed)`` = (∂r/∂x)⁻¹ v at x, for :func:`attach_derivatives`.

    One LU factorisation where ``jacobian`` is given and a structure has at most
    ``options.dense_limit`` unknowns, O(d³) once and O(d²) per solve. Otherwise generalised
    conjugate residuals on products of the one graph of r(x) that is kept. Memory does not depend on
    how x was found.

    Parameters
    ----------
    residual : callable
        (N, M) → (N, M); differentiable twice.
    x : Tensor, (N, M)
        Converged; its graph is ignored.
    layout : BlockLayout
    options : SCFOptions, optional
    jacobian : callable, optional
        ∂r/∂x as blocks (B, n·M, n·M); padding may hold anything.
    precondition : callable, optional
        Approximate (∂r/∂x)⁻¹, (N, M) → (N, M); used for both solves, whose answers it cannot
        change.

    Raises
    ------
    IllPosedError
        If the Jacobian is singular: the solution is about to disappear or to split.
    SCFError
        On use, if a solve does not converge.
    """
    options = options or SCFOptions()
    blocks = Blocks(layout, x)
    if jacobian is not None and blocks.dimension <= options.dense_limit:
        solve = _DenseInverse(blocks, jacobian, x)
    else:
        solve = _KrylovInverse(blocks, residual, x, precondition, options.max_maps)

    def inverse(vector: Tensor, transposed: bool) -> Tensor:
        with torch.no_grad():
            return blocks.rows(solve(blocks.of(vector), transposed))

    return inverse


class _DenseInverse:
    """LU factors of every block."""

    def __init__(self, blocks: Blocks, jacobian: Callable[[Tensor], Tensor], x: Tensor) -> None:
        with torch.no_grad():
            matrix = blocks.matrix(jacobian(x.detach()))
            self._factors, self._pivots, info = torch.linalg.lu_factor_ex(matrix)
        broken = (info != 0) | ~torch.isfinite(self._factors).flatten(1).all(-1)
        if bool(broken.any()):
            raise IllPosedError(
                f"the response of structure {int(broken.nonzero()[0])} to a small change is "
                "infinite or not a number: its self-consistent density is about to disappear or "
                "to split in two, and has no derivatives. Check the geometry and the field"
            )

    def __call__(self, vector: Tensor, transposed: bool) -> Tensor:
        rhs = vector[..., None]
        return torch.linalg.lu_solve(self._factors, self._pivots, rhs, adjoint=transposed)[..., 0]


class _KrylovInverse:
    """Matrix-free solves; equal vectors give equal answers, whatever was solved before."""

    def __init__(
        self,
        blocks: Blocks,
        residual: Callable[[Tensor], Tensor],
        x: Tensor,
        precondition: Callable[[Tensor], Tensor] | None,
        max_products: int,
    ) -> None:
        self._blocks, self._precondition, self._max_products = blocks, precondition, max_products
        self._jacobian = Jacobian(residual, x)

    def __call__(self, vector: Tensor, transposed: bool) -> Tensor:
        jacobian, blocks = self._jacobian, self._blocks
        product = jacobian.apply_transposed if transposed else jacobian.apply
        target = _RELATIVE * torch.linalg.vector_norm(vector, dim=-1) + _ABSOLUTE
        solved, rest = solve_krylov(
            lambda v: blocks.of(product(blocks.rows(v))),
            vector,
            target=target,
            max_products=self._max_products,
            precondition=self._approximate if self._precondition else None,
        )
        left = torch.linalg.vector_norm(rest, dim=-1)
        if not bool((left <= target).all()):
            raise SCFError(
                f"the linear response did not converge: residual {float(left.max()):.1e} of "
                f"{float(torch.linalg.vector_norm(vector, dim=-1).max()):.1e} after "
                f"{self._max_products} Jacobian products. Derivatives of the density would be "
                "wrong. Raise scf={'max_maps': …}, or 'dense_limit' to factorise the Jacobian"
            )
        return solved

    def _approximate(self, vector: Tensor) -> Tensor:
        return self._blocks.of(self._precondition(self._blocks.rows(vector)))
