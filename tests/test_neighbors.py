"""Edge lists against the definition: every image of every atom within the cutoff, once."""

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms

from asesc.errors import InputError
from asesc.neighbors import find_edges
from asesc.system import System

CUTOFF = 3.3
TRICLINIC = np.array([[3.1, 0.4, -0.3], [0.9, 3.6, 0.2], [-0.5, 0.7, 4.2]])
CELLS = {
    "triclinic": TRICLINIC,
    "left-handed": TRICLINIC[[1, 0, 2]],
    "sheared": np.array([[1, 0, 0], [2, 1, 0], [0, -1, 1]]) @ TRICLINIC,
    "open vectors zero": TRICLINIC,
}
EVERY_PBC = tuple(itertools.product((True, False), repeat=3))


def cloud(pbc, name="triclinic") -> Atoms:
    """Random atoms, many of them outside the cell."""
    cell = CELLS[name].copy()
    if name == "open vectors zero":
        cell[~np.array(pbc)] = 0.0
    positions = np.random.default_rng(1).uniform(-2, 5, (7, 3))
    return Atoms("H7", positions, cell=cell, pbc=pbc)


def by_definition(atoms: Atoms, reach: int = 16) -> set[tuple[int, ...]]:
    """(i, j, S) of all pairs closer than the cutoff."""
    ranges = [range(-reach, reach + 1) if periodic else (0,) for periodic in atoms.pbc]
    shifts = np.array(list(itertools.product(*ranges)))
    separations = atoms.positions[None] - atoms.positions[:, None]
    vectors = separations[:, :, None] + shifts @ atoms.cell.array
    close = (vectors**2).sum(-1) < CUTOFF**2
    close &= (np.arange(7)[:, None] != np.arange(7))[..., None] | shifts.any(-1)
    return {(i, j, *shifts[s].tolist()) for i, j, s in np.argwhere(close).tolist()}


def listed(atoms: Atoms) -> set[tuple[int, ...]]:
    """The same from the edge list, none of them twice."""
    edges = find_edges(System.from_atoms(atoms), CUTOFF)
    columns = [edges.source[:, None], edges.target[:, None], edges.shifts]
    rows = [tuple(row) for row in torch.cat(columns, dim=1).tolist()]
    assert len(set(rows)) == len(rows)
    return set(rows)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("pbc", EVERY_PBC, ids=str)
def test_edges_are_all_pairs_within_the_cutoff(pbc, name):
    atoms = cloud(pbc, name)
    assert listed(atoms) == by_definition(atoms)


def test_vectors_are_those_of_the_edges():
    atoms = cloud((True, True, False))
    system = System.from_atoms(atoms)
    edges = find_edges(system, CUTOFF)
    i, j = edges.source.numpy(), edges.target.numpy()
    expected = atoms.positions[j] + edges.shifts.numpy() @ atoms.cell.array - atoms.positions[i]
    np.testing.assert_allclose(edges.vectors(system).numpy(), expected, atol=1e-13)
    assert (np.linalg.norm(expected, axis=1) < CUTOFF).all()


@pytest.mark.parametrize("pbc", EVERY_PBC, ids=str)
@pytest.mark.parametrize("distance", [1e4, 1e6, 1e9])
def test_atoms_that_were_lost_far_away(pbc, distance):
    """They change nothing for the others; vesin alone would end the process."""
    atoms = cloud(pbc)
    near = listed(atoms)
    # Along a normal of the periodic vectors, or back onto itself where there is none.
    periodic = atoms.cell.array[atoms.pbc]
    normal = np.linalg.svd(np.vstack([periodic, np.zeros((3 - len(periodic), 3))]))[2][-1]
    away = atoms + Atoms("H2", [distance * normal, -distance * normal + 0.7])
    if not atoms.pbc.all():
        assert {row for row in listed(away) if max(row[:2]) < 7} == near
        assert not {row for row in listed(away) if min(row[:2]) < 7 <= max(row[:2])}


@pytest.mark.parametrize(
    ("lengths", "pbc"),
    [((1100, 1100, 5), (True, True, False)), ((4, 4, 1e5), True), ((9e4, 4, 9e4), True)],
)
def test_flat_and_long_cells_have_the_pairs_of_a_small_one(lengths, pbc):
    """vesin alone ends the process with a floating-point exception."""
    atoms = cloud(False)
    atoms.positions[:, 2] = 0.0
    atoms.pbc = pbc
    small = [min(length, 30) for length in lengths]
    found = [listed(Atoms(atoms, cell=cell, pbc=pbc)) for cell in (lengths, small)]
    assert found[0] == found[1]


def test_a_batch_is_its_structures_one_after_another():
    frames = [cloud((True, True, False)), cloud((True, True, False), "sheared")]
    edges = find_edges(System.from_atoms(frames), CUTOFF)
    second = edges.source >= 7
    assert bool((second == (edges.target >= 7)).all())
    columns = [edges.source[:, None] - 7, edges.target[:, None] - 7, edges.shifts]
    rows = torch.cat(columns, dim=1)[second].tolist()
    assert {tuple(row) for row in rows} == listed(frames[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_lost_positions_are_told(value):
    system = System.from_atoms(Atoms("H3", [(0, 0, 0), (1, 0, 0), (2, 0, 0)]))
    system.positions[1, 1] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        find_edges(system, CUTOFF)
