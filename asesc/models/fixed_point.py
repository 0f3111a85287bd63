"""A density that is its own answer to the potential it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from asesc.errors import InputError, did_you_mean
from asesc.models.base import Model, Problem, State
from asesc.models.density_map import DensityMap, Environment, Flow
from asesc.models.ensembles import require_minimum
from asesc.models.moments import read_out_dipole
from asesc.models.potential_features import PotentialFeatures
from asesc.models.readouts import (
    AtomScalars,
    AtomVectors,
    EdgeScalars,
    inverse_positive,
    positive,
)
from asesc.models.updates import UPDATES
from asesc.solvers import Solution, attach_derivatives, frozen_jacobian, solve_fixed_point

_ELECTRONEGATIVITY = 4.5  # V, start; minus the Fermi level of a neutral atom
_HARDNESS = 20.0  # V/e, start: the inverse of the susceptibility's start


class FixedPoint(Model, family="FixedPoint"):
    """p = p_local(environment) + Δp(x; environment, μ), x the potential of p itself.

        Δq_i = −φ_i(x_i + χ_i + μ) − Σ_j θ_ij(x_i + χ_i − x_j − χ_j),    Δd_i = −ϑ_i(∇x_i).

    φ, θ and ϑ are monotone functions made by the environment (``update``). φ exchanges charge with
    a reservoir at the Fermi level μ of the electrons: the metallic part, dq_i/dμ ≤ 0 by
    construction. θ exchanges it with neighbours and does not see μ: the insulating part. Where φ
    vanishes so does every long-range transfer of charge, exactly. At fixed charge μ is eliminated
    inside the map, so that Σq = Q in every iteration and in what is returned; a trace of φ shared
    out by learned weights keeps μ defined for insulators. p_local has no net charge.

    x is the potential on receivers of several widths (see
    :class:`~asesc.models.potential_features.PotentialFeatures`), with the atom's own Gaussian:
    nothing diverges, however large φ is. For ``update="linear"`` or ``"gated"`` there is exactly
    one fixed point for every geometry, field and charge, because x = J̄p with a positive J̄ and a
    symmetric, monotone answer.

    The energy is a readout of its own,

        E = E_short + Σ_i [χ'_i q_i + ½η_i (Δq_i^φ)² + k_i Δd_i·∇x_i]
            + Σ_(i<j) c_ij t_ij (x_i − x_j) + ½⟨p, Jp⟩ − E_field·μ_dipole,

    with coefficients from the environment that start where it would be stationary in p. It is not:
    forces are exact because the derivatives of p are attached, but −∂E/∂E_field is not the dipole
    of the density, nor −∂E/∂Q the level μ. Both pairs are reported, and
    :func:`asesc.response.conjugacy` measures how far apart they are.

    Dense Newton up to ``SCFOptions.dense_limit`` unknowns per structure, O(N³); beyond, the ladder
    of :func:`~asesc.solvers.solve_fixed_point`.

    Parameters
    ----------
    update : "linear", "gated" or "mlp"
        A name of :data:`~asesc.models.updates.UPDATES`.
    receivers : sequence of float ≥ 1
        Receiver widths in units of each atom's own.
    **common
        See :class:`~asesc.models.base.Model`.

    References
    ----------
    arXiv:2603.14700, eqs. 41 and 42.
    """

    variational: ClassVar[bool] = False
    has_fermi_level: ClassVar[bool] = True

    def __init__(
        self, *, update: str = "linear", receivers: Sequence[float] = (1.0, 2.0), **common: Any
    ) -> None:
        if update not in UPDATES:
            raise InputError(
                f"update={update!r} is not known.{did_you_mean(str(update), UPDATES)} "
                f"There are {', '.join(UPDATES)}"
            )
        own = {"update": update, "receivers": [float(factor) for factor in receivers]}
        super().__init__(own=own, **common)
        n_scalars, n_vectors = self.backbone.n_scalars, self.backbone.n_vectors
        rule = UPDATES[update]
        self.features = PotentialFeatures(receivers, channels=rule.channels)
        self.update = rule(n_scalars, n_vectors, self.cutoff)
        bias = [0.0, inverse_positive(1.0), _ELECTRONEGATIVITY]
        self.charge_head = AtomScalars(n_scalars, bias=bias)
        self.dipole_head = AtomVectors(n_scalars, n_vectors) if self.lmax > 0 else None
        bias = [0.0, inverse_positive(_HARDNESS), -0.5]
        self.energy_head = AtomScalars(n_scalars, bias=bias)
        self.edge_energy_head = EdgeScalars(n_scalars, n_vectors, self.cutoff, outputs=1)

    def solve(self, problem: Problem) -> State:
        density_map = self.density_map(problem)
        start = density_map.start() if problem.start is None else problem.start
        coefficients, solution = _converge(density_map, start)
        # One more map: its charges add up to Q to rounding, not to the tolerance.
        flow = density_map(coefficients)
        return State(
            coefficients=flow.coefficients,
            dipole=read_out_dipole(problem.system, flow.coefficients),
            internal_energy=self._internal_energy(density_map, flow),
            solution=solution,
            chemical_potential=-flow.level,
        )

    def solve_at_fermi_level(self, problem: Problem) -> State:
        return self.solve(problem)

    def density_map(self, problem: Problem) -> DensityMap:
        """The map F of a problem, differentiable; p = F(p) is the density."""
        features = problem.features
        charges, raw_weight, electronegativity = self.charge_head(features).unbind(-1)
        dipoles = None if self.dipole_head is None else self.dipole_head(features)
        environment = Environment.neutral(
            problem.system, charges, dipoles, positive(raw_weight), electronegativity
        )
        return DensityMap(problem, environment, self.features.bind(problem), self.update(features))

    def image(self, problem: Problem, coefficients: Tensor) -> Tensor:
        """F(p), (N, M): equal to p for the density that is sought and for no other."""
        return self.density_map(problem)(coefficients).coefficients

    def _internal_energy(self, density_map: DensityMap, flow: Flow) -> Tensor:
        """The separate readout, (B,), eV; every edge is listed twice, hence the half."""
        system, features = density_map.problem.system, density_map.problem.features
        shift, raw_hardness, along = self.energy_head(features).unbind(-1)
        electronegativity = density_map.environment.electronegativity + shift
        on_atoms = electronegativity * flow.coefficients[:, 0]
        on_atoms = on_atoms + 0.5 * positive(raw_hardness) * flow.exchanged**2
        if flow.dipoles is not None:
            on_atoms = on_atoms + along * (flow.dipoles * flow.gradient).sum(-1)
        forward, backward = self.edge_energy_head(features)[..., 0]
        coefficient = 0.5 * (forward + backward) - 0.5
        on_edges = 0.5 * coefficient * flow.transfers * flow.drops
        return system.sum(on_atoms.index_add(0, features.edges.source, on_edges))


def _converge(density_map: DensityMap, start: Tensor) -> tuple[Tensor, Solution]:
    """The density with p = F(p), (N, M), with two exact derivatives."""
    problem = density_map.problem
    with torch.no_grad():
        # Work of moving a misplaced charge, in the potential of the start.
        work = problem.coulomb.potential(start) + density_map.potential.external

    def energy_error(residual: Tensor) -> Tensor:
        return problem.system.sum((work * residual).sum(-1)).abs()

    how: dict[str, Any] = {"layout": problem.system.layout, "options": problem.options}
    if problem.is_small:
        how["jacobian"] = density_map.jacobian
    else:
        how["precondition"] = density_map.precondition(start)
    with torch.no_grad():
        coefficients, solution = solve_fixed_point(
            density_map.residual,
            start,
            ramped=density_map.ramped,
            energy_error=energy_error,
            **how,
        )
    held = problem.system.fermi_level is not None
    if not (held or torch.is_grad_enabled()):
        return coefficients, solution
    inverse = frozen_jacobian(density_map.residual, coefficients, **how)
    if held:
        # dQ/dμ = −1/(d²E/dQ²) of the converged density must be negative.
        drawn = inverse(density_map.level_derivative(coefficients), False)
        change = problem.system.sum(drawn[:, 0])
        require_minimum(-1 / change)
    coefficients = attach_derivatives(
        coefficients, density_map.residual, inverse, order=problem.corrections
    )
    return coefficients, solution
