"""On a GPU the numbers are those of the CPU; skipped where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from builders import NUMBERS, random_model
from teaching import write_run
from watched_water import dynamics, gentle_model, run

from asesc import SCCalculator, evaluate_many, load_model
from asesc.md import DynamicsCalculator
from asesc.models import FAMILIES, Model
from asesc.neb import ImagePool
from asesc.response import born_effective_charges, energy_and_forces, hessian, polarizability
from asesc.solvers import SCFOptions
from asesc.system import System, joined
from asesc.testing import example_system
from asesc.training import read_config, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

OPEN, SLAB, CRYSTAL = (False, False, False), (True, True, False), (True, True, True)
ITERATED = ("SplitChargeEquilibration", "FixedPoint", "EnergyFunctional")
TOLERANCE = {"rtol": 1e-7, "atol": 1e-7}


def on_gpu(model: Model) -> Model:
    """A copy, since models of the builders are shared by all tests."""
    return SCCalculator(model, device="cuda").model


def same(compute, model: Model, system: System) -> None:
    """Compute with both, and that the GPU's answer stays there."""
    expected = compute(model, system)
    found = compute(on_gpu(model), system.to(device="cuda"))
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, **TOLERANCE)


@pytest.mark.parametrize("pbc", [OPEN, SLAB, CRYSTAL], ids=["open", "slab", "periodic"])
@pytest.mark.parametrize("family", FAMILIES)
def test_forces(family, pbc):
    def forces(model, system):
        return energy_and_forces(model, system).forces

    same(forces, random_model(family), example_system(NUMBERS, pbc))


@pytest.mark.parametrize("family", FAMILIES)
def test_energy_and_stress_of_a_batch(family):
    batch = joined([example_system(NUMBERS, CRYSTAL, seed=seed) for seed in range(3)])

    def both(model, system):
        result = energy_and_forces(model, system, stress=True)
        return torch.cat(
            [result.prediction.energy.detach()[:, None, None].expand(-1, 1, 3), result.stress],
            dim=1,
        )

    same(both, random_model(family), batch)


@pytest.mark.parametrize("family", ITERATED)
def test_without_matrices(family):
    options = SCFOptions(dense_limit=0, tolerance=1e-10)

    def density_and_slope(model, system):
        positions = system.positions.clone().requires_grad_()
        found = model(replace(system, positions=positions), scf=options)
        (slope,) = torch.autograd.grad(found.energy.sum() + found.dipole.sum(), positions)
        return torch.cat([found.density.coefficients.detach(), slope], dim=1)

    for pbc in (OPEN, CRYSTAL):
        same(density_and_slope, random_model(family), example_system(NUMBERS, pbc))


@pytest.mark.parametrize("family", ITERATED)
def test_responses(family):
    model = random_model(family)
    crystal, isolated = example_system(NUMBERS, CRYSTAL), example_system(NUMBERS, OPEN)
    same(lambda m, s: born_effective_charges(m, s).tensor, model, isolated)
    same(polarizability, model, isolated)
    same(hessian, model, crystal)


@pytest.mark.parametrize("family", ITERATED)
def test_one_map_per_step(family):
    followed = {
        device: run(dynamics(DynamicsCalculator(gentle_model(family), device=device)), 12)
        for device in ("cpu", "cuda")
    }
    for name in ("energy", "forces", "positions"):
        np.testing.assert_allclose(followed["cuda"][name], followed["cpu"][name], atol=1e-7)
    np.testing.assert_array_equal(followed["cuda"]["maps"], followed["cpu"]["maps"])


@pytest.mark.parametrize("name", ["quartz", "nma"])
def test_shipped_models(name):
    """In their own single precision, in which sums on a GPU take another order."""
    crystal = bulk("SiO", "zincblende", a=5.0) * (2, 2, 2) if name == "quartz" else molecule("H2O")
    crystal.rattle(0.05, seed=0)
    forces = []
    for device in ("cpu", "cuda"):
        calc = SCCalculator(name, device=device, allow_extrapolation=True)
        assert calc.torch_device.type == device
        forces.append(calc.evaluate(crystal).results["forces"])
    np.testing.assert_allclose(forces[1], forces[0], atol=2e-3)


def test_many_structures_and_images():
    images = [molecule("H2O") for _ in range(4)]
    for seed, image in enumerate(images):
        image.rattle(0.05, seed=seed)
    model = random_model("FixedPoint")
    alone = [SCCalculator(model, device="cpu").evaluate(image) for image in images]
    energies = np.array([one.results["energy"] for one in alone])
    calc = SCCalculator(model, device="cuda")
    together = evaluate_many(images, calc, progress=False)
    np.testing.assert_allclose([one.results["energy"] for one in together], energies, atol=1e-7)
    ImagePool(SCCalculator(model, device="cuda")).attach(images)
    np.testing.assert_allclose([i.get_potential_energy() for i in images], energies, atol=1e-7)


def test_automatic_device():
    assert SCCalculator("nma").torch_device.type == "cuda"
    assert next(load_model("nma").parameters()).device.type == "cpu"


def test_training(tmp_path):
    """A short run ends, and its model opens on the CPU."""
    config = read_config(write_run(tmp_path))
    card = train(config, progress=False)
    assert card.errors["forces"].value > 0
    assert SCCalculator(f"{config.output}/{config.name}", device="cpu").torch_device.type == "cpu"
