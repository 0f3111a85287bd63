"""Logs of electrons: what a row holds, continued files, and files of others."""

import csv

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from watched_water import dynamics, gentle_model

from asesc.errors import InputError
from asesc.md import DynamicsCalculator, ElectronLogger


@pytest.fixture
def dyn():
    calculator = DynamicsCalculator(gentle_model("FixedPoint"))
    dyn = dynamics(calculator)
    dyn.calculator = calculator
    return dyn


def read(path):
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


@pytest.mark.parametrize("name", ["run.csv", "run.h5"])
def test_a_row_per_step(tmp_path, dyn, name):
    path = tmp_path / name
    dyn.attach(ElectronLogger(dyn, path, calculator=dyn.calculator), interval=2)
    dyn.run(6)
    columns = read(path)
    np.testing.assert_array_equal(columns["step"], [0, 2, 4, 6])
    np.testing.assert_allclose(columns["time_fs"], [0, 1, 2, 3])
    np.testing.assert_allclose(columns["charge_e"], 0, atol=1e-12)
    assert columns["energy_eV"][-1] == dyn.atoms.get_potential_energy()
    assert columns["dipole_z_eA"][-1] == dyn.calculator.results["dipole"][2]
    assert columns["fermi_level_eV"][-1] == dyn.calculator.results["fermi_level"]
    assert columns["maps"][-1] == 1 < columns["maps"][0]
    assert np.isfinite(columns["residual"]).all()
    dyn.observers.clear()
    dyn.attach(ElectronLogger(dyn, path, calculator=dyn.calculator, append=True))
    dyn.run(1)
    assert read(path)["step"][-1] == 7


def test_what_is_refused(tmp_path, dyn):
    keywords = {"calculator": dyn.calculator}
    with pytest.raises(InputError, match=r"choose \.csv"):
        ElectronLogger(dyn, tmp_path / "run.txt", **keywords)
    with pytest.raises(InputError, match="no molecular dynamics of ASE: it has no time"):
        ElectronLogger(BFGS(dyn.atoms, logfile=None), tmp_path / "a.csv")
    with pytest.raises(InputError, match="needs an SCCalculator"):
        ElectronLogger(dyn, tmp_path / "run.csv", calculator=EMT())
    (tmp_path / "run.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="append=True"):
        ElectronLogger(dyn, tmp_path / "run.csv", **keywords)
    with pytest.raises(InputError, match="not written by this"):
        ElectronLogger(dyn, tmp_path / "run.csv", append=True, **keywords)


def test_periodic_cells_have_no_dipole(tmp_path, dyn):
    dyn.atoms.set_cell([7, 7, 7])
    dyn.atoms.pbc = True
    path = tmp_path / "run.csv"
    ElectronLogger(dyn, path, calculator=dyn.calculator)()
    assert np.isnan(read(path)["dipole_x_eA"]).all()
