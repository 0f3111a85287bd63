"""ASE's tools on top of the calculator: files, copies, vibrations, paths, filters."""

import copy
import io
import json
import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.io import Trajectory, read, write
from ase.mep import NEB
from ase.optimize import BFGS
from ase.outputs import all_outputs
from ase.vibrations import Infrared
from builders import random_model

from asesc import SCCalculator
from asesc.errors import ModelFormatError
from asesc.models import FAMILIES, FixedCharges
from asesc.pretrained import load_model, save_model

FAMILY = "SplitChargeEquilibration"


@pytest.fixture
def calculator() -> SCCalculator:
    return SCCalculator(random_model(FAMILY))


def test_the_class_has_its_own_property_list():
    from ase.calculators.calculator import Calculator

    assert SCCalculator.implemented_properties is not Calculator.implemented_properties
    assert set(SCCalculator.implemented_properties) <= set(all_outputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_results_hold_names_of_ase_only(family, water, silica):
    for atoms in (water, silica):
        atoms.calc = SCCalculator(random_model(family))
        atoms.get_forces()
        assert set(atoms.calc.results) <= set(all_outputs)
        assert all(np.asarray(v).dtype == float for v in atoms.calc.results.values())
        exported = atoms.get_properties(["energy", "forces", "charges"])
        assert exported["energy"] == atoms.get_potential_energy()


def test_extxyz_after_born_charges(calculator, water, tmp_path):
    water.info.update(charge=1, electric_field=np.array([0.0, 0.0, 0.1]))
    water.calc = calculator
    calculator.get_property("born_effective_charges", water)
    write(tmp_path / "water.xyz", water)
    again = read(tmp_path / "water.xyz")
    np.testing.assert_allclose(again.get_dipole_moment(), water.get_dipole_moment(), atol=1e-7)
    np.testing.assert_allclose(again.get_charges(), water.get_charges(), atol=1e-7)
    energy = water.get_potential_energy()
    again.calc = calculator
    assert again.get_potential_energy() == pytest.approx(energy, abs=1e-6)
    assert calculator.extras["charge"] == 1


def test_extxyz_of_a_crystal(calculator, silica, tmp_path):
    silica.calc = calculator
    calculator.get_dielectric_tensor(silica)
    silica.get_stress()
    write(tmp_path / "silica.xyz", silica)
    np.testing.assert_allclose(
        read(tmp_path / "silica.xyz").get_stress(), silica.get_stress(), atol=1e-7
    )


def test_trajectory_keeps_info_parameters_and_born_charges(calculator, water, tmp_path):
    water.info["charge"] = 1
    water.calc = calculator
    names = ["energy", "forces", "dipole", "charges", "born_effective_charges"]
    with Trajectory(tmp_path / "t.traj", "w", properties=names) as trajectory:
        trajectory.write(water)
    again = read(tmp_path / "t.traj")
    assert again.info["charge"] == 1
    assert again.calc.results["born_effective_charges"].shape == (3, 3, 3)
    assert again.calc.parameters["sha256"] == calculator.todict()["sha256"]


def test_todict_is_json_and_names_no_path(calculator, registry):
    named = SCCalculator(registry / "tiny", charge=1, electric_field=np.array([0, 0, 0.1]))
    stored = json.loads(json.dumps(named.todict()))
    assert stored["model"] == "tiny" and stored["charge"] == 1
    assert stored["electric_field"] == [0, 0, 0.1]
    assert {"asesc", "mace", "torch", "dtype", "boundary"} <= stored.keys()
    assert str(registry) not in json.dumps(stored)
    # The same parameters have the same checksum, with or without a card.
    assert calculator.todict()["sha256"] == stored["sha256"]


def test_copies_share_weights_and_not_state(calculator, water):
    water.calc = calculator
    energy = water.get_potential_energy()
    twin = copy.deepcopy(water)
    assert twin.calc.model is calculator.model
    assert twin.calc.results["forces"] is not calculator.results["forces"]
    twin.calc.set(charge=1)
    assert twin.get_potential_energy() != energy
    assert calculator.parameters["charge"] == 0 and calculator.results["energy"] == energy


def test_clone_starts_empty(calculator, water):
    calculator.get_potential_energy(water)
    clone = calculator.clone()
    assert clone.model is calculator.model and clone.results == {} and clone.atoms is None
    clone.set(charge=1)
    assert calculator.parameters["charge"] == 0
    assert calculator.results and clone.get_potential_energy(water) != calculator.results["energy"]


class RecordingUnpickler(pickle.Unpickler):
    """Notes which packages a pickle refers to."""

    def __init__(self, stream):
        super().__init__(stream)
        self.modules = set()

    def find_class(self, module, name):
        self.modules.add(module.partition(".")[0])
        return super().find_class(module, name)


def test_pickle_of_an_instance_holds_tensors_not_code(calculator, water):
    energy = calculator.get_potential_energy(water)
    data = pickle.dumps(calculator)
    unpickler = RecordingUnpickler(io.BytesIO(data))
    again = unpickler.load()
    assert unpickler.modules <= {"asesc", "ase", "numpy", "builtins"}
    assert again.model is not calculator.model
    again.reset()
    # Not to the last bit: other memory may be summed in another order.
    assert again.get_potential_energy(water) == pytest.approx(energy, abs=1e-12)


def test_pickle_of_a_named_model_is_small(registry, water):
    calculator = SCCalculator("tiny", charge=1)
    data = pickle.dumps(calculator)
    assert len(data) < 3000
    again = pickle.loads(data)
    assert again.get_potential_energy(water) == calculator.get_potential_energy(water)
    card = again._opened.card
    save_model(random_model(FAMILY, seed=1), registry / "tiny", card)
    with pytest.raises(ModelFormatError, match="its numbers would differ"):
        pickle.loads(data)


def test_a_class_outside_the_table_is_not_pickled():
    class Mine(FixedCharges):
        pass

    model = random_model("FixedCharges")
    mine = Mine(**model.hyperparameters)
    with pytest.raises(ModelFormatError, match="not in the table of families"):
        pickle.dumps(SCCalculator(mine))


def test_a_pickle_of_an_unknown_family_says_so(monkeypatch):
    data = pickle.dumps(SCCalculator(random_model("FixedCharges")))
    monkeypatch.delitem(FAMILIES, "FixedCharges")
    with pytest.raises(ModelFormatError, match="Import the module that defines it"):
        pickle.loads(data)


def test_a_folder_survives_a_change_of_directory(registry, tmp_path, monkeypatch, water):
    monkeypatch.chdir(registry)
    calculator = SCCalculator("./tiny")
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(calculator))
    assert again.get_potential_energy(water) == calculator.get_potential_energy(water)


