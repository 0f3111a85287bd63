"""Solve r(p) = p − F(p) = 0 for every structure of a batch: a ladder of methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from asesc.errors import SCFError
from asesc.solvers.counted import CountedResidual
from asesc.solvers.mixing import anderson
from asesc.solvers.newton import newton_dense, newton_krylov
from asesc.solvers.options import SCFOptions
from asesc.solvers.solution import Solution, Stage

if TYPE_CHECKING:
    from asesc.system import BlockLayout

Map = Callable[[Tensor], Tensor]


def solve_fixed_point(
    residual: Map,
    start: Tensor,
    *,
    layout: BlockLayout,
    options: SCFOptions | None = None,
    jacobian: Map | None = None,
    precondition: Map | None = None,
    ramped: Callable[[Tensor, Tensor], Tensor] | None = None,
    energy_error: Map | None = None,
) -> tuple[Tensor, Solution]:
    """The density with p = F(p), (N, M), without graph."""
    options = options or SCFOptions()
    counted = CountedResidual(residual, layout=layout, options=options, energy_error=energy_error)
    x = counted.blocks(start.detach())
    r = counted(x)
    active = ~counted.converged(r)
    stages = [_stage("start", counted, active | True, active, (0, 0), r)]
    rungs = []
    if jacobian is not None and x.shape[1] <= options.dense_limit:
        dense = jacobian
        rungs.append(("dense Newton", lambda x, r, a: newton_dense(counted, dense, x, r, a)))
    rungs.append(("Anderson", lambda x, r, a: anderson(counted, x, r, a, depth=options.depth)))
    rungs.append(("Newton-Krylov", lambda x, r, a: newton_krylov(counted, x, r, a)))
    for name, rung in rungs:
        if not bool(active.any()):
            break
        before, handed = (counted.maps, counted.products), active
        x, r, active = rung(x, r, active)
        stages.append(_stage(name, counted, handed, active, before, r))
    if bool(active.any()):
        raise SCFError(
            f"self-consistency was not reached: residual {float(r.abs().max()):.1e} after "
            f"{counted.maps} maps",
            history=counted.history,
        )
    solution = Solution(
        stages[-1].name,
        True,
        counted.spent,
        float(r.abs().max()),
        tuple(counted.history),
        tuple(stages),
    )
    return counted.rows(x), solution


def _stage(
    name: str,
    counted: CountedResidual,
    handed: Tensor,
    left: Tensor,
    before: tuple[int, int],
    r: Tensor,
) -> Stage:
    return Stage(
        name,
        structures=int(handed.sum()),
        converged=int((handed & ~left).sum()),
        maps=counted.maps - before[0],
        products=counted.products - before[1],
        residual=float(counted.error(r)[handed].max()),
    )
