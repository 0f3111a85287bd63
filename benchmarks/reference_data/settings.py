"""The level of theory of every label, as named, immutable settings."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from kpoints import mean_value_points


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
        The lattice vectors shorter than this are integrated exactly.
    smearing : float, eV
        Fermi-Dirac width; the energy label is the free energy E - TS.
    density : float, e per valence electron
        Convergence threshold of the density.
    open_axis : bool
        Third axis open: dipole correction and field along z; otherwise periodic in all directions.
    mean_value : bool
        Fewest special points (``kpoints.py``), for insulators; otherwise the smallest
        Monkhorst-Pack grid (even ones without Gamma) whose number of points times the height of the
        cell reaches ``kpt_length`` along every periodic axis.
    xc : str
        Exchange-correlation functional.
    max_iterations : int
        A frame that needs more is dropped and recorded as failed.
    """

    name: str
    cutoff: float
    kpt_length: float
    smearing: float
    density: float = 1e-5
    open_axis: bool = False
    mean_value: bool = False
    xc: str = "PBE"
    max_iterations: int = 120

    def kpts(self, atoms: Atoms) -> dict | np.ndarray:
        """k-points of a cell as GPAW takes them: a grid, or scaled coordinates."""
        if self.mean_value:
            return mean_value_points(atoms.cell.array, self.kpt_length)
        heights = 1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
        grid = [int(np.ceil(self.kpt_length / height)) for height in heights]
        return {"size": (grid[0], grid[1], 1 if self.open_axis else grid[2])}


SETTINGS = {
    "sio2": Settings(
        "gpaw-pbe-pw500-m10.5", cutoff=500.0, kpt_length=10.5, smearing=0.05, mean_value=True
    ),
    "al_water": Settings(
        "gpaw-pbe-pw500-k9.9", cutoff=500.0, kpt_length=9.9, smearing=0.2, open_axis=True
    ),
}
