"""Small rotation-equivariant heads on top of the backbone's features.

Scalars pass through perceptrons, vectors are combined linearly with weights made from scalars, and
edges see scalars of both ends, the projections of both ends' vectors on the bond and its length.
No e3nn is needed: everything is invariants times vectors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asesc.errors import InputError
from asesc.models.backbone import Features

_PROJECTED = 8
_INVERSE_SOFTPLUS_FLOOR = 1e-6


def positive(raw: Tensor) -> Tensor:
    """softplus: the map that keeps hardness, conductance and polarisability positive."""
    return F.softplus(raw) + _INVERSE_SOFTPLUS_FLOOR


def inverse_positive(value: float) -> float:
    """The raw number that :func:`positive` turns into ``value``."""
    return math.log(math.expm1(value))


def edge_envelope(features: Features, cutoff: float) -> Tensor:
    """Smooth step 1 − 10x³ + 15x⁴ − 6x⁵ of x = r/r_c on every edge, (E,).

    1 at r = 0 and 0 at the cutoff with two continuous derivatives, so that forces stay smooth
    when a neighbour leaves.
    """
    x = torch.linalg.vector_norm(features.edge_vectors, dim=-1) / cutoff
    return 1 - x**3 * (10 - 15 * x + 6 * x * x)


class _Empty(nn.Linear):
    """A layer from or to nothing, of whose initialisation torch would warn."""

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


def _linear(n_in: int, n_out: int, *, bias: bool = True) -> nn.Linear:
    """A layer in float64 like the backbone; casting the model casts both."""
    # A backbone of one layer makes no vectors.
    kind = nn.Linear if n_in and n_out else _Empty
    return kind(n_in, n_out, bias=bias, dtype=torch.float64)


def _perceptron(n_in: int, width: int, n_out: int, bias: list[float]) -> nn.Sequential:
    """Two-layer perceptron whose output starts near ``bias``."""
    last = _linear(width, n_out)
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.copy_(torch.tensor(bias, dtype=last.bias.dtype))
    return nn.Sequential(_linear(n_in, width), nn.SiLU(), last)


class AtomScalars(nn.Module):
    """Invariant numbers per atom: (N, len(bias)), starting near ``bias``."""

    def __init__(self, n_scalars: int, *, bias: list[float], width: int = 32) -> None:
        super().__init__()
        self.net = _perceptron(n_scalars, width, len(bias), bias)

    def forward(self, features: Features) -> Tensor:
        return self.net(features.scalars).double()


class AtomVectors(nn.Module):
    """One vector per atom, Σ_c w_c(scalars) V_c: (N, 3)."""

    def __init__(self, n_scalars: int, n_vectors: int, *, width: int = 32) -> None:
        super().__init__()
        self.net = _perceptron(n_scalars, width, n_vectors, [0.0] * n_vectors)

    def forward(self, features: Features) -> Tensor:
        weights = self.net(features.scalars)
        return torch.einsum("nv,nvc->nc", weights, features.vectors).double()


class EdgeScalars(nn.Module):
    """Invariant numbers per directed edge f(i → j) and of the reverse edge f(j → i).

    Returns both, (2, E, len(bias)); their half sum is symmetric and their half difference
    antisymmetric under exchange. Raw numbers: multiply what they become by
    :func:`edge_envelope`, so that an edge vanishes smoothly at the cutoff.
    """

    def __init__(
        self,
        n_scalars: int,
        n_vectors: int,
        cutoff: float,
        *,
        outputs: int,
        width: int = 32,
        radials: int = 8,
    ) -> None:
        super().__init__()
        if radials < 1:
            raise InputError(f"an edge head with {radials} radial functions; take at least 1")
        self.cutoff, self.radials = cutoff, radials
        self.first = _linear(n_scalars, width)
        self.second = _linear(n_scalars, width, bias=False)
        # Vectors are mixed down to a few channels on atoms, where it is cheap, before projection.
        self.mix_first = _linear(n_vectors, _PROJECTED, bias=False)
        self.mix_second = _linear(n_vectors, _PROJECTED, bias=False)
        self.along = _linear(2 * _PROJECTED, width, bias=False)
        self.radial = _linear(radials, width, bias=False)
        self.net = nn.Sequential(nn.SiLU(), _linear(width, width), nn.SiLU())
        self.out = _linear(width, outputs)
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.zero_()

    def forward(self, features: Features) -> Tensor:
        dtype = features.scalars.dtype
        i, j = features.edges.source, features.edges.target
        distance = torch.linalg.vector_norm(features.edge_vectors, dim=-1)
        unit = (features.edge_vectors / distance[:, None]).to(dtype)
        ends = torch.stack([torch.stack([i, j]), torch.stack([j, i])])
        bonds = torch.stack([unit, -unit])
        hidden = (
            self.first(features.scalars)[ends[:, 0]]
            + self.second(features.scalars)[ends[:, 1]]
            + self.along(self._projections(features.vectors, ends, bonds))
            + self.radial(_bessel(distance, self.cutoff, self.radials).to(dtype))
        )
        return self.out(self.net(hidden)).double()

    def _projections(self, vectors: Tensor, ends: Tensor, bonds: Tensor) -> Tensor:
        """V_i · r̂_ij and V_j · r̂_ji of the mixed channels, (2, E, 2 · 8)."""
        transposed = vectors.transpose(1, 2)
        first = self.mix_first(transposed)[ends[:, 0]]
        second = self.mix_second(transposed)[ends[:, 1]]
        both = torch.cat([first, -second], dim=-1)
        return (both * bonds[..., None]).sum(-2)


def bond_polarizability(features: Features, isotropic: Tensor, bonds: Tensor) -> Tensor:
    """α_i = a_i 1 + Σ_j b_ij r̂_ij r̂_ijᵀ, positive semidefinite for a_i, b_ij ≥ 0.

    Parameters
    ----------
    features : Features
    isotropic : Tensor, (N,), e Å²/V
        a_i.
    bonds : Tensor, (E,), e Å²/V
        b_ij of every directed edge, of atom i.

    Returns
    -------
    Tensor, (N, 3, 3), e Å²/V
    """
    vectors = features.edge_vectors
    along = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    outer = bonds[:, None, None] * along[:, :, None] * along[:, None, :]
    identity = torch.eye(3, dtype=bonds.dtype, device=bonds.device)
    diagonal = isotropic[:, None, None] * identity
    return diagonal.index_add(0, features.edges.source, outer)


def _bessel(distance: Tensor, cutoff: float, count: int) -> Tensor:
    """Radial Bessel functions √(2/r_c) sin(nπr/r_c)/r of n = 1 … ``count``, (E, count)."""
    n = torch.arange(1, count + 1, dtype=distance.dtype, device=distance.device)
    x = distance[:, None]
    return math.sqrt(2 / cutoff) * torch.sin(n * math.pi * x / cutoff) / x
