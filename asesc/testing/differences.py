"""Finite differences of any energy, all displaced structures evaluated as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from asesc.system import System
from asesc.testing.report import Deviation, largest

_STEP = 3e-4


def tiled(system: System, copies: int) -> System:
    """One structure repeated as a batch of ``copies``."""
    level, sites, spin = system.fermi_level, system.charge_sites, system.spin
    return replace(
        system,
        positions=system.positions.repeat(copies, 1),
        numbers=system.numbers.repeat(copies),
        cell=system.cell.repeat(copies, 1, 1),
        batch=torch.arange(copies).repeat_interleave(system.n_atoms),
        charge=system.charge.repeat(copies),
        electric_field=system.electric_field.repeat(copies, 1),
        fermi_level=None if level is None else level.repeat(copies),
        charge_sites=None if sites is None else sites.repeat(copies),
        spin=None if spin is None else spin.repeat(copies),
    )


def central_difference(
    function: Callable[[Tensor], Tensor], n: int, *, step: float = _STEP
) -> Tensor:
    """∂f/∂x at x = 0 by the five-point formula, error O(step⁴): (n, …).

    Parameters
    ----------
    function : callable
        Evaluates all points at once: (4n, n) → (4n, …).
    n : int
        Number of variables x.
    """
    factors = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64) * step
    weights = torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=torch.float64) / (12 * step)
    points = torch.einsum("s,kn->ksn", factors, torch.eye(n, dtype=torch.float64))
    values = function(points.reshape(4 * n, n))
    return torch.einsum("s,ks...->k...", weights, values.reshape(n, 4, *values.shape[1:]))


def check_derivatives(energy: Callable[[System], Tensor], system: System) -> Iterator[Deviation]:
    """Position and, where there is a cell, strain derivatives of any energy of a system."""
    positions = system.positions.clone().requires_grad_()
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    symmetric = 0.5 * (strain + strain.transpose(1, 2))
    total = energy(replace(system, positions=positions).strained(symmetric)).sum()
    gradient, virial = torch.autograd.grad(total, (positions, strain))

    def displaced(points: Tensor) -> Tensor:
        many = tiled(system, len(points))
        return energy(replace(many, positions=many.positions + points.reshape(-1, 3)))

    numerical = central_difference(displaced, 3 * system.n_atoms).reshape(-1, 3)
    yield Deviation("forces", largest(gradient - numerical), 1e-6, "F = −∂E/∂R, eV/Å")
    basis = _strain_basis(system)
    if len(basis) == 0:
        return
    numerical = central_difference(lambda points: _strained(energy, system, points, basis), 6)
    analytical = torch.einsum("nab,ab->n", basis, virial[0])
    per_volume = largest(analytical - numerical) / float(system.volume)
    yield Deviation("stress", per_volume, 1e-7, "σ = ∂E/∂ε/V, eV/Å³")


def _strained(
    energy: Callable[[System], Tensor], system: System, points: Tensor, basis: Tensor
) -> Tensor:
    return energy(tiled(system, len(points)).strained(torch.einsum("sn,nab->sab", points, basis)))


def _strain_basis(system: System) -> Tensor:
    """Six symmetric strains, projected on the plane of a slab; none for an isolated system."""
    if sum(system.pbc) < 2:
        return system.cell.new_zeros(0, 3, 3)
    project = torch.eye(3, dtype=torch.float64)
    if not all(system.pbc):
        a, b = (system.cell[0, axis] for axis in range(3) if system.pbc[axis])
        normal = torch.linalg.cross(a, b) / torch.linalg.vector_norm(torch.linalg.cross(a, b))
        project = project - torch.outer(normal, normal)
    rows = []
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        unit = torch.zeros(3, 3, dtype=torch.float64)
        unit[a, b] += 0.5
        unit[b, a] += 0.5
        rows.append(project @ unit @ project)
    return torch.stack(rows)
