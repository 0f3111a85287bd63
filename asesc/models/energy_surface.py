"""The energy of one geometry as a function of what moves charge, with exact derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from asesc.electrostatics import CoulombOperator
from asesc.models.base import Problem
from asesc.models.functionals import AtomicFunctional, ConvexEdges
from asesc.models.moments import coefficients_of
from asesc.models.split_charge_equilibration import Response, susceptibility, susceptible

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Flow:
    """What drives make: see :meth:`EnergySurface.flow`.

    ``coefficients`` (N, M); ``transfers`` and ``drive`` Δ (E,) per directed edge; ``dipoles`` and
    the ``force`` on them (N, 3), None without dipoles.
    """

    coefficients: Tensor
    transfers: Tensor
    drive: Tensor
    dipoles: Tensor | None
    force: Tensor | None


@dataclass(frozen=True)
class EnergySurface:
    """E of all transfers and dipoles, on the part of them that node potentials w can drive.

    The unknowns of the minimum are one transfer per edge and one dipole per atom, but at the
    minimum all of them follow from M numbers per atom, the potentials conjugate to its density:

        t_ij = −g_ij φ_ij(Δ_ij),  Δ_ij = w_i − w_j + χ_ij + E·(r_j − r_i),   d_i = −α_i (w_i − E).

    Any w (N, M) gives a density p(w) with the exact total charge, and E(w) is an upper bound of
    the minimum. With u(p) = ∂E/∂p at fixed transfers and dipoles, S(w) = −∂p/∂w ⪰ 0 and
    K(p) = ∂u/∂p,

        ∂E/∂w = S (w − u(p(w))),   ∂²E/∂w² = S + S K S where w = u,

    and w = u(p(w)) is the minimum itself: the derivative of that residual is 1 + K S, which stays
    regular where nothing flows (g → 0) and where everything does.

    Parameters
    ----------
    problem : Problem
    response : Response
        Quadratic part of the energy.
    atoms, edges : AtomicFunctional, ConvexEdges
        The rest of it.
    drop : Tensor, (E,), V
        E·(r_j − r_i) of the applied field.
    field : Tensor, (N, 3), V/Å
        Applied field at every atom.
    lever : Tensor, (N,), V
        E·r_i.
    coulomb : CoulombOperator, DenseCoulomb or RememberedCoulomb
    """

    problem: Problem
    response: Response
    atoms: AtomicFunctional
    edges: ConvexEdges
    drop: Tensor
    field: Tensor
    lever: Tensor
    coulomb: CoulombOperator | DenseCoulomb | RememberedCoulomb

    @classmethod
    def of(
        cls, problem: Problem, response: Response, atoms: AtomicFunctional, edges: ConvexEdges
    ) -> Self:
        """The surface of a problem, differentiable in everything."""
        system, features = problem.system, problem.features
        field = system.electric_field[system.batch]
        drop = (field[features.edges.source] * features.edge_vectors).sum(-1)
        lever = (field * system.positions).sum(-1)
        return cls(problem, response, atoms, edges, drop, field, lever, problem.coulomb)

    @property
    def is_solved_by_response(self) -> bool:
        """Whether products with S and K serve: K is positive, and matrices would be large."""
        return self.atoms.is_convex and not self.problem.is_small

    def frozen(self) -> Self:
        """The same numbers without graph, with J as a matrix where the structure is small."""
        fixed = {name: _detached(getattr(self, name)) for name in ("response", "atoms", "edges")}
        vectors = {name: getattr(self, name).detach() for name in ("drop", "field", "lever")}
        coulomb = DenseCoulomb(self.problem.coulomb) if self.problem.is_small else self.coulomb
        return replace(self, coulomb=coulomb, **fixed, **vectors)

    def placed(self, formal: Tensor, share: Tensor) -> Self:
        """The surface with the charge beyond the formal charges (N,) divided in other shares."""
        system = self.problem.system
        excess = (system.charge - system.sum(formal))[system.batch]
        response = replace(self.response, formal=formal + share * excess, share=share)
        return replace(self, response=response)

    def softened(self, strength: float) -> Self:
        """The surface with all ridges times ``strength``: 0 makes a convex one quadratic."""
        atoms, edges = self.atoms.softened(strength), self.edges.softened(strength)
        return replace(self, atoms=atoms, edges=edges)

    def flow(self, w: Tensor) -> Flow:
        """Transfers, dipoles and density that node potentials w (N, M) drive."""
        edges, response = self.problem.features.edges, self.response
        i, j = edges.source, edges.target
        drive = w[i, 0] - w[j, 0] + response.bias + self.drop
        transfers = -response.conductance * self.edges.response(drive)
        charges = response.formal.index_add(0, i, transfers)
        force = dipoles = None
        if self.problem.basis.lmax > 0:
            force = w[:, 1:4] - self.field
            dipoles = -torch.einsum("nab,nb->na", response.polarizability, force)
        density = coefficients_of(charges, dipoles, self.problem.basis.lmax)
        return Flow(density, transfers, drive, dipoles, force)

    def internal(self, flow: Flow) -> Tensor:
        """Everything but Coulomb and applied field, (B,), eV."""
        system, response, p = self.problem.system, self.response, flow.coefficients
        legendre = flow.drive * self.edges.response(flow.drive) - self.edges.conjugate(flow.drive)
        # Every edge is listed twice, hence the half.
        on_edges = 0.5 * (response.conductance * legendre + response.bias * flow.transfers)
        on_atoms = (response.electronegativity * p).sum(-1) + self.atoms.energy(p)
        on_atoms = on_atoms + 0.5 * response.hardness * p[:, 0] ** 2
        if flow.dipoles is not None and flow.force is not None:
            on_atoms = on_atoms - 0.5 * (flow.force * flow.dipoles).sum(-1)
        source = self.problem.features.edges.source
        return system.sum(on_atoms.index_add(0, source, on_edges))

    def energy(self, w: Tensor) -> Tensor:
        """E(w) without its short-range part, (B,), eV."""
        return self.energy_of(self.flow(w))

    def energy_of(self, flow: Flow) -> Tensor:
        """The same of any transfers and dipoles, in which it is convex: (B,), eV."""
        system, p = self.problem.system, flow.coefficients
        on_atoms = 0.5 * (p * self.coulomb.potential(p)).sum(-1)
        on_atoms = on_atoms - self.response.formal * self.lever
        if flow.dipoles is not None:
            on_atoms = on_atoms - (self.field * flow.dipoles).sum(-1)
        along = 0.5 * flow.transfers * self.drop
        source = self.problem.features.edges.source
        return self.internal(flow) + system.sum(on_atoms.index_add(0, source, along))

    def potential(self, p: Tensor) -> Tensor:
        """u(p) = ∂E/∂p at fixed transfers and dipoles, without the applied field: (N, M)."""
        u = self.response.electronegativity + self.coulomb.potential(p) + self.atoms.slope(p)
        stiff = coefficients_of(self.response.hardness * p[:, 0], None, self.problem.basis.lmax)
        return u + stiff

    def residual(self, w: Tensor) -> Tensor:
        """w − u(p(w)), (N, M), V Å^−l; zero at the minimum."""
        return w - self.potential(self.flow(w).coefficients)

    @torch.no_grad()
    def slope(self, w: Tensor) -> Tensor:
        """∂E/∂w = S (w − u(p(w))), (N, M), without graph."""
        flow = self.flow(w)
        misfit = w - self.potential(flow.coefficients)
        return susceptible(self.problem, self._response_at(flow), misfit)

    @torch.no_grad()
    def scale(self, w: Tensor) -> Tensor:
        """Steps of w that cost about 1 eV, 1/√S_ii, or 1 where nothing responds: (N, M).

        In units of them conductors, insulators and dipoles are alike.
        """
        edges = self.problem.features.edges
        conductance = self._response_at(self.flow(w)).conductance
        charges = torch.zeros_like(w[:, 0]).index_add(0, edges.source, conductance)
        dipoles = self.response.polarizability.diagonal(dim1=-2, dim2=-1)
        diagonal = coefficients_of(charges, dipoles, self.problem.basis.lmax)
        return torch.where(diagonal > 0, diagonal, 1.0).rsqrt()

    @torch.no_grad()
    def hessian(self, w: Tensor) -> Tensor:
        """S + S K S as blocks: ∂²E/∂w² at a stationary point, never indefinite where K is not."""
        s, k = self._linear_response(w)
        return s + s @ k @ s

    @torch.no_grad()
    def jacobian(self, w: Tensor) -> Tensor:
        """1 + K S as blocks: the derivative of the residual."""
        s, k = self._linear_response(w)
        return k @ s + torch.eye(s.shape[-1], dtype=s.dtype, device=s.device)

    def products(self, w: Tensor) -> tuple[Product, Product]:
        """v → S v and v → K v at w, (N, M) → (N, M), without graph and without matrices."""
        flow = self.flow(w)
        curvature = self._curvature(flow.coefficients)

        @torch.no_grad()
        def stiffness(v: Tensor) -> Tensor:
            return self.coulomb.potential(v) + torch.einsum("nab,nb->na", curvature, v)

        return partial(susceptible, self.problem, self._response_at(flow)), stiffness

    def _linear_response(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """S(w) and K(p(w)) as blocks, (B, n·M, n·M)."""
        flow = self.flow(w)
        s = susceptibility(self.problem, self._response_at(flow))
        return s, self._stiffness(flow.coefficients)

    def _response_at(self, flow: Flow) -> Response:
        """The response to small changes of the drives of a flow."""
        conductance = self.response.conductance * self.edges.gain(flow.drive)
        return replace(self.response, conductance=conductance)

    def _curvature(self, p: Tensor) -> Tensor:
        """K − J on every atom, (N, M, M)."""
        on_atoms = self.atoms.curvature(p)
        on_atoms[:, 0, 0] += self.response.hardness
        return on_atoms

    def _stiffness(self, p: Tensor) -> Tensor:
        layout, m = self.problem.system.layout, self.problem.basis.n_components
        on_atoms = self._curvature(p)
        n_structures, n = layout.shape
        blocks = on_atoms.new_zeros(n_structures, n, m, n, m)
        atom = torch.arange(n, device=p.device)
        blocks[:, atom, :, atom] = layout.pad(on_atoms).transpose(0, 1)
        return self.coulomb.dense() + blocks.reshape(n_structures, n * m, n * m)


class DenseCoulomb:
    """A Coulomb operator as a matrix that is built once, without graph."""

    def __init__(self, operator: CoulombOperator) -> None:
        self._layout = operator.system.layout
        with torch.no_grad():
            self._matrix = operator.dense().detach()

    def potential(self, coefficients: Tensor) -> Tensor:
        """v = J p: (N, M) → (N, M)."""
        p = self._layout.pad(coefficients)
        return self._layout.unpad((self._matrix @ p.reshape(len(p), -1, 1)).reshape(p.shape))

    def dense(self) -> Tensor:
        """J as padded blocks, (B, n·M, n·M)."""
        return self._matrix


class RememberedCoulomb:
    """A Coulomb operator that does not repeat its last application, and counts the others."""

    def __init__(self, operator: CoulombOperator | DenseCoulomb) -> None:
        self._operator, self.applied = operator, 0
        self._last: tuple[Tensor, Tensor] | None = None

    def potential(self, coefficients: Tensor) -> Tensor:
        """v = J p: (N, M) → (N, M)."""
        if self._last is None or self._last[0] is not coefficients:
            self._last = coefficients, self._operator.potential(coefficients)
            self.applied += 1
        return self._last[1]


def _detached(record: Any) -> Any:
    """A dataclass of tensors, nested or not, without graph."""
    changes = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = value.detach()
        elif is_dataclass(value):
            changes[field.name] = _detached(value)
    return replace(record, **changes)
