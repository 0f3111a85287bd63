"""Linear solves of charge equilibration: dense, and matrix-free in the constraint plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.errors import IllPosedError
from asesc.solvers.adjoint import attach_derivatives, frozen_inverse, frozen_jacobian
from asesc.solvers.options import SCFOptions
from asesc.solvers.solution import Solution

if TYPE_CHECKING:
    from asesc.system import BlockLayout


def solve_linear(
    residual: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    layout: BlockLayout,
    jacobian: Tensor,
    tolerance: float = 1e-8,
) -> tuple[Tensor, Solution]:
    """Zero of an affine residual r(x) = A x − b by one dense LU, with two derivatives attached.

    One Newton step is exact, and its factors serve the derivatives too. O(n³) per structure.

    Parameters
    ----------
    residual : callable
        r(x), (N, M) → (N, M), differentiable in x and in what it depends on.
    start : Tensor, (N, M)
    layout : BlockLayout
    jacobian : Tensor, (B, n·M, n·M)
        A as padded blocks; need not carry a graph.
    tolerance : float
        On the largest component of the residual, above which the solution is none.

    Raises
    ------
    IllPosedError
        If A is singular or not finite.
    """
    _require_finite(jacobian)
    dense = SCFOptions(dense_limit=jacobian.shape[-1])
    inverse = frozen_jacobian(
        residual, start, layout=layout, options=dense, jacobian=lambda x: jacobian
    )
    with torch.no_grad():
        x = start - inverse(residual(start), False)
        error = float(residual(x).abs().max())
    if not error < tolerance:
        raise IllPosedError(
            f"a dense linear solve left a residual of {error:.1e} (tolerance {tolerance:.0e}): the "
            "matrix is nearly singular or the right-hand side is not finite. Two atoms may "
            "coincide; check the geometry"
        )
    return attach_derivatives(x, residual, inverse), Solution("dense LU", True, 1, error)


def minimise_quadratic_dense(
    matrix: Tensor, linear: Tensor, constraint: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Solution]:
    """Minimise ½ xᵀA x + bᵀx subject to cᵀx = t, for every block.

    Only the plane cᵀy = 0 matters: A may be indefinite off it (the Coulomb operator of a charged
    slab is). With ĉ = c/|c| and P = 1 − ĉĉᵀ, x = ĉ t/|c| + y and y = −(PAP + sĉĉᵀ)⁻¹P(b + Aĉt/|c|)
    by Cholesky; the multiplier λ = −ĉᵀ(Ax + b)/|c| makes Ax + b + λc = 0 and is −∂E/∂t.

    Parameters
    ----------
    matrix : Tensor, (B, n, n)
        Symmetric, positive definite on the plane.
    linear, constraint : Tensor, (B, n)
    target : Tensor, (B,)

    Returns
    -------
    x : Tensor, (B, n)
    multiplier : Tensor, (B,)
    solution : Solution

    Raises
    ------
    IllPosedError
        If A is not positive definite on the plane: the energy has no minimum.
    """
    _require_finite(matrix, linear, target)
    norm = torch.linalg.vector_norm(constraint, dim=-1, keepdim=True)
    normal = constraint / norm
    on_plane = _restrict(matrix, normal)
    factor, info = torch.linalg.cholesky_ex(on_plane)
    if bool((info != 0).any()):
        block = int(torch.nonzero(info)[0])
        lowest = float(torch.linalg.eigvalsh(on_plane[block].detach())[0])
        raise IllPosedError(
            f"the quadratic energy of structure {block} has no minimum: lowest curvature "
            f"{lowest:.3g} is not positive. Coinciding atoms or too small a hardness cause this; "
            "check the geometry and the Gaussian widths"
        )
    start = normal * (target[:, None] / norm)
    slope = linear + _product(matrix, start)
    slope = slope - normal * (normal * slope).sum(-1, keepdim=True)
    x = start - torch.cholesky_solve(slope[..., None], factor)[..., 0]
    gradient = _product(matrix, x) + linear
    multiplier = -(normal * gradient).sum(-1) / norm[:, 0]
    residual = (gradient + multiplier[:, None] * constraint).detach().abs().max()
    return x, multiplier, Solution("dense Cholesky", True, 1, float(residual))


def _restrict(matrix: Tensor, normal: Tensor) -> Tensor:
    """P A P + s ĉĉᵀ with s the mean diagonal of A, so that the plane alone decides definiteness."""
    image = _product(matrix, normal)
    along = (normal * image).sum(-1)[:, None, None]
    scale = matrix.detach().diagonal(dim1=-2, dim2=-1).abs().mean(-1)[:, None, None]
    outer = normal[:, :, None] * image[:, None, :]
    projector = normal[:, :, None] * normal[:, None, :]
    return matrix - outer - outer.transpose(-1, -2) + (along + scale) * projector


def _product(matrix: Tensor, vector: Tensor) -> Tensor:
    """A x for every block."""
    return (matrix @ vector[..., None])[..., 0]


def minimise_quadratic_cg(
    apply: Callable[[Tensor], Tensor],
    linear: Tensor,
    constraint: Tensor,
    target: Tensor,
    *,
    start: Tensor | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 500,
    derivatives: int = 2,
) -> tuple[Tensor, Tensor, Solution]:
    """The same minimum as :func:`minimise_quadratic_dense` for one structure, matrix-free.

    Preconditioned conjugate gradients on the plane cᵀx = t: every search direction is projected,
    so that the constraint holds to rounding at each iteration. ``derivatives`` Newton corrections
    with the frozen inverse attach the graph, so that that many derivatives of x are exact; their
    solves happen in the backward pass only.

    Parameters
    ----------
    apply : callable
        v = A p for a vector (n,); A symmetric and positive definite on the plane.
    linear, constraint : Tensor, (n,)
    target : Tensor, ()
    start : Tensor, (n,), optional
        Near the solution; need not be on the plane.
    precondition : callable, optional
        Approximate A⁻¹, symmetric positive definite, e.g.
        :func:`~asesc.solvers.precondition.long_wave_inverse`.
    tolerance : float
        On the largest component of the projected gradient, also in backward passes. The error of a
        force is about twice that of the gradient, the error of the energy goes with its square.

    Returns
    -------
    x : Tensor, (n,)
    multiplier : Tensor, ()
    solution : Solution

    Raises
    ------
    IllPosedError
        On a direction of negative curvature, or when ``max_iterations`` do not suffice.
    """
    _require_finite(linear, target)
    plane = _Plane(apply, constraint.detach(), precondition, tolerance, max_iterations)

    def on_plane(x: Tensor) -> Tensor:
        return x + constraint * ((target - constraint @ x) / (constraint @ constraint))

    with torch.no_grad():
        x = on_plane(torch.zeros_like(linear) if start is None else start)
        step, solution = plane.solve(linear + apply(x))
        x = x - step
    for _ in range(derivatives if torch.is_grad_enabled() else 0):
        x = on_plane(x)
        x = x - frozen_inverse(linear + apply(x), plane.inverse)
    multiplier = -(constraint @ (linear + apply(x))) / (constraint @ constraint)
    return x, multiplier, solution


class _Plane:
    """Conjugate gradients for P A P s = P g with the projector P on cᵀs = 0."""

    def __init__(
        self,
        apply: Callable[[Tensor], Tensor],
        constraint: Tensor,
        precondition: Callable[[Tensor], Tensor] | None,
        tolerance: float,
        max_iterations: int,
    ) -> None:
        self._apply = apply
        self._normal = constraint / torch.linalg.vector_norm(constraint)
        self._precondition = precondition or (lambda r: r)
        self._tolerance, self._max_iterations = tolerance, max_iterations

    def _project(self, vector: Tensor) -> Tensor:
        return vector - self._normal * (self._normal @ vector)

    def inverse(self, gradient: Tensor, transposed: bool) -> Tensor:
        """The solution alone; A is symmetric, so that its transpose is itself."""
        return self.solve(gradient)[0]

    @torch.no_grad()
    def solve(self, gradient: Tensor) -> tuple[Tensor, Solution]:
        residual = self._project(gradient)
        s = torch.zeros_like(residual)
        z = self._project(self._precondition(residual))
        direction, rz = z, residual @ z
        history = [float(residual.abs().max())]
        while not history[-1] <= self._tolerance:  # nor is NaN the end
            if len(history) > self._max_iterations:
                raise IllPosedError(
                    f"conjugate gradients stopped at residual {history[-1]:.2e} after "
                    f"{self._max_iterations} iterations (tolerance {self._tolerance:.0e}); "
                    "use a better preconditioner, more iterations or the dense solver"
                )
            image = self._project(self._apply(direction))
            curvature = direction @ image
            if not float(curvature) > 0:
                raise IllPosedError(
                    f"curvature {float(curvature):.3g} along a search direction: the quadratic "
                    "energy has no minimum. Check for coinciding atoms and the hardness"
                )
            length = rz / curvature
            s = s + length * direction
            residual = residual - length * image
            z = self._project(self._precondition(residual))
            rz, previous = residual @ z, rz
            direction = z + (rz / previous) * direction
            history.append(float(residual.abs().max()))
        return s, Solution(
            "projected CG", True, len(history) - 1, history[-1], history=tuple(history)
        )


def _require_finite(*tensors: Tensor) -> None:
    for tensor in tensors:
        if not bool(torch.isfinite(tensor.detach()).all()):
            raise IllPosedError(
                "the linear system contains NaN or infinite numbers; check the positions and the "
                "model's parameters"
            )
