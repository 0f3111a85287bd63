"""The fixed Fermi level and the solver's options and start through ASE's interface."""

import numpy as np
import pytest
import torch
from ase.calculators.fd import calculate_numerical_forces
from ase.io import read, write
from builders import random_model

from asesc import SCCalculator
from asesc.errors import InputError, ModelScopeError, PropertyUnavailableError, SCFError
from asesc.models import QEq


def make(family="QEq", **options) -> SCCalculator:
    return SCCalculator(random_model(family), **options)


def test_the_level_is_reported_at_fixed_charge_and_gives_it_back(water):
    """μ = −∂E/∂Q; holding that level finds the charge, and Ω = E + μQ."""
    calc = make(charge=1, allow_fractional_charge=True)
    energy, forces = calc.get_potential_energy(water), calc.get_forces(water)
    level = calc.results["fermi_level"]
    assert calc.get_fermi_level(water) == level == calc.get_property("fermi_level", water)
    step = 1e-3
    energies = []
    for sign in (1, -1):
        calc.set(charge=1 + sign * step)
        energies.append(calc.get_potential_energy(water))
    assert level == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-6)
    held = make(fermi_level=level)
    assert held.get_potential_energy(water) == pytest.approx(energy + level, abs=1e-9)
    assert held.results["free_energy"] == held.results["energy"]
    assert held.extras["charge"] == pytest.approx(1, abs=1e-9)
    assert held.get_charges(water).sum() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(held.get_forces(water), forces, atol=1e-9)
    assert held.results["fermi_level"] == pytest.approx(level, abs=1e-9)


def test_forces_are_the_gradient_of_the_grand_energy(water):
    water.calc = make("SplitChargeEquilibration", fermi_level=-1.0, electric_field=(0.1, 0, 0.05))
    numerical = calculate_numerical_forces(water, eps=3e-6, iatoms=[1])
    assert np.abs(numerical - water.get_forces()[[1]]).max() <= 1e-6
    assert abs(water.calc.extras["charge"]) > 1e-3


def test_info_overrides_the_level_per_frame(water):
    water.calc = make()
    energy = water.get_potential_energy()
    water.info["fermi_level"] = -3.0
    held = water.get_potential_energy()
    assert held != energy and water.calc.extras["charge"] > 0.1
    water.info["fermi_level"] = -2.0
    assert water.get_potential_energy() not in (held, energy)
    water.info["fermi_level"] = None
    assert water.get_potential_energy() == energy and water.calc.extras["charge"] == 0


@pytest.mark.parametrize("name", ["frame.xyz", "frame.traj", "frame.json"])
def test_the_level_survives_writers_and_is_not_read_as_an_input(name, water, tmp_path):
    water.calc = make()
    energy = water.get_potential_energy()
    write(tmp_path / name, water)
    again = read(tmp_path / name)
    assert "fermi_level" not in again.info and again.get_potential_energy() == energy


@pytest.mark.parametrize(
    ("options", "info", "message"),
    [
        ({"fermi_level": -4, "charge": 1}, {}, r"fermi_level=-4 eV .* charge=1 are both given"),
        ({"fermi_level": -4}, {"charge": 0}, r"atoms\.info\['charge'\]=0 are both given"),
        ({"charge": 2}, {"fermi_level": -4}, r"from atoms\.info\['fermi_level'\]\) and charge=2"),
        ({}, {"fermi_level": "high"}, r"atoms\.info\['fermi_level'\] must be one finite number"),
        ({}, {"fermi_level": np.inf}, "must be one finite number"),
    ],
)
def test_contradictions(options, info, message, water):
    water.info.update(info)
    with pytest.raises(InputError, match=message):
        make(**options).get_potential_energy(water)


def test_near_misses_are_told(water):
    water.info["E_Fermi"] = -4.0
    with pytest.warns(UserWarning, match=r"'E_Fermi'.* looks like 'fermi_level' but is not read"):
        make().get_potential_energy(water)


def test_families_without_a_level(water):
    with pytest.raises(InputError, match=r"fermi_level=-4.4.* fixed total charge.*charge=…"):
        make("LocalCharges", fermi_level=-4.4)
    calc = make("LocalCharges")
    calc.get_potential_energy(water)
    assert "fermi_level" not in calc.results
    with pytest.raises(PropertyUnavailableError, match="'fermi_level' is −∂E/∂Q, which"):
        calc.get_fermi_level(water)
    water.info["fermi_level"] = -4.4
    with pytest.raises(InputError, match="LocalCharges has no ∂E/∂Q"):
        calc.get_potential_energy(water)


