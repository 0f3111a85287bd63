"""Forces, dipole and field against finite differences of the energy; writes ``checks.json``."""

import json
import time
from pathlib import Path

from frames import geometry
from labels import label
from settings import SETTINGS

HERE = Path(__file__).parent
STEP = 0.01
"""Displacement, Angstrom."""
FIELD_STEP = 0.05
"""Change of the field, V/Angstrom."""


def force_check(system: str, name: str, *, atom: int, axis: int, **state) -> dict:
    """Central difference of the energy against the force on one atom, eV/Angstrom."""
    atoms = geometry(HERE / "geometries", name)
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[atom, axis] += sign * STEP
        energies.append(label(moved, SETTINGS[system], **state).info["REF_energy"])
    centre = label(atoms, SETTINGS[system], **state)
    return {
        "geometry_id": atoms.info["geometry_id"],
        "atom": atom,
        "symbol": atoms[atom].symbol,
        "axis": axis,
        "state": state,
        "force": float(centre.arrays["REF_forces"][atom, axis]),
        "finite_difference": float(energies[1] - energies[0]) / (2 * STEP),
        "net_force": centre.arrays["REF_forces"].sum(axis=0).tolist(),
    }


def dipole_check(name: str, *, field: float) -> dict:
    """-dE/dF by central difference against the dipole along z, e Angstrom."""
    atoms = geometry(HERE / "geometries", name)
    settings = SETTINGS["al_water"]
    low, centre, high = (
        label(atoms, settings, field=field + shift).info for shift in (-FIELD_STEP, 0, FIELD_STEP)
    )
    return {
        "geometry_id": atoms.info["geometry_id"],
        "field": field,
        "dipole": float(centre["REF_dipole"][2]),
        "minus_dE_dF": float(low["REF_energy"] - high["REF_energy"]) / (2 * FIELD_STEP),
    }


CHECKS = {
    "film_dipole": lambda: dipole_check("al-films-60-000", field=0.1),
    "film_force_in_field": lambda: force_check(
        "al_water", "al-films-60-000", atom=0, axis=2, field=0.2
    ),
    "metal_dipole": lambda: dipole_check("al-bare-60-003", field=0.1),
    "charged_cell_force": lambda: force_check("sio2", "quartz35hex-007", atom=0, axis=0, charge=2),
}
"""Small systems: four water molecules, three layers of metal, one charged vacancy."""


def main() -> None:
    """Run the checks that ``checks.json`` lacks."""
    path = HERE / "checks.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name, check in CHECKS.items():
        if name in results:
            continue
        start = time.process_time()
        results[name] = check() | {"cpu_seconds": round(time.process_time() - start)}
        print(name, results[name], flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
