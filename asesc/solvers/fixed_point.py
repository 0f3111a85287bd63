"""Solve r(p) = p − F(p) = 0 for every structure of a batch: a ladder of methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.errors import SCFError
from asesc.solvers.blocks import Blocks
from asesc.solvers.counted import CountedResidual, Map, Tally
from asesc.solvers.mixing import anderson
from asesc.solvers.newton import newton_dense, newton_krylov
from asesc.solvers.options import SCFOptions
from asesc.solvers.ramp import ramp
from asesc.solvers.solution import Solution, Stage
from asesc.solvers.subspace import Subspace

if TYPE_CHECKING:
    from asesc.system import BlockLayout

#: x, r(x) and the structures still unconverged, before and after a rung.
Rung = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


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
    """The density with p = F(p), (N, M), without graph.

    A ladder, climbed by the structures that have not converged:

    1. the start itself, usually the density of the previous geometry;
    2. Newton on dense Jacobians, for small structures where the caller has them;
    3. Anderson mixing;
    4. Anderson mixing with the preconditioner, as soon as the response proves stiff;
    5. Newton–Krylov with exact Jacobian products and a line search;
    6. Newton–Krylov along a ramp of field and excess charge.

    Each structure has its own steps, acceptance and convergence, so that what else is in the batch
    does not matter; converged structures stay where they are. Values of charges and potentials are
    not limited.

    Parameters
    ----------
    residual : callable
        r(p) = p − F(p), (N, M) → (N, M); one structure's rows must depend on its own only.
        Differentiable in p.
    start : Tensor, (N, M)
    layout : BlockLayout
        Of the system.
    options : SCFOptions, optional
    jacobian : callable, optional
        ∂r/∂p at p as blocks (B, n·M, n·M), rows and columns ordered (atom, component); padding may
        hold anything. Used up to ``options.dense_limit`` unknowns per structure.
    precondition : callable, optional
        Approximate (∂r/∂p)⁻¹, (N, M) → (N, M), e.g. :func:`~asesc.solvers.precondition.screening`.
    ramped : callable, optional
        r(p, s) with field and excess charge multiplied by s (B,), r(p, 1) = r(p).
    energy_error : callable, optional
        (N, M) → (B,), eV: the energy error that a residual implies, e.g. ⟨∂E/∂p, r⟩ for an energy
        that is not stationary in p. A structure has converged when its largest residual is below
        ``options.tolerance`` and this below ``options.energy_tolerance``; without it the residual
        decides alone.

    Raises
    ------
    SCFError
        If a structure does not converge, with the residual of every map in ``history`` and advice;
        at once if the map gives NaN or infinity.
    """
    options = options or SCFOptions()
    blocks = Blocks(layout, start)
    counted = CountedResidual(
        residual,
        blocks=blocks,
        tally=Tally(options.max_maps),
        tolerance=options.tolerance,
        energy_tolerance=options.energy_tolerance,
        energy_error=energy_error,
    )
    origin = blocks.of(start.detach())
    ladder = _Ladder(counted, origin)
    if jacobian is not None and blocks.dimension <= options.dense_limit:
        ladder.climb("dense Newton", partial(newton_dense, counted, jacobian=jacobian))
    pairs, preconditioned = Subspace(options.depth), None
    stiff = precondition is not None
    mix = partial(anderson, counted, pairs=pairs)
    ladder.climb("Anderson", partial(mix, leave_when_stiff=stiff))
    if precondition is not None:
        preconditioned = partial(_on_blocks, precondition, blocks)
        ladder.climb("preconditioned Anderson", partial(mix, precondition=preconditioned))
    krylov = partial(newton_krylov, counted, precondition=preconditioned)
    ladder.climb("Newton-Krylov", krylov)
    if ramped is not None:
        ladder.climb("ramp", lambda x, r, active: ramp(counted, ramped, origin, x, r, active))
    return blocks.rows(ladder.x), ladder.solution(has_ramp=ramped is not None)


class _Ladder:
    """Where all structures stand, and the record of how they got there."""

    def __init__(self, counted: CountedResidual, start: Tensor) -> None:
        self.x, self._counted = start, counted
        self._r = counted(start)
        self._active = ~counted.converged(self._r)
        self._stages = [self._stage("start", torch.ones_like(self._active), 0, 0)]

    def climb(self, name: str, rung: Rung) -> None:
        """Hand the unconverged structures to a method, if there are any and the budget lasts."""
        tally = self._counted.tally
        if not bool(self._active.any()) or tally.left <= 0:
            return
        maps, products, handed = tally.maps, tally.products, self._active
        self.x, self._r, self._active = rung(self.x, self._r, self._active)
        self._stages.append(self._stage(name, handed, maps, products))

    def _stage(self, name: str, handed: Tensor, maps: int, products: int) -> Stage:
        tally = self._counted.tally
        return Stage(
            name,
            structures=int(handed.sum()),
            converged=int((handed & ~self._active).sum()),
            maps=tally.maps - maps,
            products=tally.products - products,
            residual=float(self._r.abs().amax(-1)[handed].max()),
        )

    def solution(self, *, has_ramp: bool) -> Solution:
        """The record, if all structures have converged.

        Raises
        ------
        SCFError
            Otherwise.
        """
        tally = self._counted.tally
        if bool(self._active.any()):
            raise SCFError(self._complaint(has_ramp), history=tally.history)
        return Solution(
            method=self._stages[-1].name,
            converged=True,
            iterations=tally.spent,
            residual=float(self._r.abs().max()),
            history=tuple(tally.history),
            stages=tuple(self._stages),
        )

    def _complaint(self, has_ramp: bool) -> str:
        """What happened and what to try."""
        tally, tolerance = self._counted.tally, self._counted.tolerance
        which = self._active.nonzero()[:, 0].tolist()
        worst = float(self._r.abs().amax(-1)[self._active].max())
        energy = float(self._counted.energy_error(self._r)[self._active].max())
        implied = f", an energy error of {energy:.1e} eV" if energy else ""
        first = ", ".join(str(b) for b in which[:5]) + (", …" if len(which) > 5 else "")
        tried = "; ".join(str(stage) for stage in self._stages)
        if tally.left <= 0:
            advice = f"allow more maps, scf={{'max_maps': {4 * tally.limit}}}; check"
        elif worst < 100 * tolerance:
            advice = f"rounding may be the limit, try scf={{'tolerance': {10 * worst:.0e}}}; check"
        else:
            advice = "check"
        ramp = "" if has_ramp else ", or a smaller field or charge"
        return (
            f"self-consistency was not reached for structure {first}: residual {worst:.1e} e Å^l "
            f"(tolerance {tolerance:.0e}){implied} after {tally.maps} maps and {tally.products} "
            f"Jacobian products. No number is returned, because energies and forces of such a "
            f"density are wrong by an unknown amount. Tried: {tried}. What to try: {advice} the "
            f"geometry for coinciding or detached atoms and the model's scope{ramp}; start from "
            "the density of a nearby structure"
        )


def _on_blocks(function: Map, blocks: Blocks, vector: Tensor) -> Tensor:
    """A function of rows (N, M) as one of blocks (B, d)."""
    with torch.no_grad():
        return blocks.of(function(blocks.rows(vector)))
