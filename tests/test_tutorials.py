"""Every tutorial runs, and shows what it promises."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Run a tutorial in an empty folder; the names it defined."""
    monkeypatch.chdir(tmp_path)
    # Remembered, so that what a tutorial sets is undone.
    monkeypatch.setenv("ASESC_MODELS", os.environ.get("ASESC_MODELS", ""))

    def run(number: str) -> dict:
        (script,) = TUTORIALS.glob(f"{number}_*.py")
        names = runpy.run_path(str(script), run_name="__main__")
        (plot,) = tmp_path.glob(f"{number}_*.png")
        assert plot.stat().st_size > 10_000
        return names

    yield run
    from matplotlib import pyplot

    pyplot.close("all")


def test_there_is_a_test_for_every_tutorial():
    numbers = sorted(path.name[:2] for path in TUTORIALS.glob("*.py"))
    assert numbers == [f"{n:02d}" for n in range(1, 13)]


def test_first_calculation(play):
    names = play("01")
    assert abs(names["charges"].sum()) < 1e-8
    assert 3.3 < names["dipole"] < 4.6  # Debye; 3.7 measured
    assert names["optimiser"].nsteps < 100
    np.testing.assert_allclose(np.diag(names["dielectric"]), 2.38, atol=0.15)  # PBE: 2.38
    assert names["largest_push"] > 0.1
    assert names["difference"] < 0.02 * names["largest_push"]


def test_charge_and_field(play):
    names = play("02")
    np.testing.assert_allclose(names["force_on_ion"], [0, 0, 0.1], atol=1e-12)
    assert names["by_calculator"] == names["by_info"] != names["free_energy"]
    assert names["back_again"] == names["free_energy"]
    assert names["slope"] == pytest.approx(-names["dipole"][0], abs=1e-6)
    assert names["missing"].max() < 1e-6
    assert "outside the trained range" in names["refusal"]
    assert names["unchanged"] == 0 and abs(names["total"]) < 1e-8


def test_which_boundary(play):
    names = play("03")
    assert names["slopes"]["ion, +1 e"] == pytest.approx(-1, abs=0.05)
    assert names["slopes"]["ion pair, neutral"] == pytest.approx(-3, abs=0.15)
    assert names["unexplained"] < 1e-5
    assert names["madelung"] == pytest.approx(1.747565, abs=1e-5)
    assert names["slab_change"] < 1e-8
    assert np.ptp(names["by_boundary"]["periodic"]) > 0.1


def test_train_a_small_model(play):
    names = play("04")
    relative = {label: error.relative for label, error in names["errors"].items()}
    assert relative["energy"] < 0.15 and relative["forces"] < 0.25 and relative["dipole"] < 0.15
    np.testing.assert_allclose(names["charges"], [0.8, 0.8, -0.8, -0.8], rtol=0.1)
    assert names["card"].errors["forces"].value == pytest.approx(
        names["errors"]["forces"].rmse, rel=1e-3
    )


def test_self_consistent_models(play):
    names = play("05")
    dipoles = {family: error for family, (_, error) in names["table"].items()}
    in_proportion = [dipoles["QEq"], dipoles["SplitChargeEquilibration"]]
    assert max(in_proportion) < 0.5 * dipoles["LocalCharges"]
    assert max(dipoles["FixedPoint"], dipoles["EnergyFunctional"]) < 0.75 * min(in_proportion)
    assert names["mismatch"]["EnergyFunctional"] < 1e-7 < 1e-3 < names["mismatch"]["FixedPoint"]
    np.testing.assert_allclose(names["on_shared"], 0.5, atol=1e-6)
    np.testing.assert_allclose(np.sort(names["on_lowest"]), [0, 1], atol=1e-6)
    np.testing.assert_allclose(names["on_chosen"], [0, 1], atol=1e-6)
    assert "2 minima" in names["several"]


