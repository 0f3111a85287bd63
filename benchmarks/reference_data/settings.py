"""The level of theory of every label, as named, immutable settings."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms


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
        The Monkhorst-Pack grid (even ones without Gamma) is the smallest whose number of points
        times the height of the cell reaches this length along every periodic axis.
    smearing : float, eV
        Fermi-Dirac width; the energy label is the free energy E - TS.
    density : float, e per valence electron
        Convergence threshold of the density.
    open_axis : bool
        Third axis open: dipole correction and field along z; otherwise periodic in all directions.
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
    xc: str = "PBE"
    max_iterations: int = 120

    def kpts(self, atoms: Atoms) -> tuple[int, int, int]:
        """Size of the k-point grid for a cell."""
        heights = 1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
        grid = [int(np.ceil(self.kpt_length / height)) for height in heights]
        return grid[0], grid[1], 1 if self.open_axis else grid[2]


SETTINGS = {
    "sio2": Settings("gpaw-pbe-pw500-k7.5", cutoff=500.0, kpt_length=7.5, smearing=0.05),
    "al_water": Settings(
        "gpaw-pbe-pw500-k9.9", cutoff=500.0, kpt_length=9.9, smearing=0.2, open_axis=True
    ),
}
