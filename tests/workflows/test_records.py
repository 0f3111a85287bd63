"""What was computed and with what survives every file and library."""

import json

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import read, write
from ase.spacegroup import Spacegroup
from builders import random_model
from phonopy.structure.cells import get_supercell
from pymatgen.core import Molecule, Structure

from asesc import CoulombCalculator, SCCalculator
from asesc.errors import InputError
from asesc.records import (
    from_json,
    from_phonopy,
    from_pymatgen,
    read_row,
    recorded,
    to_json,
    to_phonopy,
    to_pymatgen,
    write_row,
)

FIELD = (0.0, 0.0, 0.07)


def calculator() -> SCCalculator:
    return SCCalculator(random_model("SplitChargeEquilibration"))


@pytest.fixture
def ion():
    """A charged molecule in a field, both set on the calculator, where every file loses them."""
    atoms = molecule("H2O")
    atoms.rattle(0.02, seed=0)
    atoms.info["name"] = "water"
    atoms.calc = calculator()
    atoms.calc.set(charge=1, electric_field=FIELD)
    atoms.get_potential_energy()
    return atoms


@pytest.fixture
def sheet(silica):
    """A slab, so that the cell, the open axis and a polarised state have to survive too."""
    silica.pbc = (True, True, False)
    silica.cell[0, 2] = silica.cell[1, 2] = 0.0
    silica.calc.set(electric_field=FIELD)
    silica.get_potential_energy()
    return silica


def trajectory(atoms, folder):
    write(folder / "a.traj", recorded(atoms))
    return read(folder / "a.traj")


def extended_xyz(atoms, folder):
    write(folder / "a.extxyz", recorded(atoms))
    return read(folder / "a.extxyz")


def database(atoms, folder):
    base = connect(folder / "a.db")
    write_row(base, atoms)
    return read_row(base.get(1))


def json_database(atoms, folder):
    base = connect(folder / "a.json")
    write_row(base, atoms, method="test")
    return read_row(base.get(method="test"))


def as_json(atoms, folder):
    return from_json(to_json(atoms))


def pymatgen(atoms, folder):
    found = to_pymatgen(atoms)
    return from_pymatgen(type(found).from_dict(json.loads(json.dumps(found.as_dict()))))


FORMATS = [trajectory, extended_xyz, database, json_database, as_json, pymatgen]


@pytest.mark.filterwarnings("ignore:Structure charge")  # pymatgen: not the sum of oxidation states
@pytest.mark.parametrize("trip", FORMATS)
@pytest.mark.parametrize("which", ["ion", "sheet"])
def test_round_trip(trip, which, tmp_path, request):
    """The frame that comes back holds the results, and computed again it gives them again."""
    atoms = request.getfixturevalue(which)
    found = trip(atoms, tmp_path)
    tolerance = {"atol": 1e-7}  # extended XYZ writes eight digits
    np.testing.assert_allclose(found.positions, atoms.positions, **tolerance)
    np.testing.assert_allclose(found.cell, atoms.cell, **tolerance)
    assert found.pbc.tolist() == atoms.pbc.tolist()
    for name in ("forces", "dipole", "charges"):
        np.testing.assert_allclose(found.calc.results[name], atoms.calc.results[name], **tolerance)
    energy = atoms.get_potential_energy()
    assert found.get_potential_energy() == pytest.approx(energy, abs=1e-7)
    assert found.info["charge"] == (1 if which == "ion" else 0)
    np.testing.assert_allclose(found.info["electric_field"], FIELD)
    assert found.info.get("name") == atoms.info.get("name")
    outputs = found.info["electrostatics"]
    assert outputs["model"] == "SplitChargeEquilibration"
    assert outputs["boundary"] == atoms.calc.extras["boundary"]
    assert outputs["fermi_level"] == pytest.approx(atoms.calc.results["fermi_level"])
    found.calc = calculator()
    assert found.get_potential_energy() == pytest.approx(energy, abs=1e-6)


def test_polarisation_survives(silica, tmp_path):
    silica.calc.set(electric_field=FIELD)
    polarisation = silica.calc.get_property("polarization", silica)
    for trip in FORMATS:
        outputs = trip(silica, tmp_path).info["electrostatics"]
        np.testing.assert_allclose(outputs["polarization"], polarisation, atol=1e-12)


def test_fixed_fermi_level_stays_fixed():
    """What was fixed is written as the input; the charge that was found, as an output."""
    atoms = molecule("H2O")
    atoms.calc = SCCalculator(random_model("QEq"))
    level = atoms.calc.get_property("fermi_level", atoms) + 0.1
    atoms.calc.set(fermi_level=level)
    grand = atoms.get_potential_energy()
    found = from_json(to_json(atoms))
    assert found.info["fermi_level"] == level and "charge" not in found.info
    assert found.info["electrostatics"]["charge"] == pytest.approx(atoms.calc.extras["charge"])
    assert abs(found.info["electrostatics"]["charge"]) > 1e-4
    found.calc = SCCalculator(random_model("QEq"))
    assert found.get_potential_energy() == pytest.approx(grand, abs=1e-8)


@pytest.mark.parametrize("trip", FORMATS)
def test_spin_survives(trip, tmp_path):
    """It changes the energy, and it was set where files lose it."""
    atoms = molecule("H2O")
    atoms.rattle(0.02, seed=0)
    atoms.calc = SCCalculator(random_model("MACEPolar"), spin=3)
    energy = atoms.get_potential_energy()
    found = trip(atoms, tmp_path)
    assert found.info["spin"] == 3
    found.calc = SCCalculator(random_model("MACEPolar"))
    assert found.get_potential_energy() == pytest.approx(energy, abs=1e-6)
    del found.info["spin"]
    assert abs(found.get_potential_energy() - energy) > 1e-3


