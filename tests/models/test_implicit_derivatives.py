"""Two derivatives of whole self-consistent models, however their density was found."""

from dataclasses import replace

import pytest
import torch
from builders import random_model
from responses import graph_size
from torch.autograd import gradcheck, gradgradcheck

from asesc.solvers import SCFOptions
from asesc.testing import example_system

MODELS = {
    "linear": ("FixedPoint", {"update": "linear"}),
    "gated": ("FixedPoint", {"update": "gated"}),
    "mlp": ("FixedPoint", {"update": "mlp"}),
    "convex": ("EnergyFunctional", {"functional": "convex"}),
    "localised": ("EnergyFunctional", {"functional": "localised"}),
}
SYSTEM = example_system((8, 1, 1), (False, False, False))
FIELD = torch.tensor([[0.1, -0.2, 0.05]], dtype=torch.float64)


def outputs(name, limit):
    """A function of positions, charge and field to energy, dipole and charges."""
    family, own = MODELS[name]
    model = random_model(family, **own)
    scf = SCFOptions(tolerance=1e-11, energy_tolerance=1e-10, dense_limit=limit)

    def function(positions, charge, field):
        system = replace(SYSTEM, positions=positions, charge=charge, electric_field=field)
        found = model(system, scf=scf)
        return found.energy, found.dipole, found.density.coefficients

    return function


def inputs():
    """Positions, a charge and a field."""
    leaves = SYSTEM.positions.clone(), torch.tensor([0.3], dtype=torch.float64), FIELD.clone()
    return tuple(leaf.requires_grad_() for leaf in leaves)


@pytest.mark.parametrize("limit", [800, 0], ids=["factors", "products"])
@pytest.mark.parametrize("name", MODELS)
def test_first_and_second_derivatives(name, limit):
    """Of everything the density decides, by the attached Newton corrections."""
    function = outputs(name, limit)
    assert gradcheck(function, inputs(), atol=1e-6, rtol=1e-4, fast_mode=True)
    assert gradgradcheck(function, inputs(), atol=1e-5, rtol=1e-3, fast_mode=True)


@pytest.mark.parametrize("name", ["gated", "convex"])
def test_memory_does_not_know_the_iterations(name):
    """Started at its own density a model takes fewer maps and keeps the same graph."""
    family, own = MODELS[name]
    model, sizes, maps, start = random_model(family, **own), [], [], None
    for _ in range(2):
        positions, charge, field = inputs()
        system = replace(SYSTEM, positions=positions, charge=charge, electric_field=field)
        found = model(system, start=start)
        sizes.append(graph_size(found.energy))
        maps.append(found.solution.iterations)
        start = found.density.coefficients.detach()
    assert maps[1] < maps[0]
    assert sizes[1] == sizes[0]