def test_fixed_fermi_level(play):
    names = play("06")
    assert names["charge"] == pytest.approx(names["CHARGE"], abs=1e-8)
    assert names["same_forces"] < 1e-8
    assert names["slope"] == pytest.approx(names["charge"], abs=1e-6)
    assert names["stiffness"]["level"] == pytest.approx(names["expected"], abs=1e-5)
    assert names["expected"] < names["stiffness"]["charge"] - 1e-5
    assert "boundary='electrodes'" in names["refusal"]
    np.testing.assert_allclose(names["battery"][:, 1], names["theory"], rtol=1e-4)
    np.testing.assert_allclose(names["without"][:, 1], names["without"][0, 1], rtol=1e-4)
    assert names["battery"][0, 1] > 10 * names["battery"][-1, 1]


def test_phonons(play):
    names = play("07")
    assert names["acoustic_sum"] < 1e-8
    pairs = [(pair.transverse, pair.longitudinal) for pair in names["along_c"]]
    # TO and LO of the four A2 modes, Scott, Porto, Phys. Rev. 161, 903 (1967); PBE is softer.
    measured = [(364, 388), (495, 552), (778, 791), (1080, 1235)]
    np.testing.assert_allclose(pairs, measured, rtol=0.1)
    assert names["static"][2, 2] == pytest.approx(4.64, abs=0.4)
    assert abs(names["elastic"].piezoelectric_si[0, 0]) == pytest.approx(0.171, abs=0.08)


def test_ir_spectrum(play):
    names = play("08")
    assert names["stretch"] == pytest.approx(1730, abs=60)
    assert names["angle"] < 20  # 0° ± 13° measured, Chem. Phys. Lett. 361, 457 (2002)
    assert names["lines"].intensities[names["brightest"]] > 100
    # Along the dipole a field weakens C=O; rates measured for carbonyls are near 1 cm⁻¹/(MV/cm).
    assert -2.0 < names["tuning"] / 100 < -0.3


def test_slab_potential(play):
    names = play("09")
    assert names["dipoles"].dipole_step == pytest.approx(names["helmholtz"], abs=1e-6)
    assert names["biased"].vacuum_fields == pytest.approx((0.1, 0.1), abs=1e-6)
    assert abs(names["inside"]) < 0.005 * names["FIELD"]
    plates = 4 * np.pi * names["COULOMB"] / names["biased"].area
    assert names["slope"] == pytest.approx(plates, rel=1e-6)
    assert 0 < names["plane"] < 1.0


def test_charged_defect(play):
    names = play("10")
    assert "outside the trained range" in names["refusal"]
    assert names["growth"].dielectric == pytest.approx(names["table"].dielectric[0, 0], rel=0.01)
    assert (names["corrected_errors"] < 0.03 * names["errors"]).all()
    assert (np.diff(names["corrected_errors"]) < 0).all()


def test_silica_vacancy(play):
    names = play("11")
    assert names["slope"] == pytest.approx(-names["level"], abs=0.02)
    np.testing.assert_allclose(names["energies"], names["reference"], atol=0.27)  # eV, 35 atoms
    changes, wanted = (e[:, 1:] - e[:, :1] for e in (names["energies"], names["reference"]))
    np.testing.assert_allclose(changes, wanted, atol=0.17)
    np.testing.assert_allclose(names["shares"], names["wanted_shares"], atol=0.05)
    # Closed, half open, open: the neutral vacancy is a bond of 2.4 Å.
    np.testing.assert_allclose(names["relaxed"], [2.41, 2.90, 4.51], atol=0.1)


def test_metal_water(play):
    names = play("12")
    np.testing.assert_allclose(names["dipoles"], names["wanted_dipoles"], atol=0.03)
    assert names["induced"] == pytest.approx(names["wanted_induced"], rel=0.03)
    assert names["off"] < 100  # mV, of 1.7 V
    assert abs(names["screened"]) < 5e-3
    np.testing.assert_allclose(names["growth"], 1.0, atol=0.02)
    assert names["polarisabilities"][0] == pytest.approx(names["wanted_bare"], rel=0.1)
    # A piece without a contact is neutral.
    np.testing.assert_allclose(names["left_behind"][2:], 0.0, atol=1e-6)
