"""The level of theory of every label, as named, immutable settings."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

_HEXAGONAL = ((0.25, 0.25, 0.25), (0.25, -0.25, 0.25))
SPECIAL_POINTS = dict.fromkeys(
    ("quartz35hex", "quartz35puckered", "quartz35learned", "quartz36hex", "quartz36learned"),
    _HEXAGONAL,
)
"""Half of the points of a 2x2x2 grid, which err little more than all of them (``convergence.json``,
measured on ``quartz35hex``; the others have the same cell). Only these geometries are labelled."""


@dataclass(frozen=True)
class Settings:
    """GPAW plane-wave settings of one data set.

    Attributes
    ----------
    name : str
        Written into every frame as ``settings``.
    cutoff : float, eV
        Plane-wave cut-off.
    kpt_length : float, Angstrom
        Otherwise the smallest Monkhorst-Pack grid (even ones without Gamma) whose number of points
        times the height of the cell reaches this length along every periodic axis.
    film_kpt_length : float, Angstrom, optional
        The same for cells without metal, which need fewer points.
    smearing : float, eV
        Fermi-Dirac width; the energy label is the free energy E - TS.
    density : float, e per valence electron
        Convergence threshold of the density.
    eigenstates : float, eV^2 per valence electron
        Convergence threshold of the residuals of the bands. It is looser than GPAW's, which
        changes forces by less than 1 meV/Angstrom (``…-scf`` in ``convergence.json``).
    open_axis : bool
        Third axis open: dipole correction and field along z; otherwise periodic in all directions.
    special : bool
        Take the points of :data:`SPECIAL_POINTS`.
    xc : str
        Exchange-correlation functional.
    max_iterations : int
        A frame that needs more is dropped and recorded as failed.
    """

    name: str
    cutoff: float
    kpt_length: float
    smearing: float
    density: float = 1e-4
    eigenstates: float = 1e-6
    open_axis: bool = False
    special: bool = False
    film_kpt_length: float | None = None
    xc: str = "PBE"
    max_iterations: int = 120

    def covers(self, atoms: Atoms) -> bool:
        """Whether the k-points for a geometry have been settled."""
        return not self.special or _host(atoms) in SPECIAL_POINTS

    def kpts(self, atoms: Atoms) -> dict | np.ndarray:
        """k-points of a cell as GPAW takes them: a grid, or scaled coordinates."""
        if self.special:
            return np.array(SPECIAL_POINTS[_host(atoms)])
        heights = 1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
        film = self.film_kpt_length if not is_metallic(atoms) else None
        grid = [int(np.ceil((film or self.kpt_length) / height)) for height in heights]
        return {"size": (grid[0], grid[1], 1 if self.open_axis else grid[2])}


def is_metallic(atoms: Atoms) -> bool:
    """Whether there is aluminium in a cell."""
    return 13 in atoms.numbers


def _host(atoms: Atoms) -> str:
    return atoms.info["geometry_id"].rpartition("-")[0]


SETTINGS = {
    "sio2": Settings(
        "gpaw-pbe-pw500-special", cutoff=500.0, kpt_length=16.0, smearing=0.05, special=True
    ),
    "al_water": Settings(
        "gpaw-pbe-pw600-k19.5",
        cutoff=600.0,
        kpt_length=19.5,
        film_kpt_length=9.9,
        smearing=0.4,
        eigenstates=1e-5,
        open_axis=True,
    ),
}
