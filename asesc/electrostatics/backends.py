"""Which engine computes the Coulomb operator, chosen by what it will cost.

============ ============================================ ==========================================
backend      how                                          meant for
============ ============================================ ==========================================
direct-k     sum over wave vectors, O(N²)                 up to about 150 atoms, periodic and slabs
pairs        all pairs, as a matrix if applied often      molecules and clusters up to about 400
dense        the matrix of one of the above               many applications to small structures
mesh         B-splines and Fourier transforms, O(N)       large structures, widths above about 0.5 Å
mesh+pairs   the same for wider Gaussians, and what the   narrow or very different widths
             narrow ones have beyond, as sparse pairs
============ ============================================ ==========================================

The answer is the same to the accuracy asked for. Costs are those of one core of a processor; on a
GPU slabs and periodic cells are summed directly up to 4000 atoms, where one application takes a
ninth of the time of a mesh there (benchmarks/gpu.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from asesc.density import GaussianBasis
from asesc.electrostatics.accuracy import TIGHTEST, gaussian_range, spectral_fraction
from asesc.electrostatics.compiled import is_compiled
from asesc.electrostatics.dense import DenseCoulomb
from asesc.electrostatics.direct import DirectCoulomb
from asesc.electrostatics.kernels import OpenKernel, PeriodicKernel, SlabKernel
from asesc.electrostatics.mesh import MeshCoulomb
from asesc.electrostatics.mesh_transform import LARGEST
from asesc.electrostatics.operator import CoulombOperator
from asesc.electrostatics.plan import MeshPlan, plan_mesh, require_fitting
from asesc.electrostatics.reciprocal import ReciprocalCoulomb
from asesc.electrostatics.short_range import ShortRangeCoulomb
from asesc.errors import InputError, SetupError, did_you_mean
from asesc.memory import available_memory
from asesc.system import System, cell_volume

Kernel = PeriodicKernel | SlabKernel | OpenKernel

BACKENDS = ("direct-k", "pairs", "dense", "mesh", "mesh+pairs")


@dataclass(frozen=True)
class BackendReport:
    """What was chosen.

    Parameters
    ----------
    backend : str
        One of :data:`BACKENDS`.
    error : float
        Estimated relative force error.
    plan : MeshPlan, optional
    is_compiled : bool
        Whether the loops over the mesh are compiled for this processor.
    """

    backend: str
    error: float
    plan: MeshPlan | None = None
    is_compiled: bool = False

    def __str__(self) -> str:
        if self.plan is None:
            return f"{self.backend}, estimated force error {self.error:.0e}"
        mesh = " × ".join(str(n) for n in self.plan.shape)
        loops = "compiled loops" if self.is_compiled else "tensor operations"
        return (
            f"{self.backend}, {mesh} points, splines of order {self.plan.order} by {loops}, "
            f"estimated force error {self.error:.0e}"
        )


def bind_backend(
    system: System,
    basis: GaussianBasis,
    kernel: Kernel,
    *,
    accuracy: float,
    backend: str = "auto",
    plan: MeshPlan | None = None,
) -> CoulombOperator:
    """The operator of one geometry by the engine named, or by the cheapest for ``"auto"``.

    Parameters
    ----------
    accuracy : float
        Relative force error.
    backend : str
        ``"auto"`` or one of :data:`BACKENDS`.
    plan : MeshPlan, optional
        Of an earlier operator, to keep its mesh.

    Raises
    ------
    InputError
        For an unknown backend, pairs in a periodic system, or a plan that does not fit.
    SetupError
        If the mesh of a huge cell would not fit into memory.
    """
    if backend not in ("auto", *BACKENDS):
        raise InputError(
            f"unknown backend {backend!r}.{did_you_mean(backend, BACKENDS)} There are auto, "
            f"{', '.join(BACKENDS)}"
        )
    if backend == "pairs" and not isinstance(kernel, OpenKernel):
        raise InputError(
            f"backend='pairs' sums the pairs of isolated structures, but pbc={system.pbc}; "
            "use backend='auto'"
        )
    mesh = None
    # Where it costs nothing no mesh is planned, as one around an atom lost far away takes long.
    directly = _direct_cost(system, basis, kernel) if backend == "auto" else math.inf
    may_be_mesh = backend in ("mesh", "mesh+pairs") or (backend == "auto" and accuracy >= TIGHTEST)
    if may_be_mesh and directly > 0:
        mesh = _cheapest_mesh(system, basis, kernel, accuracy, backend)
        if mesh.cost > directly:
            mesh = None
    if mesh is not None:
        return _bind_mesh(system, basis, kernel, accuracy, mesh, plan)
    operator: CoulombOperator
    if isinstance(kernel, OpenKernel) and backend != "direct-k":
        operator = DirectCoulomb(system, basis)
        report = BackendReport("pairs", torch.finfo(basis.widths.dtype).eps)
    else:
        fraction = spectral_fraction(accuracy)
        waves = _wave_count(system, basis, kernel, fraction)
        _require_memory(system, waves, f"{waves:.0e} wave vectors")
        operator = ReciprocalCoulomb(system, basis, kernel=kernel, accuracy=fraction)
        report = BackendReport("direct-k", 10.0 ** (basis.lmax + 1) * fraction)
    if backend == "dense":
        operator, report = DenseCoulomb(operator), BackendReport("dense", report.error)
    operator.report = report
    return operator


@dataclass(frozen=True)
class _Mesh:
    """A mesh, the widths on it, and the cost of applying it, ms."""

    plan: MeshPlan
    basis: GaussianBasis
    cost: float


def _bind_mesh(
    system: System,
    basis: GaussianBasis,
    kernel: Kernel,
    accuracy: float,
    mesh: _Mesh,
    plan: MeshPlan | None,
) -> CoulombOperator:
    if plan is not None:
        require_fitting(plan, system, kernel, width_range=mesh.basis.width_range)
    plan = plan or mesh.plan
    points = math.prod(plan.shape)
    n_meshes = system.n_structures * (1 + len(mesh.basis.distinct_widths[0]))
    _require_memory(system, points * n_meshes, f"a mesh of {points:.0e} points")
    operator: CoulombOperator = MeshCoulomb(system, mesh.basis, kernel=kernel, plan=plan)
    name = "mesh"
    if mesh.basis is not basis:
        name = "mesh+pairs"
        operator = operator + ShortRangeCoulomb(
            system, basis, mesh_basis=mesh.basis, accuracy=accuracy
        )
        operator.basis = basis
    operator.report = BackendReport(name, plan.error, plan, is_compiled(system.positions.device))
    return operator


# Costs of one core in milliseconds, measured side by side in benchmarks/coulomb_operator.py.
_DIRECT_START, _DIRECT_WAVE = 0.3, 3.6e-6
_MESH_START, _MESH_POINT, _MATRIX_POINT, _TAP, _COMPILED_TAP = 0.4, 2.1e-5, 1e-5, 7e-6, 8e-7
# Of a pair, mostly making its block: a geometry is used for a few applications and its forces.
_PAIR = 8e-4
# Pairs are kept as a matrix up to so many atoms, and beyond where a mesh would be mostly empty.
_OPEN_ATOMS, _OPEN_PAIR = 400, 7e-4
_GPU_ATOMS = 4000

_BYTES_OF_POINT = 24  # density, field and spectrum on a mesh; less than a wave vector takes

#: Bytes below which the system is not asked what is free.
_NEVER_TOO_MUCH = 5e7

#: Widths that a mesh may be given instead of the narrowest Gaussians, Å.
_MESH_WIDTHS = (0.5, 0.6, 0.7, 0.85)


def _direct_cost(system: System, basis: GaussianBasis, kernel: Kernel) -> float:
    """Of one application without a mesh, ms."""
    largest = system.layout.shape[1]
    if isinstance(kernel, OpenKernel):
        return 0.0 if largest <= _OPEN_ATOMS else _OPEN_PAIR * float(system.counts.square().sum())
    if system.positions.device.type != "cpu":
        return 0.0 if largest <= _GPU_ATOMS else math.inf
    narrow, wide = basis.width_range
    cells = kernel.cells(system, 4 * wide * gaussian_range(1e-9)).detach()
    waves = system.counts * cell_volume(cells) / narrow**3 * (basis.n_components / 4)
    return _DIRECT_START + _DIRECT_WAVE * float(waves.sum())


def _wave_count(system: System, basis: GaussianBasis, kernel: Kernel, fraction: float) -> float:
    """Waves of a half-space below the cutoff, in the box around the sphere."""
    narrow, wide = basis.width_range
    decay = math.sqrt(-math.log(fraction))
    volume = cell_volume(kernel.cells(system, 2 * wide * decay).detach())
    return 4 * float(volume.sum()) * (decay / narrow / (2 * math.pi)) ** 3


def _require_memory(system: System, points: float, what: str) -> None:
    """Refuse a mesh or a sum over waves that does not fit, before it is made."""
    needed = _BYTES_OF_POINT * points
    if needed < _NEVER_TOO_MUCH:
        return
    available = available_memory(system.positions.device)
    if needed > available:
        edges = torch.linalg.vector_norm(system.cell, dim=-1).amax(0).tolist()
        raise SetupError(
            f"the Coulomb interaction needs {what}, about {needed / 1e9:.0f} GB where "
            f"{available / 1e9:.1f} GB are available, for {system.n_atoms} atoms in a cell with "
            f"edges of {', '.join(f'{edge:.3g}' for edge in edges)} Å and pbc={system.pbc}. Make "
            "directions of mostly vacuum open, atoms.pbc = False, or shrink the cell"
        )


def _cheapest_mesh(
    system: System, basis: GaussianBasis, kernel: Kernel, accuracy: float, backend: str
) -> _Mesh:
    narrow, wide = basis.width_range
    on_mesh = [width for width in (*_MESH_WIDTHS, wide) if width > narrow]
    if backend == "mesh":
        on_mesh = []
    elif backend == "mesh+pairs" and not on_mesh:
        on_mesh = [1.2 * wide]
    bases = [_widened(basis, width) for width in on_mesh]
    if backend != "mesh+pairs":
        bases.append(basis)
    meshes = [_with_cost(system, candidate, basis, kernel, accuracy) for candidate in bases]
    return min(meshes, key=lambda mesh: mesh.cost)


def _widened(basis: GaussianBasis, width: float) -> GaussianBasis:
    return GaussianBasis(basis.lmax, basis.widths.clamp(min=width))


def _with_cost(
    system: System, on_mesh: GaussianBasis, basis: GaussianBasis, kernel: Kernel, accuracy: float
) -> _Mesh:
    plan = plan_mesh(
        system, kernel, width_range=on_mesh.width_range, lmax=basis.lmax, accuracy=accuracy
    )
    points = system.n_structures * len(on_mesh.distinct_widths[0]) * math.prod(plan.shape)
    tap = _COMPILED_TAP if is_compiled(system.positions.device) else _TAP
    point = _MATRIX_POINT if max(plan.shape) <= LARGEST else _MESH_POINT
    cost = _MESH_START + tap * system.n_atoms * plan.order**3 + point * points
    if on_mesh is not basis:
        narrow, wide = float(on_mesh.width_range[0]), float(on_mesh.width_range[1])
        reach2 = -2 * math.log(spectral_fraction(accuracy)) * (narrow**2 + wide**2)
        share = float((on_mesh.widths > basis.widths).double().mean())
        neighbours = 4 / 3 * math.pi * reach2**1.5 * system.n_atoms / _occupied(system, kernel)
        cost += _PAIR * system.n_atoms * share * neighbours * basis.n_components / 4
    return _Mesh(plan, on_mesh, cost)


def _occupied(system: System, kernel: Kernel) -> float:
    """Volume in which the atoms are, Å³; a layer of 1 Å has to be allowed for along open axes."""
    volume = cell_volume(kernel.cells(system, 1.0).detach()).sum()
    halves = 0 if isinstance(kernel, PeriodicKernel) else 1 if isinstance(kernel, SlabKernel) else 3
    return float(volume) / 2**halves
