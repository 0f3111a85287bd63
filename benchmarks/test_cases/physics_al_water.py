"""A metal–water interface in a field: what error tables hide."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import fcc111
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from asesc import SCCalculator
from asesc.slabs import potential_profile
from asesc.units import COULOMB

LATTICE_CONSTANT = 4.05
SPACING = LATTICE_CONSTANT / np.sqrt(3)
LAYERS = (3, 4, 5, 6, 8, 10)
LIFTS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
FIELD = 0.05
DYNAMICS_FIELD = 0.1


def study(calc: SCCalculator, frames: list[Atoms], *, steps: int = 0) -> dict[str, Any]:
    """All checks of one model, as numbers for a table.

    Parameters
    ----------
    calc : SCCalculator
    frames : list of Atoms
        Labelled; geometries with a frame in no field and frames in fields are compared.
    steps : int
        Of dynamics of about 500 atoms in a field, 0.5 fs each; 0 leaves them out.
    """
    groups = in_fields(frames)
    wet = [group[0] for group in groups if {8, 13} <= set(group[0].numbers)]
    results: dict[str, Any] = {
        "response": [response(calc, group) for group in groups],
        "thickness": thickness(calc),
    }
    if wet:
        results["leak"] = leak(calc, wet[0])
    if wet and steps:
        results["dynamics"] = dynamics(calc, wet[0], steps)
    return results


def in_fields(frames: list[Atoms]) -> list[list[Atoms]]:
    """Frames of one geometry together, the one in no field first."""
    groups = defaultdict(list)
    for atoms in frames:
        groups[atoms.info["geometry_id"]].append(atoms)
    ordered = [
        sorted(group, key=lambda a: abs(a.info["electric_field"][2])) for group in groups.values()
    ]
    return [
        group for group in ordered if len(group) > 1 and not any(group[0].info["electric_field"])
    ]


def _in_field(calc: SCCalculator, atoms: Atoms, field: float) -> Atoms:
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=(True, True, False))
    bare.info["electric_field"] = np.array([0.0, 0.0, field])
    bare.calc = calc
    return bare


def _metal_range(atoms: Atoms) -> tuple[float, float] | None:
    """Heights of the second and the last but one layer, between which the field is measured."""
    heights = np.sort(atoms.positions[atoms.numbers == 13, 2])
    if not len(heights):
        return None
    layers = heights.reshape(-1, 4).mean(axis=1)
    return (layers[1], layers[-2]) if len(layers) > 3 else (layers[0], layers[-1])


def response(calc: SCCalculator, group: list[Atoms]) -> dict[str, Any]:
    """What the largest field changes: dipole, potential and field in the metal, beside DFT.

    Differences only: both potentials then hold the applied field and the smooth density it moves,
    and not the different smearing of the nuclei. Potentials in V on the heights of the labels.
    """
    zero, strong = group[0], group[-1]
    field = float(strong.info["electric_field"][2])
    heights = np.linspace(-0.5, 0.5, len(zero.info["profile"]), endpoint=False)
    heights = heights * zero.cell[2, 2]
    inside = (heights > zero.positions[:, 2].min() - 2) & (heights < zero.positions[:, 2].max() + 2)
    heights = heights[inside]
    wanted = np.subtract(strong.info["profile"], zero.info["profile"])[inside] - field * heights
    profiles = [potential_profile(_in_field(calc, zero, f)) for f in (0.0, field)]
    found = np.subtract(*[np.interp(heights, p.heights, p.potential) for p in profiles[::-1]])
    dipoles = [_in_field(calc, zero, f).get_dipole_moment()[2] for f in (0.0, field)]
    result = {
        "geometry_id": zero.info["geometry_id"],
        "config_type": zero.info["config_type"],
        "field": field,
        "induced_dipole": float(dipoles[1] - dipoles[0]),
        "reference_induced_dipole": float(
            strong.info["REF_dipole"][2] - zero.info["REF_dipole"][2]
        ),
        "heights": heights.round(3).tolist(),
        "potential": found.round(4).tolist(),
        "reference_potential": wanted.round(4).tolist(),
        "rms": float(np.sqrt(np.mean((found - wanted) ** 2))),
    }
    metal = _metal_range(zero)
    if metal is not None:
        within = (heights >= metal[0]) & (heights <= metal[1])
        for name, values in (("inside", found), ("reference_inside", wanted)):
            result[name] = float(-np.polyfit(heights[within], values[within], 1)[0])
    return result


def thickness(calc: SCCalculator) -> dict[str, Any]:
    """Polarisability of ideal slabs per layer, e Å²/V, over that of a perfect conductor.

    A conductor of thickness d has α = A d/(4π k_e), so that one more layer adds A SPACING/(4π k_e)
    whatever the thickness is.
    """
    polarisabilities = []
    for layers in LAYERS:
        slab = fcc111("Al", (1, 1, layers), a=LATTICE_CONSTANT, vacuum=6.0)
        dipoles = [_in_field(calc, slab, f).get_dipole_moment()[2] for f in (-FIELD, FIELD)]
        polarisabilities.append((dipoles[1] - dipoles[0]) / (2 * FIELD))
    area = np.sqrt(3) / 4 * LATTICE_CONSTANT**2
    per_layer = area * SPACING / (4 * np.pi * COULOMB)
    return {
        "layers": LAYERS,
        "polarisability": [float(a) for a in polarisabilities],
        "slope_over_conductor": (np.diff(polarisabilities) / np.diff(LAYERS) / per_layer).tolist(),
    }


def leak(calc: SCCalculator, interface: Atoms) -> dict[str, Any]:
    """Charge of the water above a slab as it is lifted off, e, without field and in 0.2 V/Å."""
    top = interface.positions[interface.numbers == 13, 2].max()
    above = (interface.numbers != 13) & (interface.positions[:, 2] > top)
    kept = above | (interface.numbers == 13)
    charges: dict[str, list[float]] = {}
    for field in (0.0, 0.2):
        row = []
        for lift in LIFTS:
            moved = interface.copy()
            moved.positions[above, 2] += lift
            moved = moved[kept]
            row.append(float(_in_field(calc, moved, field).get_charges()[above[kept]].sum()))
        charges[f"{field:g}"] = row
    return {"lifts": LIFTS, "charge": charges}


def dynamics(calc: SCCalculator, interface: Atoms, steps: int) -> dict[str, Any]:
    """Dynamics of about 500 atoms in a field, started at 300 K, at constant energy.

    Returns
    -------
    dict
        Drift of the energy in meV per atom and ps, highest temperature, largest force seen.
    """
    atoms = _in_field(calc, interface, DYNAMICS_FIELD)
    repeat = round(np.sqrt(500 / len(atoms)))
    atoms = atoms.repeat((repeat, repeat, 1))
    atoms.info["electric_field"] = np.array([0.0, 0.0, DYNAMICS_FIELD])
    atoms.calc = calc
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(6))
    run = VelocityVerlet(atoms, 0.5 * units.fs)
    energies, temperatures, forces = [], [], []

    def watch() -> None:
        energies.append(atoms.get_total_energy())
        temperatures.append(atoms.get_temperature())
        forces.append(float(np.abs(atoms.get_forces()).max()))

    run.attach(watch, interval=10)
    run.run(steps)
    times = 0.005 * np.arange(len(energies))
    slope = np.polyfit(times, energies, 1)[0]
    return {
        "atoms": len(atoms),
        "picoseconds": float(times[-1]),
        "drift": float(1e3 * slope / len(atoms)),
        "highest_temperature": float(max(temperatures)),
        "largest_force": max(forces),
    }
