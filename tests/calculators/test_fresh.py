"""Never stale: every input that changes is noticed, and nothing else causes work."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from builders import random_model

from asesc import SCCalculator
from asesc.errors import InputError, PropertyUnavailableError
from asesc.models import FixedCharges


def test_one_evaluation_serves_all_first_order_results(counting, water):
    water.calc = counting
    water.get_potential_energy()
    water.get_potential_energy(force_consistent=True)
    water.get_forces()
    water.get_charges()
    water.get_dipole_moment()
    assert counting.n_calls == 1


def test_periodic_stress_and_polarisation_come_with_the_forces(counting, silica):
    silica.calc = counting
    silica.get_forces()
    silica.get_stress()
    counting.get_property("polarization", silica)
    assert counting.n_calls == 1


def test_every_way_to_change_an_input(counting, water):
    water.calc = counting
    neutral = water.get_potential_energy()
    energies = [neutral]

    def changed() -> float:
        calls = counting.n_calls
        energies.append(water.get_potential_energy())
        assert counting.n_calls == calls + 1
        return energies[-1]

    water.info["charge"] = 1
    changed()
    water.info["electric_field"] = np.array([0.0, 0.0, 0.1])
    changed()
    water.info["electric_field"][2] = 0.2
    changed()
    water.info["electric_field"] = [0.0, 0.1, 0.2]
    changed()
    water.info["electric_field"][1] = 0.3
    changed()
    assert len(set(energies)) == len(energies)
    del water.info["charge"], water.info["electric_field"]
    assert changed() == neutral
    counting.set(charge=-1)
    changed()
    counting.set(charge=0, electric_field=(0, 0, 0.1))
    changed()
    counting.parameters["electric_field"] = (0.0, 0.0, 0.3)
    changed()
    counting.parameters["charge"] = 1
    changed()


def test_unrelated_edits_cost_nothing(counting, water):
    water.calc = counting
    water.get_forces()
    water.info["note"] = np.arange(3)
    water.info["note"][1] = 7
    water.set_initial_magnetic_moments([1, 0, 0])
    water.set_tags([1, 2, 3])
    counting.set(charge=0, electric_field=[0, 0, 0])
    water.get_forces()
    assert counting.n_calls == 1


def test_masses_move_the_origin_of_an_ions_dipole_only(counting, water):
    water.calc = counting
    for charge, calls in ((0, 0), (1, 1)):
        counting.set(charge=charge)
        before = water.get_dipole_moment()
        done, masses = counting.n_calls, water.get_masses()
        water.set_masses([16, 2, 2])
        expected = before - charge * (water.get_center_of_mass() - _middle(water, masses))
        np.testing.assert_allclose(water.get_dipole_moment(), expected, atol=1e-9)
        assert counting.n_calls == done + calls
        water.set_masses(masses)


def _middle(atoms, masses):
    return np.average(atoms.positions, weights=masses, axis=0)


def test_nothing_leaks_to_the_next_structure(counting, water):
    water.info.update(charge=1, electric_field=(0, 0, 0.1))
    water.calc = counting
    water.get_potential_energy()
    hydroxyl = molecule("H2")
    fresh = SCCalculator(counting.model).get_potential_energy(hydroxyl)
    assert counting.get_potential_energy(hydroxyl) == fresh
    assert abs(counting.results["charges"].sum()) < 1e-12


def test_copied_atoms_share_info_arrays_without_confusing_the_cache(counting, water):
    water.info["electric_field"] = np.array([0.0, 0.0, 0.1])
    water.calc = counting
    before = water.get_potential_energy()
    twin = water.copy()
    twin.info["electric_field"][2] = -0.1  # the same array object
    assert water.get_potential_energy() != before


def test_a_training_step_on_a_shared_model_is_noticed(water):
    model = FixedCharges(**random_model("FixedCharges").hyperparameters)
    water.calc = SCCalculator(model)
    before = water.get_potential_energy()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    assert water.get_potential_energy() != before


def test_casting_a_shared_model_is_noticed(water):
    model = FixedCharges(**random_model("FixedCharges").hyperparameters)
    water.calc = SCCalculator(model)
    before = water.get_potential_energy()
    model.set_dtype(torch.float32)
    assert water.get_potential_energy() != before


def test_a_failure_leaves_nothing_behind(counting, water):
    water.calc = counting
    water.get_forces()
    water.info["charge"] = "one"
    assert counting.check_state(water) == ["inputs"]
    with pytest.raises(InputError, match="one finite number"):
        water.get_forces()
    assert counting.results == {} and counting.extras == {} and counting.scf is None
    water.info["charge"] = 0
    water.get_forces()


def test_a_refused_parameter_changes_nothing(counting, water):
    energy = counting.get_potential_energy(water)
    with pytest.raises(InputError):
        counting.set(charge=1, electric_field="up")
    with pytest.raises(InputError):
        counting.set(dtype="float32", spin=2)
    assert counting.get_potential_energy(water) == energy
    assert counting.n_calls == 1


def test_a_refused_property_keeps_the_others(counting, water):
    water.calc = counting
    water.get_forces()
    with pytest.raises(PropertyUnavailableError):
        water.get_stress()
    water.get_forces()
    assert counting.n_calls == 1


def test_reset_forgets_and_recovers(counting, water):
    first = counting.get_born_effective_charges(water)
    counting.reset()
    assert counting.results == {} and counting.scf is None
    with pytest.raises(InputError, match="not seen a structure"):
        counting.get_property("energy")
    np.testing.assert_array_equal(counting.get_born_effective_charges(water), first)


def test_responses_follow_the_inputs(counting, water):
    first = counting.get_polarizability(water)
    assert counting.get_polarizability(water) is not first
    water.info["electric_field"] = np.array([0.0, 0.0, 0.2])
    counting.get_born_effective_charges(water)
    calls = counting.n_calls
    before = counting.get_born_effective_charges(water)
    assert counting.n_calls == calls
    water.positions[0, 0] += 0.1
    assert counting.get_property("born_effective_charges", water, allow_calculation=False) is None
    assert not np.allclose(counting.get_born_effective_charges(water), before)


def test_results_handed_out_are_copies(counting, water):
    water.calc = counting
    water.get_forces()[:] = 0
    counting.get_hessian(water)[:] = 0
    assert water.get_forces().any() and counting.get_hessian(water).any()


def test_set_dtype_reopens_the_model(counting, water):
    double = counting.get_potential_energy(water)
    counting.set(dtype="float32")
    single = counting.get_potential_energy(water)
    assert counting.model.dtype == torch.float32
    assert 0 < abs(single - double) < 1e-4
    counting.set(dtype="float64")
    assert counting.get_potential_energy(water) == double


def test_set_model_changes_the_numbers(counting, water):
    before = counting.get_potential_energy(water)
    counting.set(model=random_model("QEq"))
    assert counting.todict()["family"] == "QEq"
    assert counting.get_potential_energy(water) != before


def test_sources_of_inputs_are_told(counting, water):
    water.calc = counting
    water.get_potential_energy()
    assert counting.extras["charge_source"] == "calculator"
    water.info.update(total_charge=1, external_field=(0, 0, 0.1))
    water.get_potential_energy()
    assert counting.extras["charge_source"] == "atoms.info['total_charge']"
    assert counting.extras["electric_field_source"].endswith("sign reversed")
    np.testing.assert_array_equal(counting.extras["electric_field"], [0, 0, -0.1])


def test_evaluate_touches_no_state(counting, water):
    outcome = counting.evaluate(water)
    assert counting.results == {} and counting.atoms is None
    assert outcome.results["energy"] == counting.get_potential_energy(water)
    assert str(outcome.scf) == str(counting.scf)
