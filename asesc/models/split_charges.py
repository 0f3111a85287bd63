"""Formal charges redistributed by learned transfers along edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from asesc.models.backbone import Features
from asesc.models.base import Model, Problem, State
from asesc.models.moments import coefficients_of, excess_charge, json_table
from asesc.models.readouts import (
    AtomScalars,
    AtomVectors,
    EdgeScalars,
    edge_envelope,
    inverse_positive,
    positive,
)
from asesc.solvers import READ_OUT
from asesc.system import System


class SplitCharges(Model, family="SplitCharges"):
    """q_i = q⁰_i + Σ_j t_ij with antisymmetric transfers t_ij = −t_ji from the environment.

    The polarisation P = Σ_i (q⁰_i r_i + d_i) + Σ_(i<j) t_ij (r_i − r_j) uses relative vectors
    only for the transfers, hence is well defined in crystals up to the formal-charge quantum and
    continuous when atoms move. The density does not respond to fields.

    Parameters
    ----------
    formal_charges : mapping of int to float, e, optional
        q⁰ per element, default 0; a total charge beyond their sum is divided over the atoms with
        learned positive weights.
    **common
        See :class:`~asesc.models.base.Model`.

    References
    ----------
    arXiv:2603.14700 ("local split charges").
    """

    has_itinerant_polarisation: ClassVar[bool] = True

    def __init__(
        self, *, formal_charges: Mapping[int | str, float] | None = None, **common: Any
    ) -> None:
        table = formal_charges or {}
        super().__init__(own={"formal_charges": json_table(table)}, **common)
        n_scalars, n_vectors = self.backbone.n_scalars, self.backbone.n_vectors
        self.register_buffer("_formal", self._per_element(table, default=0.0))
        self.weight_head = AtomScalars(n_scalars, bias=[inverse_positive(1.0)])
        self.transfer_head = EdgeScalars(n_scalars, n_vectors, self.cutoff, outputs=1)
        self.dipole_head = AtomVectors(n_scalars, n_vectors) if self.lmax > 0 else None

    def solve(self, problem: Problem) -> State:
        system, features = problem.system, problem.features
        forward, backward = self.transfer_head(features)[..., 0]
        transfers = 0.5 * (forward - backward) * edge_envelope(features, self.cutoff)
        weights = positive(self.weight_head(features)[:, 0])
        formal = self._formal[self.backbone.index_of(system.numbers)]
        formal = formal + excess_charge(system, formal, weights)
        charges = formal.index_add(0, features.edges.source, transfers)
        dipoles = None if self.dipole_head is None else self.dipole_head(features)
        return State(
            coefficients=coefficients_of(charges, dipoles, self.lmax),
            dipole=itinerant_dipole(system, features, formal, transfers, dipoles),
            internal_energy=torch.zeros_like(system.charge),
            solution=READ_OUT,
        )


def itinerant_dipole(
    system: System,
    features: Features,
    formal: Tensor,
    transfers: Tensor,
    dipoles: Tensor | None,
) -> Tensor:
    """μ = Σ_i (q⁰_i r_i + d_i) + ½ Σ_(directed ij) t_ij (r_i − r_j), (B, 3), e Å.

    Parameters
    ----------
    formal : Tensor, (N,), e
    transfers : Tensor, (E,), e
        Charge moved to i from j on every directed edge, t_ji = −t_ij.
    dipoles : Tensor, (N, 3), e Å, optional
    """
    moments = formal[:, None] * system.positions
    if dipoles is not None:
        moments = moments + dipoles
    flow = -0.5 * transfers[:, None] * features.edge_vectors
    return system.sum(moments.index_add(0, features.edges.source, flow))
