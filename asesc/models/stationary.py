"""What a self-consistent family solves, at trial values of its unknowns: for solvers from outside.

Each family becomes unknowns x, a residual r(x) that vanishes at the solution, and a state (density,
energy, …) that any x has. Molecular dynamics extrapolates x; see :mod:`asesc.models.one_map`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from asesc.models.base import Model, Problem, State
from asesc.models.density_map import DensityMap
from asesc.models.energy_functional import EnergyFunctional, state_at
from asesc.models.energy_surface import EnergySurface, RememberedCoulomb
from asesc.models.fixed_point import FixedPoint
from asesc.models.functionals import AtomicFunctional
from asesc.models.moments import read_out_dipole
from asesc.models.split_charge_equilibration import SplitChargeEquilibration
from asesc.solvers import Solution


class Stationary(ABC):
    """The equations of one geometry; everything is differentiable in x and in the geometry."""

    #: Whether E is stationary in x at the solution, so that it has no adjoint to follow.
    variational: bool = True
    #: Largest component of r that dynamics leaves uncorrected by default: its energy is then right
    #: to some 1e-6 eV per atom, since the error is of second order.
    residual_limit: float = 2e-2

    @abstractmethod
    def unknowns(self, coefficients: Tensor) -> Tensor:
        """x of a converged density, (N, M), without graph."""

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """r(x), (N, M); in units of x."""

    @abstractmethod
    def jacobian(self, x: Tensor) -> Tensor:
        """∂r/∂x as blocks without graph, (B, n·M, n·M)."""

    @abstractmethod
    def state(self, x: Tensor, solution: Solution) -> tuple[State, Tensor]:
        """The state and r(x), sharing what they have in common."""


def stationary(model: Model, problem: Problem) -> Stationary | None:
    """The equations of a model, or None where it has none of this kind.

    Charge that localises in whole units jumps, and a family that solves for the charge at a Fermi
    level holds no level in its equations: neither can be extrapolated.
    """
    if isinstance(model, FixedPoint):
        return _Map(model, model.density_map(problem))
    if problem.system.fermi_level is not None:
        return None
    if isinstance(model, EnergyFunctional):
        return None if model.localises_charge else _Potentials(model.surface(problem))
    if isinstance(model, SplitChargeEquilibration):
        edges, response = QuadraticEdges(), model._response(problem)
        return _Potentials(EnergySurface.of(problem, response, NoFunctional(), edges))
    return None


class _Map(Stationary):
    """p = F(p)."""

    variational = False
    residual_limit = 5e-3

    def __init__(self, model: FixedPoint, density_map: DensityMap) -> None:
        self._model, self._map = model, density_map

    def unknowns(self, coefficients: Tensor) -> Tensor:
        return coefficients.detach()

    def residual(self, x: Tensor) -> Tensor:
        return self._map.residual(x)

    def jacobian(self, x: Tensor) -> Tensor:
        return self._map.jacobian(x)

    def state(self, x: Tensor, solution: Solution) -> tuple[State, Tensor]:
        flow, problem = self._map(x), self._map.problem
        state = State(
            coefficients=flow.coefficients,
            dipole=read_out_dipole(problem.system, flow.coefficients),
            internal_energy=self._model._internal_energy(self._map, flow),
            solution=solution,
            chemical_potential=-flow.level,
            potential=problem.coulomb.potential(flow.coefficients),
        )
        return state, x - flow.coefficients


class _Potentials(Stationary):
    """w = u(p(w)), the node potentials at the minimum of an energy."""

    def __init__(self, surface: EnergySurface) -> None:
        self._surface = surface

    def unknowns(self, coefficients: Tensor) -> Tensor:
        with torch.no_grad():
            return self._surface.potential(coefficients.detach())

    def residual(self, x: Tensor) -> Tensor:
        return self._surface.residual(x)

    def jacobian(self, x: Tensor) -> Tensor:
        return self._surface.frozen().jacobian(x)

    def state(self, x: Tensor, solution: Solution) -> tuple[State, Tensor]:
        # J p serves the energy and the residual.
        coulomb = RememberedCoulomb(self._surface.coulomb)
        surface = replace(self._surface, coulomb=coulomb)
        state = state_at(surface, x, solution)
        residual = x - surface.potential(state.coefficients)
        return replace(state, potential=coulomb.potential(state.coefficients)), residual


@dataclass(frozen=True)
class NoFunctional(AtomicFunctional):
    """No energy of atoms beyond the quadratic one."""

    def softened(self, strength: float) -> Self:
        return self

    def energy(self, coefficients: Tensor) -> Tensor:
        return torch.zeros_like(coefficients[:, 0])

    def slope(self, coefficients: Tensor) -> Tensor:
        return torch.zeros_like(coefficients)

    def curvature(self, coefficients: Tensor) -> Tensor:
        return coefficients.new_zeros(*coefficients.shape, coefficients.shape[1])


@dataclass(frozen=True)
class QuadraticEdges:
    """t²/2g: φ(Δ) = Δ."""

    def conjugate(self, drive: Tensor) -> Tensor:
        """½Δ²."""
        return 0.5 * drive**2

    def response(self, drive: Tensor) -> Tensor:
        """Δ."""
        return drive

    def gain(self, drive: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(drive)
