"""Multipoles read out from the local environment."""

from __future__ import annotations

from typing import Any

import torch

from asesc.models.base import Model, Problem, State
from asesc.models.moments import coefficients_of, excess_charge, read_out_dipole
from asesc.models.readouts import AtomScalars, AtomVectors, inverse_positive, positive
from asesc.solvers import READ_OUT


class LocalCharges(Model, family="LocalCharges"):
    """p = p_local(environment), projected to the total charge.

        q_i = q̂_i + f_i (Q − Σ_j q̂_j),   f_i = w_i / Σ_j w_j,   w_i > 0 learned.

    The density does not respond to distant charges or fields (its polarisability is zero), but
    charges and dipoles follow the geometry.

    Parameters
    ----------
    **common
        See :class:`~asesc.models.base.Model`.

    References
    ----------
    arXiv:2603.14700 ("local charges").
    """

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        n_scalars, n_vectors = self.backbone.n_scalars, self.backbone.n_vectors
        self.charge_head = AtomScalars(n_scalars, bias=[0.0, inverse_positive(1.0)])
        self.dipole_head = AtomVectors(n_scalars, n_vectors) if self.lmax > 0 else None

    def solve(self, problem: Problem) -> State:
        system, features = problem.system, problem.features
        charges, raw_weights = self.charge_head(features).unbind(-1)
        charges = charges + excess_charge(system, charges, positive(raw_weights))
        dipoles = None if self.dipole_head is None else self.dipole_head(features)
        coefficients = coefficients_of(charges, dipoles, self.lmax)
        return State(
            coefficients=coefficients,
            dipole=read_out_dipole(system, coefficients),
            internal_energy=torch.zeros_like(system.charge),
            solution=READ_OUT,
        )
