"""An energy functional of the density that a network shapes: beyond quadratic, one minimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from asesc.errors import InputError, SCFError, did_you_mean
from asesc.models.base import Problem, State
from asesc.models.energy_surface import EnergySurface, RememberedCoulomb
from asesc.models.functionals import FUNCTIONALS, EdgeFunctional
from asesc.models.large_minimum import descend_by_response
from asesc.models.localised_minima import place_charge
from asesc.models.split_charge_equilibration import SplitChargeEquilibration
from asesc.models.transfers import itinerant_dipole
from asesc.solvers import (
    Solution,
    Stage,
    attach_derivatives,
    frozen_jacobian,
    minimise,
    response_inverse,
)
from asesc.system import System

#: Slope, √eV, at which a minimisation is close enough for Newton's method to finish: the energy is
#: then within about its square. In metals rounding alone makes slopes of 1e-7.
_HANDOVER = 1e-5
_CORRECTIONS = 6
#: First radius, √eV, of a search for the nearest of several minima: a smaller one finds no other,
#: 0.3 √eV does for one hard input in thirty.
_WITHIN_A_WELL = 0.1
#: Maps for one step of the ramp, and the least step.
_RAMP_MAPS, _LEAST_INCREMENT = 100, 1e-3


class EnergyFunctional(SplitChargeEquilibration, family="EnergyFunctional"):
    """Minimise over edge transfers t_ij = −t_ji and atomic dipoles d_i

        E = Σ_(i<j) [h_ij(t_ij) + χ_ij t_ij] + Σ_i [χ_i q_i + ½η_i q_i² + ϕ_i·d_i + ½ d_i·α_i⁻¹·d_i
            + G_i(q_i, d_i)] + ½⟨p, Jp⟩ − E_field·μ,    q_i = q⁰_i + Σ_j t_ij.

    This is :class:`SplitChargeEquilibration` with two learned terms that are not quadratic: the
    edge energy h_ij, of which t²/2g_ij is the simplest, and the atomic functional G_i. Heads of a
    trained quadratic model fit. ``functional="convex"`` makes every term convex in all unknowns:

    - q_i is linear in the transfers, and convexity survives linear maps and sums;
    - h_ij is a Legendre transform, hence convex (:class:`~asesc.models.functionals.ConvexEdges`);
    - G_i is convex in (q_i, d_i) jointly (:class:`~asesc.models.convex.SoftRidges`);
    - ½η_i q_i² and ½ d·α⁻¹·d are, with η_i > 0 and α_i positive semidefinite;
    - ½⟨p, Jp⟩ is a positive energy for densities of one total charge, and the rest is linear.

    h_ij is strictly convex, so that there is exactly one minimum and it moves smoothly with the
    geometry, the field and the charge. Forces need no derivative of it (envelope theorem).
    ``functional="localised"`` adds wells at integer charges and gives that up: several minima with
    the charge on different atoms exist. There the formal charges are oxidation states: the charge
    beyond their sum is put on atoms in whole units, where ``System.charge_sites`` says or, without
    it, on every atom in turn; the lowest minimum is returned and the others are listed in a
    :class:`~asesc.errors.SeveralMinimaWarning`.

    Newton's method on dense matrices of size 4N, O(N³) per step, typically 3 to 6 steps; beyond
    ``dense_limit`` by products, whose number hardly grows with the structure if the functional is
    convex. A search costs N such minimisations per unit of charge.

    Parameters
    ----------
    functional : str
        A name of :data:`~asesc.models.functionals.FUNCTIONALS`.
    formal_charges : mapping of int or symbol to float, e, optional
        q⁰ per element, default 0; a total charge beyond their sum is divided over the atoms with
        learned positive weights, or placed in whole units.
    **common
        See :class:`~asesc.models.base.Model`.

    References
    ----------
    arXiv:2603.14700 (energy functionals). W. B. Dapp, M. H. Müser, J. Chem. Phys. 139, 064106
    (2013), doi:10.1063/1.4817772 (split charges with integer oxidation states).
    """

    has_itinerant_polarisation: ClassVar[bool] = True

    def __init__(
        self,
        *,
        functional: str = "convex",
        formal_charges: Mapping[int | str, float] | None = None,
        **common: Any,
    ) -> None:
        if functional not in FUNCTIONALS:
            raise InputError(
                f"functional={functional!r} is not known."
                f"{did_you_mean(str(functional), FUNCTIONALS)} There are {', '.join(FUNCTIONALS)}"
            )
        super().__init__(formal_charges=formal_charges, **common)
        self.hyperparameters["functional"] = functional
        n_scalars, n_vectors = self.backbone.n_scalars, self.backbone.n_vectors
        self.atom_functional = FUNCTIONALS[functional](n_scalars, lmax=self.lmax)
        self.edge_functional = EdgeFunctional(n_scalars, n_vectors, self.cutoff)
        self.has_fermi_level = self.atom_functional.is_convex
        self.localises_charge = not self.atom_functional.is_convex

    def solve(self, problem: Problem) -> State:
        surface = self.surface(problem)
        frozen = surface.frozen()
        start, stages = _start(frozen), ()
        find = find_minimum
        if not self.atom_functional.is_convex:
            # Which of several minima is found must follow from the structure, not from its past.
            start, find = torch.zeros_like(start), find_held_minimum
            formal = self._formal[self.backbone.index_of(problem.system.numbers)]
            placement = place_charge(frozen, formal, start, find)
            stages = placement.stages
            chosen = placement.chosen[problem.system.batch]
            share = torch.where(chosen, placement.share, surface.response.share)
            surface = surface.placed(formal, share)
            frozen = surface.frozen()
        w, solution = find(frozen, start)
        w = attach_derivatives(w, surface.residual, _inverse(frozen, w), order=problem.corrections)
        spent = solution.iterations + sum(stage.maps for stage in stages)
        solution = replace(solution, iterations=spent, stages=(*stages, *solution.stages))
        return state_at(surface, w, solution)

    def surface(self, problem: Problem) -> EnergySurface:
        """The energy of a problem as a function of node potentials, differentiable."""
        features = problem.features
        formal = self._formal[self.backbone.index_of(problem.system.numbers)]
        atoms = self.atom_functional(features, formal)
        edges = self.edge_functional(features)
        return EnergySurface.of(problem, self._response(problem), atoms, edges)

    def image(self, problem: Problem, coefficients: Tensor) -> Tensor:
        """The density that answers the potential ∂E/∂p of a density p, (N, M).

        It is p itself at the minimum and nowhere else: the form ∂E/∂p = 0 takes where moving charge
        costs nothing along some edges and everything along others. Convex functionals only.
        """
        surface = self.surface(problem)
        return surface.flow(surface.potential(coefficients)).coefficients

    def _accepted(self, system: System) -> System:
        if system.fermi_level is not None and not self.atom_functional.is_convex:
            raise InputError(
                f"fermi_level={system.fermi_level.tolist()} eV, but the functional 'localised' "
                "holds whole charges: E(Q) is not convex, so that no one charge belongs to a Fermi "
                "level. Pass charge=…, or compare the energies of several charges yourself"
            )
        return super()._accepted(system)


def _start(surface: EnergySurface) -> Tensor:
    """Node potentials of the density that the caller knows, or of no drive at all."""
    known = surface.problem.start
    with torch.no_grad():
        if known is None:
            return torch.zeros_like(surface.response.electronegativity)
        return surface.potential(known)


def find_minimum(surface: EnergySurface, start: Tensor) -> tuple[Tensor, Solution]:
    """Node potentials (N, M) of a minimum, without graph.

    Where Newton's method does not reach that of a convex functional from the start, it is followed
    from the quadratic functional, which has it in one step, while the ridges are switched on.

    Raises
    ------
    SCFError
        If no minimum is found, or the density at it still moves by more than the tolerance.
    """
    try:
        return _descend(surface, start)
    except SCFError as failure:
        if not surface.atoms.is_convex:
            raise
        return _ramp(surface, failure)


def _ramp(surface: EnergySurface, failure: SCFError) -> tuple[Tensor, Solution]:
    """The minimum of a convex functional, followed while its ridges grow from 0 to 1."""
    options = surface.problem.options
    w = torch.zeros_like(surface.response.electronegativity)
    strength, increment, maps, solution = 0.0, 0.5, 0, None
    while strength < 1 or solution is None:
        trial = min(1.0, strength + increment) if solution else 0.0
        budget = replace(options, max_maps=min(_RAMP_MAPS, options.max_maps - maps))
        patient = replace(surface, problem=replace(surface.problem, options=budget))
        try:
            w, solution = _descend(patient.softened(trial), w)
        except SCFError:
            maps, increment = maps + budget.max_maps, 0.25 * increment
            if solution is None or increment < _LEAST_INCREMENT:
                raise failure from None
        else:
            maps, strength, increment = maps + solution.iterations, trial, 2 * increment
        if strength < 1 and maps >= options.max_maps:
            raise failure
    n = surface.problem.system.n_structures
    spent = maps + len(failure.history)
    stage = Stage("ramp of the ridges", n, n, spent, 0, solution.residual)
    return w, replace(solution, method="ramp", iterations=spent, stages=(stage,))


def _descend(surface: EnergySurface, start: Tensor) -> tuple[Tensor, Solution]:
    """A minimum downhill from the start.

    Node potentials are minimised over in units of their own response
    (:meth:`EnergySurface.scale`), or followed by response solves where the functional is convex and
    the structure large. Newton steps for w = u(p(w)) finish, and settle the potentials of
    atoms to which nothing flows. The residual is how far the last of them moved the density; in a
    metal, where one more map multiplies every error of w by a large response, the change in one map
    would not tell.
    """
    problem = surface.problem
    if surface.is_solved_by_response:
        w, solution = descend_by_response(surface, start)
        counted = RememberedCoulomb(surface.coulomb)
        w, moved = _finished(replace(surface, coulomb=counted), w)
        spent = solution.iterations + counted.applied
        return w, replace(solution, iterations=spent, residual=moved[-1])
    scale = surface.scale(start)
    layout, options = problem.system.layout, problem.options
    near = replace(options, tolerance=max(options.tolerance, _HANDOVER))
    blocks = layout.pad(scale).flatten(1)

    def hessian(x: Tensor) -> Tensor:
        return blocks[:, :, None] * surface.hessian(x * scale) * blocks[:, None, :]

    x, solution = minimise(
        lambda x: surface.energy(x * scale),
        start / scale,
        layout=layout,
        options=near,
        slope=lambda x: scale * surface.slope(x * scale),
        hessian=hessian if problem.is_small else None,
        convex=surface.atoms.is_convex,
        radius=torch.inf if surface.atoms.is_convex else _WITHIN_A_WELL,
    )
    w, moved = _finished(surface, x * scale)
    return w, replace(solution, iterations=solution.iterations + len(moved), residual=moved[-1])


@torch.no_grad()
def _finished(surface: EnergySurface, w: Tensor) -> tuple[Tensor, list[float]]:
    """Newton steps for w = u(p(w)), and how far each moved the density, e Å^l."""
    tolerance, moved = surface.problem.options.tolerance, []
    density = surface.flow(w).coefficients
    while not moved or not moved[-1] < tolerance:
        if len(moved) == _CORRECTIONS:
            raise SCFError(
                f"the density at the minimum of the energy still moves by {moved[-1]:.1e} e Å^l "
                f"per Newton step (tolerance {tolerance:.0e}): the rounding errors of so large a "
                "response decide. Use a larger tolerance, or check the geometry",
                history=moved,
            )
        w = w - _inverse(surface, w)(surface.residual(w), False)
        before, density = density, surface.flow(w).coefficients
        moved.append(float((density - before).abs().max()))
    return w, moved


def find_held_minimum(surface: EnergySurface, start: Tensor) -> tuple[Tensor, Solution]:
    """The minimum downhill from where harmonic wells hold the charge that was placed.

    Wells continued as parabolas make the functional convex; its one minimum is the start, so that
    where the charge ends follows from where it was placed and from nothing else.
    """
    held = replace(surface, atoms=surface.atoms.harmonic(surface.response.formal))
    w, first = find_minimum(held, start)
    w, solution = find_minimum(surface, w)
    spent = first.iterations + solution.iterations
    stages = (*first.stages, *solution.stages)
    return w, replace(solution, iterations=spent, stages=stages)


def _inverse(surface: EnergySurface, w: Tensor) -> Callable[[Tensor, bool], Tensor]:
    """(1 + K S)⁻¹ at w, which carries no graph."""
    problem = surface.problem
    if surface.is_solved_by_response:
        # 1 + K S is the transpose of 1 + S K. Derivatives multiply what a solve leaves.
        exact = replace(problem.options, tolerance=0.1 * problem.options.tolerance)
        inverse = response_inverse(
            *surface.products(w), layout=problem.system.layout, options=exact
        )
        return lambda vector, transposed: inverse(vector, not transposed)
    return frozen_jacobian(
        surface.residual,
        w,
        layout=problem.system.layout,
        options=problem.options,
        jacobian=surface.jacobian if problem.is_small else None,
    )


def state_at(surface: EnergySurface, w: Tensor, solution: Solution) -> State:
    """Density, dipole and energy that belong to node potentials."""
    system, response = surface.problem.system, surface.response
    flow = surface.flow(w)
    return State(
        coefficients=flow.coefficients,
        dipole=itinerant_dipole(
            system, surface.problem.features, response.formal, flow.transfers, flow.dipoles
        ),
        internal_energy=surface.internal(flow),
        solution=solution,
        chemical_potential=system.sum(response.share * (w[:, 0] - surface.lever)),
    )
