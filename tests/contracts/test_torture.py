"""Hard inputs converge in few maps, or raise; benchmarks/scf_torture.py runs 10 000 of them."""

from itertools import islice

import numpy as np
import pytest
import torch
from builders import NUMBERS, random_model

from asesc.errors import SCFError
from asesc.testing.torture import KINDS, TortureReport, endure, hard_inputs

INPUTS = 500
#: Family, its keywords, and its share of the inputs; wells are climbed into in two minimisations.
MODELS = (
    ("QEq", {}, range(0, 100)),
    ("SplitChargeEquilibration", {}, range(100, 200)),
    ("FixedPoint", {}, range(200, 270)),
    ("FixedPoint", {"update": "mlp"}, range(270, 330)),
    ("EnergyFunctional", {}, range(330, 450)),
    ("EnergyFunctional", {"functional": "localised"}, range(450, 500)),
)


@pytest.mark.parametrize(("family", "own", "share"), MODELS)
def test_every_input_converges_or_raises(family, own, share):
    inputs = islice(hard_inputs(NUMBERS, INPUTS), share.start, share.stop)
    report = TortureReport.of(family, random_model(family, **own), inputs)
    assert not report.flawed, str(report)
    assert len(report.converged) == len(share), str(report)
    assert np.median(report.maps) <= (20 if "functional" in own else 10), str(report)


def test_inputs_are_reproducible_and_hard():
    first, again = list(hard_inputs(NUMBERS, 60)), list(hard_inputs(NUMBERS, 100))[:60]
    assert {kind for kind, _ in first} == set(KINDS)
    for (_, one), (_, two) in zip(first, again, strict=True):
        torch.testing.assert_close(one.positions, two.positions, rtol=0, atol=0)
    assert {float(s.charge) for _, s in first} == {-2.0, -1.0, 0.0, 1.0, 2.0}
    fields = torch.stack([s.electric_field.norm() for _, s in first])
    assert 0.8 < float(fields.max()) <= 1
    assert {s.pbc for _, s in first} >= {(False,) * 3, (True,) * 3, (True, True, False)}


class Fake:
    """A model that returns what it should not."""

    has_itinerant_polarisation = True

    def __init__(self, change):
        self._model, self._change = random_model("QEq"), change

    def __call__(self, system, start=None):
        return self._change(self._model(system), start is not None)


def not_a_number(prediction, again):
    prediction.density.coefficients.fill_(torch.nan)
    return prediction


def lost_charge(prediction, again):
    prediction.density.coefficients[0, 0] += 1e-6
    return prediction


def unsteady(prediction, again):
    prediction.energy.add_(1e-4 * again)
    return prediction


@pytest.mark.parametrize(
    ("change", "flaw"),
    [(not_a_number, "not finite"), (lost_charge, "charge is off"), (unsteady, "restart moves")],
)
def test_silent_failures_are_noticed(change, flaw):
    kind, system = next(hard_inputs(NUMBERS, 1))
    assert flaw in endure(Fake(change), kind, system).flaw


def test_errors_are_counted_by_name():
    def refuse(prediction, again):
        raise SCFError("no")

    kind, system = next(hard_inputs(NUMBERS, 1))
    outcome = endure(Fake(refuse), kind, system)
    assert outcome.error == "SCFError: no"
    report = TortureReport("refusals", (outcome, endure(random_model("QEq"), kind, system)))
    assert "1 of 2 converged" in str(report)
