"""Attach derivatives to a converged solution, whatever solver found it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from asesc.solvers.jacobian import Jacobian
from asesc.solvers.krylov import solve_krylov

if TYPE_CHECKING:
    from asesc.system import BlockLayout


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
    jacobian: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[Tensor, bool], Tensor]:
    """``inverse`` for :func:`attach_derivatives`."""
    if jacobian is not None:
        with torch.no_grad():
            factors, pivots = torch.linalg.lu_factor(jacobian(x.detach()))

        def inverse(vector: Tensor, transposed: bool) -> Tensor:
            rows = layout.pad(vector).flatten(1)[..., None]
            solved = torch.linalg.lu_solve(factors, pivots, rows, adjoint=transposed)
            return layout.unpad(solved.reshape(*layout.shape, -1))

        return inverse
    at_x = Jacobian(residual, x)

    def inverse_by_products(vector: Tensor, transposed: bool) -> Tensor:
        apply = at_x.apply_transposed if transposed else at_x.apply

        def on_blocks(v: Tensor) -> Tensor:
            return layout.pad(apply(layout.unpad(v.reshape(*layout.shape, -1)))).flatten(1)

        solved = solve_krylov(on_blocks, layout.pad(vector).flatten(1))
        return layout.unpad(solved.reshape(*layout.shape, -1))

    return inverse_by_products
