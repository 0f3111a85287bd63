"""Monotone answers of charges and dipoles to a potential."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from asesc.models.backbone import Features
from asesc.models.readouts import (
    AtomScalars,
    EdgeScalars,
    bond_polarizability,
    edge_envelope,
    inverse_positive,
    positive,
)

_SUSCEPTIBILITY = 0.05  # e/V, start of the on-site response
_CONDUCTANCE = 0.05  # e/V, start of the edge conductance
_POLARIZABILITY = 0.03  # e Å²/V, start of the atomic polarisability
_GATE = 5.0  # V, start of the potential at which a response has bent
_FIELD_GATE = 2.0  # V/Å
_UNIT = 0.02  # e, start of the charge that one unit of a perceptron moves

#: Update rules by name; filled by subclassing :class:`Update` with ``kind="name"``.
UPDATES: dict[str, type[Update]] = {}


class Answer(ABC):
    """How the atoms of one geometry answer; every function is monotone and zero at zero.

    Monotone means: the derivative of :meth:`on_atoms` and :meth:`on_edges` is nowhere negative and
    that of :meth:`on_dipoles` positive semidefinite. Hence ∂q_i/∂μ ≤ 0 for every parameter.
    """

    @abstractmethod
    def on_atoms(self, x: Tensor) -> Tensor:
        """Electrons drawn from the reservoir by potentials x (N, K), V: (N,), e."""

    @abstractmethod
    def on_edges(self, drop: Tensor) -> Tensor:
        """Charge moved to j from i by the drop x_i − x_j (E,), V: (E,), e; odd in the drop."""

    @abstractmethod
    def on_dipoles(self, gradient: Tensor) -> Tensor:
        """Minus the dipoles induced by ∇x (N, 3), V/Å: (N, 3), e Å."""


class Update(nn.Module, ABC):
    """Parameters of an :class:`Answer` from the environment of atoms and edges.

    Parameters
    ----------
    n_scalars, n_vectors : int
        Of the backbone.
    cutoff : float, Å
    """

    #: Potential channels that :meth:`Answer.on_atoms` sees; edges and dipoles see the first.
    channels: ClassVar[int] = 1
    #: Further numbers per atom and per edge that a kind needs, with their starting values.
    atom_bias: ClassVar[tuple[float, ...]] = ()
    edge_outputs: ClassVar[int] = 0

    def __init_subclass__(cls, *, kind: str, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        UPDATES[kind] = cls

    def __init__(self, n_scalars: int, n_vectors: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        bias = [inverse_positive(_SUSCEPTIBILITY), inverse_positive(_POLARIZABILITY)]
        self.atom_head = AtomScalars(n_scalars, bias=[*bias, *self.atom_bias])
        outputs = 2 + self.edge_outputs
        self.edge_head = EdgeScalars(n_scalars, n_vectors, cutoff, outputs=outputs)

    def forward(self, features: Features) -> Answer:
        atoms = self.atom_head(features)
        forward, backward = self.edge_head(features)
        edges = 0.5 * (forward + backward)
        decay = edge_envelope(features, self.cutoff)
        conductance = positive(edges[:, 0] + inverse_positive(_CONDUCTANCE)) * decay
        bonds = positive(forward[:, 1] + inverse_positive(_POLARIZABILITY)) * decay
        linear = LinearAnswer(
            susceptibility=nn.functional.softplus(atoms[:, 0]),
            conductance=conductance,
            polarizability=bond_polarizability(features, positive(atoms[:, 1]), bonds),
        )
        return self.bend(linear, atoms[:, 2:], edges[:, 2:])

    @abstractmethod
    def bend(self, linear: LinearAnswer, atoms: Tensor, edges: Tensor) -> Answer:
        """The answer of this kind from the linear one and the further numbers."""


@dataclass(frozen=True)
class LinearAnswer(Answer):
    """Δq = −(L_g + diag(s)) x, Δd = −α∇x.

    Parameters
    ----------
    susceptibility : Tensor, (N,), e/V
        s_i ≥ 0, exchange with the reservoir: the metallic part. No floor, so that it can vanish.
    conductance : Tensor, (E,), e/V
        g_ij = g_ji ≥ 0, exchange with neighbours: the insulating part, blind to the Fermi level.
    polarizability : Tensor, (N, 3, 3), e Å²/V
        Positive semidefinite.
    """

    susceptibility: Tensor
    conductance: Tensor
    polarizability: Tensor

    def on_atoms(self, x: Tensor) -> Tensor:
        return self.susceptibility * x[:, 0]

    def on_edges(self, drop: Tensor) -> Tensor:
        return self.conductance * drop

    def on_dipoles(self, gradient: Tensor) -> Tensor:
        return torch.einsum("nab,nb->na", self.polarizability, gradient)


class LinearUpdate(Update, kind="linear"):
    """The density is affine in the potential; the self-consistency is one linear system."""

    def bend(self, linear: LinearAnswer, atoms: Tensor, edges: Tensor) -> Answer:
        return linear


@dataclass(frozen=True)
class GatedAnswer(Answer):
    """Linear for small potentials, with the slope falling to a fraction ρ of it beyond a gate X.

        φ(x) = s [ρx + (1 − ρ) x/√(1 + x²/X²)]

    and likewise on edges and, with |∇x| in place of x, for dipoles.

    ``rest`` (N,) is ρ in (0, 1); ``gate`` (N,) and ``edge_gate`` (E,) in V, ``field_gate`` (N,) in
    V/Å.
    """

    linear: LinearAnswer
    rest: Tensor
    gate: Tensor
    field_gate: Tensor
    edge_rest: Tensor
    edge_gate: Tensor

    def on_atoms(self, x: Tensor) -> Tensor:
        bent = _bent(x[:, 0], (x[:, 0] / self.gate) ** 2, self.rest)
        return self.linear.susceptibility * bent

    def on_edges(self, drop: Tensor) -> Tensor:
        return self.linear.conductance * _bent(drop, (drop / self.edge_gate) ** 2, self.edge_rest)

    def on_dipoles(self, gradient: Tensor) -> Tensor:
        linear = self.linear.on_dipoles(gradient)
        # The energy ½ ∇x·α·∇x, not |∇x|, decides, so that the derivative stays symmetric.
        strength = (gradient * linear).sum(-1, keepdim=True)
        scale = (self.field_gate**2 * self._trace)[:, None]
        return _bent(linear, strength / scale, self.rest[:, None])

    @property
    def _trace(self) -> Tensor:
        return self.linear.polarizability.diagonal(dim1=-2, dim2=-1).sum(-1)


def _bent(value: Tensor, square: Tensor, rest: Tensor) -> Tensor:
    """ρv + (1 − ρ) v/√(1 + square)."""
    return value * (rest + (1 - rest) / torch.sqrt(1 + square))


class GatedUpdate(Update, kind="gated"):
    """A response that saturates, with gates made by the environment."""

    atom_bias: ClassVar[tuple[float, ...]] = (
        0.0,
        inverse_positive(_GATE),
        inverse_positive(_FIELD_GATE),
    )
    edge_outputs: ClassVar[int] = 2

    def bend(self, linear: LinearAnswer, atoms: Tensor, edges: Tensor) -> Answer:
        return GatedAnswer(
            linear=linear,
            rest=torch.sigmoid(atoms[:, 0]),
            gate=positive(atoms[:, 1]),
            field_gate=positive(atoms[:, 2]),
            edge_rest=torch.sigmoid(edges[:, 0]),
            edge_gate=positive(edges[:, 1] + inverse_positive(_GATE)),
        )


@dataclass(frozen=True)
class PerceptronAnswer(Answer):
    """A monotone perceptron of the potentials of K channels beside the linear response.

        φ(x) = s x_1 + Σ_k c_k [tanh(b_k x_k + e_k) − tanh(e_k)],   b_k, c_k ≥ 0.

    ``amount`` (N, K) is c in e, ``steepness`` (N, K) b in 1/V and ``offset`` (N, K) e.
    """

    linear: LinearAnswer
    amount: Tensor
    steepness: Tensor
    offset: Tensor

    def on_atoms(self, x: Tensor) -> Tensor:
        units = torch.tanh(self.steepness * x + self.offset) - torch.tanh(self.offset)
        return self.linear.on_atoms(x) + (self.amount * units).sum(-1)

    def on_edges(self, drop: Tensor) -> Tensor:
        return self.linear.on_edges(drop)

    def on_dipoles(self, gradient: Tensor) -> Tensor:
        return self.linear.on_dipoles(gradient)


class PerceptronUpdate(Update, kind="mlp"):
    """Charge levels of the environment's choice: steps of charge at potentials it places.

    Each channel has its own mixture of widths, so that ∂F/∂p is a sum of products of positive
    matrices: unlike in the other kinds, one fixed point is not guaranteed, only likely.
    """

    channels: ClassVar[int] = 4
    atom_bias: ClassVar[tuple[float, ...]] = (
        *[inverse_positive(_UNIT)] * channels,
        *[inverse_positive(1 / _GATE)] * channels,
        *[0.0] * channels,
    )

    def bend(self, linear: LinearAnswer, atoms: Tensor, edges: Tensor) -> Answer:
        amount, steepness, offset = atoms.split(self.channels, dim=-1)
        return PerceptronAnswer(linear, positive(amount), positive(steepness), offset)