def test_database_is_searchable(ion, tmp_path):
    base = connect(tmp_path / "a.db")
    write_row(base, ion, step=3)
    ion.calc.set(charge=0)
    ion.get_potential_energy()
    write_row(base, ion, step=4)
    assert [row.step for row in base.select("total_charge=1,field>0.05")] == [3]


def test_the_spacegroup_of_a_cif_goes_into_databases(ion, tmp_path):
    """ASE puts an object into ``info``, which its databases do not take."""
    ion.info["spacegroup"] = Spacegroup(152)
    for trip in (database, as_json):
        found = trip(ion, tmp_path)
        assert Spacegroup(found.info["spacegroup"]["number"]).no == 152


def test_what_no_file_keeps_is_named(ion, tmp_path):
    ion.info["owner"] = object()
    base = connect(tmp_path / "a.db")
    for write_it in (to_json, lambda atoms: write_row(base, atoms)):
        with pytest.raises(InputError, match="object, which no file keeps; remove it"):
            write_it(ion)
    assert base.count() == 0


@pytest.mark.parametrize("text", ["[1]", '{"atoms": 1, "results": {}}', "water"])
def test_other_json(text):
    with pytest.raises(InputError, match="not the JSON"):
        from_json(text)


def test_pymatgen_objects_have_the_charge(ion, sheet):
    found = to_pymatgen(ion)
    assert isinstance(found, Molecule) and found.charge == 1
    slab = to_pymatgen(sheet)
    assert isinstance(slab, Structure) and slab.lattice.pbc == (True, True, False)
    sheet.info["charge"] = 2
    sheet.get_potential_energy()
    with pytest.warns(UserWarning, match="oxidation states"):
        assert to_pymatgen(sheet).charge == 2


def test_results_of_another_geometry_are_left_behind(sheet):
    structure = to_pymatgen(sheet)
    structure.translate_sites([0], [0.1, 0, 0])
    moved = from_pymatgen(structure)
    assert moved.calc is None and "electrostatics" not in moved.info
    charged = to_pymatgen(sheet)
    charged.set_charge(1)
    found = from_pymatgen(charged)
    assert found.calc is None and found.info["charge"] == 1
    assert "electrostatics" not in found.info
    substituted = to_pymatgen(sheet)
    substituted.replace_species({"Si": "Ge"})
    found = from_pymatgen(substituted)
    assert found.calc is None and "Ge" in found.symbols and "electrostatics" not in found.info


def test_what_else_a_frame_has_survives_pymatgen(sheet):
    sheet.set_velocities(np.full((3, 3), 0.1))
    sheet.set_constraint(FixAtoms([1]))
    found = from_pymatgen(to_pymatgen(sheet))
    np.testing.assert_allclose(found.get_velocities(), sheet.get_velocities())
    assert [list(c.index) for c in found.constraints] == [[1]]


def test_the_other_name_of_the_charge_goes_through_pymatgen():
    atoms = molecule("OH", calculator=EMT(), info={"total_charge": -1})
    atoms.get_potential_energy()
    found = from_pymatgen(to_pymatgen(atoms))
    assert found.calc.results["energy"] == atoms.get_potential_energy()
    assert found.info == {"total_charge": -1}
    changed = to_pymatgen(atoms)
    changed.set_charge_and_spin(2, None)
    assert from_pymatgen(changed).info == {"charge": 2} and from_pymatgen(changed).calc is None


def test_plain_pymatgen_structures():
    water = Molecule(["O", "H"], [[0, 0, 0], [0, 0, 0.97]], charge=-1)
    atoms = from_pymatgen(water)
    assert atoms.info == {"charge": -1} and not atoms.pbc.any()


def test_phonopy_round_trip(silica):
    """phonopy's structures hold no info: it is taken from where they came from."""
    silica.info.update(charge=1, electric_field=np.array(FIELD))
    again = from_phonopy(to_phonopy(silica), like=silica)
    np.testing.assert_allclose(again.positions, silica.positions, atol=1e-12)
    assert again.info["charge"] == 1 and again.calc is silica.calc
    np.testing.assert_allclose(again.info["electric_field"], FIELD)
    silica.info.clear()
    silica.info["name"] = "glass"
    double = from_phonopy(get_supercell(to_phonopy(silica), np.diag([1, 1, 2])), like=silica)
    assert len(double) == 6 and double.info == {"name": "glass"}
    silica.info.update(charge=1, spin=2)
    double = from_phonopy(get_supercell(to_phonopy(silica), np.diag([1, 1, 2])), like=silica)
    assert (double.info["charge"], double.info["spin"]) == (2, 3)


def test_a_slab_of_phonopy_stays_open(sheet):
    assert from_phonopy(to_phonopy(sheet), like=sheet).pbc.tolist() == [True, True, False]


def test_calculators_without_extras(tmp_path):
    """Also what another code computed: its results, and what info says."""
    atoms = molecule("CO")
    atoms.info["charge"] = -1
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    found = from_json(to_json(atoms))
    assert found.get_potential_energy() == energy and found.info == {"charge": -1}


def test_bare_multipoles():
    pair = molecule("HCl")
    pair.calc = CoulombCalculator(charges=[0.3, -0.3], electric_field=FIELD)
    pair.get_potential_energy()
    found = from_json(to_json(pair))
    np.testing.assert_allclose(found.info["electric_field"], FIELD)
    np.testing.assert_allclose(found.get_dipole_moment(), pair.get_dipole_moment())


def test_bad_input(ion):
    ion.positions[0] += 0.1
    with pytest.raises(InputError, match="no results for H2O as it is now"):
        recorded(ion)
    with pytest.raises(InputError, match="not the JSON of"):
        from_json("{}")
