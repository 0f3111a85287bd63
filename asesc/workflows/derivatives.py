"""Derivatives of energy, dipole and polarisability with respect to the atoms.

Where a calculator gives a derivative itself it is asked for it; otherwise central differences of
what it does give are taken.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from asesc.errors import PropertyUnavailableError
from asesc.units import VACUUM_PERMITTIVITY
from asesc.workflows.evaluations import ask, evaluate_all, lacking
from asesc.workflows.polarisation import nearest_branch

#: Displacement of finite differences, Å.
STEP = 0.005


def hessian(calc: Calculator, atoms: Atoms, *, progress: bool = False) -> np.ndarray:
    """Φ = ∂²E/∂R∂R at fixed field, (3N, 3N), eV/Å², symmetric.

    From ``calc.get_hessian(atoms)`` if there is one, else from 6N forces with the net force of
    each removed.
    """
    n = 3 * len(atoms)
    if hasattr(calc, "get_hessian"):
        matrix = np.asarray(calc.get_hessian(atoms), dtype=float).reshape(n, n)
    else:
        frames = displaced(atoms)
        forces = evaluate_all(calc, frames, "forces", progress="Hessian" if progress else None)
        forces -= forces.mean(axis=1, keepdims=True)
        matrix = -slopes(forces).reshape(n, n)
    return 0.5 * (matrix + matrix.T)


def dipole_derivatives(calc: Calculator, atoms: Atoms, *, progress: bool = False) -> np.ndarray:
    """Z*[atom, polarisation, displacement] = ∂μ_a/∂R_ib, (N, 3, 3), e.

    Raises
    ------
    PropertyUnavailableError
        If the calculator gives neither Born charges nor what they are derivatives of.
    """
    if "born_effective_charges" in calc.implemented_properties:
        advice = "Choose a model with a polarisation for this boundary, or pbc=False"
        return ask(calc, atoms, "born_effective_charges", advice=advice)
    name = _moment_property(calc, atoms)
    scale = atoms.get_volume() if name == "polarization" else 1.0
    bar = "dipole derivatives" if progress else None
    moments = scale * evaluate_all(calc, displaced(atoms), name, progress=bar)
    if name == "polarization":
        moments = nearest_branch(moments, moments[0], atoms.cell.array)
    return slopes(moments).reshape(len(atoms), 3, 3).transpose(0, 2, 1)


def _moment_property(calc: Calculator, atoms: Atoms) -> str:
    """Which property is the dipole of this structure up to a factor."""
    advice = "Choose a calculator with Born charges, a dipole or a polarisation"
    if atoms.pbc.any() and not atoms.pbc.all():
        reason = "a dipole of a slab or wire has no components along periodic directions"
        raise lacking(calc, "born_effective_charges", reason, advice)
    name = "polarization" if atoms.pbc.all() else "dipole"
    if name not in calc.implemented_properties:
        reason = f"and it has no {name!r} to differentiate"
        raise lacking(calc, "born_effective_charges", reason, advice)
    return name


def polarizability(calc: Calculator, atoms: Atoms) -> np.ndarray:
    """α_ab = ∂μ_a/∂E_b of a molecule or of one cell, (3, 3), e Å²/V.

    From ``calc.get_polarizability(atoms)``, else for crystals from ε∞ = 1 + α/(ε₀V).

    Raises
    ------
    PropertyUnavailableError
        If the calculator gives neither.
    """
    if hasattr(calc, "get_polarizability"):
        return np.asarray(calc.get_polarizability(atoms), dtype=float)
    if atoms.pbc.all() and "dielectric_tensor" in calc.implemented_properties:
        epsilon = ask(calc, atoms, "dielectric_tensor", advice="")
        return VACUUM_PERMITTIVITY * atoms.get_volume() * (epsilon - np.eye(3))
    raise PropertyUnavailableError(
        f"a polarisability is needed, but {type(calc).__name__} has no get_polarizability(atoms), "
        "nor a 'dielectric_tensor' for crystals. Choose a model that responds to a field"
    )


def displaced(atoms: Atoms, step: float = STEP) -> list[Atoms]:
    """Copies with every coordinate moved by −step and +step: 6N structures."""
    frames = []
    for index in np.ndindex(len(atoms), 3):
        for sign in (-1, 1):
            frame = atoms.copy()
            frame.set_constraint()
            frame.positions[index] += sign * step
            frames.append(frame)
    return frames


def slopes(values: np.ndarray, step: float = STEP) -> np.ndarray:
    """Central differences of what :func:`displaced` structures gave: (6N, …) → (3N, …)."""
    return (values[1::2] - values[0::2]) / (2 * step)
