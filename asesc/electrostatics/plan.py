"""Which mesh to use: size, spline order and the cell it lies in, chosen once from the accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from asesc.electrostatics.accuracy import (
    ORDERS,
    TIGHTEST,
    gaussian_range,
    mesh_error,
    mesh_ratio,
    spectral_fraction,
)
from asesc.electrostatics.compiled import is_compiled
from asesc.electrostatics.kept import kept_by_cells
from asesc.electrostatics.kernels import OpenKernel, PeriodicKernel, SlabKernel, extents
from asesc.electrostatics.mesh_transform import LARGEST
from asesc.electrostatics.reduction import short_vectors, skewness
from asesc.electrostatics.stencil import even_size, good_size
from asesc.errors import InputError
from asesc.system import System

# CPU cost of one point of the mesh (two transforms) in units of that of one point of a stencil.
_POINT, _POINT_OF_COMPILED = 6.0, 12.0

#: Width of the edge of the open boundary's box, in Gaussian widths: see :mod:`.open_mesh`.
EDGE = 1.6


@dataclass(frozen=True)
class MeshPlan:
    """Integer mesh and the lengths it spans along open axes.

    Keep one for a run: with the plan fixed the energy is a smooth function of positions and cell,
    while a plan made anew may jump to another size and shift the energy by its small error.

    Parameters
    ----------
    shape : tuple of 3 int
        Mesh points along the vectors of the mesh, even.
    lengths : tuple of 3 (float or None), Å
        Length of the computational cell along open axes, None along periodic ones.
    order : int
        Spline order.
    width : float, Å
        Smallest Gaussian width on the mesh.
    error : float
        Estimated relative force error.
    accuracy : float
        The error that was asked for.
    waves : tuple of 3 int
        Largest number along every mesh vector of the waves that are not negligible.
    vectors : tuple of 3 × 3 int
        Of every structure, which combinations of its cell vectors the mesh lies along: short ones,
        because splines along the vectors of a skewed cell lose accuracy across them.
    """

    shape: tuple[int, int, int]
    lengths: tuple[float | None, float | None, float | None]
    order: int
    width: float
    error: float
    accuracy: float
    waves: tuple[int, int, int]
    vectors: tuple[tuple[tuple[int, ...], ...], ...]


def plan_mesh(
    system: System,
    kernel: PeriodicKernel | SlabKernel | OpenKernel,
    *,
    width_range: tuple[float, float],
    lmax: int,
    accuracy: float,
) -> MeshPlan:
    """The cheapest mesh with an estimated relative force error below ``accuracy``.

    Along an open axis the spacing is fixed and the length a multiple of it, so that small motions
    of the atoms do not change the mesh.
    """
    accuracy = max(accuracy, TIGHTEST)
    wide = width_range[1]
    rooms = _room(system, kernel, width_range, accuracy)
    lattice = _short_lattice(system.cell, system.pbc)
    needed, extent = [], 1.0
    for edge, room in zip(lattice.edges, rooms, strict=True):
        needed.append(edge if room is None else 2 * (room.extent + room.rim))
        extent *= edge if room is None else max(room.extent, wide)
    demand = _Demand(
        accuracy=accuracy,
        width=width_range[0],
        lmax=lmax,
        size=extent ** (1 / 3),
        skew=lattice.skew,
        needed=tuple(needed),
        is_open=tuple(room is not None for room in rooms),
        # The edges of an open box blend over w = EDGE σ, and their spectrum is exp(−k²w²/4).
        smoothest=0.5 * EDGE if isinstance(kernel, OpenKernel) else 1.0,
        n_atoms=system.n_atoms,
        n_structures=system.n_structures,
        is_compiled=is_compiled(system.positions.device),
    )
    return _cheapest(demand, lattice.vectors)


@dataclass(frozen=True)
class _Lattice:
    """Short vectors in all structures, the longest edge along each, Å, and how skewed they are."""

    vectors: tuple[tuple[tuple[int, ...], ...], ...]
    edges: tuple[float, ...]
    skew: float


@kept_by_cells(maxsize=8)
def _short_lattice(cells: Tensor, pbc: tuple[bool, bool, bool]) -> _Lattice:
    cells = cells.cpu()
    turns = short_vectors(cells, pbc)
    cells = turns @ cells
    return _Lattice(
        tuple(tuple(tuple(row) for row in turn) for turn in turns.long().tolist()),
        tuple(torch.linalg.vector_norm(cells, dim=-1).amax(0).tolist()),
        float(skewness(cells, pbc).max()),
    )


@dataclass(frozen=True)
class _Demand:
    """All that the choice of a mesh depends on; lengths in Å."""

    accuracy: float
    width: float
    lmax: int
    size: float
    skew: float
    needed: tuple[float, ...]
    is_open: tuple[bool, ...]
    smoothest: float
    n_atoms: int
    n_structures: int
    is_compiled: bool

    def spacing(self, order: int) -> float:
        """The coarsest allowed."""
        return self.width * mesh_ratio(
            self.accuracy,
            order=order,
            width=self.width,
            lmax=self.lmax,
            size=self.size,
            skew=self.skew,
        )

    def shape(self, order: int) -> tuple[int, int, int]:
        least = [length / self.spacing(order) for length in self.needed]
        # Matrices, unlike fast transforms, have no sizes that they like better than others; where
        # loops are slow that does not matter.
        any_size = self.is_compiled and max(least) <= LARGEST
        nx, ny, nz = (even_size(n) if any_size else good_size(n) for n in least)
        return nx, ny, nz

    def cost(self, order: int) -> float:
        points = self.n_structures * math.prod(self.shape(order))
        point = _POINT_OF_COMPILED if self.is_compiled else _POINT
        return self.n_atoms * order**3 + point * points


@lru_cache(maxsize=32)
def _cheapest(demand: _Demand, vectors: tuple[tuple[tuple[int, ...], ...], ...]) -> MeshPlan:
    order = min(ORDERS, key=demand.cost)
    points, width = demand.shape(order), demand.width
    steps = [
        demand.spacing(order) if is_open else length / n
        for is_open, length, n in zip(demand.is_open, demand.needed, points, strict=True)
    ]
    lx, ly, lz = (
        n * h if is_open else None
        for is_open, n, h in zip(demand.is_open, points, steps, strict=True)
    )
    largest = math.sqrt(-math.log(spectral_fraction(demand.accuracy))) / (demand.smoothest * width)
    wx, wy, wz = (
        min(n // 2, int(largest * n * h / (2 * math.pi)))
        for n, h in zip(points, steps, strict=True)
    )
    coarsest, size, skew = max(steps) / width, demand.size, demand.skew
    error = mesh_error(coarsest, order=order, width=width, lmax=demand.lmax, size=size, skew=skew)
    return MeshPlan(
        points, (lx, ly, lz), order, width, error, demand.accuracy, (wx, wy, wz), vectors
    )


def require_fitting(
    plan: MeshPlan,
    system: System,
    kernel: PeriodicKernel | SlabKernel | OpenKernel,
    *,
    width_range: tuple[float, float],
) -> None:
    """Refuse a kept plan where its mesh would give wrong numbers.

    Raises
    ------
    InputError
        If it is for other widths or another number of structures, or if the atoms have spread
        beyond its box along an open axis.
    """
    if not math.isclose(plan.width, width_range[0]) or len(plan.vectors) != system.n_structures:
        raise InputError(
            f"the plan is for {len(plan.vectors)} structures and Gaussians of {plan.width:.3g} Å, "
            f"but there are {system.n_structures} with {width_range[0]:.3g} Å; make a new one by "
            "leaving out plan=…"
        )
    for axis, room in enumerate(_room(system, kernel, width_range, plan.accuracy)):
        length = plan.lengths[axis]
        if (room is None) != (length is None):
            raise InputError(
                f"the plan is for another boundary than pbc={system.pbc}; leave out plan=…"
            )
        if room is not None and length is not None and 2 * (room.extent + room.rim) > 1.02 * length:
            raise InputError(
                f"along axis {axis} the atoms extend over {room.extent:.4g} Å, for which the mesh "
                f"of the plan, {length:.4g} Å long, is too short; make a new one by leaving out "
                "plan=…"
            )


@dataclass(frozen=True)
class _Room:
    """Along an open axis: extent of the atoms, and what is needed beyond it on either side, Å."""

    extent: float
    rim: float


def _room(
    system: System,
    kernel: PeriodicKernel | SlabKernel | OpenKernel,
    width_range: tuple[float, float],
    accuracy: float,
) -> list[_Room | None]:
    narrow, wide = width_range
    decay = gaussian_range(accuracy)
    if isinstance(kernel, OpenKernel):
        # Wider Gaussians are the narrowest ones spread over a further √(wide² − narrow²).
        edge = math.hypot(EDGE * narrow, math.sqrt(2 * (wide**2 - narrow**2)))
        reach = extents(system, system.positions.detach()).amax(0).tolist()
        return [_Room(length, edge * decay) for length in reach]
    rooms: list[_Room | None] = [None, None, None]
    if isinstance(kernel, SlabKernel):
        cells = kernel.cells(system, 0.0).detach()
        twice = torch.linalg.vector_norm(cells[:, kernel.axis], dim=-1).max()
        rooms[kernel.axis] = _Room(0.5 * float(twice), 2 * wide * decay)
    return rooms


def mesh_cells(
    system: System, kernel: PeriodicKernel | SlabKernel | OpenKernel, plan: MeshPlan
) -> Tensor:
    """Computational cells of the plan, (B, 3, 3), Å; differentiable along periodic vectors."""
    if isinstance(kernel, OpenKernel):
        lengths = system.cell.new_tensor([length or 0.0 for length in plan.lengths])
        return torch.diag(lengths).expand(system.n_structures, 3, 3)
    cells = system.cell.new_tensor(plan.vectors) @ kernel.cells(system, 1.0)
    if not isinstance(kernel, SlabKernel):
        return cells
    rows = list(cells.unbind(1))
    normal = rows[kernel.axis]
    length = torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    rows[kernel.axis] = normal / length * plan.lengths[kernel.axis]
    return torch.stack(rows, dim=1)
