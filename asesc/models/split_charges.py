"""Formal charges redistributed by learned transfers along edges."""

from __future__ import annotations

from typing import Any

import torch

from asesc.models.base import Problem, State
from asesc.models.moments import coefficients_of
from asesc.models.readouts import (
    AtomScalars,
    AtomVectors,
    edge_envelope,
    inverse_positive,
    positive,
)
from asesc.models.transfers import TransferModel, itinerant_dipole
from asesc.solvers import READ_OUT


class SplitCharges(TransferModel, family="SplitCharges"):
    """q_i = q⁰_i + Σ_j t_ij with antisymmetric transfers t_ij = −t_ji from the environment.

    The polarisation P = Σ_i (q⁰_i r_i + d_i) + Σ_(i<j) t_ij (r_i − r_j) uses relative vectors
    only for the transfers, hence is well defined in crystals up to the formal-charge quantum and
    continuous when atoms move. The density does not respond to fields.

    Parameters
    ----------
    **keywords
        See :class:`~asesc.models.transfers.TransferModel`.

    References
    ----------
    arXiv:2603.14700 ("local split charges").
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        n_scalars, n_vectors = self.backbone.n_scalars, self.backbone.n_vectors
        self.weight_head = AtomScalars(n_scalars, bias=[inverse_positive(1.0)])
        self.transfer_head = self.edge_scalars(outputs=1)
        self.dipole_head = AtomVectors(n_scalars, n_vectors) if self.lmax > 0 else None

    def solve(self, problem: Problem) -> State:
        system, features = problem.system, problem.features
        forward, backward = self.transfer_head(features)[..., 0]
        transfers = 0.5 * (forward - backward) * edge_envelope(features, self.cutoff)
        weights = positive(self.weight_head(features)[:, 0])
        formal = self.formal_charges(system, weights)
        charges = formal.index_add(0, features.edges.source, transfers)
        dipoles = None if self.dipole_head is None else self.dipole_head(features)
        return State(
            coefficients=coefficients_of(charges, dipoles, self.lmax),
            dipole=itinerant_dipole(system, features, formal, transfers, dipoles),
            internal_energy=torch.zeros_like(system.charge),
            solution=READ_OUT,
        )
