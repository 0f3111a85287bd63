"""Minimise a smooth energy of every structure of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.errors import IllPosedError, SCFError
from asesc.solvers.blocks import Blocks
from asesc.solvers.counted import Map, Tally, require_finite
from asesc.solvers.jacobian import Jacobian
from asesc.solvers.options import SCFOptions
from asesc.solvers.solution import Solution, Stage
from asesc.solvers.trust_region import DenseModel, ProductModel, Step

if TYPE_CHECKING:
    from asesc.system import BlockLayout

#: Decrease over its prediction: accepted above the first, trusted less below the second and more
#: above the third.
_ACCEPTED, _POOR, _GOOD = 1e-4, 0.25, 0.75
#: Unknowns beyond this many times their start: the energy falls without end.
_RUNAWAY = 1e6
_LEAST_RADIUS = 1e-12


def minimise(
    energy: Map,
    start: Tensor,
    *,
    layout: BlockLayout,
    options: SCFOptions | None = None,
    slope: Map | None = None,
    hessian: Map | None = None,
    precondition: Map | None = None,
    convex: bool = False,
    radius: float = torch.inf,
) -> tuple[Tensor, Solution]:
    """A minimum of E(x) in x (N, M), without graph: Newton's method in a trust region.

    Every structure has its own steps, radius and convergence. A point with a vanishing gradient is
    accepted only where no curvature is negative; from a saddle point the search goes on downhill
    along the lowest one. With ``hessian``, and up to ``options.dense_limit`` unknowns, steps and
    curvatures are exact; otherwise they come from products (conjugate gradients; 40 Lanczos
    vectors, which see a negative curvature unless its direction is nearly orthogonal to a random
    vector).

    Parameters
    ----------
    energy : callable
        (N, M) → (B,), eV; twice differentiable, one structure's energy depending on its own rows
        only.
    start : Tensor, (N, M)
    layout : BlockLayout
    options : SCFOptions, optional
        ``tolerance`` is on the largest component of the gradient, ``energy_tolerance`` on the
        decrease that the quadratic model still promises: the error of the energy. Where rounding of
        the energy hides that decrease and no step makes the gradient smaller, the gradient may stay
        above its tolerance; the solution's ``residual`` says so.
    slope : callable, optional
        ∂E/∂x, (N, M) → (N, M), where that costs less than a derivative of ``energy``.
    hessian : callable, optional
        ∂²E/∂x² as blocks (B, n·M, n·M); padding may hold anything.
    precondition : callable, optional
        Approximate (∂²E/∂x²)⁻¹, (N, M) → (N, M), symmetric positive definite, for products.
    convex : bool
        A promise of the caller that saves the last look at the curvature and thus one Hessian or
        about 40 products; the gradient then decides alone, to which the energy error is of second
        order.
    radius : float
        Of the trust region at first. A small one keeps the search in the basin of the start, which
        one long Newton step from a nearly flat place would leave.

    Raises
    ------
    IllPosedError
        If the energy falls without end.
    SCFError
        If no minimum is found within ``options.max_maps``; at once for NaN or infinity.
    """
    options = options or SCFOptions()
    blocks = Blocks(layout, start)
    dense = hessian is not None and blocks.dimension <= options.dense_limit
    surface = _Surface(energy, slope, blocks, options, hessian if dense else None, precondition)
    search = _Search(surface, blocks.of(start.detach()), options, convex, radius)
    try:
        while bool(search.active.any()):
            search.advance()
    except _Spent:
        raise search.failure() from None
    solution = search.solution("Newton" if dense else "Newton-CG")
    return blocks.rows(search.x), solution


class _Spent(Exception):
    """The next map or product would be beyond ``max_maps``."""


class _Surface:
    """Energy, gradient and quadratic model on blocks (B, d), counted and checked."""

    def __init__(
        self,
        energy: Map,
        slope: Map | None,
        blocks: Blocks,
        options: SCFOptions,
        hessian: Map | None,
        precondition: Map | None,
    ) -> None:
        self._energy, self._given_slope = energy, slope
        self._blocks, self._options = blocks, options
        self._hessian, self._precondition = hessian, precondition
        self.tally, self.hessians = Tally(options.max_maps), 0

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E (B,) and ∂E/∂x (B, d)."""
        self._require_left()
        self.tally.maps += 1
        value, gradient = self._evaluated(self._blocks.rows(x).detach())
        gradient = self._blocks.of(gradient)
        require_finite(torch.cat([value[:, None], gradient], dim=1), self.tally)
        self.tally.history.append(float(gradient.abs().max()))
        return value, gradient

    def _evaluated(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """E and ∂E/∂x in rows, without graph."""
        if self._given_slope is not None:
            with torch.no_grad():
                return self._energy(rows), self._given_slope(rows)
        rows.requires_grad_()
        with torch.enable_grad():
            value = self._energy(rows)
            (gradient,) = torch.autograd.grad(value.sum(), rows)
        return value.detach(), gradient

    def model(self, x: Tensor, gradient: Tensor) -> DenseModel | ProductModel:
        """The quadratic model of E at x."""
        rows = self._blocks.rows(x)
        if self._hessian is not None:
            self.hessians += 1
            with torch.no_grad():
                return DenseModel(gradient, self._blocks.matrix(self._hessian(rows)))
        size = torch.linalg.vector_norm(gradient, dim=-1)
        accuracy = size * size.sqrt().clamp(1e-6, 0.3)
        jacobian = Jacobian(self._slope, rows)

        def apply(vector: Tensor) -> Tensor:
            self._require_left()
            self.tally.products += 1
            product = jacobian.apply_transposed(self._blocks.rows(vector))
            return self._blocks.of(product)

        return ProductModel(gradient, apply, self._approximate, accuracy)

    def _require_left(self) -> None:
        if self.tally.left <= 0:
            raise _Spent

    def _slope(self, rows: Tensor) -> Tensor:
        """∂E/∂x with graph; the term in x gives it one where E is linear."""
        (gradient,) = torch.autograd.grad(self._energy(rows).sum(), rows, create_graph=True)
        return gradient + 0.0 * rows

    def _approximate(self, gradient: Tensor) -> Tensor:
        if self._precondition is None:
            return gradient
        with torch.no_grad():
            return self._blocks.of(self._precondition(self._blocks.rows(gradient)))


class _Search:
    """Where every structure stands, how far its model is trusted, and what it has cost."""

    def __init__(
        self, surface: _Surface, x: Tensor, options: SCFOptions, convex: bool, radius: float
    ) -> None:
        self._surface, self._options, self._convex = surface, options, convex
        self.x = x
        self._value, self._gradient = surface(x)
        self._start, self._first = x.abs().amax(-1), self._value
        self._radius = torch.full_like(self._value, radius)
        self._model: DenseModel | ProductModel | None = None
        self._saddles = 0
        self._rounded = torch.zeros_like(self._value, dtype=torch.bool)
        self.active = torch.ones_like(self._value, dtype=torch.bool)
        if convex:
            self.active = ~self._small()

    def _small(self) -> Tensor:
        """Where the gradient is below its tolerance, or as small as rounding lets it be, (B,)."""
        return (self._gradient.abs().amax(-1) < self._options.tolerance) | self._rounded

    def advance(self) -> None:
        """One step of all structures that have no minimum yet."""
        if self._model is None:
            self._model = self._surface.model(self.x, self._gradient)
        step = self._model.step(self._radius)
        if not self._convex:
            step = self._leave_saddles(step)
            if not bool(self.active.any()):
                return
        trial = torch.where(self.active[:, None], self.x + step.s, self.x)
        value, gradient = self._surface(trial)
        accepted = self.active & self._judge(step, value, gradient)
        self._value = torch.where(accepted, value, self._value)
        self.x = torch.where(accepted[:, None], trial, self.x)
        self._gradient = torch.where(accepted[:, None], gradient, self._gradient)
        if bool(accepted.any()):
            self._model = None
        self._refuse_runaway()
        if self._convex:
            self.active = self.active & ~self._small()

    def _leave_saddles(self, step: Step) -> Step:
        """Structures at a minimum become inactive; those at a saddle point get a way out."""
        flat = self.active & self._small()
        if not bool(flat.any()) or self._model is None:
            return step
        lowest, direction = self._model.lowest()
        saddle = flat & (lowest < 0)
        self.active = self.active & ~(
            flat & ~saddle & (step.predicted < self._options.energy_tolerance)
        )
        if not bool(saddle.any()):
            return step
        self._saddles += int(saddle.sum())
        uphill = (direction * self._gradient).sum(-1, keepdim=True) > 0
        radius = torch.where(torch.isinf(self._radius), 1.0, self._radius)
        s = torch.where(uphill, -direction, direction) * radius[:, None]
        return Step(
            torch.where(saddle[:, None], s, step.s),
            torch.where(saddle, -0.5 * lowest * radius**2, step.predicted),
            step.cut | saddle,
        )

    def _judge(self, step: Step, value: Tensor, gradient: Tensor) -> Tensor:
        """Accept or reject, and adapt the radius."""
        noise = 1e-13 * (1 + self._value.abs())
        ratio = (self._value - value) / step.predicted.clamp(min=torch.finfo(value.dtype).tiny)
        blind = step.predicted < 10 * noise  # the energy cannot tell any more, the gradient can
        smaller = gradient.abs().amax(-1) < self._gradient.abs().amax(-1)
        ratio = torch.where(blind, torch.where(smaller, 1.0, 0.0), ratio)
        self._rounded = blind & ~smaller & (step.predicted < self._options.energy_tolerance)
        length = torch.linalg.vector_norm(step.s, dim=-1)
        radius = torch.where(ratio < _POOR, 0.25 * length, self._radius)
        radius = torch.where((ratio > _GOOD) & step.cut, 3 * length, radius)
        self._radius = torch.where(self.active & ~self._rounded, radius, self._radius)
        if bool((self.active & (self._radius < _LEAST_RADIUS)).any()):
            raise self.failure()
        return ratio > _ACCEPTED

    def _refuse_runaway(self) -> None:
        far = self.x.abs().amax(-1) > _RUNAWAY * (1 + self._start)
        if bool(far.any()):
            b = int(far.nonzero()[0])
            raise IllPosedError(
                f"the energy of structure {b} has no minimum: it fell from "
                f"{float(self._first[b]):.3g} to {float(self._value[b]):.3g} eV while an unknown "
                f"reached {float(self.x[b].abs().max()):.1e}. Coinciding atoms, a negative "
                "hardness or a slab without counter-charge cause this; check the geometry, the "
                "charge and the model"
            )

    def solution(self, method: str) -> Solution:
        """The record of the search."""
        tally, n = self._surface.tally, len(self._value)
        residual = float(self._gradient.abs().max())
        notes = [f"{self._surface.hessians} Hessians"] if self._surface.hessians else []
        notes += [f"{self._saddles} saddle points left"] if self._saddles else []
        stage = Stage(method, n, n, tally.maps, tally.products, residual, ", ".join(notes))
        return Solution(method, True, tally.spent, residual, tuple(tally.history), (stage,))

    def failure(self) -> SCFError:
        """What to raise where no minimum is found."""
        tally = self._surface.tally
        which = self.active.nonzero()[:, 0].tolist()
        worst = float(self._gradient.abs().amax(-1)[self.active].max())
        return SCFError(
            f"no minimum was found for structure {', '.join(map(str, which[:5]))}: the largest "
            f"slope is {worst:.1e} (tolerance {self._options.tolerance:.0e}) after {tally.maps} "
            f"energies and {tally.products} Hessian products. No number is returned. What to try: "
            f"more steps, scf={{'max_maps': {4 * tally.limit}}}; a larger tolerance where rounding "
            "is the limit; check the geometry for coinciding atoms; a smaller field or charge",
            history=tally.history,
        )
