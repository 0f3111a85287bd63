"""Electrostatic features and energy as PolarMACE asks for them, for every boundary.

PolarMACE was trained with graph-longrange. Its numbers are kept wherever they are defined; the
implementation is ours, because the original one

- writes into preallocated memory where the wave vectors enter, so that nothing can be
  differentiated with respect to the cell and the long-range part of the stress is lost,
- replaces the cell of slabs by a box that grows with the distance from the origin, knows slabs
  normal to z only and no charged ones,
- fails on batches that end with a single atom, and silently rounds open features to torch's
  default type.

Periodic and slab structures go through :class:`~asesc.electrostatics.CoulombOperator`. Isolated
ones keep the finite differences that stand for dipoles in the original, since the published
weights were fitted with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asesc.density import GaussianBasis
from asesc.density.harmonics import n_components
from asesc.electrostatics import Boundary
from asesc.electrostatics.direct import DirectCoulomb
from asesc.system import System
from asesc.units import COULOMB

#: Å; distance of the charges that stand for a dipole, in features and in the energy.
_FEATURE_OFFSET, _ENERGY_OFFSET = 0.1, 0.02
#: Å; added to distances by the original, to whose numbers it belongs.
_SOFTENING = 1e-6
#: Cartesian components in the order y, z, x of PolarMACE.
_YZX = (1, 2, 0)


@dataclass(frozen=True)
class PolarBasis:
    """Gaussians of the density and of the R receivers, with their normalisation.

    Parameters
    ----------
    density_lmax, feature_lmax : int
        0 or 1.
    density_width : float, Å
    feature_widths : Tensor, (R,), Å
        None below the density's.
    scale : Tensor, (R, 2)
        Feature per averaged potential in V (l = 0) and averaged gradient in V/Å (l = 1).
    feature_self : Tensor, (R, 2)
        Feature of an atom's own unit charge and unit dipole.
    energy_self : Tensor, (2,), eV
        Twice the self-energy of a unit charge and a unit dipole.
    features_with_self, energy_with_self : bool
        Whether the self-interaction counts.
    """

    density_lmax: int
    feature_lmax: int
    density_width: float
    feature_widths: Tensor
    scale: Tensor
    feature_self: Tensor
    energy_self: Tensor
    features_with_self: bool
    energy_with_self: bool

    @property
    def lmax(self) -> int:
        """Highest multipole of density and receivers."""
        return max(self.density_lmax, self.feature_lmax)

    def arrange(self, potential: Tensor) -> Tensor:
        """Potential and gradient at every receiver, (N, R, 4) → features (N, R(feature_lmax + 1)²).

        In PolarMACE's order: l = 0 of all widths first, then y, z, x of every width.
        """
        return self._in_order(potential, self.scale)

    def self_features(self, p: Tensor) -> Tensor:
        """Features that the atoms' own multipoles (N, 4) cause: (N, R(feature_lmax + 1)²)."""
        return self._in_order(p[:, None], self.feature_self)

    def _in_order(self, values: Tensor, factors: Tensor) -> Tensor:
        features = [values[..., 0] * factors[:, 0]]
        if self.feature_lmax > 0:
            features.append((values[..., 1:][..., _YZX] * factors[:, 1:]).flatten(1))
        return torch.cat(features, dim=1)

    def self_energy(self, system: System, p: Tensor) -> Tensor:
        """½ Σ_i of the self-interaction, (B,), eV."""
        charge, dipole = self.energy_self
        return 0.5 * system.sum(charge * p[:, 0] ** 2 + dipole * (p[:, 1:] ** 2).sum(-1))


class PolarElectrostatics(ABC):
    """Electrostatics bound to one geometry; multipoles are (N, 4): q, x, y, z.

    Parameters
    ----------
    system : System
    basis : PolarBasis
    """

    def __init__(self, system: System, basis: PolarBasis) -> None:
        self.system, self.basis = system, basis

    @abstractmethod
    def features(self, p: Tensor) -> Tensor:
        """Potential of the density seen by the receivers: (N, 4) → (N, R(feature_lmax + 1)²)."""

    @abstractmethod
    def energy(self, p: Tensor) -> Tensor:
        """Coulomb energy of every structure: (N, 4) → (B,), eV."""

    @abstractmethod
    def potential(self, p: Tensor) -> Tensor:
        """J p with the self-interaction, exact in every boundary: (N, 4) → (N, 4), V Å^−l."""


class OperatorElectrostatics(PolarElectrostatics):
    """By the Coulomb operator of a boundary and its receivers."""

    def __init__(
        self, system: System, basis: PolarBasis, *, boundary: Boundary, accuracy: float
    ) -> None:
        super().__init__(system, basis)
        widths = system.positions.new_full((system.n_atoms,), basis.density_width)
        gaussians = GaussianBasis(basis.lmax, widths)
        self._operator = boundary.bind(system, gaussians, accuracy=accuracy)
        factors = (basis.feature_widths / basis.density_width).tolist()
        self._receivers = self._operator.receivers(factors)

    def features(self, p: Tensor) -> Tensor:
        features = self.basis.arrange(_padded(self._receivers.potential(self._own(p))))
        if self.basis.features_with_self:
            return features
        return features - self.basis.self_features(p)

    def energy(self, p: Tensor) -> Tensor:
        energy = self._operator.energy(self._own(p))
        if self.basis.energy_with_self:
            return energy
        return energy - self.basis.self_energy(self.system, p)

    def potential(self, p: Tensor) -> Tensor:
        return _padded(self._operator.potential(self._own(p)))

    def _own(self, p: Tensor) -> Tensor:
        """The components that the operator knows."""
        return p[:, : n_components(self.basis.lmax)]


