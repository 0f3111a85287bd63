"""A charged vacancy in SiO2: what error tables hide."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import FIRE
from ase.spacegroup import crystal

from asesc import SCCalculator
from asesc.defects import ChargedDefect

CHARGES = np.arange(-0.5, 2.51, 0.25)
SIZES = ((2, 2, 2), (3, 3, 3))


def study(calc: SCCalculator, frames: list[Atoms], *, sizes: bool = True) -> dict[str, Any]:
    """All checks of one model, as numbers for a table.

    Parameters
    ----------
    calc : SCCalculator
        Of a family whose charge can vary.
    frames : list of Atoms
        Labelled, with a vacancy; that of the widest one with all three charges is looked at.
    sizes : bool
        Also compute supercells of up to 243 atoms.
    """
    states = three_charges(frames)
    vacancy, pair = states[0], broken_bond(states[0])
    results = {
        "energy_of_charge": energy_of_charge(calc, vacancy),
        "reference_energies": [states[q].info["REF_energy"] for q in range(3)],
        "share": share_of(lambda q: charges_of(calc, vacancy, q), pair),
        "reference_share": share_of(lambda q: states[q].arrays["REF_charges"], pair),
        "distances": [relaxed_distance(calc, vacancy, pair, q) for q in range(3)],
        "pull": [pull(forces_of(calc, vacancy, q), vacancy, pair) for q in range(3)],
        "reference_pull": [pull(states[q].arrays["REF_forces"], vacancy, pair) for q in range(3)],
    }
    if calc.model.has_fermi_level:
        results["outside_gap"] = outside_gap(calc, frames)
    if sizes:
        results["sizes"] = size_consistency(calc)
    return results


def three_charges(frames: list[Atoms]) -> list[Atoms]:
    """The three charge states of one geometry, in order: the one with the widest vacancy.

    There the levels lie deep in the gap and the charge is where they are; in a short Si–Si bond of
    the neutral crystal it comes from the valence band.

    Raises
    ------
    SystemExit
        If no geometry has all of them.
    """
    states: dict[str, dict[int, Atoms]] = {}
    for atoms in frames:
        states.setdefault(atoms.info["geometry_id"], {})[int(atoms.info["charge"])] = atoms
    complete = [group for group in states.values() if {0, 1, 2} <= group.keys()]
    if not complete:
        raise SystemExit("no vacancy has labels at charges 0, +1 and +2 yet")
    widest = max(
        complete, key=lambda group: group[0].get_distance(*broken_bond(group[0]), mic=True)
    )
    return [widest[q] for q in range(3)]


def broken_bond(atoms: Atoms) -> tuple[int, int]:
    """The two silicon atoms whose fourth oxygen neighbour is farthest away."""
    silicon = [i for i in range(len(atoms)) if atoms[i].symbol == "Si"]
    oxygen = [i for i in range(len(atoms)) if atoms[i].symbol == "O"]
    fourth = [np.sort(atoms.get_distances(i, oxygen, mic=True))[3] for i in silicon]
    first, second = np.argsort(fourth)[-2:]
    return silicon[first], silicon[second]


def _with_charge(calc: SCCalculator, atoms: Atoms, charge: float) -> Atoms:
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    bare.info["charge"] = charge
    bare.calc = calc
    return bare


def charges_of(calc: SCCalculator, atoms: Atoms, charge: float) -> np.ndarray:
    """Charges of the atoms, e."""
    return _with_charge(calc, atoms, charge).get_charges()


def forces_of(calc: SCCalculator, atoms: Atoms, charge: float) -> np.ndarray:
    """Forces, eV/Å."""
    return _with_charge(calc, atoms, charge).get_forces()


def energy_of_charge(calc: SCCalculator, atoms: Atoms) -> dict[str, Any]:
    """E(Q) − E(0) at fixed geometry, and its bends.

    ``bend`` is the change of the slope ∂E/∂Q within half a charge, V, about a whole number and
    about half of one. In an insulator the first is the gap between levels, the second is zero.
    """
    energies = [_with_charge(calc, atoms, q).get_potential_energy() for q in CHARGES]
    table = dict(zip(CHARGES, energies, strict=True))
    step = CHARGES[1] - CHARGES[0]

    def bend(q: float) -> float:
        return (table[q + step] - 2 * table[q] + table[q - step]) / step

    return {
        "charge": CHARGES.tolist(),
        "energy": [e - table[0.0] for e in energies],
        "bend": {str(q): bend(q) for q in (0.0, 0.5, 1.0, 1.5, 2.0)},
    }


def share_of(charges: Any, pair: tuple[int, int]) -> list[float]:
    """Part of the added charge that sits on the two silicon atoms, at +1 and +2."""
    neutral = charges(0)
    return [float((charges(q) - neutral)[list(pair)].sum() / q) for q in (1, 2)]


def relaxed_distance(
    calc: SCCalculator, atoms: Atoms, pair: tuple[int, int], charge: int, *, steps: int = 60
) -> float:
    """Distance of the two silicon atoms after relaxation in the fixed cell, Å."""
    moving = _with_charge(calc, atoms, charge)
    FIRE(moving, logfile=None).run(fmax=0.05, steps=steps)
    return float(moving.get_distance(*pair, mic=True))


def pull(forces: np.ndarray, atoms: Atoms, pair: tuple[int, int]) -> float:
    """Force that drives the two silicon atoms apart, eV/Å."""
    axis = atoms.get_distance(*pair, mic=True, vector=True)
    axis /= np.linalg.norm(axis)
    return float(0.5 * (forces[pair[1]] - forces[pair[0]]) @ axis)


def outside_gap(calc: SCCalculator, frames: list[Atoms]) -> dict[str, Any]:
    """How far −∂E/∂Q lies outside the highest occupied and lowest empty level, eV.

    The slope of a smooth E(Q) at a whole charge is between those of both sides, which in
    density-functional theory are these levels.
    """
    found = []
    for atoms in frames:
        low, high = atoms.info["gap"]
        bound = _with_charge(calc, atoms, atoms.info["charge"])
        level = calc.get_property("fermi_level", bound)
        found.append(max(low - level, level - high, 0.0))
    return {"mean": float(np.mean(found)), "largest": float(max(found)), "frames": len(found)}


def size_consistency(calc: SCCalculator) -> dict[str, Any]:
    """Formation energy of the unrelaxed vacancy in two supercells, up to a constant, eV.

    Corrected with the model's own ε∞ where it has one.
    """
    quartz = crystal(
        ["Si", "O"],
        [(0.4697, 0.0, 2 / 3), (0.4135, 0.2669, 0.1191 + 2 / 3)],
        spacegroup=154,
        cellpar=[4.9134, 4.9134, 5.4052, 90, 90, 120],
    )
    corrected = calc.model.has_itinerant_polarisation
    table = {}
    for size in SIZES:
        defect = ChargedDefect.vacancy(quartz, "O", calc=calc, supercell=size)
        states = defect.formation_energies(
            (0, 1, 2),
            chempots={"O": 0.0},
            vbm=0.0,
            correction="kumagai" if corrected else None,
            fmax=None,
            progress=False,
        ).states
        table["x".join(map(str, size))] = {
            "raw": [state.energy - states[0].energy for state in states],
            "corrected": [state.corrected_energy - states[0].corrected_energy for state in states]
            if corrected
            else None,
        }
    return table
