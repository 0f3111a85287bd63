"""TorchSim's interface gives the numbers of the ASE calculator."""

import importlib
import sys

import numpy as np
import pytest
import torch
import torchsim_stand_in
from ase import Atoms
from ase.build import molecule
from ase.stress import voigt_6_to_full_3x3_stress
from builders import random_model

from asesc import SCCalculator
from asesc.errors import InputError, ModelScopeError, SCFError
from asesc.models import FAMILIES
from asesc.pretrained import ModelCard, save_model

INSTALLED = importlib.util.find_spec("torch_sim") is not None
CPU, DOUBLE = torch.device("cpu"), torch.float64


@pytest.fixture(scope="module")
def torchsim():
    """``asesc.torchsim`` on TorchSim where it is installed, else on the stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        if not INSTALLED:
            for name, module in torchsim_stand_in.modules().items():
                patch.setitem(sys.modules, name, module)
        yield importlib.import_module("asesc.torchsim")
    if not INSTALLED:
        del sys.modules["asesc.torchsim"]


def state_of(frames, dtype=DOUBLE, **extras):
    state = importlib.import_module("torch_sim.io").atoms_to_state(frames, CPU, dtype)
    state.system_extras.update({k: torch.tensor(v, dtype=dtype) for k, v in extras.items()})
    return state


def crystals():
    cell = [(3.4, 0.2, 0.0), (-0.3, 3.7, 0.4), (0.3, 0.1, 4.0)]
    places = [(0.1, 0.0, 0.2), (1.4, 0.9, 0.1), (0.2, 1.2, 1.5)]
    one = Atoms("SiO2", places, cell=cell, pbc=True)
    two = one.repeat((1, 1, 2))
    two.rattle(0.05, seed=3)
    return [one, two]


def molecules():
    frames = [molecule("H2O"), molecule("H2O2"), molecule("H2O")]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
    return frames


@pytest.mark.parametrize("family", FAMILIES)
def test_crystals(torchsim, family):
    """Columns and rows of the cell, systems of two sizes, stress."""
    model, frames = random_model(family), crystals()
    found = torchsim.Model(model)(state_of(frames))
    results = [SCCalculator(model).evaluate(frame).results for frame in frames]
    expected = {
        "energy": np.array([r["energy"] for r in results]),
        "forces": np.concatenate([r["forces"] for r in results]),
        "stress": np.stack([voigt_6_to_full_3x3_stress(r["stress"]) for r in results]),
        "partial_charges": np.concatenate([r["charges"] for r in results]),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, atol=1e-8, err_msg=name)
        assert not found[name].requires_grad


def test_charges_and_fields_of_the_state(torchsim):
    """Signs and units: the force of a field on an ion is Q E, and E·μ lowers the energy."""
    model, frames = random_model("SplitChargeEquilibration"), molecules()
    charges, fields = [1.0, 0.0, -1.0], [[0.0, 0.0, 0.1], [0.1, 0.0, 0.0], [0.0, 0.2, 0.0]]
    found = torchsim.Model(model)(state_of(frames, total_charge=charges, external_E_field=fields))
    for n, (frame, charge, field) in enumerate(zip(frames, charges, fields, strict=True)):
        calc = SCCalculator(model, charge=charge, electric_field=field)
        expected = calc.evaluate(frame).results
        rows = slice(3 * n + (n == 2), 3 * n + (n == 2) + len(frame))
        assert found["energy"][n].item() == pytest.approx(expected["energy"], abs=1e-8)
        forces = found["forces"][rows].numpy()
        np.testing.assert_allclose(forces, expected["forces"], atol=1e-8)
        np.testing.assert_allclose(forces.sum(0), charge * np.array(field), atol=1e-8)
        assert found["partial_charges"][rows].sum().item() == pytest.approx(charge, abs=1e-8)
    assert not found["stress"].any()


def test_the_state_is_read_at_every_call(torchsim):
    """An extra changed in place, and the older name of the charge."""
    model = torchsim.Model(random_model("QEq"))
    state = state_of(molecules(), charge=[0.0, 0.0, 0.0])
    neutral = model(state)["energy"]
    state.system_extras["charge"][1] = 1.0
    change = (model(state)["energy"] - neutral).abs()
    assert change[1] > 1e-3 and change[[0, 2]].max() < 1e-9
    state.system_extras["total_charge"] = torch.zeros(3, dtype=DOUBLE)
    torch.testing.assert_close(model(state)["energy"], neutral)


def test_a_start_from_the_last_call_changes_nothing(torchsim):
    model = torchsim.Model(random_model("FixedPoint"), scf={"tolerance": 1e-10})
    frames = molecules()
    model(state_of(frames))
    frames[0].rattle(0.02)
    again = model(state_of(frames))["forces"]
    fresh = torchsim.Model(random_model("FixedPoint"), scf={"tolerance": 1e-10})
    torch.testing.assert_close(again, fresh(state_of(frames))["forces"], atol=1e-8, rtol=0)
    model(state_of(frames[:1]))  # other atoms: no start


def test_single_precision_and_switches(torchsim):
    model = torchsim.Model(random_model("SplitChargeEquilibration"), dtype="float32")
    state = state_of(crystals(), dtype=torch.float32)
    assert {value.dtype for value in model(state).values()} == {torch.float32}
    model.compute_stress = model.compute_forces = False
    assert set(model(state)) == {"energy", "partial_charges", "dipole"}
    with pytest.raises(InputError, match=r"state\.to\(model\.device"):
        model(state_of(crystals()))


def test_what_is_refused(torchsim, tmp_path):
    card = ModelCard(
        name="tiny",
        level_of_theory="none",
        training_data="random parameters",
        charge_range=(-1.0, 1.0),
        field_range=0.2,
        boundaries=("open",),
        errors={},
        limits="Tests only.",
        licence="MIT",
        citation="none",
    )
    save_model(random_model("SplitChargeEquilibration"), tmp_path / "tiny", card)
    model = torchsim.Model(tmp_path / "tiny")
    with pytest.raises(ModelScopeError, match=r"charge \+2 e \(from total_charge\)"):
        model(state_of(molecules(), total_charge=[0.0, 2.0, 0.0]))
    with pytest.raises(ModelScopeError, match="from external_E_field"):
        model(state_of(molecules(), external_E_field=[[0.0, 0.0, 0.3]] * 3))
    with pytest.raises(ModelScopeError, match="boundary 'periodic'"):
        model(state_of(crystals()))
    with pytest.raises(InputError, match=r"external_E_field has shape \(3,\); it must be \(3, 3\)"):
        model(state_of(molecules(), external_E_field=[0.0, 0.0, 0.1]))
    with pytest.raises(ModelScopeError, match="Xe is not in model"):
        model(state_of([Atoms("Xe", [(0, 0, 0)])]))
    unconverged = torchsim.Model(random_model("FixedPoint"), scf={"max_maps": 1, "dense_limit": 1})
    with pytest.raises(SCFError):
        unconverged(state_of(molecules()))


@pytest.mark.skipif(not INSTALLED, reason="TorchSim is not installed; it needs Python 3.12")
def test_torchsim_accepts_the_model(torchsim):
    """Its own checks: shapes, dtypes, single and batched systems, images, a molecule."""
    from torch_sim.models.interface import validate_model_outputs

    torch.manual_seed(0)
    elements = [1, 6, 12, 14, 26]
    backbone = {"elements": elements, "cutoff": 3.6, "channels": 4, "radial_width": 8}
    model = FAMILIES["LocalCharges"](backbone=backbone)
    validate_model_outputs(torchsim.Model(model), CPU, DOUBLE, check_detached=True)


@pytest.mark.skipif(INSTALLED, reason="TorchSim is installed")
def test_without_torchsim(monkeypatch):
    for name in ("asesc.torchsim", *torchsim_stand_in.modules()):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match="pip install torch-sim-atomistic"):
        importlib.import_module("asesc.torchsim")