def test_the_users_model_is_not_changed():
    model = random_model(FAMILY)
    single = SCCalculator(model, dtype="float32")
    assert model.dtype == torch.float64 and single.model.dtype == torch.float32
    assert all(weight.requires_grad for weight in model.parameters())


def test_nothing_global_is_touched(registry, water):
    def state():
        return (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_rng_state().tolist(),
            random.getstate(),
            dict(os.environ),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = state()
    calculator = SCCalculator("tiny")
    calculator.get_forces(water)
    calculator.get_born_effective_charges(water)
    assert state() == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_off_outside(mode, registry, water):
    expected = SCCalculator(random_model(FAMILY)).get_forces(water)
    with mode():
        calculator = SCCalculator("tiny")
        np.testing.assert_allclose(calculator.get_forces(water), expected, atol=1e-12)
        calculator.get_polarizability(water)


def test_clones_in_threads(calculator, water):
    frames = []
    for charge in range(-2, 3):
        frame = water.copy()
        frame.rattle(0.05, seed=charge + 9)
        frame.info["charge"] = charge
        frames.append(frame)
    expected = [calculator.get_forces(frame) for frame in frames]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda frame: calculator.clone().get_forces(frame), frames))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_neb(shared, calculator, water):
    images = [water.copy() for _ in range(4)]
    images[-1].positions[1] += (0.1, 0.2, 0.0)
    for image in images:
        image.info["charge"] = 1
        image.calc = calculator if shared else calculator.clone()
    neb = NEB(images, method="improvedtangent", allow_shared_calculator=shared)
    neb.interpolate()
    forces = neb.get_forces()
    alone = calculator.clone()
    assert neb.energies[1] == pytest.approx(alone.get_potential_energy(images[1]), abs=1e-10)
    assert forces.shape == (6, 3)


def test_infrared(calculator, tmp_path):
    hydrogen = molecule("H2")
    hydrogen.calc = calculator
    infrared = Infrared(hydrogen, name=str(tmp_path / "ir"))
    infrared.run()
    log = io.StringIO()
    infrared.summary(log=log)
    assert "cm^-1" in log.getvalue()


def test_ase_4_adaptor(water):
    from ase._4.calculators.calculator import Version4Adaptor

    class Adapted(Version4Adaptor):
        wrapped_class = SCCalculator

    outcome = Adapted(random_model(FAMILY)).evaluate(water, ["energy", "forces"])
    assert {"energy", "forces", "dipole"} <= set(outcome.properties)


def test_relaxation_with_a_constraint_and_a_cell_filter(calculator, silica, water):
    silica.calc = calculator
    silica.set_constraint(FixAtoms([0]))
    BFGS(FrechetCellFilter(silica), logfile=None).run(steps=2)
    water.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="no cell to strain"):
        BFGS(FrechetCellFilter(water), logfile=None).run(steps=1)


def test_a_loaded_model_may_be_passed_too(registry, water):
    loaded = SCCalculator(load_model("tiny")).get_potential_energy(water)
    assert SCCalculator(random_model(FAMILY)).get_potential_energy(water) == loaded


def test_born_charges_by_every_way_to_ask(calculator, silica):
    """They are the same numbers, and never among the results that ASE's writers take."""
    silica.calc = calculator
    names = ["energy", "born_effective_charges", "dielectric_tensor"]
    born, dielectric = (silica.calc.get_property(name, silica) for name in names[1:])
    for found in (
        silica.get_properties(names),
        calculator.evaluate(silica, names).results,
        calculator.evaluate_many([silica], names)[0].results,
    ):
        np.testing.assert_allclose(found["born_effective_charges"], born, atol=1e-12)
        np.testing.assert_allclose(found["dielectric_tensor"], dielectric, atol=1e-12)
        assert found["energy"] == silica.get_potential_energy()
    calculator.calculate(silica, names)
    assert not set(names[1:]) & set(calculator.results)
