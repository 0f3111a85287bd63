"""Forces, dipole and field against finite differences of the energy; writes ``checks.json``."""

import json
import time
from collections.abc import Callable
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


CHECKS: dict[str, tuple[str, Callable[[], dict]]] = {
    "film_dipole": ("al_water", lambda: dipole_check("al-films-60-000", field=0.1)),
    "film_force_in_field": (
        "al_water",
        lambda: force_check("al_water", "al-films-60-000", atom=0, axis=2, field=0.2),
    ),
    "metal_dipole": ("al_water", lambda: dipole_check("al-bare-60-003", field=0.1)),
    "charged_cell_force": (
        "sio2",
        lambda: force_check("sio2", "quartz35hex-007", atom=0, axis=0, charge=2),
    ),
}
"""Small systems: four water molecules, three layers of metal, one charged vacancy."""


def main() -> None:
    """Run the checks that ``checks.json`` lacks with the present settings."""
    path = HERE / "checks.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name, (system, check) in CHECKS.items():
        settings = SETTINGS[system].name
        if results.get(name, {}).get("settings") == settings:
            continue
        start = time.process_time()
        found = check() | {"cpu_seconds": round(time.process_time() - start)}
        results[name] = {"settings": settings} | found
        print(name, results[name], flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
