"""``asesc phonons`` and ``asesc spectra`` as a user types them, on rigid ions and springs."""

import numpy as np
import phonopy
import pytest
from ase.io import write
from rigid_ions import ionic_crystal
from shell import PNG, asesc, refused
from spring_molecule import bent
from typer.testing import CliRunner

from asesc.cli import app
from asesc.phonons import ImaginaryModesWarning
from asesc.spectra import MomentRecorder


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with a crystal and a molecule."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write("salt.vasp", ionic_crystal())
    write("water.xyz", bent())
    return tmp_path


def test_help_shows_an_example():
    for command in ("phonons", "spectra"):
        assert f"Example: asesc {command}" in asesc(command, "--help")


def test_phonons(workplace, calculator):
    calculator(ionic_crystal().calc)
    output = asesc("phonons", "salt.vasp", "--model", "m", "--supercell", "2,2,2", "--elastic")
    for part in ("ε∞", "1.0000", "1.51", "392.7", "482.5", "no imaginary modes", "C xx (GPa)"):
        assert part in output
    ph = phonopy.load(workplace / "salt-phonons.yaml", log_level=0)
    assert ph.force_constants.shape == (2, 16, 3, 3)
    np.testing.assert_allclose(ph.nac_params["born"][0], np.eye(3), atol=1e-9)
    for name in ("bands", "thermal", "reflectivity"):
        assert (workplace / f"salt-{name}.png").read_bytes().startswith(PNG)


def test_phonons_of_a_saddle_point_lose_nothing(workplace, calculator):
    calculator(ionic_crystal(stiffness=0.9).calc)
    with pytest.warns(ImaginaryModesWarning):
        output = asesc("phonons", "salt.vasp", "--model", "m", "--supercell", "1,1,1", "--no-relax")
    words = " ".join(output.split())
    assert "static dielectric tensor does not exist" in words and "lowest mode" in words
    assert (workplace / "salt-bands.png").is_file()


def test_harmonic_spectra(workplace, calculator):
    calculator(bent().calc)
    output = asesc("spectra", "water.xyz", "--model", "m", "--raman", "--output", "w")
    assert "infrared absorption, km/mol" in output and "Raman activity" in output
    assert len((workplace / "w-ir.csv").read_text().splitlines()) == 2 + 3
    for name in ("w-ir.png", "w-raman.png"):
        assert (workplace / name).read_bytes().startswith(PNG)


def test_spectra_from_dynamics(workplace, calculator):
    calculator(bent().calc)
    options = ["--md", "0.4", "--width", "80", "--temperature", "50", "--raman"]
    output = asesc("spectra", "water.xyz", "--model", "m", *options)
    assert "wrote water-ir.csv" in output and "water-raman.png" in output
    title = (workplace / "water-ir.csv").read_text().splitlines()[0]
    assert "K, 0.4 ps of molecular dynamics" in title


def test_dynamics_that_is_stopped_keeps_its_dipoles(workplace, calculator, monkeypatch):
    calculator(bent().calc)
    record = MomentRecorder.__call__

    def interrupted(self):
        record(self)
        if len(self.moments) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(MomentRecorder, "__call__", interrupted)
    options = ["--md", "0.4", "--width", "80", "--temperature", "50"]
    result = CliRunner().invoke(app, ["spectra", "water.xyz", "--model", "m", *options])
    assert result.exit_code != 0 and "the dipoles so far" in result.output
    assert "are in water-dipoles.csv" in result.output
    assert np.loadtxt("water-dipoles.csv", delimiter=",", skiprows=2).shape == (3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("phonons", "salt.vasp", "--supercell", "2,2"), "is not 3 integers"),
        (("phonons", "salt.vasp", "--supercell", "2,x,2"), "is not 3 integers"),
        (("phonons", "salt.vasp", "--directions", "0,0,0"), "is not a direction x,y,z"),
        (("phonons", "salt.vasp", "--directions", "nan,0,0"), "is not a direction x,y,z"),
        (("phonons", "salt.vasp", "--no-relax"), "responds to fields, pass --no-nac"),
        (("phonons", "water.xyz", "--no-relax"), "has pbc=FFF; phonons need a crystal"),
        (("spectra", "water.xyz", "--md", "0.1"), "needs 2.50 ps, but the run has 0.10 ps"),
    ],
)
def test_mistakes_end_as_one_message(arguments, message, calculator, capsys, monkeypatch):
    calculator(bent().calc)
    assert message in refused(capsys, monkeypatch, *arguments, "--model", "m")


@pytest.mark.parametrize("option", ["--md", "--timestep", "--temperature", "--width"])
def test_dynamics_of_no_length_is_refused(option):
    given = ["spectra", "water.xyz", "--model", "m", "--md", "1", option, "0"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2 and f"Invalid value for '{option}'" in result.output
