"""Potential and charge along a line, on a plane, and as a cube file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase import Atoms
from ase.io.cube import write_cube as write_ase_cube

from asesc.errors import InputError
from asesc.workflows.evaluations import calculator_of, described
from asesc.workflows.figure import Path, axes_for, finished
from asesc.workflows.landscape import landscape_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Quantity = Literal["potential", "charge"]
_UNITS = {"potential": "V", "charge": "e/Å³"}


@dataclass(frozen=True)
class Line:
    """φ and ρ along a straight line.

    Parameters
    ----------
    distance : ndarray, (P,), Å
        From its start.
    potential : ndarray, (P,), V
    charge : ndarray, (P,), e/Å³
    title : str
    """

    distance: np.ndarray
    potential: np.ndarray
    charge: np.ndarray
    title: str

    def plot(
        self,
        path: Path | None = None,
        *,
        quantity: Quantity = "potential",
        ax: Axes | None = None,
    ) -> Axes:
        """One of the two against the distance."""
        ax = axes_for(path, ax)
        ax.plot(self.distance, _chosen(self, quantity))
        ax.set(xlabel="distance along the line (Å)", ylabel=f"{quantity} ({_UNITS[quantity]})")
        ax.set_title(self.title, fontsize=10)
        ax.grid(alpha=0.25)
        return finished(ax, path)


@dataclass(frozen=True)
class Plane:
    """φ and ρ on a parallelogram.

    Parameters
    ----------
    points : ndarray, (N, M, 2), Å
        Coordinates in the plane: along its first edge, and normal to it.
    potential : ndarray, (N, M), V
    charge : ndarray, (N, M), e/Å³
    title : str
    """

    points: np.ndarray
    potential: np.ndarray
    charge: np.ndarray
    title: str

    def plot(
        self,
        path: Path | None = None,
        *,
        quantity: Quantity = "potential",
        ax: Axes | None = None,
    ) -> Axes:
        """One of the two in colours, white at zero."""
        ax = axes_for(path, ax, size=(5.6, 4.4))
        values = _chosen(self, quantity)
        largest = float(np.abs(values).max()) or 1.0
        x, y = np.moveaxis(self.points, -1, 0)
        mesh = ax.pcolormesh(
            x, y, values, cmap="RdBu_r", vmin=-largest, vmax=largest, shading="gouraud"
        )
        ax.figure.colorbar(mesh, ax=ax, label=f"{quantity} ({_UNITS[quantity]})")
        ax.set(xlabel="along the first edge (Å)", ylabel="normal to it (Å)", aspect="equal")
        ax.set_title(self.title, fontsize=10)
        return finished(ax, path)


def along_line(
    atoms: Atoms, start: Sequence[float], stop: Sequence[float], *, points: int = 200
) -> Line:
    """φ and ρ on a straight line between two Cartesian points, Å."""
    ends = np.asarray([start, stop], dtype=float)
    if ends.shape != (2, 3) or points < 2:
        raise InputError(f"a line needs two points of three coordinates, got {ends.shape}")
    share = np.linspace(0, 1, points)
    where = ends[0] + share[:, None] * (ends[1] - ends[0])
    landscape = landscape_of(calculator_of(atoms), atoms)
    return Line(
        distance=share * np.linalg.norm(ends[1] - ends[0]),
        potential=landscape.potential(where),
        charge=landscape.charge(where),
        title=described(atoms),
    )


def on_plane(
    atoms: Atoms,
    origin: Sequence[float],
    edges: Sequence[Sequence[float]],
    *,
    spacing: float = 0.1,
) -> Plane:
    """φ and ρ on the parallelogram of two edges, Cartesian, Å.

    ``on_plane(atoms, (0, 0, 2.0), atoms.cell[:2])`` is a lattice plane 2 Å up.
    """
    corner, sides = np.asarray(origin, dtype=float), np.asarray(edges, dtype=float)
    if corner.shape != (3,) or sides.shape != (2, 3):
        raise InputError(
            f"a plane needs one point (3,) and two edges (2, 3), got {corner.shape}, {sides.shape}"
        )
    first, normal = sides[0], np.cross(*sides)
    if not np.linalg.norm(normal) > 0 or not spacing > 0:
        raise InputError(f"edges={sides.tolist()} span no plane, or spacing={spacing} Å is not > 0")
    steps = [np.linspace(0, 1, int(np.ceil(np.linalg.norm(s) / spacing)) + 1) for s in sides]
    inside = np.einsum("xya,ac->xyc", np.stack(np.meshgrid(*steps, indexing="ij"), -1), sides)
    across = np.cross(normal, first)
    frame = np.array([first / np.linalg.norm(first), across / np.linalg.norm(across)])
    landscape = landscape_of(calculator_of(atoms), atoms)
    return Plane(
        points=inside @ frame.T,
        potential=landscape.potential(corner + inside),
        charge=landscape.charge(corner + inside),
        title=described(atoms),
    )


def write_cube(
    path: Path, atoms: Atoms, *, quantity: Quantity = "potential", spacing: float = 0.2
) -> None:
    """Potential (V) or charge (e/Å³) on a grid over the cell, as a cube file.

    The cell of a molecule is the box that is written: ``atoms.center(vacuum=4.0)``.
    """
    landscape = landscape_of(calculator_of(atoms), atoms)
    on_grid = {"potential": landscape.potential_on_grid, "charge": landscape.charge_on_grid}
    if quantity not in on_grid:
        raise InputError(f"quantity={quantity!r}; choose 'potential' or 'charge'")
    comment = f"{quantity} in {_UNITS[quantity]}, {described(atoms)}"
    with open(path, "w", encoding="utf-8") as file:
        write_ase_cube(file, atoms, on_grid[quantity](spacing=spacing), comment=comment)


def _chosen(values: Line | Plane, quantity: str) -> np.ndarray:
    if quantity not in _UNITS:
        raise InputError(f"quantity={quantity!r}; choose 'potential' or 'charge'")
    return getattr(values, quantity)
