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

from asesc.system import System, cell_volume
from asesc.units import COULOMB


@dataclass(frozen=True)
class Lattice:
    """Wave vectors k = n·b on a grid of columns along one reciprocal axis.

    With the third index running fastest, e^(−ik·r) is the product of a factor per column (n₁, n₂)
    and a factor per height n₃: sums over atoms become matrix products and no table of all atoms
    times all wave vectors is ever made.

    Parameters
    ----------
    columns : Tensor, (C, 2)
        Integers (n₁, n₂) along :attr:`axes` 0 and 1.
    heights : Tensor, (H,)
        Integers n₃ ≥ 0 along :attr:`axes` 2; −k is represented by k.
    axes : tuple of 3 int
        Which reciprocal vector each index belongs to; the one with most points is last.
    reciprocal : Tensor, (B, 3, 3), 1/Å
        Rows b with a_i·b_j = 2π δ_ij.
    wave_vectors : Tensor, (B, C·H, 3), 1/Å
        Differentiable in the cell.
    k2 : Tensor, (B, C·H), 1/Å²
        Their squares.
    weights : Tensor, (B, C·H), V/e
        k_e v(k)/V, doubled where −k is represented by k, zero beyond the cutoff.
    """

    columns: Tensor
    heights: Tensor
    axes: tuple[int, int, int]
    reciprocal: Tensor
    wave_vectors: Tensor
    k2: Tensor
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

    def evaluate(self, k: Tensor, k2: Tensor, cells: Tensor) -> Tensor:
        """k_e v(k)/V in V/e for wave vectors (B, K, 3) and their squares."""
        value = 4 * math.pi * COULOMB / k2.masked_fill(k2 == 0, math.inf)
        return value / cell_volume(cells)[:, None]


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
        length = 2 * (extents(system, heights.detach()[:, None])[:, 0] + margin)
        rows = [a, b]
        rows.insert(self.axis, normal * length[:, None])
        return torch.stack(rows, dim=1)

    def evaluate(self, k: Tensor, k2: Tensor, cells: Tensor) -> Tensor:
        """k_e v(k)/V in V/e for wave vectors (B, K, 3) and their squares."""
        vector = cells[:, self.axis]
        length = torch.linalg.vector_norm(vector, dim=-1)
        normal = (vector / length[:, None])[:, None]
        k_normal = (k * normal).sum(-1)
        planar2 = ((k - k_normal[..., None] * normal) ** 2).sum(-1)
        flat = planar2 < 1e-20 * k2.detach().amax()
        k_plane = torch.sqrt(torch.where(flat, torch.ones_like(k2), planar2))
        k_plane = torch.where(flat, torch.zeros_like(k2), k_plane)
        radius = 0.5 * length[:, None]
        zero = k2 == 0
        k2 = torch.where(zero, torch.ones_like(k2), k2)
        cut = 1 - torch.exp(-k_plane * radius) * torch.cos(k_normal * radius)
        value = torch.where(zero, -2 * math.pi * radius**2 + 0 * k2, 4 * math.pi / k2 * cut)
        return COULOMB * value / cell_volume(cells)[:, None]


class ElectrodeKernel(SlabKernel):
    """A slab between two planes that carry half of its counter-charge each.

    With −Q/2 on planes at ±L/2 the laterally averaged potential of a plane of charge Q is
    πk_e (Q/A)(L − 2|z|) between them: that of the slab kernel and a constant.

    Parameters
    ----------
    height : Tensor, (B,), Å
        L.
    """

    def __init__(self, axis: int, height: Tensor) -> None:
        super().__init__(axis)
        self.height = height

    def evaluate(self, k: Tensor, k2: Tensor, cells: Tensor) -> Tensor:
        """k_e v(k)/V in V/e for wave vectors (B, K, 3) and their squares."""
        length = torch.linalg.vector_norm(cells[:, self.axis], dim=-1)
        area = cell_volume(cells) / length
        constant = math.pi * COULOMB * self.height / area
        return super().evaluate(k, k2, cells) + torch.where(k2 == 0, constant[:, None], 0.0)


