"""``asesc slab`` and ``asesc defect`` as a user types them, on Gaussian charges."""

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from ase.io.cube import read_cube_data
from polarisable_ions import PolarisableIons
from shell import asesc, refused

from asesc import CoulombCalculator
from asesc.units import COULOMB


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with a polar sheet, periodic with vacuum, and a crystal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    sheet = Atoms("NaCl", [(0, 0, 7), (2, 2, 9)], cell=(4, 4, 16), pbc=True)
    write("sheet.extxyz", sheet)
    write("molecule.xyz", Atoms("CO", [(0, 0, 0), (0, 0, 1.1)]))
    write("magnesia.vasp", bulk("MgO", "rocksalt", 4.21))
    return tmp_path


def test_help_shows_an_example():
    for command in ("slab", "defect"):
        assert f"Example: asesc {command} quartz" in asesc(command, "--help")


def test_slab(workplace, calculator):
    calculator(CoulombCalculator(charges={"Na": 0.3, "Cl": -0.3}, width=0.8))
    output = asesc(
        "slab", "sheet.extxyz", "--model", "m", "--axis", "c", "--open", "--period", "2", "--cube"
    )
    step = -4 * np.pi * COULOMB * 0.6 / 16
    for part in (f"{step:.4f}", "vacuum level", "no Fermi level", "wrote sheet-profile.csv"):
        assert part in output
    data, atoms = read_cube_data(str(workplace / "sheet-charge.cube"))
    assert data.sum() * atoms.get_volume() / data.size == pytest.approx(0, abs=1e-4)
    assert (workplace / "sheet-profile.png").stat().st_size > 5000


def test_crystal_has_no_work_function(calculator):
    calculator(CoulombCalculator(charges={"Mg": 2, "O": -2}))
    output = asesc("slab", "magnesia.vasp", "--model", "m", "--axis", "a")
    assert "no vacuum" in output and "vacuum level" not in output


@pytest.mark.filterwarnings("ignore::asesc.defects.SmallCellWarning")
@pytest.mark.filterwarnings("ignore::asesc.defects.UnevenPotentialWarning")
def test_defect(workplace, calculator):
    calculator(PolarisableIons())
    output = asesc(
        *("defect", "magnesia.vasp", "--model", "m", "--vacancy", "O", "--charges", "2"),
        *("--chempot", "O=-4", "--vbm", "1.5", "--gap", "7.8", "--no-relax"),
        *("--extrapolate", "2,3,4"),
    )
    assert (
        "v_O in MgO · PolarisableIons, 15 atoms" in output
        and "valence band, 1.500 eV" in " ".join(output.split())
    )
    with open(workplace / "magnesia-v_O.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    crystal = bulk("MgO", "rocksalt", 4.21)
    epsilon = PolarisableIons().get_property("dielectric_tensor", crystal)[0, 0]
    assert float(row["ε of the extrapolation"]) == pytest.approx(epsilon, rel=0.05)
    assert (workplace / "magnesia-v_O.png").stat().st_size > 5000
    assert (workplace / "magnesia-v_O_+2-extrapolation.png").stat().st_size > 5000
    assert (workplace / "magnesia-v_O_+2-correction.png").stat().st_size > 5000
    perfect, charged = read(workplace / "magnesia-v_O.traj", ":")
    assert (len(perfect), len(charged)) == (16, 15)
    assert (perfect.info["charge"], charged.info["charge"]) == (0, 2)
    bare = charged.get_potential_energy() - perfect.get_potential_energy() - 4.0 + 2 * 1.5
    correction = float(row["of which correction (eV)"])
    assert float(row["formation energy (eV)"]) == pytest.approx(bare + correction)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["slab", "sheet.extxyz", "--axis", "w"], "choose a, b or c"),
        (["slab", "sheet.extxyz", "--open"], "--open needs --axis"),
        (["slab", "magnesia.vasp", "--open", "--axis", "c"], "this is a crystal"),
        (["slab", "sheet.extxyz"], "Give --axis a, b or c for a crystal; make a slab with --open"),
        (["slab", "magnesia.vasp", "--axis", "c", "--capacitance", "3"], "needs a slab, periodic"),
        (["defect", "magnesia.vasp", "--chempot", "O=1"], "give one of --vacancy"),
        (["defect", "magnesia.vasp", "--chempot", "O=nan", "--vacancy", "O"], "of O is nan eV"),
        (
            ["defect", "magnesia.vasp", "--chempot", "O=1", "--vacancy", "O", "--vbm", "inf"],
            "vbm is inf eV",
        ),
        (["defect", "molecule.xyz", "--chempot", "O=1", "--vacancy", "O"], "three periodic dir"),
        (["defect", "magnesia.vasp", "--chempot", "O:1", "--vacancy", "O"], "not ELEMENT=eV"),
        (
            ["defect", "magnesia.vasp", "--chempot", "O=1", "--chempot", "O=2", "--vacancy", "O"],
            "--chempot gives O twice, 1.0 and 2.0 eV",
        ),
        (["defect", "magnesia.vasp", "--chempot", "O=1", "--substitute", "O"], "not OLD:NEW"),
        (["defect", "magnesia.vasp", "--chempot", "H=1", "--interstitial", "H:0,a"], "SYMBOL:x"),
        (
            ["defect", "magnesia.vasp", "--chempot", "O=1", "--vacancy", "O", "--charges", "a"],
            "integers separated",
        ),
        (["defect", "magnesia.vasp", "--chempot", "Mg=1", "--vacancy", "O"], "no chemical potent"),
    ],
)
def test_bad_input_is_one_message(arguments, message, calculator, monkeypatch, capsys):
    calculator(CoulombCalculator(charges={"Na": 0.3, "Cl": -0.3, "Mg": 2, "O": -2}))
    assert message in refused(capsys, monkeypatch, *arguments, "--model", "m")
