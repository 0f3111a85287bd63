"""The contract of a boundary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.density.harmonics import n_components
from asesc.electrostatics import Boundary, CoulombOperator
from asesc.system import System
from asesc.testing.differences import check_derivatives, tiled
from asesc.testing.report import ContractReport, Deviation, largest
from asesc.testing.structures import (
    Pbc,
    accepted_pbc,
    example_system,
    rotate_coefficients,
    rotation,
)


def check_boundary(boundary: Boundary, *, lmax: int = 2) -> ContractReport:
    """Check a Coulomb operator on three charged Gaussians of different widths, every axis.

    Potential, symmetry, dense matrix, forces and strain derivatives against finite differences,
    translation by 1000 Å, rotation, and batches against single structures.

    Raises
    ------
    ContractError
        With every violated clause.
    """
    deviations = []
    for pbc in accepted_pbc(boundary):
        deviations += [
            replace(d, what=f"pbc={pbc}: {d.what}") for d in _operator(boundary, pbc, lmax)
        ]
    return ContractReport(f"boundary {boundary.name!r}", tuple(deviations)).require()


def _operator(boundary: Boundary, pbc: Pbc, lmax: int) -> Iterator[Deviation]:
    system = example_system((1, 1, 1), pbc)
    widths = torch.tensor([1.2, 1.4, 1.6], dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    p = torch.randn(3, n_components(lmax), dtype=torch.float64, generator=generator)

    def bind(bound: System) -> CoulombOperator:
        basis = GaussianBasis(lmax, widths.repeat(bound.n_structures))
        return boundary.bind(bound, basis)

    def energy(bound: System) -> Tensor:
        return bind(bound).energy(p.repeat(bound.n_structures, 1))

    operator = bind(system)
    yield from _linear_map(operator, p)
    yield from check_derivatives(energy, system)
    reference = energy(system)
    moved = replace(system, positions=system.positions + 1e3)
    yield Deviation(
        "translation by 1000 Å",
        largest(energy(moved) - reference),
        1e-8,
        "the energy depends on distances only",
    )
    turn = rotation()
    turned = replace(system, positions=system.positions @ turn.T, cell=system.cell @ turn.T)
    p_turned = rotate_coefficients(p, turn)
    yield Deviation(
        "rotation", largest(bind(turned).energy(p_turned) - reference), 1e-8, "space is isotropic"
    )
    batch = tiled(system, 2)
    stretched = batch.positions.clone()
    stretched[3:] *= 1.1
    pair = replace(batch, positions=stretched)
    alone = replace(system, positions=stretched[3:])
    singles = torch.cat([reference, energy(alone)])
    yield Deviation(
        "batch", largest(energy(pair) - singles), 1e-9, "neighbours in a batch do not interact"
    )


def _linear_map(operator: CoulombOperator, p: Tensor) -> Iterator[Deviation]:
    coefficients = p.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(operator.energy(coefficients).sum(), coefficients)
    v = operator.potential(p)
    scale = largest(v)
    dense = operator.dense()[0]
    yield Deviation("v − ∂E/∂p", largest(v - gradient) / scale, 1e-12, "v is conjugate to p")
    yield Deviation(
        "J − Jᵀ",
        largest(dense - dense.T) / largest(dense),
        1e-12,
        "conjugate gradients and Cholesky need a symmetric matrix",
    )
    yield Deviation(
        "dense − potential",
        largest(dense @ p.reshape(-1) - v.reshape(-1)) / scale,
        1e-11,
        "both are the same operator",
    )
