"""The map F whose fixed point is the density: potentials in, multipoles out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asesc.electrostatics.kernels import extents
from asesc.errors import SCFError
from asesc.models.base import Problem
from asesc.models.ensembles import increasing_root
from asesc.models.moments import coefficients_of
from asesc.models.potential_features import PotentialMap
from asesc.models.updates import Answer
from asesc.solvers import attach_derivatives, long_waves, screening
from asesc.system import System

#: e/V of a whole structure: what is left of the exchange with the reservoir where the model has
#: none. It gives the charge of an insulator a place and moves less than rounding otherwise.
_TRACE = 1e-12
_LEVEL_TOLERANCE = 1e-13


@dataclass(frozen=True)
class Environment:
    """What the atoms of one geometry are without any potential.

    Parameters
    ----------
    charges : Tensor, (N,), e
        Local charges; they add up to zero in every structure.
    dipoles : Tensor, (N, 3), e Å, or None
    share : Tensor, (N,)
        Positive, adding up to one: where charge goes that nothing else places.
    electronegativity : Tensor, (N,), V
        χ, added to the potential of every channel.
    """

    charges: Tensor
    dipoles: Tensor | None
    share: Tensor
    electronegativity: Tensor

    @classmethod
    def neutral(
        cls,
        system: System,
        charges: Tensor,
        dipoles: Tensor | None,
        weights: Tensor,
        electronegativity: Tensor,
    ) -> Environment:
        """Local charges made neutral with positive weights (N,)."""
        share = weights / system.sum(weights)[system.batch]
        charges = charges - share * system.sum(charges)[system.batch]
        return cls(charges, dipoles, share, electronegativity)


@dataclass(frozen=True)
class Flow:
    """What one application of the map found.

    Parameters
    ----------
    coefficients : Tensor, (N, M), e Å^l
        F(p).
    exchanged : Tensor, (N,), e
        Charge taken from the reservoir.
    transfers, drops : Tensor, (E,), e and V
        Charge moved to i from j on every directed edge, and the x_i − x_j that moved it.
    dipoles, gradient : Tensor, (N, 3), e Å and V/Å, or None
        Induced dipoles and the ∇x that induced them.
    level : Tensor, (B,), eV
        Fermi level of the electrons, given or eliminated.
    """

    coefficients: Tensor
    exchanged: Tensor
    transfers: Tensor
    drops: Tensor
    dipoles: Tensor | None
    gradient: Tensor | None
    level: Tensor


@dataclass(frozen=True)
class DensityMap:
    """F(p) of one geometry.

    Parameters
    ----------
    problem : Problem
    environment : Environment
    potential : PotentialMap
    answer : Answer
    """

    problem: Problem
    environment: Environment
    potential: PotentialMap
    answer: Answer

    def __call__(self, coefficients: Tensor) -> Flow:
        """Every part of F(p), differentiable in p and in all that made the map."""
        x = self.potential(coefficients)
        edges = self.problem.features.edges
        levels = x[..., 0] + self.environment.electronegativity[:, None]
        drops = levels[edges.source, 0] - levels[edges.target, 0]
        transfers = -self.answer.on_edges(drops)
        level, exchanged = self._exchange(levels)
        charges = self.environment.charges + exchanged
        charges = charges.index_add(0, edges.source, transfers)
        gradient = induced = dipoles = None
        if self.environment.dipoles is not None:
            gradient = x[:, 0, 1:4]
            induced = -self.answer.on_dipoles(gradient)
            dipoles = self.environment.dipoles + induced
        density = coefficients_of(charges, dipoles, self.problem.basis.lmax)
        return Flow(density, exchanged, transfers, drops, induced, gradient, level)

    def residual(self, coefficients: Tensor) -> Tensor:
        """p − F(p), (N, M)."""
        return coefficients - self(coefficients).coefficients

    def ramped(self, coefficients: Tensor, strength: Tensor) -> Tensor:
        """p − F(p) with field and total charge multiplied by ``strength`` (B,)."""
        system = self.problem.system
        scaled = replace(self.problem, system=replace(system, charge=strength * system.charge))
        potential = self.potential.scaled_field(strength[system.batch])
        return replace(self, problem=scaled, potential=potential).residual(coefficients)

    def start(self) -> Tensor:
        """The density without any potential: local multipoles and the total charge shared out."""
        system, environment = self.problem.system, self.environment
        charges = environment.charges
        if system.fermi_level is None:
            charges = charges + environment.share * system.charge[system.batch]
        return coefficients_of(charges, environment.dipoles, self.problem.basis.lmax)

    def _exchange(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Fermi level (B,) and the charges (N,) that come from the reservoir."""
        system = self.problem.system
        if system.fermi_level is not None:
            return system.fermi_level, -self._drawn(levels, system.fermi_level)

        def surplus(level: Tensor) -> Tensor:
            return system.sum(self._drawn(levels, level)) + system.charge

        frozen = levels.detach()
        root = increasing_root(
            lambda level: system.sum(self._drawn(frozen, level)) + system.charge.detach(),
            -system.sum(self.environment.share * frozen[:, 0]).detach(),
            tolerance=_LEVEL_TOLERANCE,
        )
        if root is None:
            raise SCFError(
                f"no Fermi level was found for the charge {system.charge.tolist()} e; potentials "
                f"span {float(frozen.min()):.3g} to {float(frozen.max()):.3g} V. Check the "
                "geometry and the model's weights"
            )
        level = attach_derivatives(root[0], surplus, lambda v, transposed: v / root[1])
        exchanged = -self._drawn(levels, level)
        # What rounding left; it carries no derivative that the level does not have.
        missing = (system.charge - system.sum(exchanged))[system.batch]
        return level, exchanged + self.environment.share * missing

    def _drawn(self, levels: Tensor, level: Tensor) -> Tensor:
        """Electrons that every atom draws at potentials (N, K) and Fermi level (B,): (N,)."""
        x = levels + level[self.problem.system.batch][:, None]
        return self.answer.on_atoms(x) + _TRACE * self.environment.share * x[:, 0]

    def precondition(self, coefficients: Tensor) -> Callable[[Tensor], Tensor]:
        """Approximate (∂r/∂p)⁻¹ for metals: undoes the sloshing of charge across the structure."""
        system = self.problem.system
        susceptibility = torch.zeros_like(coefficients)
        susceptibility[:, 0] = self._slopes(coefficients)[0].sum(-1)
        m = self.problem.basis.n_components
        waves = long_waves(_depth(system), layout=system.layout, n_components=m)

        def potential(p: Tensor) -> Tensor:
            return (self.potential(p) - self.potential.external[:, None])[:, 0]

        return screening(waves, potential, susceptibility, layout=system.layout)

    def level_derivative(self, coefficients: Tensor) -> Tensor:
        """∂F/∂μ at fixed p, (N, M), without graph."""
        derivative = torch.zeros_like(coefficients)
        derivative[:, 0] = -self._slopes(coefficients)[0].sum(-1)
        return derivative

    def _slopes(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Derivatives of the answer at p: on atoms (N, K), edges (E,), dipoles (N, 3, 3)."""
        with torch.no_grad():
            x = self.potential(coefficients)
            levels = x[..., 0] + self.environment.electronegativity[:, None]
            level, _ = self._exchange(levels)
        edges, batch = self.problem.features.edges, self.problem.system.batch
        with torch.enable_grad():
            shifted = (levels + level[batch][:, None]).requires_grad_()
            (atoms,) = torch.autograd.grad(self.answer.on_atoms(shifted).sum(), shifted)
            drops = (levels[edges.source, 0] - levels[edges.target, 0]).requires_grad_()
            (bonds,) = torch.autograd.grad(self.answer.on_edges(drops).sum(), drops)
            dipoles = None
            if self.environment.dipoles is not None:
                gradient = x[:, 0, 1:4].clone().requires_grad_()
                answer = self.answer.on_dipoles(gradient).sum(0)
                rows = [
                    torch.autograd.grad(answer[a], gradient, retain_graph=a < 2)[0]
                    for a in range(3)
                ]
                dipoles = torch.stack(rows, dim=1)
        atoms = atoms.clone()
        atoms[:, 0] += _TRACE * self.environment.share.detach()
        return atoms, bonds, dipoles

    def jacobian(self, coefficients: Tensor) -> Tensor:
        """∂r/∂p = 1 + Σ_k S_k J̄_k as blocks without graph, (B, n·M, n·M)."""
        system, layout = self.problem.system, self.problem.system.layout
        atoms, bonds, dipoles = self._slopes(coefficients)
        edges, m = self.problem.features.edges, self.problem.basis.n_components
        n_structures, n = layout.shape
        on_atoms = layout.pad(atoms)
        charge_rows = torch.diag_embed(on_atoms.transpose(1, 2))
        structure = system.batch[edges.source]
        i, j = layout.rank[edges.source], layout.rank[edges.target]
        first = charge_rows[:, 0]
        first.index_put_((structure, i, i), bonds, accumulate=True)
        first.index_put_((structure, i, j), -bonds, accumulate=True)
        if system.fermi_level is None:
            # The level follows the potentials: dμ = −Σ_kj s_kj dx_kj / Σ_kj s_kj.
            whole = on_atoms.sum(-1)
            share = whole / whole.sum(-1, keepdim=True)
            charge_rows = (
                charge_rows - share[:, None, :, None] * on_atoms.transpose(1, 2)[:, :, None]
            )
        response = charge_rows.new_zeros(n_structures, atoms.shape[1], n, m, n, m)
        response[:, :, :, 0, :, 0] = charge_rows
        if dipoles is not None:
            atom = torch.arange(n, device=atoms.device)
            response[:, 0, atom, 1:4, atom, 1:4] = layout.pad(dipoles).transpose(0, 1)
        response = response.reshape(n_structures, atoms.shape[1], n * m, n * m)
        identity = torch.eye(n * m, dtype=atoms.dtype, device=atoms.device)
        return identity + (response @ self.potential.dense).sum(1)


def _depth(system: System) -> Tensor:
    """Position of every atom across its structure, 0 to 1, (N,): along the open axis of a slab,
    the longest vector of a crystal and the longest Cartesian extent of a molecule.
    """
    frame = torch.eye(3, dtype=system.cell.dtype, device=system.cell.device)
    frame = frame.expand(system.n_structures, 3, 3)
    if any(system.pbc):
        cell = system.cell.detach()
        normals = torch.linalg.cross(cell.roll(-1, dims=1), cell.roll(-2, dims=1))
        frame = normals / torch.linalg.vector_norm(normals, dim=-1, keepdim=True).clamp(min=1e-300)
    heights = torch.einsum("ia,ika->ik", system.positions.detach(), frame[system.batch])
    low, extent = heights.new_zeros(system.n_structures, 3), extents(system, heights)
    index = system.batch[:, None].expand_as(heights)
    low = low.scatter_reduce(0, index, heights, "amin", include_self=False)
    if sum(system.pbc) == 2:
        axis = torch.full_like(system.counts, system.pbc.index(False))
    else:
        axis = extent.argmax(-1)
    along = axis[system.batch][:, None]
    spread = extent[system.batch].gather(1, along).clamp(min=1e-6)
    return ((heights - low[system.batch]).gather(1, along) / spread)[:, 0]
