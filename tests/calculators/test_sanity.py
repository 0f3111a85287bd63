"""Geometries that cannot be what was meant, and those that are probably not."""

import numpy as np
import pytest
from ase import Atoms
from builders import random_model

from asesc import SCCalculator
from asesc.electrostatics import backends
from asesc.errors import InputError


def make(family="SplitChargeEquilibration") -> SCCalculator:
    return SCCalculator(random_model(family))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": [0, 5, 5], "pbc": True}, "pbc is True along a but that cell vector is zero"),
        ({"cell": [[5, 0, 0], [0, 5, 0], [5, 5, 0]], "pbc": True}, "lie in one plane"),
        ({"cell": [5, 5, 5], "pbc": (True, False, False)}, "wires are not available"),
        ({"cell": [np.nan, 5, 5], "pbc": True}, "cell has NaN"),
        ({"cell": [5, 5, 1e6], "pbc": True}, r"is 1e\+06 Å long \(limit 100000 Å\)\. Check units"),
    ],
)
def test_cells(change, message, water):
    water.set_cell(change["cell"])
    water.pbc = change["pbc"]
    with pytest.raises(InputError, match=message):
        make().get_potential_energy(water)


def test_positions(water):
    with pytest.raises(InputError, match="has no atoms"):
        make().get_potential_energy(Atoms())
    water.positions[1, 2] = np.nan
    with pytest.raises(
        InputError, match=r"1 of \d+ positions are NaN or infinite, the first that of atom 1"
    ):
        make().get_potential_energy(water)


@pytest.mark.parametrize("distance", [1e12, 1e200])
def test_positions_without_digits_left_are_no_places(distance, silica):
    silica.positions[1, 2] = distance
    with pytest.raises(InputError, match=r"atom 1 is 1e\+\d+ Å from the origin, where positions"):
        make().get_potential_energy(silica)


def test_a_molecule_plans_no_mesh_around_an_atom_that_evaporated(water, monkeypatch):
    """Planning it took half a minute, and for ever at 1e12 Å."""
    monkeypatch.delattr(backends, "_cheapest_mesh")
    calculator = make("FixedCharges")
    near, far = (water + Atoms("OH2", [(0, 0, d), (0, 1, d), (1, 0, d)]) for d in (1e6, 1e9))
    assert calculator.get_potential_energy(far) == pytest.approx(
        calculator.get_potential_energy(near), abs=1e-5
    )


def test_overlapping_atoms(water, silica):
    water.positions[2] = water.positions[1] + (0, 0.08, 0)
    with pytest.raises(InputError, match=r"atoms 1 and 2 are 0.08 Å apart"):
        make().get_potential_energy(water)


@pytest.mark.parametrize(
    ("cell", "pbc", "period"),
    [
        ([0.2, 5, 5], True, r"0\.2"),
        ([1e-3, 1e-3, 1e-3], True, r"0\.001"),  # some 10⁹ images within reach
        ([[3, 0, 0], [0, 3, 0], [3, 3, 1e-5]], True, "1e-05"),
        ([[3, 0, 0], [3, 1e-4, 0], [1, 1, 9]], (True, True, False), r"0\.0001"),
    ],
)
def test_lattices_that_overlap_with_themselves(cell, pbc, period):
    with pytest.raises(InputError, match=rf"repeats itself every {period} Å"):
        make().get_potential_energy(Atoms("H", cell=cell, pbc=pbc))


def test_a_skewed_description_of_a_sound_lattice_is_fine():
    skewed = Atoms("H", cell=[[3, 0, 0], [30, 3, 0], [0, -30, 3]], pbc=True)
    cubic = Atoms("H", cell=[3, 3, 3], pbc=True)
    calculator = make()
    energy = calculator.get_potential_energy(cubic)
    assert calculator.get_potential_energy(skewed) == pytest.approx(energy, abs=1e-9)


def test_a_molecule_left_in_a_periodic_box(water):
    water.set_cell([30, 30, 30])
    water.pbc = True
    with pytest.warns(UserWarning, match="volume per atom 9000 Å³"):
        make().get_potential_energy(water)


def test_a_slab_left_periodic(silica):
    silica.cell[2] = (0, 0, 20)
    with pytest.warns(UserWarning, match=r"of vacuum along c .*atoms\.pbc\[2\]=False"):
        make().get_potential_energy(silica)
