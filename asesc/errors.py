"""One small tree of errors on ASE's own, so that existing ``except`` clauses keep working.

A message says what happened, the value, why it matters and what to try.

>>> str(ModelNotFoundError("no model 'quarz'." + did_you_mean("quarz", ["nma", "quartz"])))
"no model 'quarz'. Did you mean 'quartz'?"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from ase.calculators import calculator as ase_errors


class AsescError(ase_errors.CalculatorError):
    """Base of every error that this package raises on purpose."""


class InputError(AsescError, ase_errors.InputError):
    """A structure, parameter or file given by the user cannot be what was meant."""


class ModelScopeError(InputError):
    """The input is sound but outside what the model was trained for (see its card)."""


class SCFError(AsescError, ase_errors.SCFError):
    """Self-consistency was not reached.

    Parameters
    ----------
    message
        What was tried and what to try next.
    history
        Residual of every iteration, in the units of the solver's tolerance.
    """

    def __init__(self, message: str, *, history: Sequence[float] = ()) -> None:
        super().__init__(message)
        self.history = tuple(history)


class IllPosedError(AsescError):
    """The equations have no unique solution: singular, indefinite or contradictory."""


class ModelFormatError(AsescError):
    """A model folder cannot be trusted or understood: checksum, card, family, tensors."""


class ModelNotFoundError(AsescError):
    """No model of that name or at that path."""


class SetupError(AsescError, ase_errors.CalculatorSetupError):
    """The machine or the installation cannot run this (device, memory, versions)."""


class PropertyUnavailableError(AsescError, ase_errors.PropertyNotImplementedError):
    """The property is not defined or not offered for this model and boundary."""


class SeveralMinimaWarning(UserWarning):
    """A charge may sit on different atoms; the minima found are listed, the lowest is used."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End of an error message that suggests the nearest known name.

    Parameters
    ----------
    name
        What the user wrote; compared without regard to case.
    known
        Names that would have been accepted.

    Returns
    -------
    str
        ``" Did you mean '…'?"``, or an empty string where nothing is near.
    """
    spelled = {candidate.casefold(): candidate for candidate in known}
    near = get_close_matches(name.casefold(), spelled, n=1)
    return f" Did you mean {spelled[near[0]]!r}?" if near else ""
