"""The minimum of a convex functional in structures too large for matrices."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from asesc.errors import SCFError
from asesc.models.energy_surface import EnergySurface, RememberedCoulomb
from asesc.solvers import Solution, Stage, solve_response

#: Change of the density by a Newton step, e Å^l, after which steps of full accuracy finish.
_NEAR = 1e-4
#: Accuracy of a step relative to what is left: at first, and after it was raised often.
_FORCING, _FINEST = 0.1, 1e-5
#: Sufficient decrease per slope.
_DECREASE = 1e-4
#: Parts of a step: below the first it is solved better from then on, the second ends the search.
_CRAWLING, _SHORTEST = 0.1, 1e-6
#: Rounding of an energy, relative to 1 eV and itself.
_NOISE = 1e-11


@torch.no_grad()
def descend_by_response(surface: EnergySurface, start: Tensor) -> tuple[Tensor, Solution]:
    """Node potentials (N, M) close to the minimum of a convex functional, by damped Newton steps.

    With r = w − u(p(w)) the slope of the energy is ∂E/∂w = S r, and Newton's step for r,

        δ = −(1 + K S)⁻¹ r = K (1 + S K)⁻¹ S r − r,

    leads downhill, since δ·S r = −r·S (1 + K S)⁻¹ r and that matrix is symmetric and not negative;
    it is shortened until the energy falls enough. Where little is left of it, the step is solved
    more accurately: along atoms to which hardly anything flows a rough one need not lead downhill,
    or turns where the functional bends. The Hessian S + S K S is ill-conditioned in large
    structures: S, a graph Laplacian, moves little charge along long waves. 1 + S K is not, so that
    the products of a step hardly grow with the size (:func:`~asesc.solvers.solve_response`).

    Raises
    ------
    SCFError
        If no step lowers the energy, or after ``max_maps`` applications of J.
    """
    descent = _Descent(surface, start)
    while not descent.is_near:
        descent.advance()
    return descent.w, descent.solution()


class _Descent:
    """Where the search stands, and what it has cost."""

    def __init__(self, surface: EnergySurface, start: Tensor) -> None:
        self._coulomb = RememberedCoulomb(surface.coulomb)
        self._surface = replace(surface, coulomb=self._coulomb)
        self._options, self._system = surface.problem.options, surface.problem.system
        self.w, self.is_near, self._maps = start, False, 0
        self._forcing = _FORCING
        self._energy, self._residual = self._look(start)
        self._history = [float(self._residual.abs().max())]

    def advance(self) -> None:
        """One step of every structure."""
        step, slope, moved = self._step()
        length, trial = self._line_search(step, slope)
        shortest = float(length.min())
        if shortest < _CRAWLING and self._forcing > _FINEST:
            self._forcing = max(_FINEST, 0.1 * self._forcing)
            if shortest < _SHORTEST:
                return
        elif shortest < _SHORTEST:
            raise self._failure("no step lowers the energy", "check the geometry")
        self.is_near = moved < _NEAR and bool((length == 1).all())
        self.w, self._energy, self._residual = trial
        self._history.append(float(self._residual.abs().max()))

    def _line_search(
        self, step: Tensor, slope: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """How much of every structure's step lowers its energy enough, and what is there.

        The search ends where the least length is below the shortest.
        """
        noise = _NOISE * (1 + self._energy.abs())
        blind = slope.abs() < 10 * noise  # the energy cannot tell any more
        length = torch.where((slope < 0) | blind, 1.0, 0.0)  # a rough step may lead uphill
        while True:
            trial = self.w + length[self._system.batch, None] * step
            energy, residual = self._look(trial)
            falls = energy <= self._energy + _DECREASE * length * slope + noise
            short = ~(falls | (blind & energy.isfinite()))
            length = torch.where(short, 0.3 * length, length)
            if not bool(short.any()) or bool((length < _SHORTEST).any()):
                return length, (trial, energy, residual)

    def _step(self) -> tuple[Tensor, Tensor, float]:
        """δ (N, M), its slope δ·∂E/∂w (B,), and how far it would move the density, e Å^l."""
        susceptibility, stiffness = self._surface.products(self.w)
        layout, batch = self._system.layout, self._system.batch
        drive = susceptibility(self._residual)
        size = layout.pad(drive).abs().flatten(1).amax(1)
        # Every structure is solved to the same relative accuracy.
        scale = torch.where(size > 0, size, 1.0)[batch, None]
        patient = replace(self._options, tolerance=self._forcing, max_maps=self._left())
        try:
            answer, _ = solve_response(
                susceptibility, stiffness, drive / scale, layout=layout, options=patient
            )
        except SCFError:
            raise self._spent() from None
        answer = answer * scale
        step = stiffness(answer) - self._residual
        return step, self._system.sum((drive * step).sum(-1)), float(answer.abs().max())

    def _look(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """E (B,) and r (N, M), from one application of J."""
        self._left()
        self._maps += 1
        flow = self._surface.flow(w)
        return self._surface.energy_of(flow), w - self._surface.potential(flow.coefficients)

    def _left(self) -> int:
        """Applications of J that are still allowed; raises where there are none."""
        left = self._options.max_maps - self._coulomb.applied
        if left <= 0:
            raise self._spent()
        return left

    def solution(self) -> Solution:
        """The record of the search."""
        n, applied = self._system.n_structures, self._coulomb.applied
        name, residual = "response Newton", self._history[-1]
        stage = Stage(name, n, n, self._maps, applied - self._maps, residual)
        return Solution(name, True, applied, residual, tuple(self._history), (stage,))

    def _spent(self) -> SCFError:
        more = f"more of them, scf={{'max_maps': {4 * self._options.max_maps}}}; a looser tolerance"
        return self._failure("the allowed applications of J are used up", more)

    def _failure(self, why: str, remedy: str) -> SCFError:
        return SCFError(
            f"no minimum was found: {why}. The residual is {self._history[-1]:.1e} V Å^−l after "
            f"{self._maps} energies and {self._coulomb.applied - self._maps} products. No number "
            f"is returned. What to try: {remedy}; coinciding atoms, a smaller field or charge",
            history=self._history,
        )
