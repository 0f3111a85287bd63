"""Runs that are killed, and numbers that go bad for one moment."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from watched_water import dynamics, gentle_model

from asesc import SCCalculator
from asesc.errors import IllPosedError, SCFError
from asesc.md import DynamicsCalculator
from asesc.models.density_map import DensityMap
from asesc.models.one_map import OneMap


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_three_kills():
    """Killed with SIGKILL at random moments, and bit-exact; benchmarks/reliability.py does 100."""
    script = Path(__file__).parents[1] / "killed_run.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, "3"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 kills")


def test_interrupted_step(monkeypatch):
    """Ctrl-C in the middle of a step: the next has the forces of a run that begins there."""
    calculator = DynamicsCalculator(gentle_model("FixedPoint"))
    dyn = dynamics(calculator)
    dyn.run(8)
    multiplier = OneMap._multiplier

    def interrupted(*args):
        multiplier(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OneMap, "_multiplier", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dyn.run(1)
    saved, fresh = calculator.arrays(), calculator.clone()
    assert not {"x0", "adjoint0", "kernel_matrix", "start", "positions_before"} & saved.keys()
    np.testing.assert_array_equal(
        calculator.get_forces(dyn.atoms), fresh.get_forces(dyn.atoms.copy())
    )


@pytest.fixture
def broken(monkeypatch):
    """Switch: maps that are evaluated while it is on give NaN."""
    state = {"on": 0, "seen": 0}
    honest = DensityMap.residual

    def residual(self, coefficients):
        value = honest(self, coefficients)
        if state["on"] > 0:
            state["on"] -= 1
            state["seen"] += 1
            return value * torch.nan
        return value

    monkeypatch.setattr(DensityMap, "residual", residual)
    return state


def test_nan_in_the_maps_raises_and_the_next_call_is_fine(broken):
    atoms = dynamics(SCCalculator(gentle_model("FixedPoint"))).atoms
    calc = SCCalculator(gentle_model("FixedPoint"))
    expected = SCCalculator(gentle_model("FixedPoint")).evaluate(atoms).results
    broken["on"] = 10**6
    with pytest.raises((SCFError, IllPosedError)):
        calc.get_forces(atoms)
    assert broken["seen"] > 0 and calc.results == {}
    broken["on"] = 0
    np.testing.assert_allclose(calc.get_forces(atoms), expected["forces"], atol=1e-9)


def test_nan_in_one_map_is_never_a_number(broken):
    """The ladder recovers or gives up; what it returns is right."""
    atoms = dynamics(SCCalculator(gentle_model("FixedPoint"))).atoms
    expected = SCCalculator(gentle_model("FixedPoint")).evaluate(atoms).results
    calc = SCCalculator(gentle_model("FixedPoint"))
    broken["on"] = 1
    try:
        found = calc.get_forces(atoms)
    except (SCFError, IllPosedError):
        found = calc.get_forces(atoms)
    assert broken["seen"] == 1
    np.testing.assert_allclose(found, expected["forces"], atol=1e-6)


def test_nan_in_one_step_of_dynamics_raises_and_the_next_call_is_fine(broken):
    """The history ends with the failure; the same structure, asked again, has its forces."""
    calculator = DynamicsCalculator(gentle_model("FixedPoint"))
    dyn = dynamics(calculator)
    dyn.run(8)
    assert calculator.one_map.counts.steps > calculator.one_map.counts.started
    broken["on"] = 1
    with pytest.raises((SCFError, IllPosedError)):
        dyn.run(1)
    assert broken["seen"] == 1 and calculator.results == {}
    expected = SCCalculator(gentle_model("FixedPoint")).evaluate(dyn.atoms).results
    np.testing.assert_allclose(calculator.get_forces(dyn.atoms), expected["forces"], atol=1e-6)
