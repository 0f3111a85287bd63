"""Newton's method with a line search, on dense blocks or matrix-free."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asesc.solvers.counted import CountedResidual
from asesc.solvers.krylov import solve_krylov

Solve = Callable[[Tensor, Tensor], Tensor]


def newton_dense(
    counted: CountedResidual,
    jacobian: Callable[[Tensor], Tensor],
    x: Tensor,
    r: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """x, r(x) and the structures still unconverged."""

    def solve(x: Tensor, r: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.linalg.solve(jacobian(counted.rows(x)), r)

    return _newton(counted, solve, x, r, active)


def newton_krylov(
    counted: CountedResidual, x: Tensor, r: Tensor, active: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with steps from generalised conjugate residuals on exact Jacobian products."""

    def solve(x: Tensor, r: Tensor) -> Tensor:
        return solve_krylov(counted.linearise(x), r, relative=1e-2)

    return _newton(counted, solve, x, r, active)


def _newton(
    counted: CountedResidual, solve: Solve, x: Tensor, r: Tensor, active: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    while bool(active.any()) and not counted.exhausted:
        step = solve(x, torch.where(active[:, None], r, 0))
        x, r, moved = line_search(counted, x, r, step, active)
        active = active & ~counted.converged(r)
        if not bool((moved & active).any()):
            break
    return x, r, active


def line_search(
    counted: CountedResidual, x: Tensor, r: Tensor, step: Tensor, active: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The first of x − t s, t = 1, ½, … with a smaller |r|; and where there is one, (B,)."""
    size = torch.linalg.vector_norm(r, dim=-1)
    searching, moved, length = active, torch.zeros_like(active), 1.0
    while bool(searching.any()) and length > 1e-3:
        trial = torch.where(searching[:, None], x - length * step, x)
        r_trial = counted(trial)
        found = searching & (torch.linalg.vector_norm(r_trial, dim=-1) < (1 - 1e-4 * length) * size)
        x, r = torch.where(found[:, None], trial, x), torch.where(found[:, None], r_trial, r)
        moved, searching, length = moved | found, searching & ~found, 0.5 * length
    return x, r, moved
