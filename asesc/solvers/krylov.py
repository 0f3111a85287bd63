"""Generalised conjugate residuals: A s = b for every structure, matrix-free."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asesc.errors import SCFError
from asesc.solvers.subspace import Subspace


def solve_krylov(
    apply: Callable[[Tensor], Tensor],
    rhs: Tensor,
    *,
    relative: float = 1e-10,
    absolute: float = 1e-14,
    max_products: int = 300,
) -> Tensor:
    """s with |b − A s| ≤ max(relative |b|, absolute), (B, d)."""
    target = (relative * torch.linalg.vector_norm(rhs, dim=-1)).clamp(min=absolute)
    pairs = Subspace(max_products)
    s, r = torch.zeros_like(rhs), rhs
    for _ in range(max_products):
        active = torch.linalg.vector_norm(r, dim=-1) > target
        if not bool(active.any()):
            return s
        direction = torch.where(active[:, None], r, 0)
        pairs.add(direction, apply(direction))
        minus_s, r = pairs.project(-s, r)
        s = -minus_s
    raise SCFError(f"the linear response did not converge in {max_products} products")
