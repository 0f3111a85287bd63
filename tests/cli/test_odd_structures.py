"""Structures that are legitimate and rare, or that a command can do nothing with."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io import read, write
from shell import asesc, refused
from teaching import water
from typer.testing import CliRunner

from asesc import SCCalculator
from asesc.cli import app
from asesc.cli.record import Record
from asesc.cli.run import attach_calculator, output_paths, read_structure
from asesc.errors import InputError

pytestmark = pytest.mark.usefixtures("workplace")


def fixed(name):
    atoms = water(0)
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    write(name, atoms)
    return atoms


def test_all_atoms_fixed():
    """A structure without degrees of freedom has no temperature, but an energy."""
    atoms = fixed("fixed.traj")
    asesc("run", "fixed.traj", "--model", "tiny", "--relax")
    found = read("fixed-run.traj")
    assert np.isfinite(found.get_potential_energy())
    np.testing.assert_array_equal(found.positions, atoms.positions)


def test_dynamics_of_what_cannot_move(capsys, monkeypatch):
    """Refused before a file of an earlier run is replaced."""
    fixed("fixed.traj")
    write("atom.xyz", Atoms("O"))
    for name, why in (("atom.xyz", "there is one"), ("fixed.traj", "the file fixes all")):
        message = refused(capsys, monkeypatch, "run", name, "--model", "tiny", "--md", "nve")
        assert f"atoms that move against each other; {why}" in message
    options = ("--md", "1", "--width", "100", "--no-relax")
    message = refused(capsys, monkeypatch, "spectra", "atom.xyz", "--model", "tiny", *options)
    assert "there is one" in message


def test_names_of_files(capsys, monkeypatch):
    """Points and signs belong to the name, and what is damaged is one message."""
    write("water@300K.xyz", water(0))
    assert len(read_structure("water@300K.xyz")) == 3
    assert str(output_paths("water@300K.xyz", None)[0]) == "water@300K.traj"
    write("cut.db", water(0))
    with open("cut.db", "r+b") as file:
        file.truncate(5000)
    for arguments in (("run", "cut.db", "--model", "tiny"), ("evaluate", "tiny", "cut.db")):
        message = refused(capsys, monkeypatch, *arguments)
        assert "ASE cannot read 'cut.db', which may be damaged" in message


def test_a_file_in_place_of_a_model(capsys, monkeypatch):
    write("water.xyz", water(0))
    message = refused(capsys, monkeypatch, "run", "water.xyz", "--model", "water.xyz")
    assert "give its folder, '.'" in message


def test_where_the_charge_came_from(capsys, monkeypatch):
    """What an option sets is not put down to the file, nor advice for Python given."""
    sheet = Atoms("OH2", water(0).positions, cell=(6, 6, 12), pbc=(True, True, False))
    sheet.info["charge"] = -1
    write("sheet.extxyz", sheet)
    message = refused(
        capsys, monkeypatch, "slab", "sheet.extxyz", "--model", "tiny", "--charge", "3"
    )
    assert "charge +3 e (from --charge) is outside" in message
    message = refused(
        capsys, monkeypatch, "run", "sheet.extxyz", "--model", "tiny", "--charge", "0.5"
    )
    assert "SCCalculator(…, allow_fractional_charge=True) in Python" in message


def test_options_are_in_the_frames():
    """What starts from the trajectory is the same ion in the same field."""
    write("water.xyz", water(0))
    options = ("--charge", "1", "--field", "0,0,0.05")
    asesc("run", "water.xyz", "--model", "tiny", *options)
    frame = read("water.traj")
    assert frame.info["charge"] == 1 and frame.info["electric_field"].tolist() == [0, 0, 0.05]
    assert frame.calc.name == "sccalculator" and frame.calc.parameters["model"] == "tiny"
    again = SCCalculator("tiny").get_potential_energy(frame)
    assert again == pytest.approx(frame.get_potential_energy(), abs=1e-9)


def test_a_charge_replaces_the_level_of_the_file():
    atoms = water(0)
    atoms.info["fermi_level"] = -4.0
    attach_calculator(atoms, "tiny", 0.0, None, {})
    atoms.get_potential_energy()
    assert atoms.calc.extras["charge"] == 0 and atoms.calc.extras["charge_source"] == "calculator"


def test_a_run_that_fails_keeps_its_steps(monkeypatch):
    """Two atoms are pushed onto each other; what happened until then is in the file."""
    record = Record.__call__

    def pushed(self):
        record(self)
        self._atoms.positions[1] = self._atoms.positions[0] + 0.1

    monkeypatch.setattr(Record, "__call__", pushed)
    write("water.xyz", water(0))
    result = CliRunner().invoke(app, ["run", "water.xyz", "--model", "tiny", "--md", "nve"])
    assert "stopped; the steps so far are in water.traj" in result.output
    assert isinstance(result.exception, InputError) and "Å apart" in str(result.exception)
    assert len(read("water.traj", ":")) == 1
