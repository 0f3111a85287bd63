"""What makes an energy functional more than quadratic: terms of atoms and of edges.

An *atomic* functional G_i(q_i, d_i) is a function of the density itself, an *edge* functional is
given by its convex conjugate, a function of the drive along the edge. The table
:data:`FUNCTIONALS` names the choices for atoms.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asesc.models.backbone import Features
from asesc.models.convex import SoftRidges
from asesc.models.readouts import AtomScalars, EdgeScalars, inverse_positive

# Start of the learned ridges: gentle bends of the energy on either side of the formal charge, and
# of the current beyond a drive of some volts.
_ATOM_RIDGES = ((4.0, -2.0), (-4.0, -2.0), (8.0, -6.0), (-8.0, -6.0))  # slope 1/e, offset
_EDGE_RIDGES = ((1.0, -3.0), (-1.0, -3.0), (1.0, -6.0), (-1.0, -6.0))  # slope 1/V, offset
_ATOM_AMPLITUDE = 0.1  # eV
_EDGE_AMPLITUDE = 0.1  # V²
_TILT = 0.5  # start of the slope along |d|²/δ²
_DIPOLE = 0.3  # e Å, the δ of that coordinate
_WELL = 0.2  # eV, start of the height between two integer charges


class AtomicFunctional(ABC):
    """G_i(q_i, d_i) of every atom with its first two derivatives, all differentiable."""

    is_convex: ClassVar[bool] = True

    @abstractmethod
    def softened(self, strength: float) -> Self:
        """The same with all ridges multiplied by ``strength``: 0 leaves what is quadratic."""

    @abstractmethod
    def energy(self, coefficients: Tensor) -> Tensor:
        """G_i: (N, M) → (N,), eV."""

    @abstractmethod
    def slope(self, coefficients: Tensor) -> Tensor:
        """∂G_i/∂p_i: (N, M) → (N, M), V Å^−l."""

    @abstractmethod
    def curvature(self, coefficients: Tensor) -> Tensor:
        """∂²G_i/∂p_i∂p_i: (N, M) → (N, M, M)."""


@dataclass(frozen=True)
class ConvexAtoms(AtomicFunctional):
    """Soft ridges of (q_i − q⁰_i, |d_i|²/δ²), convex in (q_i, d_i) jointly.

    Charge and dipole share the ridges, so that the polarisability of an atom may depend on its
    charge. ``centre`` (N,) are the formal charges, where the energy and its slope vanish.
    """

    ridges: SoftRidges
    centre: Tensor

    def softened(self, strength: float) -> Self:
        return replace(self, ridges=self.ridges.scaled(strength))

    def energy(self, coefficients: Tensor) -> Tensor:
        return self.ridges.value(self._coordinates(coefficients))

    def slope(self, coefficients: Tensor) -> Tensor:
        along = self.ridges.gradient(self._coordinates(coefficients))
        columns = [along[:, :1]]
        if along.shape[1] > 1:
            columns.append(along[:, 1:] * _dipole_slope(coefficients))
        return _filled(torch.cat(columns, dim=-1), coefficients)

    def curvature(self, coefficients: Tensor) -> Tensor:
        x = self._coordinates(coefficients)
        along, twice = self.ridges.gradient(x), self.ridges.curvature(x)
        out = coefficients.new_zeros(*coefficients.shape, coefficients.shape[1])
        out[:, 0, 0] = twice[:, 0, 0]
        if x.shape[1] > 1:
            chain = _dipole_slope(coefficients)
            out[:, 0, 1:4] = out[:, 1:4, 0] = twice[:, :1, 1] * chain
            outer = twice[:, 1, 1, None, None] * chain[:, :, None] * chain[:, None, :]
            eye = torch.eye(3, dtype=chain.dtype, device=chain.device)
            out[:, 1:4, 1:4] = outer + along[:, 1, None, None] * (2 / _DIPOLE**2) * eye
        return out

    def _coordinates(self, coefficients: Tensor) -> Tensor:
        x = [coefficients[:, 0] - self.centre]
        if self.ridges.slopes.shape[-1] > 1:
            x.append((coefficients[:, 1:4] / _DIPOLE).square().sum(-1))
        return torch.stack(x, dim=-1)


@dataclass(frozen=True)
class LocalisedAtoms(AtomicFunctional):
    """A convex functional and wells U_i sin²(πq_i) at integer charges.

    The wells add nothing at integers, U_i half-way, and 2π²U_i cos(2πq_i) to the curvature: where
    this outweighs the hardness an atom keeps a nearly integer charge, although sharing it with its
    neighbours would cost less on the quadratic energy. ``height`` (N,) is U_i ≥ 0.
    """

    is_convex: ClassVar[bool] = False
    convex: ConvexAtoms
    height: Tensor

    def softened(self, strength: float) -> Self:
        return replace(self, convex=self.convex.softened(strength))

    def energy(self, coefficients: Tensor) -> Tensor:
        wells = self.height * torch.sin(math.pi * coefficients[:, 0]).square()
        return self.convex.energy(coefficients) + wells

    def slope(self, coefficients: Tensor) -> Tensor:
        wells = math.pi * self.height * torch.sin(2 * math.pi * coefficients[:, 0])
        return self.convex.slope(coefficients) + _filled(wells[:, None], coefficients)

    def curvature(self, coefficients: Tensor) -> Tensor:
        wells = 2 * math.pi**2 * self.height * torch.cos(2 * math.pi * coefficients[:, 0])
        out = self.convex.curvature(coefficients)
        out[:, 0, 0] += wells
        return out

    def harmonic(self, charges: Tensor) -> HarmonicAtoms:
        """The convex functional of the wells nearest to charges (N,)."""
        return HarmonicAtoms(self.convex, self.height, charges.round())


@dataclass(frozen=True)
class HarmonicAtoms(AtomicFunctional):
    """The same with every well continued as a parabola, U_i π² (q_i − n_i)²: convex again.

    Its one minimum is where a charge put on chosen atoms relaxes while the wells hold it.
    ``centre`` (N,) is n_i, an integer.
    """

    convex: ConvexAtoms
    height: Tensor
    centre: Tensor

    def softened(self, strength: float) -> Self:
        return replace(self, convex=self.convex.softened(strength))

    def energy(self, coefficients: Tensor) -> Tensor:
        away = math.pi * (coefficients[:, 0] - self.centre)
        return self.convex.energy(coefficients) + self.height * away.square()

    def slope(self, coefficients: Tensor) -> Tensor:
        wells = 2 * math.pi**2 * self.height * (coefficients[:, 0] - self.centre)
        return self.convex.slope(coefficients) + _filled(wells[:, None], coefficients)

    def curvature(self, coefficients: Tensor) -> Tensor:
        out = self.convex.curvature(coefficients)
        out[:, 0, 0] += 2 * math.pi**2 * self.height
        return out


class ConvexFunctional(nn.Module):
    """Head that makes :class:`ConvexAtoms` from the environment: one minimum, always."""

    is_convex: ClassVar[bool] = True

    def __init__(self, n_scalars: int, *, lmax: int) -> None:
        super().__init__()
        self.dimension = 1 + (lmax > 0)
        amplitude = inverse_positive(_ATOM_AMPLITUDE)
        tilt = [inverse_positive(_TILT)] * (self.dimension - 1)
        bias = [x for b, c in _ATOM_RIDGES for x in (amplitude, c, b, *tilt)]
        self.ridge_head = AtomScalars(n_scalars, bias=bias)

    def forward(self, features: Features, formal: Tensor) -> AtomicFunctional:
        return self.bind(features, formal)

    def bind(self, features: Features, formal: Tensor) -> ConvexAtoms:
        raw = self.ridge_head(features).unflatten(-1, (len(_ATOM_RIDGES), -1))
        slopes = torch.cat([raw[..., 2:3], F.softplus(raw[..., 3:])], dim=-1)
        return ConvexAtoms(SoftRidges(F.softplus(raw[..., 0]), slopes, raw[..., 1]), formal)


class LocalisedFunctional(ConvexFunctional):
    """Head that makes :class:`LocalisedAtoms`: several charge-localised minima."""

    is_convex: ClassVar[bool] = False

    def __init__(self, n_scalars: int, *, lmax: int) -> None:
        super().__init__(n_scalars, lmax=lmax)
        self.well_head = AtomScalars(n_scalars, bias=[inverse_positive(_WELL)])

    def forward(self, features: Features, formal: Tensor) -> AtomicFunctional:
        height = F.softplus(self.well_head(features)[:, 0])
        return LocalisedAtoms(self.bind(features, formal), height)


#: Atomic functionals by the name that a model's card gives.
FUNCTIONALS: dict[str, type[ConvexFunctional]] = {
    "convex": ConvexFunctional,
    "localised": LocalisedFunctional,
}


@dataclass(frozen=True)
class ConvexEdges:
    """How much flows along an edge under a drive Δ_ij = −Δ_ji, V.

    The conjugate Ψ_ij(Δ) = ½Δ² + ½[f_ij(Δ) + f_ji(−Δ)] is convex and equal seen from both ends, so
    that the transfer t_ij = −g_ij φ_ij(Δ_ij), φ = ∂Ψ/∂Δ, is antisymmetric and increases with the
    drive, φ' ≥ 1. The energy of the transfer is the Legendre transform

        h_ij(t_ij) = max_Δ [−t_ij Δ − g_ij Ψ_ij(Δ)] = g_ij [Δφ − Ψ],

    convex in t_ij and free of divisions by a conductance g_ij that may vanish. f = 0 gives
    t = −gΔ and h = t²/2g.
    """

    forward: SoftRidges
    backward: SoftRidges

    def softened(self, strength: float) -> Self:
        """The same with all ridges multiplied by ``strength``."""
        return replace(
            self,
            forward=self.forward.scaled(strength),
            backward=self.backward.scaled(strength),
        )

    def conjugate(self, drive: Tensor) -> Tensor:
        """Ψ(Δ): (E,) → (E,), V²."""
        x = drive[:, None]
        ridges = self.forward.value(x) + self.backward.value(-x)
        return 0.5 * (drive.square() + ridges)

    def response(self, drive: Tensor) -> Tensor:
        """φ(Δ): (E,) → (E,), V."""
        x = drive[:, None]
        ridges = self.forward.gradient(x) - self.backward.gradient(-x)
        return drive + 0.5 * ridges[:, 0]

    def gain(self, drive: Tensor) -> Tensor:
        """φ'(Δ) ≥ 1: (E,) → (E,)."""
        x = drive[:, None]
        ridges = self.forward.curvature(x) + self.backward.curvature(-x)
        return 1 + 0.5 * ridges[:, 0, 0]


