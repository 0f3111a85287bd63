"""Periodic point charges in an anisotropic dielectric."""

from __future__ import annotations

from itertools import product
from math import pi, sqrt

import numpy as np
from scipy.special import erfc

from asesc.errors import InputError
from asesc.units import COULOMB

#: erfc(x) and exp(−x²) are below 1e-14 beyond this.
_RANGE = 5.8
#: Entries of a table of points × images that are held at one time.
_PAIRS = 2_000_000


class PointChargeLattice:
    """One unit charge per cell with a neutralising background, screened by a dielectric tensor ε.

    The potential averages to zero over the cell. In the coordinates ε^(−½) r the dielectric is
    vacuum, so that

        V(r) = V_vacuum(ε^(−½) r) / √det ε

    with the Ewald sum of the transformed cell: no anisotropic sum is needed.

    Parameters
    ----------
    cell : (3, 3), Å
        Rows are the lattice vectors.
    dielectric : (3, 3)

    Raises
    ------
    InputError
        If the dielectric tensor is not symmetric and at least that of vacuum.
    """

    def __init__(self, cell: np.ndarray, dielectric: np.ndarray) -> None:
        tensor = np.asarray(dielectric, dtype=float)
        if tensor.ndim == 0:
            tensor = tensor * np.eye(3)
        if tensor.shape != (3, 3) or not np.isfinite(tensor).all():
            raise InputError(f"dielectric must be a number or (3, 3), finite; got {dielectric!r}")
        values, vectors = np.linalg.eigh(0.5 * (tensor + tensor.T))
        if not np.allclose(tensor, tensor.T, atol=1e-3) or values[0] < 1 - 1e-6:
            raise InputError(
                f"dielectric={tensor.tolist()} is not a symmetric tensor with values of at least 1 "
                "(vacuum), so that charges would not be screened by it. Pass dielectric=… from a "
                "converged calculation or a measurement"
            )
        self._metric = (vectors / np.sqrt(values)) @ vectors.T
        self._scale = COULOMB / sqrt(values.prod())
        self._cell = np.asarray(cell, dtype=float) @ self._metric
        self._volume = abs(np.linalg.det(self._cell))
        self._split = sqrt(pi) / self._volume ** (1 / 3)
        self._images = _lattice(self._cell, _RANGE / self._split)
        waves = _lattice(2 * pi * np.linalg.inv(self._cell).T, 2 * self._split * _RANGE)
        self._waves = waves[(waves**2).sum(-1) > 0]

    def potential(self, displacements: np.ndarray) -> np.ndarray:
        """V at displacements from the charge, (n, 3) Å → (n,), V per e of charge.

        At the charge itself (a displacement of zero) its own potential is left out.
        """
        points = np.atleast_2d(np.asarray(displacements, dtype=float)) @ self._metric
        size = max(1, _PAIRS // (len(self._images) + len(self._waves)))
        chunks = [points[i : i + size] for i in range(0, len(points), size)]
        return self._scale * np.concatenate([self._sum(chunk) for chunk in chunks])

    @property
    def energy(self) -> float:
        """½V at the charge: its energy with its images and the background, eV/e²; negative."""
        return 0.5 * float(self.potential(np.zeros((1, 3)))[0])

    @property
    def madelung(self) -> float:
        """M in −k_e M/(2L), L³ = volume, for ε = 1: the energy of this shape of cell; 2.837 cubic.

        With a dielectric tensor, screening is contained.
        """
        length = abs(np.linalg.det(self._cell @ np.linalg.inv(self._metric))) ** (1 / 3)
        return -2 * self.energy * length / COULOMB

    def _sum(self, points: np.ndarray) -> np.ndarray:
        a, volume = self._split, self._volume
        distance = np.linalg.norm(points[:, None] + self._images, axis=-1)
        own = distance < 1e-8
        safe = np.where(own, 1.0, distance)
        near = np.where(own, -2 * a / sqrt(pi), erfc(a * safe) / safe).sum(1)
        k2 = (self._waves**2).sum(-1)
        weights = 4 * pi / volume * np.exp(-k2 / (4 * a**2)) / k2
        return near + np.cos(points @ self._waves.T) @ weights - pi / (a**2 * volume)


def _lattice(rows: np.ndarray, radius: float) -> np.ndarray:
    """Lattice vectors that can be within a radius of any point of the first cell, (n, 3)."""
    reach = radius + np.linalg.norm(np.abs(rows).sum(0))
    bounds = np.ceil(reach * np.linalg.norm(np.linalg.inv(rows), axis=0)).astype(int)
    integers = np.array(list(product(*[range(-n, n + 1) for n in bounds])))
    vectors = integers @ rows
    return vectors[np.linalg.norm(vectors, axis=-1) <= reach]
