"""The minimum of a convex functional in structures too large for matrices."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from asesc.errors import SCFError
from asesc.models.energy_surface import EnergySurface
from asesc.solvers import Solution, Stage, response_inverse

#: Change of the density by a Newton step, e Å^l, after which steps of full accuracy finish.
_NEAR = 1e-4
#: Accuracy of a step, relative to what is left.
_FORCING = 0.1
#: Sufficient decrease per slope, and the shortest step.
_DECREASE, _SHORTEST = 1e-4, 1e-6


@torch.no_grad()
def descend_by_response(surface: EnergySurface, start: Tensor) -> tuple[Tensor, Solution]:
    """Node potentials (N, M) close to the minimum of a convex functional, by damped Newton steps.

    With r = w − u(p(w)) the slope of the energy is ∂E/∂w = S r, and Newton's step for r,

        δ = −(1 + K S)⁻¹ r,

    leads downhill, since δ·S r = −r·S (1 + K S)⁻¹ r and that matrix is symmetric and not negative;
    it is shortened until the energy falls enough. The Hessian S + S K S is ill-conditioned in large
    structures: S, a graph Laplacian, moves little charge along long waves. 1 + K S is not, so that
    the products of a step do not grow with the size (:func:`~asesc.solvers.solve_response`).

    Raises
    ------
    SCFError
        If no step lowers the energy, or after ``max_maps`` energies and products.
    """
    descent = _Descent(surface, start)
    while not descent.moved < _NEAR:
        if descent.spent >= surface.problem.options.max_maps:
            raise descent.failure()
        descent.advance()
    return descent.w, descent.solution()


class _Descent:
    """Where the search stands, and what it has cost."""

    def __init__(self, surface: EnergySurface, start: Tensor) -> None:
        self._surface, self.w = surface, start
        self._energy, self._residual = self._look(start)
        self.maps, self.products, self.history = 1, 0, list[float]()

    @property
    def moved(self) -> float:
        """How far the last step moved the density, e Å^l."""
        return self.history[-1] if self.history else float("inf")

    @property
    def spent(self) -> int:
        """Energies and products with K."""
        return self.maps + self.products

    def advance(self) -> None:
        """One step of every structure, as long as each of them allows."""
        step, slope = self._step()
        noise = 1e-12 * (1 + self._energy.abs())  # below which the energy cannot tell
        length = torch.ones_like(self._energy)
        batch, before = self._surface.problem.system.batch, self._density(self.w)
        while True:
            trial = self.w + length[batch, None] * step
            energy, residual = self._look(trial)
            self.maps += 1
            short = ~(energy <= self._energy + _DECREASE * length * slope + noise)
            if not bool(short.any()):
                break
            length = torch.where(short, 0.3 * length, length)
            if bool((length < _SHORTEST).any()) or self.spent >= self._limit:
                raise self.failure()
        self.w, self._energy, self._residual = trial, energy, residual
        self.history.append(float((self._density(trial) - before).abs().max()))

    def _step(self) -> tuple[Tensor, Tensor]:
        """δ (N, M) and its slope δ·∂E/∂w (B,)."""
        surface, system = self._surface, self._surface.problem.system
        susceptibility, stiffness = surface.products(self.w)

        def counted(p: Tensor) -> Tensor:
            self.products += 1
            return stiffness(p)

        drive = susceptibility(self._residual)
        options = surface.problem.options
        tolerance = max(_FORCING * float(drive.abs().max()), options.tolerance)
        patient = replace(options, tolerance=tolerance)
        inverse = response_inverse(susceptibility, counted, layout=system.layout, options=patient)
        step = -inverse(self._residual, True)
        return step, system.sum((drive * step).sum(-1))

    def _look(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """E (B,) and r (N, M)."""
        flow = self._surface.flow(w)
        return self._surface.energy_of(flow), w - self._surface.potential(flow.coefficients)

    def _density(self, w: Tensor) -> Tensor:
        return self._surface.flow(w).coefficients

    @property
    def _limit(self) -> int:
        return self._surface.problem.options.max_maps

    def solution(self) -> Solution:
        """The record of the search."""
        n = self._surface.problem.system.n_structures
        stage = Stage("response Newton", n, n, self.maps, self.products, self.moved)
        history = tuple(self.history)
        return Solution("response Newton", True, self.spent, self.moved, history, (stage,))

    def failure(self) -> SCFError:
        """What to raise where no minimum is found."""
        return SCFError(
            f"no minimum was found: the last step moved the density by {self.moved:.1e} e Å^l "
            f"after {self.maps} energies and {self.products} products. No number is returned. What "
            f"to try: more steps, scf={{'max_maps': {4 * self._limit}}}; check the geometry for "
            "coinciding atoms; a smaller field or charge",
            history=self.history,
        )
