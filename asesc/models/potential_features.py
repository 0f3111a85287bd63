"""What an atom feels of all others: the potential on receivers of several widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from asesc.electrostatics.field import uniform_field_potential
from asesc.electrostatics.operator import Receivers, require_wider
from asesc.models.base import Problem

#: Weight that a channel starts with on the width it prefers.
_PREFERENCE = 2.0


class PotentialFeatures(nn.Module):
    """x_k = Σ_w a_kw u^w, potentials of K channels from receivers of W widths.

    u^w is the potential of the whole density, the atom's own Gaussian included, and of the applied
    field, averaged over Gaussians w times as wide as the atom's density. The weights a_kw ≥ 0 are
    learned, common to all atoms and add up to one over w: a constant potential V gives x = V, and
    the map J̄_k = Σ_w a_kw J_w from densities to x is symmetric and as positive as J itself, on
    which the convergence of the self-consistency rests.

    Parameters
    ----------
    factors : sequence of W floats ≥ 1
        Widths in units of the atom's own.
    channels : int
    """

    def __init__(self, factors: Sequence[float], *, channels: int) -> None:
        super().__init__()
        self.factors = require_wider(factors)
        logits = torch.zeros(channels, len(self.factors), dtype=torch.float64)
        for channel in range(channels):
            logits[channel, channel % len(self.factors)] = _PREFERENCE
        self.mixing = nn.Parameter(logits)

    def bind(self, problem: Problem) -> PotentialMap:
        """The features of one geometry as a function of the density."""
        return PotentialMap(
            receivers=problem.coulomb.receivers(self.factors),
            mixture=torch.softmax(self.mixing.double(), dim=-1),
            external=uniform_field_potential(problem.system, problem.basis),
        )


@dataclass(frozen=True)
class PotentialMap:
    """Affine map from a density to the potentials of every channel.

    Parameters
    ----------
    receivers : Receivers
        Of W widths.
    mixture : Tensor, (K, W)
    external : Tensor, (N, M), V Å^−l
        Potential of the applied field, the same for every width.
    """

    receivers: Receivers
    mixture: Tensor
    external: Tensor

    def __call__(self, coefficients: Tensor) -> Tensor:
        """x: (N, M) → (N, K, M), V Å^−l."""
        received = self.receivers.potential(coefficients)
        return torch.einsum("kw,nwm->nkm", self.mixture, received) + self.external[:, None]

    @cached_property
    def dense(self) -> Tensor:
        """J̄ of every channel as padded blocks without graph, (B, K, n·M, n·M)."""
        with torch.no_grad():
            return torch.einsum("kw,bwij->bkij", self.mixture, self.receivers.dense())

    def scaled_field(self, strength: Tensor) -> PotentialMap:
        """The same with the applied field multiplied by ``strength`` (N,)."""
        return replace(self, external=strength[:, None] * self.external)
