"""Hirshfeld charges and atomic dipoles from a converged GPAW density."""

import numpy as np
from ase.units import Bohr
from gpaw.analyse.hirshfeld import HirshfeldDensity


def hirshfeld_multipoles(calculator, charge: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Partition the deformation density between the atoms.

    .. math:: q_a = -\int w_a (n - n^0)\,dr, \qquad
              \mu_a = -\int w_a (n - n^0)(r - R_a)\,dr, \qquad w_a = n^0_a / n^0

    The free-atom density is spherical and neutral, so subtracting the promolecule ``n0`` changes
    neither moment and removes the error of the grid near the nuclei. The promolecule is the sum of
    atoms that are normalised one by one. GPAW's own scales all of them together, and what the long
    tail of one element lacks is then given to the others: metal and water exchange 0.3 e.
    What remains of the error of the total charge is spread evenly.
    F. L. Hirshfeld, Theor. Chim. Acta 44, 129 (1977), doi:10.1007/BF00549096.

    Parameters
    ----------
    calculator : GPAW
        Converged, created with ``legacy_gpaw=True``.
    charge : float, e, of the cell

    Returns
    -------
    charges : ndarray, (N,), e
    dipoles : ndarray, (N, 3), e Angstrom
        About the periodic image of the atom that is nearest in fractional coordinates.
    """
    atoms = calculator.get_atoms()
    parts, grid = free_atoms(calculator)
    promolecule = sum(parts)
    density = calculator.density.get_all_electron_density(atoms)[0].sum(axis=0)
    share = np.divide(
        density - promolecule, promolecule, out=np.zeros_like(density), where=promolecule > 1e-12
    )
    charges, dipoles = moments(parts, -share, grid, atoms.get_scaled_positions(wrap=False))
    return charges + (charge - charges.sum()) / len(atoms), dipoles


def free_atoms(calculator) -> tuple[list[np.ndarray], object]:
    """The density of every free atom, normalised by itself, and the grid that all are on."""
    free = HirshfeldDensity(calculator)
    densities, grids = zip(
        *(free.get_density([index]) for index in range(len(calculator.get_atoms()))), strict=True
    )
    return list(densities), grids[0]


def moments(
    parts: list[np.ndarray], share: np.ndarray, grid, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Charge and dipole of each free atom's density times ``share``, about its fractional place."""
    points = np.moveaxis(np.indices(grid.n_c), 0, -1)
    fractional = (points + grid.beg_c) / grid.N_c
    charges, dipoles = np.empty(len(places)), np.empty((len(places), 3))
    for index, position in enumerate(places):
        part = parts[index] * share
        offset = fractional - position
        offset = (offset - np.rint(offset)) @ grid.cell_cv
        charges[index] = part.sum() * grid.dv
        dipoles[index] = np.einsum("xyz,xyzv->v", part, offset) * grid.dv * Bohr
    return charges, dipoles
