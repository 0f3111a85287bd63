"""Few k-points that integrate best: the largest real-space length with the fewest points."""

import itertools

import numpy as np
from ase.geometry import minkowski_reduce

DENOMINATOR = 8
"""Candidates are multiples of one eighth of the reciprocal vectors."""


def mean_value_points(cell: np.ndarray, length: float, most: int = 2) -> np.ndarray:
    """Fewest equally weighted points whose error begins beyond a length.

    A periodic function f(k) = sum_R f_R cos(2 pi k.R) of an insulator decays fast with \\|R\\|, and
    its mean is f_0. n points leave the error sum_R f_R c_R with c_R = mean_k cos(2 pi k.R), so the
    shortest R with c_R != 0 measures a set [1]_; n = 1 is Baldereschi's mean-value point [2]_.
    Nothing but time reversal is assumed of f: the atoms may be anywhere.

    Parameters
    ----------
    cell : (3, 3) array, Angstrom
        Periodic in all directions.
    length : float, Angstrom
        All R shorter than this must be integrated exactly.
    most : int
        Largest number of points to try.

    Returns
    -------
    (n, 3) array
        Scaled coordinates; of all sets of n, the one whose error begins farthest out.

    Raises
    ------
    ValueError
        If ``most`` points do not reach ``length``.

    References
    ----------
    .. [1] J. Moreno, J. M. Soler, Phys. Rev. B 45, 13891 (1992), doi:10.1103/PhysRevB.45.13891.
    .. [2] A. Baldereschi, Phys. Rev. B 7, 5212 (1973), doi:10.1103/PhysRevB.7.5212.
    """
    vectors, lengths = lattice_vectors(cell, 2.0 * length)
    half = range(DENOMINATOR // 2 + 1)
    points = np.array(list(itertools.product(half, range(DENOMINATOR), range(DENOMINATOR))))
    phases = np.cos(2 * np.pi / DENOMINATOR * (points @ vectors.T))
    for count in range(1, most + 1):
        means = mean_phases(phases, count)
        wrong = np.abs(means) > 1e-9
        reach = np.where(wrong.any(axis=1), lengths[wrong.argmax(axis=1)], np.inf)
        # Of sets that reach equally far, the one with the smaller sum of wrong short terms.
        rest = (np.abs(means) * np.exp(-lengths)).sum(axis=1)
        best = np.lexsort((rest.round(12), -reach.round(6)))[0]
        if reach[best] >= length:
            return points[list(members(len(points), count, best))] / DENOMINATOR
    raise ValueError(
        f"{most} k-points integrate this cell only to {reach.max():.2f} of {length:g} Angstrom: "
        "use a grid or allow more points"
    )


def lattice_vectors(cell: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Lattice vectors R (one of each pair +-R, not 0) by length, in scaled coordinates."""
    reduced, transform = minkowski_reduce(cell)
    bound = np.ceil(cutoff / (1 / np.linalg.norm(np.linalg.inv(reduced), axis=0))).astype(int)
    grid = np.array(list(itertools.product(*(range(-b, b + 1) for b in bound))))
    grid = grid[[tuple(row) > (0, 0, 0) for row in grid]]
    lengths = np.linalg.norm(grid @ reduced, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] < cutoff]
    return grid[order] @ transform, lengths[order]


def mean_phases(phases: np.ndarray, count: int) -> np.ndarray:
    """c_R of every set of one or two points, (sets, vectors)."""
    if count == 1:
        return phases
    first, second = np.triu_indices(len(phases))
    return 0.5 * (phases[first] + phases[second])


def members(total: int, count: int, index: int) -> tuple[int, ...]:
    """Points of set number ``index`` in the order of ``mean_phases``."""
    if count == 1:
        return (index,)
    first, second = np.triu_indices(total)
    return int(first[index]), int(second[index])
