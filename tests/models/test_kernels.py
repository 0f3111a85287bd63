"""Other kernels of the backbone: the same numbers, and no trace in what is stored."""

import copy
import json
import pickle
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from ase import Atoms
from builders import NUMBERS, random_model, tiny_card

from asesc import SCCalculator
from asesc.errors import InputError, SetupError
from asesc.models import FAMILIES, cuequivariance
from asesc.pretrained import save_model
from asesc.testing import example_system

FAMILY = "SplitChargeEquilibration"
needs_cuequivariance = pytest.mark.skipif(
    find_spec("cuequivariance_torch") is None, reason="cuequivariance-torch is not installed"
)
# Naive operations of cuEquivariance stand in for its kernels, which need a GPU.
on_a_cpu = pytest.mark.filterwarnings("ignore:cuEquivariance has kernels for GPUs only")


def structure(pbc: bool = True) -> Atoms:
    system = example_system(NUMBERS, (pbc,) * 3)
    cell = system.cell[0].numpy() if pbc else None
    return Atoms(NUMBERS, positions=system.positions.numpy(), cell=cell, pbc=pbc)


def calculator(family: str = FAMILY, **keywords) -> SCCalculator:
    return SCCalculator(random_model(family), **keywords)


def deviations(a: SCCalculator, b: SCCalculator, atoms: Atoms) -> dict[str, float]:
    wanted = ("energy", "forces", *(("stress",) if atoms.pbc.all() else ()))
    first, second = a.evaluate(atoms, wanted), b.evaluate(atoms, wanted)
    found = {k: np.abs(first.results[k] - second.results[k]).max() for k in wanted}
    difference = first.extras["multipoles"] - second.extras["multipoles"]
    return found | {"multipoles": np.abs(difference).max()}


@needs_cuequivariance
@on_a_cpu
@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize("pbc", [True, False])
def test_the_numbers_are_the_same(dtype, limit, pbc):
    ordinary = calculator(dtype=dtype)
    accelerated = calculator(dtype=dtype, kernels="cuequivariance")
    found = deviations(ordinary, accelerated, structure(pbc))
    assert max(found.values()) < limit, found


@needs_cuequivariance
@on_a_cpu
def test_second_derivatives():
    ordinary, accelerated = calculator(), calculator(kernels="cuequivariance")
    atoms = structure()
    for name in ("get_born_effective_charges", "get_dielectric_tensor"):
        a, b = (getattr(calc, name)(atoms) for calc in (ordinary, accelerated))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


