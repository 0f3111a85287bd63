"""Asking any ASE calculator for properties: one structure with a reason, or many at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from rich.console import Console
from rich.progress import Progress

from asesc.errors import InputError, PropertyUnavailableError

#: Largest force of what counts as a stationary point, eV/Å.
STATIONARY = 0.02

_STDERR = Console(stderr=True, soft_wrap=True, highlight=False)


class UnrelaxedWarning(UserWarning):
    """Harmonic quantities are asked for away from a stationary point."""


def calculator_of(atoms: Atoms) -> Calculator:
    """The calculator of a structure.

    Raises
    ------
    InputError
        If it has none.
    """
    if atoms.calc is None:
        raise InputError(
            f"{atoms.get_chemical_formula()} has no calculator; set atoms.calc = … first"
        )
    return atoms.calc


def in_a_field(atoms: Atoms) -> bool:
    """Whether the calculator takes a uniform field, and one is applied."""
    given = getattr(calculator_of(atoms), "parameters", {}).get("electric_field")
    if given is None:
        return False
    for key in ("electric_field", "external_field"):
        given = atoms.info.get(key, given)
    return bool(np.any(np.asarray(given, dtype=float)))


def require_no_field(atoms: Atoms, what: str) -> None:
    """Refuse an applied field, which is no symmetry of the crystal.

    Raises
    ------
    InputError
    """
    if in_a_field(atoms):
        raise InputError(
            f"{what} are those at zero macroscopic field, with the symmetry of the crystal, which "
            "a field breaks; set the calculator's electric_field to zero and remove it from "
            "atoms.info"
        )


def described(atoms: Atoms) -> str:
    """Formula and model, as the titles of plots and tables have it: ``SiO2 · model quartz``."""
    calc = calculator_of(atoms)
    record = calc.todict() if hasattr(calc, "todict") else {}
    name = f"model {record['model']}" if record.get("model") else type(calc).__name__
    formula = atoms.symbols.formula
    if atoms.pbc.any():
        # Elements in the order of the structure: SiO2 and not O2Si.
        return f"{formula.reduce()[0]} · {name}"
    return f"{formula.format('hill')} · {name}"


def ask(calc: Calculator, atoms: Atoms, name: str, *, advice: str) -> np.ndarray:
    """One property under ASE's name.

    Parameters
    ----------
    advice : str
        End of the error message: what to do without the property.

    Raises
    ------
    PropertyUnavailableError
        If the calculator does not give it, with its own reason.
    """
    try:
        value = calc.get_property(name, atoms)
    except PropertyNotImplementedError as error:
        raise lacking(calc, name, str(error), advice) from error
    if value is None:
        raise lacking(calc, name, "it returned nothing", advice)
    return np.asarray(value, dtype=float)


def lacking(calc: Calculator, name: str, reason: str, advice: str) -> PropertyUnavailableError:
    """The error for a property that a calculator does not give."""
    return PropertyUnavailableError(
        f"{name!r} is needed, but {type(calc).__name__} does not give it: {reason}. {advice}"
    )


def evaluate_all(
    calc: Calculator, frames: Sequence[Atoms], name: str, *, progress: str | None = None
) -> np.ndarray:
    """One property of many structures of the same size: (n, …).

    A calculator with a method ``evaluate_many(frames, properties, progress=…)``, whose items have
    ``results`` under ASE's names, gets them all at once; any other one after the other.

    Parameters
    ----------
    progress : str, optional
        What a progress bar on the terminal says; no bar without it, nor where there is no terminal.
    """
    if len(frames) > 1 and hasattr(calc, "evaluate_many"):
        answers = calc.evaluate_many(frames, (name,), progress=progress or False)
        return np.array([answer.results[name] for answer in answers], dtype=float)
    advice = "Choose a calculator that does"
    values = [ask(calc, frame, name, advice=advice) for frame in tracked(frames, progress)]
    return np.array(values, dtype=float)


def tracked(frames: Sequence[Atoms], what: str | None) -> Iterator[Atoms]:
    """The frames one by one, with a progress bar if ``what`` says for what."""
    hidden = what is None or not _STDERR.is_terminal  # no bar is drawn into a file
    with Progress(console=_STDERR, transient=True, disable=hidden) as bar:
        yield from bar.track(frames, description=what or "")


def report(line: str, *, wanted: bool) -> None:
    """A result that must be seen, on standard error beside the progress bar."""
    if wanted:
        _STDERR.print(line, markup=False)


def require_stationary(forces: np.ndarray, what: str) -> None:
    """Warn with :class:`UnrelaxedWarning` if forces, eV/Å, are not those of a stationary point."""
    largest = float(np.linalg.norm(forces, axis=-1).max())
    if largest > STATIONARY:
        warnings.warn(
            f"{what} assume a stationary point, but the largest force is {largest:.3f} eV/Å; "
            "frequencies will be off and some may be imaginary. Relax first, e.g. with "
            "asesc.phonons.relaxed(atoms)",
            UnrelaxedWarning,
            stacklevel=3,
        )
