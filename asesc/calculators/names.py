"""Names of properties, keywords and boundaries: what to say when one is not known."""

from __future__ import annotations

from collections.abc import Collection

from asesc.electrostatics import BOUNDARIES
from asesc.errors import InputError, PropertyUnavailableError, did_you_mean

_OTHER_NAMES = {
    "bec": "born_effective_charges",
    "becs": "born_effective_charges",
    "born_charges": "born_effective_charges",
    "dipole_moment": "dipole",
    "epsilon": "dielectric_tensor",
    "polarisation": "polarization",
    "total_energy": "energy",
    "virial": "stress",
}
_METHODS = {
    "hessian": "get_hessian(atoms)",
    "polarizability": "get_polarizability(atoms)",
    "polarisability": "get_polarizability(atoms)",
}


def unknown_property(name: str, calculator: type, known: Collection[str]) -> Exception:
    """The error for a property that is not in ``implemented_properties``."""
    method = _METHODS.get(name, "").split("(")[0]
    if method and hasattr(calculator, method):
        hint = f" It is not among ASE's properties: call calc.{_METHODS[name]}."
    elif _OTHER_NAMES.get(name) in known:
        hint = f" ASE's name is {_OTHER_NAMES[name]!r}."
    else:
        hint = did_you_mean(name, known)
    return PropertyUnavailableError(
        f"{calculator.__name__} has no property {name!r}.{hint} It offers {', '.join(known)}."
    )


def unknown_keyword(name: str, calculator: type, known: Collection[str]) -> TypeError:
    """The error for a keyword that would otherwise be ignored."""
    return TypeError(
        f"{calculator.__name__} has no parameter {name!r}.{did_you_mean(name, known)} "
        f"It takes {', '.join(known)}."
    )


def require_boundary(name: str) -> None:
    """Refuse a boundary that is neither ``"auto"`` nor in the table."""
    known = ("auto", *BOUNDARIES)
    if name not in known:
        raise InputError(
            f"boundary={name!r} is not known.{did_you_mean(str(name), known)} Choose one of "
            f"{', '.join(known)}"
        )
