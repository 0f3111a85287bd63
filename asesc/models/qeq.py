"""Charge equilibration: the quadratic energy of classic QEq, with dipoles."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from asesc.electrostatics.field import uniform_field_potential
from asesc.models.base import Model, Problem, State
from asesc.models.moments import coefficients_of, read_out_dipole
from asesc.models.readouts import AtomScalars, AtomVectors, inverse_positive, positive
from asesc.solvers import (
    Solution,
    long_wave_inverse,
    minimise_quadratic_cg,
    minimise_quadratic_dense,
)

_HARDNESS = 5.0  # V/e, start of the learned hardness
_STIFFNESS = 20.0  # V/(e Å²), start of the learned inverse polarisability
_WAVES = 128  # long waves inverted in advance: one kilobyte per unknown


class QEq(Model, family="QEq"):
    """Minimise E(q, d) = Σ_i (χ_i q_i + ½η_i q_i² + ϕ_i·d_i + ½κ_i d_i²) + ½⟨p, Jp⟩ + ⟨p, v_ext⟩
    at Σq = Q.

    χ, ϕ (electronegativity of charges and dipoles) and η, κ > 0 (hardness, inverse atomic
    polarisability) come from the environment. The response is metallic: charge flows over any
    distance, fragments carry fractional charges, and the polarisability of a chain grows like
    its length cubed. One dense Cholesky solve, O(N³); for one structure of more than
    ``SCFOptions.dense_limit`` unknowns conjugate gradients with products J p, in which long waves
    are inverted in advance.

    Parameters
    ----------
    **common
        See :class:`~asesc.models.base.Model`.

    References
    ----------
    A. K. Rappé, W. A. Goddard, J. Phys. Chem. 95, 3358 (1991), doi:10.1021/j100161a070.
    T. W. Ko et al., Nat. Commun. 12, 398 (2021), doi:10.1038/s41467-020-20427-2.
    """

    has_fermi_level: ClassVar[bool] = True

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        n_scalars, n_vectors = self.backbone.n_scalars, self.backbone.n_vectors
        self.charge_head = AtomScalars(n_scalars, bias=[0.0, inverse_positive(_HARDNESS)])
        self.stiffness_head = self.vector_head = None
        if self.lmax > 0:
            self.stiffness_head = AtomScalars(n_scalars, bias=[inverse_positive(_STIFFNESS)])
            self.vector_head = AtomVectors(n_scalars, n_vectors)

    def solve(self, problem: Problem) -> State:
        system = problem.system
        linear, stiffness = self._quadratic_form(problem)
        drive = linear + uniform_field_potential(system, problem.basis)
        by_products = system.n_structures == 1 and not problem.is_small
        minimise = _minimise_by_products if by_products else _minimise_as_matrix
        p, multiplier, solution = minimise(problem, drive, stiffness)
        internal = system.sum((linear * p + 0.5 * stiffness * p * p).sum(-1))
        return State(p, read_out_dipole(system, p), internal, solution, -multiplier)

    def _quadratic_form(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Linear term (χ, ϕ) and diagonal curvature (η, κ, κ, κ), both (N, M)."""
        electronegativity, raw_hardness = self.charge_head(problem.features).unbind(-1)
        hardness = positive(raw_hardness)
        if self.stiffness_head is None or self.vector_head is None:
            return electronegativity[:, None], hardness[:, None]
        stiffness = positive(self.stiffness_head(problem.features)).expand(-1, 3)
        linear = coefficients_of(electronegativity, self.vector_head(problem.features), self.lmax)
        curvature = torch.cat([hardness[:, None], stiffness], dim=-1)
        # Multipoles beyond dipoles are not drawn by anything; unit curvature keeps them at rest.
        missing = linear.shape[1] - curvature.shape[1]
        ones = curvature.new_ones(len(curvature), missing)
        return linear, torch.cat([curvature, ones], dim=-1)


def _minimise_as_matrix(
    problem: Problem, drive: Tensor, stiffness: Tensor
) -> tuple[Tensor, Tensor, Solution]:
    """Density (N, M), multiplier (B,) and report by Cholesky."""
    problem.require_dense_memory()
    system, layout = problem.system, problem.system.layout
    # A padded row gets unit curvature and no drive, so that it stays at zero.
    diagonal = layout.pad(stiffness) + (~layout.mask)[..., None]
    matrix = problem.coulomb.dense() + torch.diag_embed(diagonal.flatten(1))
    constraint = layout.pad(_is_charge(drive)).flatten(1)
    x, multiplier, solution = minimise_quadratic_dense(
        matrix, layout.pad(drive).flatten(1), constraint, system.charge
    )
    return layout.unpad(x.reshape(*layout.shape, -1)), multiplier, solution


def _minimise_by_products(
    problem: Problem, drive: Tensor, stiffness: Tensor
) -> tuple[Tensor, Tensor, Solution]:
    """The same for one structure by conjugate gradients, which never form the matrix."""
    coulomb, shape = problem.coulomb, drive.shape
    with torch.no_grad():
        waves = coulomb.lowk_basis(_WAVES)
        beyond = (coulomb.diag() - waves.square().sum(-1)).clamp(min=0)
        inverse = long_wave_inverse((stiffness + beyond).flatten(), waves.flatten(0, 1))

    def apply(x: Tensor) -> Tensor:
        p = x.reshape(shape)
        return (coulomb.potential(p) + stiffness * p).flatten()

    x, multiplier, solution = minimise_quadratic_cg(
        apply,
        drive.flatten(),
        _is_charge(drive).flatten(),
        problem.system.charge[0],
        start=None if problem.start is None else problem.start.flatten(),
        precondition=inverse,
        tolerance=problem.options.tolerance,
        max_iterations=problem.options.max_maps,
    )
    return x.reshape(shape), multiplier[None], solution


def _is_charge(coefficients: Tensor) -> Tensor:
    """1 for charges and 0 for other multipoles, (N, M)."""
    ones = torch.zeros_like(coefficients)
    ones[:, 0] = 1
    return ones
