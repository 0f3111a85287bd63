"""asesc: machine-learning potentials with self-consistent electrostatics, as ASE calculators.

Every public name is imported on first use, so that ``import asesc`` (and with it the command
line's ``--help``) does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asesc.calculators.batches import evaluate_many
    from asesc.calculators.coulomb import CoulombCalculator
    from asesc.calculators.sccalculator import SCCalculator
    from asesc.pretrained import list_models, load_model

__version__ = "0.1.0"

__all__ = [
    "CoulombCalculator",
    "SCCalculator",
    "__version__",
    "evaluate_many",
    "list_models",
    "load_model",
]

_HOMES = {
    "CoulombCalculator": "asesc.calculators.coulomb",
    "SCCalculator": "asesc.calculators.sccalculator",
    "evaluate_many": "asesc.calculators.batches",
    "list_models": "asesc.pretrained",
    "load_model": "asesc.pretrained",
}

#: Submodules that ``import asesc`` offers without importing them.
_MODULES = ("defects", "phonons", "records", "slabs", "spectra")


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name == "__ase_plugins__":
        return _ase_plugins()
    if name in _MODULES:
        return import_module(f"asesc.{name}")
    if name not in _HOMES:
        raise AttributeError(
            f"module 'asesc' has no attribute {name!r}; it offers {', '.join(__all__)}"
        )
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


def _ase_plugins() -> set[Any]:
    """What ``ase info --plugins`` lists for this package (entry-point group ``ase.plugins``)."""
    from ase._4.plugins.plugin import CalculatorPlugin

    return {
        CalculatorPlugin(
            "asesc",
            citation="https://doi.org/10.48550/arXiv.2603.14700",
            implementation="asesc.calculators.sccalculator.SCCalculator",
        )
    }
