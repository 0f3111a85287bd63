"""What slabs and maps need of a calculator: potential and charge between the atoms."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from asesc.workflows.evaluations import lacking


class Landscape(Protocol):
    """Potential in V and charge in e/Å³ of one calculation.

    Attributes
    ----------
    tail : float, Å
        Distance from the atoms beyond which there is no charge.
    """

    tail: float

    def potential(self, points: np.ndarray) -> np.ndarray:
        """At Cartesian points, (…, 3) → (…)."""

    def charge(self, points: np.ndarray) -> np.ndarray:
        """At Cartesian points, (…, 3) → (…)."""

    def potential_on_grid(self, *, spacing: float) -> np.ndarray:
        """On a grid over the cell, without the far faces."""

    def charge_on_grid(self, *, spacing: float) -> np.ndarray:
        """On a grid over the cell, without the far faces."""

    def average_potential(self, heights: np.ndarray, *, axis: int) -> np.ndarray:
        """Over the planes across a cell vector, at heights along their normal."""

    def average_charge(self, heights: np.ndarray, *, axis: int) -> np.ndarray:
        """Over the planes across a cell vector, at heights along their normal."""

    def normal(self, axis: int) -> np.ndarray:
        """Unit normal of these planes."""


def landscape_of(calc: Calculator, atoms: Atoms) -> Landscape:
    """``calc.get_landscape(atoms)``.

    Raises
    ------
    PropertyUnavailableError
        If there is no such method.
    """
    if not hasattr(calc, "get_landscape"):
        advice = "Use asesc.SCCalculator or CoulombCalculator"
        raise lacking(calc, "landscape", "it has no method get_landscape(atoms)", advice)
    return calc.get_landscape(atoms)


def fermi_level_of(calc: Calculator, atoms: Atoms) -> float | None:
    """−∂E/∂Q in eV, or None where the calculator does not define it."""
    try:
        level = calc.get_property("fermi_level", atoms)
    except PropertyNotImplementedError:
        return None
    return None if level is None else float(level)
