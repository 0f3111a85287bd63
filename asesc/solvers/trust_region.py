"""Quadratic models of an energy and their least point within a radius, per structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: Curvatures within this fraction of the largest count as zero.
_FLAT = 1e-10
#: Trials for the shift of a step, and the relative accuracy at which they end.
_TRIALS, _ROUNDING = 80, 1e-12
#: A first step this long means no curvature against the slope.
_ENDLESS = 1e8
#: Lanczos vectors that look for negative curvature, and products for one step.
_LANCZOS, _MAX_PRODUCTS = 40, 200


@dataclass(frozen=True)
class Step:
    """The step s (B, d), the decrease ``predicted`` (B,) ≥ 0 of the model, and ``cut`` (B,): where
    the radius ended the step."""

    s: Tensor
    predicted: Tensor
    cut: Tensor


class DenseModel:
    """g·s + ½ s·H·s with H factorised: exact steps, O(d³).

    Parameters
    ----------
    gradient : Tensor, (B, d)
    hessian : Tensor, (B, d, d)
    """

    def __init__(self, gradient: Tensor, hessian: Tensor) -> None:
        self._gradient, self._hessian = gradient, hessian
        self._eigen: tuple[Tensor, Tensor] | None = None

    def step(self, radius: Tensor) -> Step:
        """The least point of the model within ``radius`` (B,)."""
        factor, info = torch.linalg.cholesky_ex(self._hessian)
        if not bool(info.any()):
            s = -torch.cholesky_solve(self._gradient[..., None], factor)[..., 0]
            if bool((torch.linalg.vector_norm(s, dim=-1) <= radius).all()):
                predicted = -0.5 * (self._gradient * s).sum(-1)
                return Step(s, predicted, torch.zeros_like(info, dtype=torch.bool))
        return self._constrained(radius)

    def _constrained(self, radius: Tensor) -> Step:
        """s = −(H + σ)⁻¹ g with the least σ ≥ 0 that makes H + σ positive and |s| ≤ radius.

        Where g has no part along the lowest, negative curvature (at a saddle point), the step is
        completed along it.
        """
        values, vectors = self._eigenpairs()
        slope = torch.einsum("bij,bi->bj", vectors, self._gradient)
        lowest = values[:, 0]
        newton = torch.linalg.vector_norm(slope / values, dim=-1)
        endless = torch.isinf(radius) & ((lowest < 0) | ~(newton < _ENDLESS))
        radius = torch.where(endless, 1.0, radius)
        shifted, sigma = _shifted(values, slope, radius)
        s = torch.where(slope == 0, 0, -slope / shifted)
        # Against negative curvature the step always reaches the radius.
        along = (radius**2 - (s[:, 1:] ** 2).sum(-1)).clamp(min=0).sqrt()
        along = torch.where(slope[:, 0] > 0, -along, along)
        s[:, 0] = torch.where(lowest < 0, along, s[:, 0])
        predicted = -(slope * s + 0.5 * values * s * s).sum(-1)
        return Step(torch.einsum("bij,bj->bi", vectors, s), predicted, sigma > 0)

    def lowest(self) -> tuple[Tensor, Tensor]:
        """Lowest curvature (B,), 0 where it is zero within rounding, and its direction (B, d)."""
        values, vectors = self._eigenpairs()
        return torch.where(values[:, 0] < 0, values[:, 0], 0), vectors[:, :, 0]

    def _eigenpairs(self) -> tuple[Tensor, Tensor]:
        """Curvatures, those that are zero within rounding raised above it, and directions."""
        if self._eigen is None:
            values, vectors = torch.linalg.eigh(self._hessian)
            flat = _FLAT * values.abs().amax(-1, keepdim=True) + torch.finfo(values.dtype).tiny
            self._eigen = torch.where(values.abs() < flat, flat, values), vectors
        return self._eigen


def _shifted(values: Tensor, slope: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Curvatures + σ (B, d) and σ (B,) of :meth:`DenseModel._constrained`.

    Newton's method for 1/|s(σ)| = 1/radius, which is nearly linear in σ, kept in a bracket by
    bisection. What σ adds beyond the lowest negative curvature is the unknown: where it is tiny, as
    near a saddle point, nothing cancels. The step is never longer than the radius.
    """
    floor = values[:, 0].clamp(max=0)
    above = values - floor[:, None]
    low, high = torch.zeros_like(floor), torch.linalg.vector_norm(slope, dim=-1) / radius
    inside = (values[:, 0] > 0) & (torch.linalg.vector_norm(slope / values, dim=-1) <= radius)
    trial = 0.5 * high
    for _ in range(_TRIALS):
        shifted = above + trial[:, None]
        s = torch.where(slope == 0, 0, slope / shifted)
        length = torch.linalg.vector_norm(s, dim=-1)
        too_long = length > radius
        low, high = torch.where(too_long, trial, low), torch.where(too_long, high, trial)
        if bool((inside | (high - low <= _ROUNDING * high)).all()):
            break
        ahead = length**2 / (s * s / shifted).sum(-1) * (length / radius - 1)
        # A hair beyond Newton's point, so that both ends of the bracket close in.
        newton = trial + ahead + torch.where(too_long, _ROUNDING, -_ROUNDING) * trial
        safe = (newton > low) & (newton < high)
        trial = torch.where(safe, newton, 0.5 * (low + high))
    sigma = torch.where(inside, 0, high - floor)
    return torch.where(inside[:, None], values, above + high[:, None]), sigma


