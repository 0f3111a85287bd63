"""Density and potential between the atoms of one calculation, as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from asesc.density import Density, GaussianBasis
from asesc.density.grid import Grid
from asesc.electrostatics import boundary_for
from asesc.electrostatics.landscape import Landscape
from asesc.errors import InputError
from asesc.system import System


class AtomsLandscape:
    """ρ(r) in e/Å³ and φ(r) in V of the density that a calculator found.

    φ is the potential of the self-consistency for a test charge of vanishing width, positive near
    positive charges, with the zero of the boundary: at infinity for isolated systems, its cell
    average for crystals, the mid-plane of a charged sheet for slabs. It contains −E·r along open
    directions.

    Parameters
    ----------
    atoms : Atoms
        As they were calculated.
    extras : mapping
        Of that calculation, see :class:`~asesc.calculators.evaluation.Evaluation`.
    """

    def __init__(self, atoms: Atoms, extras: Mapping[str, Any]) -> None:
        system = System.from_atoms(atoms, electric_field=extras["electric_field"])
        coefficients = torch.as_tensor(extras["multipoles"])
        basis = GaussianBasis(
            math.isqrt(coefficients.shape[1]) - 1, torch.as_tensor(extras["widths"])
        )
        boundary = boundary_for(extras["boundary"], system.pbc)
        self._landscape = Landscape(boundary, system, Density(coefficients, basis))
        #: Distance from the atoms beyond which their density is below 1e-10 of its maximum, Å.
        self.tail = 7.0 * basis.width_range[1]

    def potential(self, points: np.ndarray) -> np.ndarray:
        """φ at Cartesian points, (…, 3) → (…), V."""
        return self._at(self._landscape.potential, points)

    def charge(self, points: np.ndarray) -> np.ndarray:
        """ρ at Cartesian points, (…, 3) → (…), e/Å³."""
        return self._at(self._landscape.charge, points)

    def potential_on_grid(self, *, spacing: float = 0.2) -> np.ndarray:
        """φ on a grid over the cell, (N₁, N₂, N₃), V.

        Point (n₁, n₂, n₃) is Σ_a n_a h_a/N_a of the cell vectors, as in cube files.

        Parameters
        ----------
        spacing : float, Å
            Largest distance between neighbouring points along an edge.

        Raises
        ------
        InputError
            If the cell has no volume.
        """
        return self._landscape.potential(self._grid(spacing))[0].numpy()

    def charge_on_grid(self, *, spacing: float = 0.2) -> np.ndarray:
        """ρ on the grid of :meth:`potential_on_grid`, e/Å³."""
        return self._landscape.charge(self._grid(spacing))[0].numpy()

    def average_potential(self, heights: np.ndarray, *, axis: int) -> np.ndarray:
        """φ averaged over lattice planes, (P,) → (P,), V.

        Parameters
        ----------
        heights : (P,), Å
            r·n along the unit :meth:`normal` n of the planes.
        axis : int
            The cell vector that does not lie in the planes.
        """
        return self._averaged(self._landscape.average_potential, heights, axis)

    def average_charge(self, heights: np.ndarray, *, axis: int) -> np.ndarray:
        """ρ averaged over lattice planes, (P,) → (P,), e/Å³."""
        return self._averaged(self._landscape.average_charge, heights, axis)

    def normal(self, axis: int) -> np.ndarray:
        """Unit normal of the planes of the other two cell vectors, (3,)."""
        return self._landscape.normal(axis)[0].numpy()

    def _at(self, field: Any, points: np.ndarray) -> np.ndarray:
        array = np.asarray(points, dtype=float)
        if array.shape[-1:] != (3,):
            raise InputError(f"points must be (…, 3) Cartesian coordinates, got {array.shape}")
        return field(_row(array.reshape(-1, 3)))[0].numpy().reshape(array.shape[:-1])

    def _averaged(self, average: Any, heights: np.ndarray, axis: int) -> np.ndarray:
        return average(_row(np.asarray(heights, dtype=float)), axis=axis)[0].numpy()

    def _grid(self, spacing: float) -> Grid:
        if not spacing > 0:
            raise InputError(f"spacing={spacing} Å between grid points must be positive")
        system = self._landscape.system
        edges = torch.linalg.vector_norm(system.cell[0], dim=-1).tolist()
        first, second, third = (max(1, math.ceil(edge / spacing)) for edge in edges)
        return Grid.over_cell(system, (first, second, third))


def _row(array: np.ndarray) -> Tensor:
    return torch.as_tensor(array)[None]
