"""Long waves on the Gaussian multipoles: the space in which the Coulomb operator is largest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.kernels import OpenKernel, PeriodicKernel, SlabKernel, sample
from asesc.system import System


def plane_waves(system: System, basis: GaussianBasis, n: int) -> Tensor:
    """Real and imaginary parts of the ``n``/2 longest waves, (N, M, n).

    A column is φ̃_lm(k) e^(−ik·r) on every multipole, so that with W these columns J is about
    W diag(w) Wᵀ for long waves. Columns of different structures of a batch are independent. Where
    a direction is open the waves are those of a box twice as long as the structure.

    Parameters
    ----------
    n : int
        Even. The columns are not orthogonal.
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
    length = torch.where(lattice.weights != 0, lattice.k2, math.inf)
    longest = length.topk(n // 2, dim=1, largest=False).indices
    k = torch.take_along_dim(lattice.wave_vectors, longest[:, :, None], dim=1)
    form = basis.form_factors(k)[system.batch]
    k = k[system.batch]
    positions = system.positions.detach()
    phase = torch.polar(
        torch.exp(-0.5 * basis.widths[:, None] ** 2 * k.square().sum(-1)),
        -(k * positions[:, None]).sum(-1),
    )
    waves = (form * phase[..., None]).transpose(1, 2)
    return torch.cat([waves.real, waves.imag], dim=-1)