class OpenKernel:
    """Coulomb kernel cut at distance R: an isolated system."""

    def cells(self, system: System, margin: float) -> Tensor:
        """Cube with edge 2(diameter + margin); carries no gradient."""
        diameter = torch.linalg.vector_norm(extents(system, system.positions.detach()), dim=-1)
        edge = 2 * (diameter + margin)
        identity = torch.eye(3, dtype=edge.dtype, device=edge.device)
        return edge[:, None, None] * identity

    def evaluate(self, k: Tensor, k2: Tensor, cells: Tensor) -> Tensor:
        """k_e v(k)/V in V/e for wave vectors (B, K, 3) and their squares."""
        radius = 0.5 * cells[:, 0, 0][:, None]
        zero = k2 == 0
        k2 = torch.where(zero, torch.ones_like(k2), k2)
        cut = 1 - torch.cos(torch.sqrt(k2) * radius)
        value = torch.where(zero, 2 * math.pi * radius**2 + 0 * k2, 4 * math.pi / k2 * cut)
        return COULOMB * value / cell_volume(cells)[:, None]


def sample(
    kernel: PeriodicKernel | SlabKernel | OpenKernel, cells: Tensor, cutoff: float
) -> Lattice:
    """Wave vectors of the half-space |k| < ``cutoff`` (1/Å) with kernel weights.

    The integer set is chosen once from the detached cell, so that strain derivatives are those of
    a fixed set of lattice vectors.
    """
    # k·a_i = 2πn_i bounds every index by |k||a_i|/2π.
    edges = torch.linalg.vector_norm(cells.detach(), dim=-1).amax(0)
    bounds = (cutoff * edges / (2 * math.pi)).long().tolist()
    first, second, last = sorted(range(3), key=lambda axis: bounds[axis])
    integers, multiplicity = _grid(bounds, (first, second, last), cells)
    rows = reciprocal(cells)
    wave_vectors = integers @ rows[:, None]
    k2 = (wave_vectors * wave_vectors).sum(-1)
    inside = k2.detach() < cutoff**2
    used = inside.any(0).any(-1)
    wave_vectors, k2 = wave_vectors[:, used].flatten(1, 2), k2[:, used].flatten(1)
    multiplicity = (inside[:, used] * multiplicity[used]).flatten(1)
    return Lattice(
        columns=integers[used, 0][:, [first, second]],
        heights=integers[0, :, last],
        axes=(first, second, last),
        reciprocal=rows,
        wave_vectors=wave_vectors,
        k2=k2,
        weights=kernel.evaluate(wave_vectors, k2, cells) * multiplicity,
    )


def reciprocal(cells: Tensor) -> Tensor:
    """Rows b_i = 2π a_j × a_k / a_i·(a_j × a_k): (B, 3, 3); for 3 × 3 far cheaper than LAPACK."""
    faces = torch.linalg.cross(cells.roll(-1, dims=1), cells.roll(-2, dims=1))
    return 2 * math.pi * faces / (cells[:, :1] * faces[:, :1]).sum(-1, keepdim=True)


def _grid(bounds: list[int], axes: tuple[int, int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Integers of all columns, (C, H, 3), and how many of ±k each stands for, (C, H)."""
    options = {"dtype": like.dtype, "device": like.device}
    first, second, last = axes
    columns = torch.cartesian_prod(
        torch.arange(-bounds[first], bounds[first] + 1, **options),
        torch.arange(-bounds[second], bounds[second] + 1, **options),
    )
    integers = columns.new_zeros(len(columns), bounds[last] + 1, 3)
    integers[..., first], integers[..., second] = columns[:, :1], columns[:, 1:]
    integers[..., last] = torch.arange(bounds[last] + 1, **options)
    # Columns come in order, so that at height 0 the opposite of one is as far from the other end.
    multiplicity = torch.full_like(integers[..., 0], 2.0)
    centre = len(columns) // 2
    multiplicity[:centre, 0], multiplicity[centre, 0] = 0.0, 1.0
    return integers, multiplicity


def extents(system: System, coordinates: Tensor) -> Tensor:
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
