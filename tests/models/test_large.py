"""Large structures are solved by products with J; the answer is the dense one."""

from dataclasses import replace

import pytest
import torch
from builders import NUMBERS, random_model

from asesc.response import energy_and_forces
from asesc.response.hessian import hessian
from asesc.solvers import SCFOptions
from asesc.system import System
from asesc.testing import example_system
from asesc.testing.differences import tiled

FAMILIES = ["QEq", "SplitChargeEquilibration"]
#: So few unknowns are a large structure here.
PRODUCTS = SCFOptions(dense_limit=8, tolerance=1e-11)


class Prepared(torch.nn.Module):
    """A model with solver options."""

    def __init__(self, family: str, options: SCFOptions) -> None:
        super().__init__()
        self._model, self._options = random_model(family), options

    def forward(self, system: System, *, boundary: str = "auto", order: int = 2):
        return self._model(system, boundary=boundary, scf=self._options, order=order)


def charged(pbc, numbers=NUMBERS) -> System:
    system = example_system(numbers, pbc)
    normal = torch.tensor([[0.0, 0.0, 0.05]], dtype=torch.float64)
    field = system.electric_field if any(pbc) else normal
    return replace(system, charge=system.charge + 1, electric_field=field)


@pytest.mark.parametrize("family", ["SplitChargeEquilibration", "FixedPoint", "EnergyFunctional"])
def test_forces_alone_take_fewer_linear_solves(family, monkeypatch):
    """With the same result: a second correction is for second derivatives."""
    from asesc.solvers.adjoint import _FrozenInverse

    model, system, solves = Prepared(family, PRODUCTS), charged((False,) * 3), []
    apply = _FrozenInverse.apply
    monkeypatch.setattr(_FrozenInverse, "apply", lambda *given: solves.append(0) or apply(*given))
    spent, forces = [], []
    for create_graph in (False, True):
        solves.clear()
        found = energy_and_forces(model, system, create_graph=create_graph)
        forces.append(found.forces.detach())
        spent.append(len(solves))
    torch.testing.assert_close(*forces, atol=1e-9, rtol=0)
    assert spent[0] < spent[1]


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3, (True, True, False)])
@pytest.mark.parametrize("family", FAMILIES)
def test_products_give_the_dense_answer(family, pbc):
    """Energy, forces, stress, density and chemical potential, of an ion and in a charged slab."""
    system = charged(pbc)
    stress = sum(pbc) > 1
    dense = energy_and_forces(Prepared(family, SCFOptions()), system, stress=stress)
    large = energy_and_forces(Prepared(family, PRODUCTS), system, stress=stress)
    assert dense.prediction.solution.method.startswith("dense")
    assert not large.prediction.solution.method.startswith("dense")
    assert large.prediction.solution.iterations > 1
    for name in ("energy", "dipole", "chemical_potential"):
        expected = getattr(dense.prediction, name)
        torch.testing.assert_close(getattr(large.prediction, name), expected, atol=1e-9, rtol=0)
    p, q = (r.prediction.density.coefficients for r in (large, dense))
    torch.testing.assert_close(p, q, atol=1e-9, rtol=0)
    assert abs(float(p.detach()[:, 0].sum()) - 1) < 1e-11
    torch.testing.assert_close(large.forces, dense.forces, atol=1e-7, rtol=0)
    if stress:
        torch.testing.assert_close(large.stress, dense.stress, atol=1e-8, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_second_derivatives_are_the_dense_ones(family):
    system = charged((False,) * 3, NUMBERS[:4])
    dense = hessian(Prepared(family, SCFOptions()), system)
    large = hessian(Prepared(family, PRODUCTS), system)
    torch.testing.assert_close(large, dense, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_large_structures_at_once(family):
    one = charged((False,) * 3)
    with torch.no_grad():
        both = random_model(family)(tiled(one, 2), scf=PRODUCTS)
        alone = random_model(family)(one, scf=PRODUCTS)
    torch.testing.assert_close(both.energy, alone.energy.repeat(2), atol=1e-9, rtol=0)
