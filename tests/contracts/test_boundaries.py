"""Every boundary of the table keeps the contract; one that does not is caught."""

import pytest
import torch

from asesc.electrostatics import BOUNDARIES
from asesc.electrostatics.boundary import Open, Periodic
from asesc.testing import ContractError, accepted_pbc, check_boundary


@pytest.mark.parametrize("name", BOUNDARIES)
def test_contract(name):
    report = check_boundary(BOUNDARIES[name]())
    assert len(report.deviations) >= 7
    assert not report.violations


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3, (True, True, False)])
def test_every_electrostatic_boundary_has_a_row(pbc):
    assert any(pbc in accepted_pbc(boundary()) for boundary in BOUNDARIES.values())


def broken(parent, wrap):
    """An instance of a boundary whose operator is altered by ``wrap``."""
    boundary = parent()

    def bind(system, basis, **kwargs):
        return wrap(parent().bind(system, basis, **kwargs), system)

    boundary.bind = bind
    return boundary


def asymmetric(operator, system):
    potential = operator.potential
    operator.potential = lambda p: potential(p) * (1 + torch.arange(len(p))[:, None])
    return operator


def detached(operator, system):
    energy = operator.energy
    square = system.sum(system.positions.detach() ** 2).sum(-1)
    operator.energy = lambda p: energy(p) + 0.1 * square
    return operator


def off_centre(operator, system):
    energy = operator.energy
    operator.energy = lambda p: energy(p) + 1e-5 * system.sum(system.positions).sum(-1)
    return operator


@pytest.mark.parametrize("parent", [Open, Periodic])
@pytest.mark.parametrize(
    ("wrap", "clause"),
    [(asymmetric, "v is conjugate to p"), (detached, "F = −∂E/∂R"), (off_centre, "translation")],
)
def test_broken_operators_are_caught(parent, wrap, clause):
    with pytest.raises(ContractError, match=clause):
        check_boundary(broken(parent, wrap))
