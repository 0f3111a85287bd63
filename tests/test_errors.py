"""The error tree fits ASE's, and errors survive the trip between processes."""

import pickle

import pytest
from ase.calculators import calculator as ase_errors

from asesc import errors


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (errors.InputError, ase_errors.InputError),
        (errors.ModelScopeError, ase_errors.InputError),
        (errors.SCFError, ase_errors.SCFError),
        (errors.SetupError, ase_errors.CalculatorSetupError),
        (errors.PropertyUnavailableError, ase_errors.PropertyNotImplementedError),
        (errors.IllPosedError, ase_errors.CalculatorError),
        (errors.ModelFormatError, ase_errors.CalculatorError),
        (errors.ModelNotFoundError, ase_errors.CalculatorError),
    ],
)
def test_existing_except_clauses_catch_ours(ours, theirs):
    assert issubclass(ours, theirs)
    assert issubclass(ours, errors.AsescError)


def test_scf_history_survives_pickling():
    error = pickle.loads(pickle.dumps(errors.SCFError("not converged", history=[1.0, 0.5])))
    assert (str(error), error.history) == ("not converged", (1.0, 0.5))


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("chrage", " Did you mean 'charge'?"), ("QEQ", " Did you mean 'QEq'?"), ("zzz", "")],
)
def test_nearest_name(name, suggestion):
    assert errors.did_you_mean(name, ["charge", "QEq", "electric_field"]) == suggestion