def test_a_crystal_in_a_field_has_no_level(silica):
    """−E·r of an added charge is not defined along periodic directions."""
    calc = make("SplitChargeEquilibration", electric_field=(0, 0, 0.1))
    calc.get_potential_energy(silica)
    assert "fermi_level" not in calc.results
    with pytest.raises(PropertyUnavailableError, match="field along a periodic direction"):
        calc.get_fermi_level(silica)


def test_slabs_are_held_between_electrodes(sheet):
    sheet.cell[2, 2] = 25.0
    calc = make(fermi_level=-2.0, boundary="electrodes")
    calc.get_potential_energy(sheet)
    assert calc.extras["boundary"] == "electrodes" and abs(calc.extras["charge"]) > 1e-3


def test_the_charge_that_is_found_must_be_in_the_scope_of_the_card(registry, water):
    calc = SCCalculator("tiny", fermi_level=-40.0)
    with pytest.raises(ModelScopeError, match=r"charge \+.* e \(from fermi_level=-40\) is outside"):
        calc.get_potential_energy(water)
    calc.set(allow_extrapolation=True)
    calc.get_potential_energy(water)
    assert calc.extras["charge"] > 1


@pytest.mark.parametrize(
    ("scf", "message"),
    [
        ({"tol": 1}, "scf has no option 'tol'"),
        ({"tolerance": "tight"}, "must be float, got 'tight'"),
        ({"tolerance": -1.0}, "must be positive"),
    ],
)
def test_solver_options_are_checked(scf, message):
    with pytest.raises(InputError, match=message):
        make(scf=scf)


@pytest.mark.parametrize(
    ("family", "ladder"),
    [("FixedPoint", ["start", "Anderson"]), ("EnergyFunctional", ["response Newton"])],
)
def test_the_solver_leaves_its_record_or_raises(family, ladder, water):
    """Every rung that was climbed is in ``calc.scf``; what does not converge is no number."""
    calc = make(family, scf={"dense_limit": 0})
    calc.get_potential_energy(water)
    assert calc.scf.converged and [s.name for s in calc.scf.stages][: len(ladder)] == ladder
    report = calc.scf.report()
    assert all(str(stage) in report for stage in calc.scf.stages)
    assert calc.scf.iterations >= sum(stage.maps for stage in calc.scf.stages) > 1
    hasty = make(family, scf={"dense_limit": 0, "max_maps": 1})
    with pytest.raises(SCFError, match="No number is returned") as error:
        hasty.get_potential_energy(water)
    assert error.value.history and not hasty.results and hasty.scf is None


class Recording(QEq):
    """Notes what it was started from."""

    def forward(self, system, **keywords):
        self.seen.append((keywords["start"], keywords["scf"].tolerance))
        return super().forward(system, **keywords)


@pytest.fixture
def recording():
    model = Recording(**random_model("QEq").hyperparameters)
    model.seen = []
    return model


def test_the_last_density_of_the_same_atoms_is_the_start(recording, water):
    calc = SCCalculator(recording, scf={"tolerance": 1e-9})
    calc.get_potential_energy(water)
    assert recording.seen == [(None, 1e-9)]
    density = calc.extras["multipoles"]
    water.positions[0, 0] += 0.01
    calc.get_potential_energy(water)
    np.testing.assert_array_equal(recording.seen[-1][0], density)
    calc.set(electric_field=(0, 0, 0.1))
    calc.get_potential_energy(water)
    assert recording.seen[-1][0] is not None
    calc.get_polarizability(water)
    np.testing.assert_array_equal(recording.seen[-1][0], calc.extras["multipoles"])


@pytest.mark.parametrize("change", ["species", "number", "weights"])
def test_other_atoms_or_weights_start_afresh(change, recording, water):
    calc = SCCalculator(recording)
    calc.get_potential_energy(water)
    if change == "species":
        water.numbers[0] = 14
    elif change == "number":
        water.pop()
    else:
        with torch.no_grad():
            recording.charge_head.net[0].weight.mul_(1.1)
    calc.get_potential_energy(water)
    assert [start for start, _ in recording.seen] == [None, None]
