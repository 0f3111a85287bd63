"""Generalised conjugate residuals: A s = b for every structure, matrix-free."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asesc.solvers.subspace import Subspace

Linear = Callable[[Tensor], Tensor]

#: A product that lowers the residual by less than this was wasted on a direction.
_STALLED = 0.95


def solve_krylov(
    apply: Linear,
    rhs: Tensor,
    *,
    target: Tensor,
    max_products: int,
    precondition: Linear | None = None,
    pairs: Subspace | None = None,
) -> tuple[Tensor, Tensor]:
    """s with |b − A s| ≤ target, and b − A s, both (B, d).

    Mathematically GMRES (the residual is least over the Krylov space and never grows), kept as
    pairs of directions and images, which another right-hand side may reuse and a preconditioner
    may change at will. Where r and A r are almost orthogonal, the last image is taken as the next
    direction instead of r, so that the method does not break down.

    Parameters
    ----------
    apply : callable
        v → A v, (B, d) → (B, d).
    rhs : Tensor, (B, d)
    target : Tensor, (B,)
    max_products : int
        What is left of the residual then is returned for the caller to judge.
    precondition : callable, optional
        Approximate A⁻¹, on the right: the residual is the true one.
    pairs : Subspace, optional
        Directions already known; the new ones are added.

    References
    ----------
    S. C. Eisenstat, H. C. Elman, M. H. Schultz, SIAM J. Numer. Anal. 20, 345 (1983),
    doi:10.1137/0720023.
    """
    pairs = Subspace(max_products) if pairs is None else pairs
    s, r = pairs.precondition(rhs)
    direction, size = r, torch.linalg.vector_norm(r, dim=-1)
    for _ in range(max_products):
        active = (size > target)[:, None]
        if not bool(active.any()):
            break
        direction = torch.where(active, direction, 0)
        if not bool(direction.any()):
            break  # A maps all that is left to what is known already: it is singular
        direction = direction if precondition is None else precondition(direction)
        image = pairs.add(direction, apply(direction))
        correction, r = pairs.precondition(r)
        s = s + correction
        before, size = size, torch.linalg.vector_norm(r, dim=-1)
        direction = torch.where((size > _STALLED * before)[:, None], image, r)
    return s, r
