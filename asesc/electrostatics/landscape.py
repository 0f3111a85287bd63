"""Charge density and potential between the atoms: at points, on grids, averaged over planes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asesc.density import Density
from asesc.density.grid import Grid, density_at
from asesc.electrostatics.accuracy import spectral_fraction
from asesc.electrostatics.boundary import ACCURACY, Boundary
from asesc.electrostatics.field import along_open_axes
from asesc.electrostatics.fourier import FourierSeries
from asesc.electrostatics.gaussian import pair_interaction
from asesc.electrostatics.kernels import OpenKernel, PeriodicKernel, SlabKernel
from asesc.electrostatics.reciprocal import ReciprocalCoulomb
from asesc.errors import InputError
from asesc.system import System, cell_volume

#: Pairs of a point and an atom per piece; bounds the memory.
_PAIRS = 100_000


@dataclass(frozen=True)
class ContactKernel:
    """v(k) = 1, whose "potential" is the density itself, in the cell of another kernel."""

    kernel: PeriodicKernel | SlabKernel

    def cells(self, system: System, margin: float) -> Tensor:
        """Computational cell (B, 3, 3)."""
        return self.kernel.cells(system, margin)

    def evaluate(self, k: Tensor, k2: Tensor, cells: Tensor) -> Tensor:
        """1/V in Å⁻³ for every wave vector."""
        return torch.ones_like(k2) / cell_volume(cells)[:, None]


@dataclass(frozen=True)
class Landscape:
    """ρ(r) and φ(r) of Gaussian multipoles anywhere in space.

    φ is what a test charge of vanishing width feels, in V: the Coulomb potential of the boundary
    and −E·r of an applied field along open directions. It is the potential of the
    self-consistency: averaged over an atom's basis functions it is the v of
    :class:`~asesc.electrostatics.operator.CoulombOperator` and of the applied field. A field along
    a periodic direction is left out, because −E·r does not repeat there.

    Parameters
    ----------
    boundary : Boundary
    system : System
    density : Density
    accuracy : float
        Of forces in the operator; potentials are as good relative to their range.

    Notes
    -----
    Isolated systems take O(NP) for P points, by pairs; others O(KP) for K wave vectors, and on
    grids along the lattice O(K^⅓ P).
    """

    boundary: Boundary
    system: System
    density: Density
    accuracy: float = ACCURACY

    def potential(self, where: Tensor | Grid) -> Tensor:
        """φ in V at points (B, P, 3) → (B, P), or on a grid → (B, N₁, N₂, N₃)."""
        kernel, points = self.boundary.kernel(self.system), _points(where)
        if isinstance(kernel, OpenKernel):
            coulomb = _shaped(_pair_potential(self.system, self.density, points), where)
        else:
            coulomb = _evaluate(self._series(kernel, points), where)
        return coulomb + _shaped(self._applied(points), where)

    def charge(self, where: Tensor | Grid) -> Tensor:
        """ρ in e/Å³ at points or on a grid, without the background of a charged crystal."""
        kernel, points = self.boundary.kernel(self.system), _points(where)
        if isinstance(kernel, OpenKernel):
            return _shaped(density_at(self.system, self.density, points), where)
        return _evaluate(self._series(ContactKernel(kernel), points), where)

    def average_potential(self, heights: Tensor, *, axis: int) -> Tensor:
        """φ averaged over lattice planes: (B, P) → (B, P), V.

        Parameters
        ----------
        heights : Tensor, (B, P), Å
            r·n along the :meth:`normal` n of the planes.
        axis : int
            The cell vector that does not lie in the planes.

        Raises
        ------
        InputError
            If the other two directions do not repeat, so that there is no area to average over.
        """
        normal = self.normal(axis)
        points = heights[..., None] * normal[:, None]
        series = self._series(self.boundary.kernel(self.system), points)
        return series.plane_average(normal).at(points) + self._applied(points)

    def average_charge(self, heights: Tensor, *, axis: int) -> Tensor:
        """ρ averaged over lattice planes: (B, P) → (B, P), e/Å³; see :meth:`average_potential`."""
        normal = self.normal(axis)
        points = heights[..., None] * normal[:, None]
        series = self._series(ContactKernel(self.boundary.kernel(self.system)), points)
        return series.plane_average(normal).at(points)

    def normal(self, axis: int) -> Tensor:
        """Unit normal of the planes of the other two cell vectors, on the side of ``axis``: (B, 3).

        Raises
        ------
        InputError
            If one of these two directions is not periodic.
        """
        first, second = (axis + 1) % 3, (axis + 2) % 3
        if not (self.system.pbc[first] and self.system.pbc[second]):
            raise InputError(
                f"no average over the planes across axis {axis} with pbc={self.system.pbc}: their "
                "two directions must be periodic. Choose the open axis of a slab, or ask for the "
                "potential along a line"
            )
        cell = self.system.cell.detach()
        normal = torch.linalg.cross(cell[:, first], cell[:, second])
        normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
        # The cell vector along an open axis may be zero; the right-handed normal remains.
        against = (normal * cell[:, axis]).sum(-1, keepdim=True) < 0
        return torch.where(against, -normal, normal)

    def _applied(self, points: Tensor) -> Tensor:
        field = along_open_axes(self.system, self.system.electric_field)
        return -(points @ field[:, :, None])[..., 0]

    def _series(
        self, kernel: PeriodicKernel | SlabKernel | ContactKernel, points: Tensor
    ) -> FourierSeries:
        """Σ_k w(k) S(k) e^(−ik·r), valid as far as the points lie outside the atoms."""
        waves = ReciprocalCoulomb(
            self.system,
            self.density.basis,
            kernel=kernel,
            # Only one Gaussian instead of two damps the spectrum.
            accuracy=spectral_fraction(self.accuracy) ** 2,
            reach=_overhang(self.system, points),
        )
        factor = waves.structure_factor(self.density.coefficients)
        return FourierSeries(waves.lattice, waves.lattice.weights * factor)


def _points(where: Tensor | Grid) -> Tensor:
    return where.points.flatten(1, 3) if isinstance(where, Grid) else where


def _shaped(values: Tensor, where: Tensor | Grid) -> Tensor:
    return values.unflatten(1, where.shape) if isinstance(where, Grid) else values


def _evaluate(series: FourierSeries, where: Tensor | Grid) -> Tensor:
    return series.on(where) if isinstance(where, Grid) else series.at(where)


def _pair_potential(system: System, density: Density, points: Tensor) -> Tensor:
    """φ of isolated multipoles, the interaction of a point charge with each: (B, P), V."""
    layout, lmax = system.layout, density.basis.lmax
    positions, p = layout.pad(system.positions), layout.pad(density.coefficients)
    # Padded rows carry no coefficients; a width of 1 Å keeps them finite.
    width2 = torch.where(layout.mask, layout.pad(density.basis.widths) ** 2, 1.0)
    pieces = []
    for some in points.split(max(1, _PAIRS // positions[..., 0].numel()), dim=1):
        separation = some[:, :, None] - positions[:, None]
        blocks = pair_interaction(separation, width2[:, None].expand(separation.shape[:-1]), lmax)
        pieces.append((blocks[..., 0, :] * p[:, None]).sum((-2, -1)))
    return torch.cat(pieces, dim=1)


def _overhang(system: System, points: Tensor) -> float:
    """How far the points lie outside the atoms along the open axis of a slab, both sides, Å."""
    if sum(system.pbc) != 2:
        return 0.0
    first, second = (axis for axis in range(3) if system.pbc[axis])
    cell = system.cell.detach()
    normal = torch.linalg.cross(cell[:, first], cell[:, second])
    normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    atoms = system.layout.pad(system.positions.detach()) @ normal[:, :, None]
    heights = (points.detach() @ normal[:, :, None])[..., 0]
    inside = system.layout.mask
    top = atoms[..., 0].masked_fill(~inside, -torch.inf).amax(1)
    bottom = atoms[..., 0].masked_fill(~inside, torch.inf).amin(1)
    above = (heights.amax(1) - top).clamp(min=0)
    below = (bottom - heights.amin(1)).clamp(min=0)
    return float((above + below).max())
