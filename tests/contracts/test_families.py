"""Every family of the table keeps the contract, for every boundary × charge × field it allows."""

from dataclasses import replace

import pytest
from builders import NUMBERS, random_model
from polar import random_polar

from asesc.models import FAMILIES
from asesc.testing import ContractError, check_model
from asesc.testing.structures import ALL_PBC

FREE = (False, False, False)


@pytest.mark.parametrize("pbc", ALL_PBC, ids=lambda p: "".join("FT"[b] for b in p))
@pytest.mark.parametrize("family", FAMILIES)
def test_contract(family, pbc):
    model = random_model(family)
    if family == "MACEPolar" and pbc == FREE:
        model = random_polar(multipoles=0)  # with dipoles see below
    report = check_model(model, numbers=NUMBERS, boundaries=[pbc])
    assert len(report.deviations) >= 7
    assert "forces" in str(report)


def test_open_dipoles_of_polar_break_the_rotation_and_nothing_else():
    """They are finite differences along fixed axes, with which the weights were fitted."""
    with pytest.raises(ContractError) as broken:
        check_model(random_polar(), numbers=NUMBERS, boundaries=[FREE])
    clauses = str(broken.value).splitlines()[1:]
    assert clauses and all("under rotation" in clause for clause in clauses)


class Altered:
    """A model whose predictions are changed on the way out."""

    def __init__(self, model, change):
        self._model, self._change = model, change

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, system):
        return self._change(self._model(system), system)


def wrong_sign_of_the_dipole(prediction, system):
    return replace(prediction, dipole=-prediction.dipole)


def energy_that_knows_the_origin(prediction, system):
    height = system.sum(system.positions)[:, 2]
    return replace(prediction, energy=prediction.energy + 1e-4 * height)


def stale_chemical_potential(prediction, system):
    shifted = prediction.chemical_potential + 1e-4
    return replace(prediction, chemical_potential=shifted)


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        (wrong_sign_of_the_dipole, "dE/dF"),
        (energy_that_knows_the_origin, "under translation"),
        (stale_chemical_potential, "dE/dQ"),
    ],
)
def test_broken_models_are_caught(change, clause):
    model = Altered(random_model("QEq"), change)
    with pytest.raises(ContractError, match=clause):
        check_model(model, numbers=NUMBERS, boundaries=[FREE])
