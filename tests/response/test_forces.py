"""Stress in a field along periodic directions: what is held fixed, and what must not matter."""

from dataclasses import replace

import pytest
import torch
from builders import NUMBERS, random_model

from asesc.response import energy_and_forces
from asesc.testing import example_system
from asesc.testing.differences import central_difference, tiled

BULK = (True, True, True)
SLAB = (True, True, False)
FIELD = torch.tensor([[0.07, -0.05, 0.11]], dtype=torch.float64)
#: With formal charges that are whole numbers, so that an image of an ion moves a real quantum.
IONIC = ["FixedCharges", "SplitCharges", "SplitChargeEquilibration"]


def in_field(pbc=BULK):
    return replace(example_system(NUMBERS, pbc), electric_field=FIELD)


@pytest.mark.parametrize("pbc", [BULK, SLAB])
@pytest.mark.parametrize("family", IONIC)
def test_forces_and_stress_do_not_depend_on_stored_images(family, pbc):
    """An ion of charge q⁰ stored one cell further: −q⁰ E·h more energy, the same derivatives."""
    model, system = random_model(family), in_field(pbc)
    moved = system.positions.clone()
    moved[0] += system.cell[0, 0] - 2 * system.cell[0, 1]
    here = energy_and_forces(model, system, stress=True)
    there = energy_and_forces(model, replace(system, positions=moved), stress=True)
    charge = model.hyperparameters["formal_charges"][str(NUMBERS[0])]
    quantum = -charge * FIELD[0] @ (moved - system.positions)[0]
    assert float(quantum.abs()) > 0.1
    torch.testing.assert_close(there.prediction.energy - here.prediction.energy, quantum[None])
    torch.testing.assert_close(there.forces, here.forces, atol=1e-9, rtol=0)
    torch.testing.assert_close(there.stress, here.stress, atol=1e-10, rtol=0)


@pytest.mark.parametrize("family", IONIC)
def test_stress_at_fixed_voltage_and_at_fixed_field(family):
    """σ is ∂E/∂ε/V with E·h fixed; with Cartesian E fixed it would be σ − ½(E⊗P + P⊗E)."""
    model, system = random_model(family), in_field()
    result = energy_and_forces(model, system, stress=True)
    units = torch.eye(9, dtype=torch.float64).reshape(9, 3, 3)
    basis = 0.5 * (units + units.transpose(1, 2))

    def strained(points: torch.Tensor, reduced: bool) -> torch.Tensor:
        strain = torch.einsum("sn,nab->sab", points, basis)
        many = tiled(system, len(points))
        deform = torch.eye(3, dtype=torch.float64) + strain
        field = many.electric_field
        if reduced:
            voltages = torch.einsum("bac,bc->ba", many.cell, field)
            field = torch.linalg.solve(many.cell @ deform, voltages)
        positions = (many.positions.reshape(len(points), -1, 3) @ deform).reshape(-1, 3)
        changed = replace(many, positions=positions, cell=many.cell @ deform, electric_field=field)
        with torch.no_grad():
            return model(changed).energy

    def stress(reduced: bool) -> torch.Tensor:
        slopes = central_difference(lambda points: strained(points, reduced), 9)
        return slopes.reshape(3, 3) / system.volume

    torch.testing.assert_close(result.stress[0], stress(True), atol=1e-7, rtol=0)
    polarisation = result.prediction.dipole[0].detach() / system.volume
    product = torch.outer(FIELD[0], polarisation)
    expected = result.stress[0] - 0.5 * (product + product.T)
    assert float(product.abs().max()) > 1e-4
    torch.testing.assert_close(expected, stress(False), atol=1e-7, rtol=0)


def test_a_field_normal_to_a_slab_does_not_change_with_strain_in_its_plane():
    system = example_system(NUMBERS, SLAB)
    normal = torch.linalg.cross(system.cell[:, 0], system.cell[:, 1])
    field = 0.1 * normal / torch.linalg.vector_norm(normal)
    first = system.cell[0, 0] / torch.linalg.vector_norm(system.cell[0, 0])
    strained = replace(system, electric_field=field).strained(
        0.02 * torch.outer(first, first)[None]
    )
    torch.testing.assert_close(strained.electric_field, field, atol=1e-15, rtol=0)
