"""Green functions in reciprocal space: what makes a boundary.

For smooth densities the reciprocal-space engine is the same for every boundary; only the Fourier
transform of the (possibly truncated) Coulomb kernel and the cell it lives in differ:

========= ============================================= ========================================
boundary  kernel v(k)/k_e                               computational cell
========= ============================================= ========================================
periodic  4π/k², v(0) = 0                               the cell itself
slab      4π/k² [1 − e^(−k∥R) cos(k⊥R)], v(0) = −2πR²   in-plane lattice × L, R = L/2
open      4π/k² [1 − cos(kR)], v(0) = 2πR²              cube of edge L, R = L/2
========= ============================================= ========================================

A truncated kernel is exact once R exceeds every separation plus the Gaussian tails and L exceeds
that by R: no dipole correction, no cubic-box formula, net charges included.

References
----------
C. A. Rozzi et al., Phys. Rev. B 73, 205119 (2006), doi:10.1103/PhysRevB.73.205119, eqs. 9 and 24.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from asesc.system import System
from asesc.units import COULOMB


@dataclass(frozen=True)
class Lattice:
    """Reciprocal-space sampling: wave vectors of a half-space with their weights.

    Parameters
    ----------
    wave_vectors : Tensor, (B, K, 3), 1/Å
        Differentiable in the cell; padded rows have weight 0.
    weights : Tensor, (B, K), V Å/e … per volume
        k_e v(k)/V, doubled where −k is represented by k.
    """

    wave_vectors: Tensor
    weights: Tensor


class PeriodicKernel:
    """4π/k² without k = 0: the cell-averaged potential is zero.

    A charged cell is thereby neutralised by a uniform background interacting with the *smeared*
    density. Against point charges in the same background the energy differs by the Gaussian-width
    term 2π k_e Q Σ_i q_i σ_i²/V, which is the second moment of the Gaussians in the background
    and part of the answer, not an error.
    """

    def cells(self, system: System, margin: float) -> Tensor:
        """Computational cell (B, 3, 3)."""
        return system.cell

    def evaluate(self, k: Tensor, cells: Tensor) -> Tensor:
        """v(k)/V in V/e for wave vectors (B, K, 3)."""
        k2 = (k * k).sum(-1)
        zero = k2 == 0
        value = 4 * math.pi * COULOMB / torch.where(zero, torch.ones_like(k2), k2)
        volume = torch.linalg.det(cells).abs()
        return torch.where(zero, torch.zeros_like(k2), value) / volume[:, None]


class SlabKernel:
    """Coulomb kernel cut at |z| = R along the one open axis.

    Exact for polar and charged slabs in any cell, whatever its vacuum. For a net charge there is no
    background: the laterally averaged potential of a charged plane is −2πk_e (Q/A)|z|, zero *at*
    the plane, so that charged-slab energies are those of the isolated sheet with this zero.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def cells(self, system: System, margin: float) -> Tensor:
        """In-plane lattice and a normal vector of length 2(extent + margin).

        The length is a numerical parameter and carries no gradient, hence does not strain.
        """
        first, second = (axis for axis in range(3) if axis != self.axis)
        a, b = system.cell[:, first], system.cell[:, second]
        normal = torch.linalg.cross(a, b)
        normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
        heights = (system.positions * normal[system.batch]).sum(-1)
        length = 2 * (_extents(system, heights.detach()[:, None])[:, 0] + margin)
        rows = [a, b]
        rows.insert(self.axis, normal * length[:, None])
        return torch.stack(rows, dim=1)

    def evaluate(self, k: Tensor, cells: Tensor) -> Tensor:
        """v(k)/V in V/e for wave vectors (B, K, 3)."""
        vector = cells[:, self.axis]
        length = torch.linalg.vector_norm(vector, dim=-1)
        normal = (vector / length[:, None])[:, None]
        k_normal = (k * normal).sum(-1)
        k2 = (k * k).sum(-1)
        planar2 = ((k - k_normal[..., None] * normal) ** 2).sum(-1)
        flat = planar2 < 1e-20 * k2.detach().amax()
        k_plane = torch.sqrt(torch.where(flat, torch.ones_like(k2), planar2))
        k_plane = torch.where(flat, torch.zeros_like(k2), k_plane)
        radius = 0.5 * length[:, None]
        zero = k2 == 0
        k2 = torch.where(zero, torch.ones_like(k2), k2)
        cut = 1 - torch.exp(-k_plane * radius) * torch.cos(k_normal * radius)
        value = torch.where(zero, -2 * math.pi * radius**2 + 0 * k2, 4 * math.pi / k2 * cut)
        volume = torch.linalg.det(cells).abs()
        return COULOMB * value / volume[:, None]