class PairElectrostatics(PolarElectrostatics):
    """By pairs of isolated atoms, dipoles and gradients by finite differences.

    A dipole d is a charge d_x/h at r + h x̂, and likewise y and z, against one at r; a gradient is
    the difference of the potentials there. The error of relative order h/r is not invariant under
    rotation. Time and memory O(16 R n²) per structure.
    """

    def __init__(self, system: System, basis: PolarBasis) -> None:
        super().__init__(system, basis)
        self._pairs = _pairs(system)
        width = basis.density_width
        self._seen = self._kernel(
            0.5 * (width**2 + basis.feature_widths**2), _FEATURE_OFFSET, basis.lmax
        )
        same = basis.feature_widths.new_tensor([width**2])
        self._between = self._kernel(same, _ENERGY_OFFSET, basis.density_lmax)[..., 0]

    def features(self, p: Tensor) -> Tensor:
        i, j = self._pairs
        sources = _displaced(p, _FEATURE_OFFSET, self.basis.lmax)
        at_pairs = torch.einsum("pabr,pb->pra", self._seen, sources[j])
        potential = p.new_zeros(len(p), *at_pairs.shape[1:]).index_add(0, i, at_pairs)
        value, displaced = potential[..., :1], potential[..., 1:]
        gradient = (displaced - value) / _FEATURE_OFFSET
        features = self.basis.arrange(torch.cat([value, gradient], dim=-1))
        if self.basis.features_with_self:
            return features + self.basis.self_features(p)
        return features

    def energy(self, p: Tensor) -> Tensor:
        i, j = self._pairs
        charges = _displaced(p, _ENERGY_OFFSET, self.basis.density_lmax)
        per_pair = 0.5 * torch.einsum("pab,pa,pb->p", self._between, charges[i], charges[j])
        energy = self.system.sum(p.new_zeros(len(p)).index_add(0, i, per_pair))
        if self.basis.energy_with_self:
            return energy + self.basis.self_energy(self.system, p)
        return energy

    def potential(self, p: Tensor) -> Tensor:
        lmax = self.basis.density_lmax
        widths = p.new_full((len(p),), self.basis.density_width)
        exact = DirectCoulomb(self.system, GaussianBasis(lmax, widths))
        return _padded(exact.potential(p[:, : n_components(lmax)]))

    def _kernel(self, width2: Tensor, offset: float, lmax: int) -> Tensor:
        """k_e erf(d/2w)/d between the points of i and of j: (P, n, n, len(width2)), V/e."""
        i, j = self._pairs
        positions = self.system.positions
        shifts = offset * torch.eye(4, 3, dtype=positions.dtype, device=positions.device).roll(1, 0)
        shifts = shifts[: n_components(lmax)]
        separation = (positions[i] - positions[j])[:, None, None] + shifts[:, None] - shifts
        distance = torch.linalg.vector_norm(separation, dim=-1)[..., None]
        return COULOMB * torch.erf(0.5 * distance / width2.sqrt()) / (distance + _SOFTENING)


class FeatureSlot(nn.Module):
    """Stands where PolarMACE expects graph-longrange's features.

    The model hands ``data["volume"]`` on unread; there the adapter has put the electrostatics
    bound to the geometry, so that no state is kept between calls.
    """

    def precompute_geometry(self, *, volume: PolarElectrostatics, **_: Any) -> PolarElectrostatics:
        """What :meth:`forward_dynamic` gets as its cache."""
        return volume

    def forward_dynamic(
        self, *, cache: PolarElectrostatics, source_feats: Tensor, **_: Any
    ) -> Tensor:
        """Features of one spin channel, (N, 1, M) → (N, …), in the channel's type."""
        return cache.features(to_cartesian(source_feats[:, 0])).to(source_feats.dtype)


class EnergySlot(nn.Module):
    """Stands where PolarMACE expects graph-longrange's energy."""

    def forward(self, *, volume: PolarElectrostatics, source_feats: Tensor, **_: Any) -> Tensor:
        """Coulomb energy, (B,), float64."""
        return volume.energy(to_cartesian(source_feats))


def to_cartesian(multipoles: Tensor) -> Tensor:
    """q or q, y, z, x (N, M) → q, x, y, z (N, 4) in float64, zeros where there are no dipoles."""
    return _padded(multipoles.double())[:, [0, 3, 1, 2]]


def _padded(components: Tensor) -> Tensor:
    """(…, 1 or 4) → (…, 4), zeros for an absent l = 1."""
    return nn.functional.pad(components, (0, 4 - components.shape[-1]))


def _pairs(system: System) -> tuple[Tensor, Tensor]:
    """All ordered pairs i ≠ j of every structure, (P,) and (P,)."""
    partners = system.counts[system.batch]
    i = torch.repeat_interleave(partners)
    first = (system.counts.cumsum(0) - system.counts)[system.batch]
    rank = torch.arange(len(i), device=i.device) - (partners.cumsum(0) - partners)[i]
    j = first[i] + rank
    return i[i != j], j[i != j]


def _displaced(p: Tensor, offset: float, lmax: int) -> Tensor:
    """Charges at r, r + h x̂, r + h ŷ and r + h ẑ that stand for charge and dipole, (N, 1 or 4)."""
    if lmax == 0:
        return p[:, :1]
    displaced = p[:, 1:] / offset
    return torch.cat([p[:, :1] - displaced.sum(-1, keepdim=True), displaced], dim=-1)