@needs_cuequivariance
@on_a_cpu
@pytest.mark.parametrize(
    ("correlation", "hidden_lmax", "edge_lmax"), [(1, 0, 1), (2, 2, 2), (3, 1, 3)]
)
def test_every_architecture(correlation, hidden_lmax, edge_lmax):
    """Also where a coupling vanishes by symmetry and its weights are left out."""
    backbone = {"elements": [1, 8, 14], "channels": 2, "cutoff": 4.0, "correlation": correlation}
    backbone |= {"hidden_lmax": hidden_lmax, "edge_lmax": edge_lmax}
    torch.manual_seed(1)
    model = FAMILIES["LocalCharges"](backbone=backbone).requires_grad_(False)
    system = example_system(NUMBERS, (True, True, True))
    expected = model.backbone(system)
    found = model.use_kernels("cuequivariance").backbone(system)
    for name in ("scalars", "vectors", "energies"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@needs_cuequivariance
@on_a_cpu
def test_the_fused_convolution_of_gpus(monkeypatch):
    """The layout in which a GPU is asked for it, computed by cuEquivariance's reference."""
    import cuequivariance_torch as cuet

    reference, build = cuet.SegmentedPolynomial, cuequivariance._build

    def on_the_cpu(polynomial, **keywords):
        module = reference(polynomial, **keywords | {"method": "naive"})
        inputs = polynomial.inputs[0]
        module.m.buffer_num_segments = [len(inputs.segments)]
        module.m.operand_extent = inputs.segment_shape[0]
        return module

    monkeypatch.setattr(cuet, "SegmentedPolynomial", on_the_cpu)
    monkeypatch.setattr(cuequivariance, "_build", lambda *a, fused: build(*a, fused=True))
    found = deviations(calculator(), calculator(kernels="cuequivariance"), structure())
    assert max(found.values()) < 1e-10, found


@needs_cuequivariance
@on_a_cpu
def test_nothing_of_it_is_stored(tmp_path):
    accelerated, atoms = calculator(kernels="cuequivariance"), structure()
    forces = accelerated.evaluate(atoms).results["forces"]
    ordinary = random_model(FAMILY)
    assert accelerated.model.weights().keys() == ordinary.weights().keys()
    assert accelerated.todict()["sha256"] == calculator().todict()["sha256"]
    assert json.loads(json.dumps(accelerated.todict()))["kernels"] == "cuequivariance"
    for model, folder in ((accelerated.model, "a"), (ordinary, "b")):
        save_model(model, tmp_path / folder, tiny_card())
    stored = [(tmp_path / f / "weights.safetensors").read_bytes() for f in ("a", "b")]
    assert stored[0] == stored[1]
    again = pickle.loads(pickle.dumps(accelerated))
    for twin in (again, copy.deepcopy(accelerated), accelerated.clone()):
        assert twin.model.kernels == "cuequivariance"
        np.testing.assert_array_equal(twin.evaluate(atoms).results["forces"], forces)
    assert SCCalculator(str(tmp_path / "a")).model.kernels == "torch"
    assert ordinary.kernels == "torch"


@needs_cuequivariance
@on_a_cpu
def test_changed_weights_types_and_switches_are_seen():
    accelerated, ordinary, atoms = calculator(kernels="cuequivariance"), calculator(), structure()
    before = accelerated.evaluate(atoms).results["energy"]
    with torch.no_grad():
        for weight in accelerated.model.parameters():
            weight.mul_(1.01)
    assert abs(accelerated.evaluate(atoms).results["energy"] - before) > 1e-4
    accelerated.set(kernels="torch")
    assert accelerated.model.kernels == "torch"
    ordinary.set(kernels="cuequivariance")
    ordinary.set(dtype="float32")
    assert max(deviations(ordinary, calculator(dtype="float32"), atoms).values()) < 2e-5


@needs_cuequivariance
def test_a_cpu_is_told_that_it_gains_nothing():
    with pytest.warns(UserWarning, match="kernels for GPUs only"):
        calculator(kernels="cuequivariance").evaluate(structure())


@needs_cuequivariance
def test_no_gradients_of_weights():
    model = FAMILIES["LocalCharges"](backbone={"elements": [1, 8, 14], "channels": 2})
    with pytest.raises(InputError, match="Train with kernels='torch'"):
        model.use_kernels("cuequivariance").backbone(example_system(NUMBERS, (True,) * 3))


@needs_cuequivariance
def test_atoms_without_neighbours():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = calculator("LocalCharges", kernels="cuequivariance")
        atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 9]])
        deviation = deviations(calculator("LocalCharges"), found, atoms)
    assert max(deviation.values()) == 0


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(cuequivariance, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="pip install cuequivariance-torch"):
        calculator(kernels="cuequivariance")


def test_unknown_kernels():
    with pytest.raises(InputError, match=r"kernels='cuequivarianc'.*Did you mean 'cuequivariance'"):
        calculator(kernels="cuequivarianc")


def test_a_family_without_a_backbone_of_ours():
    class Bare(FAMILIES["LocalCharges"].__mro__[2]):  # Potential
        elements, cutoff, dtype = (1,), 1.0, torch.float64

        def forward(self, system, **keywords):
            raise NotImplementedError

    Bare.family = "Bare"
    assert Bare().use_kernels("torch").kernels == "torch"
    with pytest.raises(InputError, match="computed by mace's own modules"):
        Bare().use_kernels("cuequivariance")
