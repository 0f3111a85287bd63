"""Long waves on the Gaussian multipoles: the space in which the Coulomb operator is largest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.kernels import OpenKernel, PeriodicKernel, SlabKernel, sample
from asesc.system import System


def plane_waves(system: System, basis: GaussianBasis, n: int) -> Tensor:
    """Real and imaginary parts of the ``n``/2 waves in which J is largest, (N, M, n).

    A column is √w φ̃_lm(k) e^(−ik·r) on every multipole with w the kernel of the boundary, so that
    with W these columns J is W Wᵀ and the waves that are left out; about so where a direction is
    open, since the waves are then those of a box twice as long as the structure. Columns of
    different structures of a batch are independent. The wave k = 0, which neutral densities do not
    have, is never among them.

    Parameters
    ----------
    n : int
        Even. The columns are not orthogonal. Small structures with few waves get columns of zeros.
    """
    kernel: PeriodicKernel | SlabKernel | OpenKernel
    if all(system.pbc):
        kernel = PeriodicKernel()
    else:
        kernel = SlabKernel(system.pbc.index(False)) if any(system.pbc) else OpenKernel()
    cells = kernel.cells(system, 2 * basis.width_range[1]).detach()
    volume = torch.linalg.det(cells).abs().amin()
    # A sphere with n/2 waves in a half-space, and room for the shape of the cell.
    cutoff = 1.5 * float((6 * math.pi**2 * n / volume) ** (1 / 3))
    cutoff += 2 * math.pi / float(torch.linalg.vector_norm(cells, dim=-1).amin())
    lattice = sample(kernel, cells, cutoff)
    narrow = basis.width_range[0]
    weights = lattice.weights.where(lattice.k2 > 0, 0.0).clamp(min=0)
    longest = (weights * torch.exp(-(narrow**2) * lattice.k2)).topk(n // 2, dim=1).indices
    k = torch.take_along_dim(lattice.wave_vectors, longest[:, :, None], dim=1)
    form = basis.form_factors(k)[system.batch]
    strength = torch.take_along_dim(weights, longest, dim=1).sqrt()[system.batch]
    k = k[system.batch]
    positions = system.positions.detach()
    phase = torch.polar(
        strength * torch.exp(-0.5 * basis.widths[:, None] ** 2 * k.square().sum(-1)),
        -(k * positions[:, None]).sum(-1),
    )
    waves = (form * phase[..., None]).transpose(1, 2)
    return torch.cat([waves.real, waves.imag], dim=-1)
