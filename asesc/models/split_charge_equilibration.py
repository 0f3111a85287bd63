"""Split-charge equilibration: insulators and metals in one quadratic energy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from asesc.models.backbone import Features
from asesc.models.base import Problem, State
from asesc.models.moments import coefficients_of
from asesc.models.readouts import (
    AtomScalars,
    AtomVectors,
    bond_polarizability,
    edge_envelope,
    inverse_positive,
    positive,
)
from asesc.models.transfers import TransferModel, itinerant_dipole
from asesc.solvers import (
    Solution,
    attach_derivatives,
    response_inverse,
    solve_linear,
    solve_response,
)

_HARDNESS = 2.0  # V/e, start of the learned hardness
_CONDUCTANCE = 0.05  # e/V, start of the learned edge conductance
_POLARIZABILITY = 0.03  # e Å²/V, start of the learned atomic polarisability


@dataclass(frozen=True)
class Response:
    """Parameters of the quadratic energy, made from the environment.

    ``electronegativity`` (N, M) is (χ_i, ϕ_i); ``hardness`` (N,) η_i; ``conductance`` (E,) g_ij;
    ``bias`` (E,) the bond electronegativity χ_ij = −χ_ji; ``polarizability`` (N, 3, 3) α_i;
    ``formal`` (N,) the charges q⁰_i; ``share`` (N,) = ∂q⁰_i/∂Q.
    """

    electronegativity: Tensor
    hardness: Tensor
    conductance: Tensor
    bias: Tensor
    polarizability: Tensor
    formal: Tensor
    share: Tensor

    def frozen(self) -> Response:
        """The same numbers without graph."""
        return Response(*(getattr(self, field.name).detach() for field in fields(self)))


@dataclass(frozen=True)
class Flow:
    """Answer of charges and dipoles to a potential.

    ``coefficients`` (N, M) they make; ``transfers`` and ``drive`` (E,) per directed edge;
    ``dipoles`` and the ``force`` on them (N, 3); ``potential`` (N,) of the charges, ∂E/∂q_i;
    ``coulomb`` (N, M), the part J p of it.
    """

    coefficients: Tensor
    transfers: Tensor
    drive: Tensor
    dipoles: Tensor | None
    force: Tensor | None
    potential: Tensor
    coulomb: Tensor


class SplitChargeEquilibration(TransferModel, family="SplitChargeEquilibration"):
    """Minimise over edge transfers t_ij = −t_ji and atomic dipoles d_i

        E = Σ_(i<j) [t_ij²/(2g_ij) + χ_ij t_ij] + Σ_i [χ_i q_i + ½η_i q_i² + ϕ_i·d_i
            + ½ d_i·α_i⁻¹·d_i] + ½⟨p, Jp⟩ − E_field·μ,    q_i = q⁰_i + Σ_j t_ij,

    with μ = Σ_i (q⁰_i r_i + d_i) + Σ_(i<j) t_ij (r_i − r_j). Eliminating the transfers,

        p = p⁰ − S (c + K p) − s,    S = diag(L_g, α),   K = J + diag(η),

    where L_g is the graph Laplacian with edge weights g_ij ≥ 0, c = (χ, ϕ), and s holds what bond
    electronegativities and the field drive along edges. Σq is exact by antisymmetry. Large g is a
    metal; where g → 0 (at the cutoff) no charge passes, so that insulators have a local response
    and separated fragments keep the charge they were given. Fields may point along periodic
    directions of neutral cells, because only relative vectors carry the transfers.

    The atomic polarisability is positive semidefinite: an isotropic part plus Σ_j b_ij r̂ r̂ᵀ,
    b_ij ≥ 0. One dense LU factorisation of size 4N, O(N³), without graph; beyond
    ``SCFOptions.dense_limit`` unknowns by conjugate gradients with products J p.

    Parameters
    ----------
    **keywords
        See :class:`~asesc.models.transfers.TransferModel`.

    References
    ----------
    R. A. Nistor et al., J. Chem. Phys. 125, 094108 (2006), doi:10.1063/1.2346671 (split charges);
    T. Verstraelen et al., J. Chem. Phys. 138, 074108 (2013), doi:10.1063/1.4791569 (ACKS2).
    """

    has_fermi_level: ClassVar[bool] = True

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        n_scalars, n_vectors = self.backbone.n_scalars, self.backbone.n_vectors
        raw = [0.0, inverse_positive(_HARDNESS), inverse_positive(1.0)]
        self.charge_head = AtomScalars(n_scalars, bias=raw)
        self.edge_head = self.edge_scalars(outputs=3)
        self.dipole_head = self.polarizability_head = None
        if self.lmax > 0:
            self.dipole_head = AtomVectors(n_scalars, n_vectors)
            start = [inverse_positive(_POLARIZABILITY)]
            self.polarizability_head = AtomScalars(n_scalars, bias=start)

    def solve(self, problem: Problem) -> State:
        response = self._response(problem)
        coefficients, solution = _equilibrate(problem, response)
        return _state_at(problem, response, coefficients, solution)

    def _response(self, problem: Problem) -> Response:
        system, features = problem.system, problem.features
        electronegativity, raw_hardness, raw_weight = self.charge_head(features).unbind(-1)
        forward, backward = self.edge_head(features)
        decay = edge_envelope(features, self.cutoff)
        weights = positive(raw_weight)
        start = inverse_positive(_CONDUCTANCE)
        symmetric = 0.5 * (forward[:, 0] + backward[:, 0])
        dipoles = None if self.dipole_head is None else self.dipole_head(features)
        return Response(
            electronegativity=coefficients_of(electronegativity, dipoles, self.lmax),
            hardness=positive(raw_hardness),
            conductance=positive(symmetric + start) * decay,
            bias=0.5 * (forward[:, 1] - backward[:, 1]),
            polarizability=self._polarizability(features, forward[:, 2], decay),
            formal=self.formal_charges(system, weights),
            share=weights / system.sum(weights)[system.batch],
        )

    def _polarizability(self, features: Features, raw_bonds: Tensor, decay: Tensor) -> Tensor:
        """α_i of every atom, zero for models without dipoles: (N, 3, 3), e Å²/V."""
        if self.polarizability_head is None:
            return decay.new_zeros(len(features.scalars), 3, 3)
        isotropic = positive(self.polarizability_head(features)[:, 0])
        bonds = positive(raw_bonds + inverse_positive(_POLARIZABILITY)) * decay
        return bond_polarizability(features, isotropic, bonds)


def _equilibrate(problem: Problem, response: Response) -> tuple[Tensor, Solution]:
    """Solve p = p⁰ + S(…) without graph, then attach the derivatives: (N, M)."""
    layout, fixed = problem.system.layout, response.frozen()

    def residual(p: Tensor) -> Tensor:
        return p - _respond(problem, response, p).coefficients

    if problem.is_small:
        problem.require_dense_memory()
        start = torch.zeros_like(response.electronegativity)
        return solve_linear(residual, start, layout=layout, jacobian=_jacobian(problem, fixed))
    nothing = torch.zeros_like(fixed.electronegativity)
    rhs = _respond(problem, fixed, nothing).coefficients.detach()
    products = partial(susceptible, problem, fixed), partial(_stiff, problem, fixed)
    p, solution = solve_response(
        *products, rhs, layout=layout, start=_start(problem, rhs), options=problem.options
    )
    inverse = response_inverse(*products, layout=layout, options=problem.options)
    return attach_derivatives(p, residual, inverse, order=problem.corrections), solution


def _start(problem: Problem, rhs: Tensor) -> Tensor | None:
    """The density to start from, with the net charge of the one sought."""
    if problem.start is None:
        return None
    system, start = problem.system, problem.start.detach().clone()
    missing = system.sum(rhs[:, 0] - start[:, 0]) / system.counts
    start[:, 0] += missing[system.batch]
    return start


def _stiff(problem: Problem, response: Response, coefficients: Tensor) -> Tensor:
    """K p = (J + η) p without graph, (N, M)."""
    with torch.no_grad():
        hard = coefficients_of(response.hardness * coefficients[:, 0], None, problem.basis.lmax)
        return problem.coulomb.potential(coefficients) + hard


def susceptible(problem: Problem, response: Response, potential: Tensor) -> Tensor:
    """S u = (L_g u, α u) without graph, (N, M)."""
    edges = problem.features.edges
    drive = potential[edges.source, 0] - potential[edges.target, 0]
    flow = torch.zeros_like(potential[:, 0])
    charges = flow.index_add(0, edges.source, response.conductance * drive)
    dipoles = None
    if problem.basis.lmax > 0:
        dipoles = torch.einsum("nab,nb->na", response.polarizability, potential[:, 1:4])
    return coefficients_of(charges, dipoles, problem.basis.lmax)


@torch.no_grad()
def _jacobian(problem: Problem, response: Response) -> Tensor:
    """1 + S K as blocks, (B, n·M, n·M)."""
    hardness = coefficients_of(response.hardness, None, problem.basis.lmax)
    diagonal = problem.system.layout.pad(hardness).flatten(1)
    stiffness = problem.coulomb.dense() + torch.diag_embed(diagonal)
    identity = torch.eye(stiffness.shape[-1], dtype=stiffness.dtype, device=stiffness.device)
    return identity + susceptibility(problem, response) @ stiffness


def susceptibility(problem: Problem, response: Response) -> Tensor:
    """S = diag(L_g, α) as blocks, (B, n·M, n·M)."""
    system, layout, edges = problem.system, problem.system.layout, problem.features.edges
    n_structures, n = layout.shape
    m = problem.basis.n_components
    g = response.conductance
    structure = system.batch[edges.source]
    i, j = layout.rank[edges.source], layout.rank[edges.target]
    laplacian = g.new_zeros(n_structures, n, n)
    laplacian = laplacian.index_put((structure, i, j), -g, accumulate=True)
    laplacian = laplacian.index_put((structure, i, i), g, accumulate=True)
    blocks = g.new_zeros(n_structures, n, m, n, m)
    blocks[:, :, 0, :, 0] = laplacian
    if m > 1:
        atom = torch.arange(n, device=g.device)
        blocks[:, atom, 1:4, atom, 1:4] = layout.pad(response.polarizability).transpose(0, 1)
    return blocks.reshape(n_structures, n * m, n * m)


def _respond(problem: Problem, response: Response, coefficients: Tensor) -> Flow:
    """What the potential of a density makes the charges and dipoles do.

    With u = c + K p the transfers are t_ij = −g_ij Δ_ij, Δ_ij = u_i − u_j + χ_ij + E·(r_j − r_i),
    and the dipoles d_i = −α_i (u_i − E).
    """
    system, features = problem.system, problem.features
    i, j = features.edges.source, features.edges.target
    field = system.electric_field[system.batch]
    coulomb = problem.coulomb.potential(coefficients)
    u = response.electronegativity + coulomb
    u_charge = u[:, 0] + response.hardness * coefficients[:, 0]
    drop = (field[i] * features.edge_vectors).sum(-1)
    drive = u_charge[i] - u_charge[j] + response.bias + drop
    transfers = -response.conductance * drive
    charges = response.formal.index_add(0, i, transfers)
    force = dipoles = None
    if problem.basis.lmax > 0:
        force = u[:, 1:4] - field
        dipoles = -torch.einsum("nab,nb->na", response.polarizability, force)
    density = coefficients_of(charges, dipoles, problem.basis.lmax)
    return Flow(density, transfers, drive, dipoles, force, u_charge, coulomb)


def _state_at(
    problem: Problem, response: Response, coefficients: Tensor, solution: Solution
) -> State:
    """Dipole and energy that belong to the equilibrium density.

    t²/2g = ½gΔ² needs no division by a vanishing conductance.
    """
    system, features = problem.system, problem.features
    flow = _respond(problem, response, coefficients)
    # Every edge is listed twice, hence the halves.
    on_edges = 0.5 * (0.5 * response.conductance * flow.drive**2 + response.bias * flow.transfers)
    on_atoms = (response.electronegativity * coefficients).sum(-1)
    on_atoms = on_atoms + 0.5 * response.hardness * coefficients[:, 0] ** 2
    if flow.dipoles is not None and flow.force is not None:
        on_atoms = on_atoms - 0.5 * (flow.force * flow.dipoles).sum(-1)
    field = system.electric_field[system.batch]
    potential = flow.potential - (field * system.positions).sum(-1)
    return State(
        coefficients=coefficients,
        dipole=itinerant_dipole(system, features, response.formal, flow.transfers, flow.dipoles),
        internal_energy=system.sum(on_atoms.index_add(0, features.edges.source, on_edges)),
        solution=solution,
        chemical_potential=system.sum(response.share * potential),
        potential=flow.coulomb,
    )
