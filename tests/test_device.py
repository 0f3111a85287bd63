"""Every tensor of a calculation is made on the device of its input, shown without a GPU.

Under another default device whatever is made without ``device=`` lands on "meta", which holds no
numbers and cannot meet the tensors of the input: the calculation fails. On a GPU the same line
would fail, or copy at every step.
"""

import pytest
import torch
from ase.build import molecule
from builders import NUMBERS, random_model

from asesc import SCCalculator
from asesc.models import FAMILIES
from asesc.neb import ImagePool
from asesc.response import born_effective_charges, energy_and_forces, polarizability
from asesc.solvers import SCFOptions
from asesc.system import joined
from asesc.testing import example_system

OPEN, SLAB, CRYSTAL = (False, False, False), (True, True, False), (True, True, True)


def unchanged(compute):
    """Numbers under the default device; then the same elsewhere, constants being at hand."""
    expected = compute()
    with torch.device("meta"):
        found = compute()
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pbc", [OPEN, SLAB, CRYSTAL], ids=["open", "slab", "periodic"])
@pytest.mark.parametrize("family", FAMILIES)
def test_forces(family, pbc):
    model, system = random_model(family), example_system(NUMBERS, pbc)
    unchanged(lambda: energy_and_forces(model, system, stress=sum(pbc) > 1).forces)


@pytest.mark.parametrize("family", ["SplitChargeEquilibration", "FixedPoint", "EnergyFunctional"])
def test_without_matrices(family):
    system, options = example_system(NUMBERS, OPEN), SCFOptions(dense_limit=0)
    model = random_model(family)
    unchanged(lambda: model(system, scf=options).energy)


def test_responses():
    model = random_model("SplitChargeEquilibration")
    crystal, isolated = example_system(NUMBERS, CRYSTAL), example_system(NUMBERS, OPEN)
    unchanged(lambda: born_effective_charges(model, crystal).tensor)
    unchanged(lambda: polarizability(model, isolated))


def test_batches_of_the_calculator(water_images):
    ImagePool(SCCalculator(random_model("FixedPoint"))).attach(water_images)
    unchanged(lambda: torch.tensor(_energies(water_images), device="cpu"))


def _energies(images):
    for image in images:
        image.positions[0, 0] += 1e-3
    energies = [image.get_potential_energy() for image in images]
    for image in images:
        image.positions[0, 0] -= 1e-3
    return energies


@pytest.fixture
def water_images():
    images = [molecule("H2O") for _ in range(3)]
    for seed, image in enumerate(images):
        image.rattle(0.05, seed=seed)
    return images


def test_a_batch_and_its_parts():
    systems = [example_system(NUMBERS, OPEN, seed=seed) for seed in range(2)]
    atoms = torch.cat([system.positions for system in systems])

    def parts():
        return torch.cat([system.positions for system in joined(systems).split()])

    unchanged(parts)
    torch.testing.assert_close(parts(), atoms)
