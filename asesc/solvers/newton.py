"""Newton's method with a line search, on dense blocks or matrix-free."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asesc.solvers.counted import CountedResidual
from asesc.solvers.krylov import solve_krylov
from asesc.solvers.subspace import Subspace

Map = Callable[[Tensor], Tensor]

#: Steps in which |r| must halve.
_PATIENCE = 10
#: Sufficient decrease of |r| per length of the step, and the shortest step.
_DECREASE, _SHORTEST = 1e-4, 1e-4
#: Relative accuracy of a Krylov step: at most, and how it follows the progress of |r|.
_FORCING, _FOLLOW = 0.3, 0.9
#: Jacobian products for one step.
_MAX_PRODUCTS = 60


def newton_dense(
    counted: CountedResidual, x: Tensor, r: Tensor, active: Tensor, *, jacobian: Map
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton steps from LU factorisations, O(d³) each: x, r(x), still active.

    ``jacobian(x)`` gives ∂r/∂x at rows (N, M) as blocks (B, d, d); a structure whose block is
    singular gives up.
    """

    def step(x: Tensor, r: Tensor) -> Tensor:
        with torch.no_grad():
            matrix = counted.blocks.matrix(jacobian(counted.blocks.rows(x)))
            return torch.linalg.solve_ex(matrix, r)[0]

    return _newton(counted, x, r, active, step)


def newton_krylov(
    counted: CountedResidual,
    x: Tensor,
    r: Tensor,
    active: Tensor,
    *,
    precondition: Map | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton steps by generalised conjugate residuals on exact products: x, r(x), still active.

    A step is as accurate as the progress of |r| deserves, η = 0.9 (|r_k|/|r_(k−1)|)². The
    directions of one step precondition the next: where the Jacobian has not changed much, they
    already know its stiff part.

    References
    ----------
    S. C. Eisenstat, H. F. Walker, SIAM J. Sci. Comput. 17, 16 (1996), doi:10.1137/0917003,
    choice 2 of the forcing term.
    """
    return _newton(counted, x, r, active, _KrylovStep(counted, precondition))


class _KrylovStep:
    """Newton steps that learn from one another."""

    def __init__(self, counted: CountedResidual, precondition: Map | None) -> None:
        self._counted, self._given = counted, precondition
        self._pairs = Subspace(_MAX_PRODUCTS)
        self._size: Tensor | None = None
        self._forcing: Tensor | None = None

    def __call__(self, x: Tensor, r: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(r, dim=-1)
        if self._size is None or self._forcing is None:
            self._forcing = torch.full_like(size, _FORCING)
        else:
            self._forcing = _next_forcing(self._forcing, size / self._size)
        self._size, known = size, self._pairs
        self._pairs = Subspace(_MAX_PRODUCTS)
        return solve_krylov(
            self._counted.linearise(x),
            r,
            target=(self._forcing * size).clamp(min=0.3 * self._counted.tolerance),
            max_products=max(1, min(_MAX_PRODUCTS, self._counted.tally.left)),
            precondition=lambda v: self._approximate(known, v),
            pairs=self._pairs,
        )[0]

    def _approximate(self, known: Subspace, r: Tensor) -> Tensor:
        """A⁻¹ r ≈ what the pairs of the last step know, plus P of the rest."""
        inside, rest = known.precondition(r)
        return inside + (rest if self._given is None else self._given(rest))


def _newton(
    counted: CountedResidual,
    x: Tensor,
    r: Tensor,
    active: Tensor,
    step: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps x − t s with s = ``step(x, r)``, until all structures have converged or given up."""
    trying = active
    milestone, since = torch.linalg.vector_norm(r, dim=-1), torch.zeros_like(r[:, 0])
    while bool(trying.any()) and counted.tally.left > 0:
        s = step(x, torch.where(trying[:, None], r, 0))
        trying = trying & torch.isfinite(s).all(-1)
        x, r, moved = line_search(counted, x, r, torch.where(trying[:, None], s, 0), trying)
        active = active & ~counted.converged(r)
        size = torch.linalg.vector_norm(r, dim=-1)
        halved = size < 0.5 * milestone
        milestone, since = torch.where(halved, size, milestone), torch.where(halved, 0, since + 1)
        trying = trying & active & moved & (since < _PATIENCE)
    return x, r, active


def _next_forcing(forcing: Tensor, progress: Tensor) -> Tensor:
    """Eisenstat and Walker's choice 2 with its safeguard against tightening too early."""
    follow, memory = _FOLLOW * torch.nan_to_num(progress) ** 2, _FOLLOW * forcing**2
    follow = torch.where(memory > 0.1, torch.maximum(follow, memory), follow)
    return follow.clamp(1e-4, _FORCING)


def line_search(
    counted: CountedResidual, x: Tensor, r: Tensor, step: Tensor, active: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The first x − t s with a sufficiently smaller |r|, r there, and where there is one (B,).

    t starts at 1 and follows the parabola through |r|² and its slope, between a tenth and a half
    of the previous t.
    """
    size2 = (r * r).sum(-1)
    length = torch.ones_like(size2)
    searching, moved = active, torch.zeros_like(active)
    start = x
    while bool(searching.any()) and counted.tally.left > 0:
        trial = torch.where(searching[:, None], start - length[:, None] * step, x)
        r_trial = counted(trial)
        trial2 = (r_trial * r_trial).sum(-1)
        found = searching & (trial2 < (1 - _DECREASE * length) ** 2 * size2)
        x, r = torch.where(found[:, None], trial, x), torch.where(found[:, None], r_trial, r)
        moved, searching = moved | found, searching & ~found
        parabola = size2 * length**2 / (trial2 - size2 + 2 * size2 * length)
        shorter = torch.maximum(torch.minimum(parabola, 0.5 * length), 0.1 * length)
        length = torch.where(searching, shorter, length)
        searching = searching & (length > _SHORTEST)
    return x, r, moved