class EdgeFunctional(nn.Module):
    """Head that makes :class:`ConvexEdges` from the environment of both ends."""

    def __init__(self, n_scalars: int, n_vectors: int, cutoff: float) -> None:
        super().__init__()
        outputs = 3 * len(_EDGE_RIDGES)
        self.ridge_head = EdgeScalars(n_scalars, n_vectors, cutoff, outputs=outputs)

    def forward(self, features: Features) -> ConvexEdges:
        raw = self.ridge_head(features).unflatten(-1, (len(_EDGE_RIDGES), 3))
        start = raw.new_tensor(_EDGE_RIDGES)
        amplitude = F.softplus(raw[..., 0] + inverse_positive(_EDGE_AMPLITUDE))
        slopes = (raw[..., 2] + start[:, 0])[..., None]
        offset = raw[..., 1] + start[:, 1]
        forward, backward = (SoftRidges(amplitude[s], slopes[s], offset[s]) for s in (0, 1))
        return ConvexEdges(forward, backward)


def _dipole_slope(coefficients: Tensor) -> Tensor:
    """∂(|d|²/δ²)/∂d, (N, 3)."""
    return (2 / _DIPOLE**2) * coefficients[:, 1:4]


def _filled(columns: Tensor, coefficients: Tensor) -> Tensor:
    """The first columns of a tensor like ``coefficients``; the others are zero."""
    return F.pad(columns, (0, coefficients.shape[1] - columns.shape[1]))