class OpenKernel:
    """Coulomb kernel cut at distance R: an isolated system."""

    def cells(self, system: System, margin: float) -> Tensor:
        """Cube with edge 2(diameter + margin); carries no gradient."""
        extents = _extents(system, system.positions.detach())
        edge = 2 * (torch.linalg.vector_norm(extents, dim=-1) + margin)
        identity = torch.eye(3, dtype=edge.dtype, device=edge.device)
        return edge[:, None, None] * identity

    def evaluate(self, k: Tensor, cells: Tensor) -> Tensor:
        """v(k)/V in V/e for wave vectors (B, K, 3)."""
        radius = 0.5 * cells[:, 0, 0][:, None]
        k2 = (k * k).sum(-1)
        zero = k2 == 0
        k2 = torch.where(zero, torch.ones_like(k2), k2)
        cut = 1 - torch.cos(torch.sqrt(k2) * radius)
        value = torch.where(zero, 2 * math.pi * radius**2 + 0 * k2, 4 * math.pi / k2 * cut)
        return COULOMB * value / torch.linalg.det(cells).abs()[:, None]


def sample(
    kernel: PeriodicKernel | SlabKernel | OpenKernel, cells: Tensor, cutoff: float
) -> Lattice:
    """Wave vectors of the half-space |k| < ``cutoff`` (1/Å) with kernel weights.

    The integer set is chosen once from the detached cell, so that strain derivatives are those of
    a fixed set of lattice vectors.
    """
    reciprocal = 2 * math.pi * torch.linalg.inv(cells).transpose(-1, -2)
    integers = [_half_space(cell, cutoff) for cell in cells.detach()]
    longest = max(len(n) for n in integers)
    padded = cells.new_zeros(len(cells), longest, 3)
    multiplicity = cells.new_zeros(len(cells), longest)
    for b, n in enumerate(integers):
        padded[b, : len(n)] = n
        multiplicity[b, : len(n)] = 2.0
        multiplicity[b, 0] = 1.0
    wave_vectors = padded @ reciprocal
    return Lattice(wave_vectors, multiplicity * kernel.evaluate(wave_vectors, cells))


def _half_space(cell: Tensor, cutoff: float) -> Tensor:
    """Integers n, (K, 3), of k = n·b with |k| < cutoff, one of each ±k; the first is n = 0."""
    bounds = (cutoff * torch.linalg.vector_norm(cell, dim=-1) / (2 * math.pi)).long().tolist()
    axes = [torch.arange(-n, n + 1, device=cell.device) for n in bounds[:2]]
    axes.append(torch.arange(0, bounds[2] + 1, device=cell.device))
    n = torch.cartesian_prod(*axes)
    positive = (n[:, 2] > 0) | (n[:, 1] > 0) & (n[:, 2] == 0)
    positive |= (n[:, 0] > 0) & (n[:, 1] == 0) & (n[:, 2] == 0)
    n = n[positive].to(cell.dtype)
    k = 2 * math.pi * n @ torch.linalg.inv(cell).T
    inside = (k * k).sum(-1) < cutoff**2
    return torch.cat([n.new_zeros(1, 3), n[inside]])


def _extents(system: System, coordinates: Tensor) -> Tensor:
    """Range of each coordinate over every structure: (N, D) → (B, D)."""
    index = system.batch[:, None].expand_as(coordinates)
    shape = (system.n_structures, coordinates.shape[1])
    low = coordinates.new_zeros(shape).scatter_reduce(
        0, index, coordinates, "amin", include_self=False
    )
    high = coordinates.new_zeros(shape).scatter_reduce(
        0, index, coordinates, "amax", include_self=False
    )
    return high - low