class ProductModel:
    """The same from products H v: truncated conjugate gradients, Lanczos for the curvature.

    Parameters
    ----------
    gradient : Tensor, (B, d)
    apply : callable
        v → H v, (B, d) → (B, d).
    precondition : callable
        Approximate H⁻¹, symmetric positive definite.
    accuracy : Tensor, (B,)
        |g + H s| at which a step is good enough.

    References
    ----------
    T. Steihaug, SIAM J. Numer. Anal. 20, 626 (1983), doi:10.1137/0720042.
    """

    def __init__(
        self,
        gradient: Tensor,
        apply: Callable[[Tensor], Tensor],
        precondition: Callable[[Tensor], Tensor],
        accuracy: Tensor,
    ) -> None:
        self._gradient, self._apply = gradient, apply
        self._precondition, self._accuracy = precondition, accuracy

    def step(self, radius: Tensor) -> Step:
        """Conjugate gradients up to the radius or to a direction of negative curvature.

        Along the latter the step goes on to the radius, or by one unit where that is infinite.
        """
        r, s = self._gradient, torch.zeros_like(self._gradient)
        image = torch.zeros_like(s)
        z = self._precondition(r)
        direction, rz = -z, (r * z).sum(-1)
        going = torch.linalg.vector_norm(r, dim=-1) > self._accuracy
        cut = torch.zeros_like(going)
        for _ in range(_MAX_PRODUCTS):
            if not bool(going.any()):
                break
            product = self._apply(torch.where(going[:, None], direction, 0))
            curvature = (direction * product).sum(-1)
            downhill = curvature <= _FLAT * (product * product).sum(-1).sqrt() * _norm(direction)
            length = torch.where(going & ~downhill, rz / curvature, 0)
            longest = _to_radius(
                s, direction, torch.where(torch.isinf(radius), _norm(s) + 1, radius)
            )
            leaves = downhill | (_norm(s + length[:, None] * direction) > radius)
            length = torch.where(going, torch.where(leaves, longest, length), 0)
            s, image = s + length[:, None] * direction, image + length[:, None] * product
            r = r + length[:, None] * product
            cut, going = cut | (going & leaves), going & ~leaves
            going = going & (_norm(r) > self._accuracy)
            z = self._precondition(r)
            rz, before = (r * z).sum(-1), rz
            direction = torch.where(
                going[:, None], (rz / before)[:, None] * direction - z, direction
            )
        return Step(s, -(self._gradient * s + 0.5 * s * image).sum(-1), cut)

    def lowest(self) -> tuple[Tensor, Tensor]:
        """Lowest curvature a Lanczos search from a fixed random vector finds, and its direction."""
        generator = torch.Generator().manual_seed(0)
        seed = torch.randn(self._gradient.shape[1], generator=generator, dtype=torch.float64)
        # One product takes out what belongs to padding.
        vector = self._apply(seed.to(self._gradient).expand_as(self._gradient))
        basis, tridiagonal = _lanczos(self._apply, vector)
        values, vectors = torch.linalg.eigh(tridiagonal)
        lowest, flat = values[:, 0], _FLAT * values.abs().amax(-1)
        ritz = torch.einsum("bkd,bk->bd", basis, vectors[:, :, 0])
        return torch.where(lowest < -flat, lowest, 0), ritz


def _lanczos(apply: Callable[[Tensor], Tensor], vector: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal Krylov vectors (B, k, d) and the symmetric matrix in them (B, k, k)."""
    basis, diagonal, sizes = [], [], []
    for _ in range(min(_LANCZOS, vector.shape[1])):
        sizes.append(_norm(vector))
        scale = torch.where(sizes[-1] > 0, 1 / sizes[-1], 0)[:, None]
        basis.append(torch.where(scale > 0, vector * scale, 0))
        image = apply(basis[-1])
        diagonal.append((basis[-1] * image).sum(-1))
        known, vector = torch.stack(basis, 1), image
        for _ in range(2):  # against rounding, which would bring found directions back
            overlap = torch.einsum("bkd,bd->bk", known, vector)
            vector = vector - torch.einsum("bk,bkd->bd", overlap, known)
        vector = torch.where((_norm(vector) > _FLAT * _norm(image))[:, None], vector, 0)
    matrix = torch.diag_embed(torch.stack(diagonal, 1))
    if len(sizes) > 1:
        beside = torch.stack(sizes[1:], 1)
        matrix = matrix + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    return known, matrix


def _norm(vector: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vector, dim=-1)


def _to_radius(s: Tensor, direction: Tensor, radius: Tensor) -> Tensor:
    """t ≥ 0 with |s + t d| = radius, (B,)."""
    a, b = (direction * direction).sum(-1), (s * direction).sum(-1)
    c = radius**2 - (s * s).sum(-1)
    return torch.nan_to_num((-b + (b * b + a * c).clamp(min=0).sqrt()) / a)
