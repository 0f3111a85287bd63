"""The backbone's constants, and that building it leaves the process as it was."""

import os
from dataclasses import replace

import pytest
import torch
from builders import NUMBERS, random_model

from asesc.errors import InputError
from asesc.models import LocalCharges
from asesc.models.backbone import Backbone, mace_environment
from asesc.response import energy_and_forces
from asesc.testing import example_system


def tables(module: torch.nn.Module, name: str) -> list[torch.Tensor]:
    return [tensor for key, tensor in module.named_buffers() if name in key]


def test_coupling_tables_have_all_digits():
    """Clebsch–Gordan tables are square roots of rationals: of n/30 for the l ≤ 2 used here.

    In single precision the rational numbers would be missed by 1e-7.
    """
    mace = random_model("SplitChargeEquilibration").backbone.mace
    # The convolution's coefficients carry e3nn's normalisation, √(2l+1) of the output.
    found = tables(mace, "conv_tp.table") + tables(mace, "U_matrix_2")
    assert len(found) >= 4
    for table in found:
        assert table.dtype == torch.float64
        thirtieths = 30 * table.square()
        assert float((thirtieths - thirtieths.round()).abs().max()) < 1e-12


def test_building_leaves_the_process_as_it_was():
    environment, dtype = dict(os.environ), torch.get_default_dtype()
    with mace_environment():
        assert torch.get_default_dtype() == torch.float64
    assert os.environ == environment
    assert torch.get_default_dtype() == dtype


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"elements": []}, "distinct atomic numbers"),
        ({"elements": [1, 1]}, "distinct atomic numbers"),
        ({"elements": [1], "cutoff": 0.0}, "cutoff of the backbone is 0.0; it must be positive"),
        ({"elements": [1], "layers": 0}, "layers of the backbone is 0"),
    ],
)
def test_broken_modules_are_not_built(keywords, message):
    with pytest.raises(InputError, match=message):
        Backbone(**keywords)


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, True)])
def test_single_precision_does_not_mind_the_distance_from_the_origin(pbc):
    """In float32 a coordinate of 10⁴ Å is known to 10⁻³ Å; differences of them are not used."""
    exact = random_model("LocalCharges")
    single = LocalCharges(**exact.hyperparameters)
    single.load_weights(exact.weights())
    single.set_dtype(torch.float32)
    near = example_system(NUMBERS, pbc)
    far = replace(near, positions=near.positions + torch.tensor([1e4, -7e3, 4e3]).double())
    here, there = (energy_and_forces(single, system) for system in (near, far))
    torch.testing.assert_close(there.prediction.energy, here.prediction.energy, rtol=2e-6, atol=0)
    torch.testing.assert_close(there.forces, here.forces, rtol=1e-5, atol=1e-3)


def test_single_precision_does_not_mind_the_size_of_the_structure():
    """Of two copies 10⁴ Å apart each has the short-range energy and forces of one alone."""
    single = LocalCharges(**random_model("LocalCharges").hyperparameters)
    single.load_weights(random_model("LocalCharges").weights())
    single.set_dtype(torch.float32)
    one = example_system(NUMBERS, (False, False, False))
    far = one.positions + torch.tensor([1e4, -7e3, 4e3]).double()
    two = replace(
        one,
        positions=torch.cat([one.positions, far]),
        numbers=one.numbers.repeat(2),
        batch=one.batch.repeat(2),
    )
    with torch.no_grad():
        alone, both = (single.backbone(system).energies for system in (one, two))
    torch.testing.assert_close(both, alone.repeat(2), rtol=2e-6, atol=1e-7)


def test_couplings_are_the_same_where_cuequivariance_is_installed(monkeypatch):
    """mace would then take another basis, and no file of weights made without it would fit."""
    with mace_environment():
        from mace.modules import wrapper_ops
        from mace.tools import cg

    def reduced_couplings(*args, **keywords):
        raise AssertionError("the basis of couplings depends on what is installed")

    monkeypatch.setattr(wrapper_ops, "CUET_AVAILABLE", True)
    monkeypatch.setattr(cg, "CUET_AVAILABLE", True)
    monkeypatch.setattr(cg, "compute_U_cueq", reduced_couplings, raising=False)
    Backbone(elements=[1, 8], channels=2, correlation=2)
