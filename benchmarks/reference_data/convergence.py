"""How much of the label noise comes from the cut-off and the k-points.

Every series varies one setting on one geometry. The first setting of a series is the reference:
root-mean-square deviations of the forces and of the *change* of the forces with charge or field,
and differences of the energies per atom, are taken against it and written to ``convergence.json``.

Examples
--------
python convergence.py sio2-cutoff sio2-kpts al_water-cutoff al_water-kpts
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from frames import geometry
from labels import label
from settings import SETTINGS, Settings

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Series:
    """One setting varied on one geometry in two states (charge or field).

    Attributes
    ----------
    system : str
    geometry_id : str
    states : tuple of dict
        Arguments of ``label``; the second minus the first is the change of the forces.
    variations : tuple of dict
        Changed settings, the most accurate first.
    """

    system: str
    geometry_id: str
    states: tuple[dict, dict]
    variations: tuple[dict, ...]


CHARGES = ({"charge": 0}, {"charge": 2})
FIELDS = ({"field": 0.0}, {"field": 0.2})
GRID = {"cutoff": 400.0, "special": False}
SPECIAL = {"cutoff": 400.0, "special": True}


def kpts_series(geometry_id: str, *grids: float) -> Series:
    """The special points of the labels and coarser grids against a dense grid."""
    coarser = [GRID | {"kpt_length": n} for n in grids[1:]]
    return Series(
        "sio2",
        geometry_id,
        CHARGES,
        (GRID | {"kpt_length": grids[0]}, SPECIAL, *coarser),
    )


def slab_series(smearing: float) -> Series:
    """Grids on a bare slab of aluminium."""
    common = {"cutoff": 350.0, "smearing": smearing, "eigenstates": 1e-6}
    lengths = (29.0, 19.5, 14.5, 9.9)
    return Series(
        "al_water",
        "al-bare-60-003",
        FIELDS,
        tuple(common | {"kpt_length": n} for n in lengths),
    )


SERIES = {
    "sio2-kpts": kpts_series("quartz35hex-007", 16.0, 10.0, 7.5),
    "sio2-kpts-600K": kpts_series("quartz35hex-014", 16.0),
    "sio2-cutoff": Series(
        "sio2",
        "quartz35hex-007",
        CHARGES,
        tuple({"cutoff": e, "special": False, "kpt_length": 7.5} for e in (700.0, 500.0, 400.0)),
    ),
    "sio2-scf": Series(
        "sio2", "quartz35hex-007", CHARGES, ({"density": 1e-5, "eigenstates": 4e-8}, {})
    ),
    "al_water-cutoff": Series(
        "al_water",
        "al-films-60-000",
        FIELDS,
        tuple({"cutoff": e, "film_kpt_length": 1.0} for e in (900.0, 700.0, 600.0, 550.0, 500.0)),
    ),
    "al_water-film": Series(
        "al_water",
        "al-films-60-000",
        FIELDS,
        tuple({"cutoff": 500.0, "film_kpt_length": n} for n in (19.5, 9.9)),
    ),
    "al_water-kpts": slab_series(0.4),
    "al_water-cold": slab_series(0.2),
    "al_water-scf": Series(
        "al_water",
        "al-bare-60-003",
        FIELDS,
        tuple(
            {"cutoff": 400.0, "kpt_length": 9.9, "density": d, "eigenstates": e}
            for d, e in ((1e-5, 1e-8), (1e-4, 1e-5))
        ),
    ),
}


def rms(values: np.ndarray) -> float:
    """Root mean square in meV/Angstrom."""
    return round(1e3 * float(np.sqrt((values**2).mean())), 2)


def answers(atoms: Atoms, settings: Settings, states: tuple[dict, dict]) -> dict:
    """Forces without their mean and energies per atom in both states, and the CPU time of both."""
    start = time.process_time()
    frames = [label(atoms, settings, **state) for state in states]
    seconds = time.process_time() - start
    first, second = (f.arrays["REF_forces"] - f.arrays["REF_forces"].mean(axis=0) for f in frames)
    energies = np.array([f.info["REF_energy"] / len(atoms) for f in frames])
    return {
        "first": first,
        "second": second,
        "change": second - first,
        "energies": energies,
        "seconds": seconds,
    }


def listed(kpts: dict | np.ndarray) -> list:
    """The grid, or the points themselves."""
    return list(kpts["size"]) if isinstance(kpts, dict) else kpts.tolist()


def study(series: Series) -> dict:
    """Deviations from the first setting, in meV/Angstrom and meV per atom."""
    atoms = geometry(HERE / "geometries", series.geometry_id)
    rows, reference = [], None
    for variation in series.variations:
        settings = replace(SETTINGS[series.system], **variation)
        result = answers(atoms, settings, series.states)
        reference = reference or result
        rows.append(
            variation
            | {"kpts": listed(settings.kpts(atoms)), "cpu_seconds": round(result["seconds"])}
            | {f"rmse_{k}": rms(result[k] - reference[k]) for k in ("first", "second", "change")}
            | {"energies": (1e3 * (result["energies"] - reference["energies"])).round(2).tolist()}
        )
        print(rows[-1], flush=True)
    return {
        "geometry_id": atoms.info["geometry_id"],
        "states": series.states,
        "rms_force": rms(reference["first"]),
        "rms_change": rms(reference["change"]),
        "rows": rows,
    }


def main() -> None:
    """Run the series asked for and update ``convergence.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", nargs="+", choices=SERIES)
    path = HERE / "convergence.json"
    for name in parser.parse_args().series:
        result = study(SERIES[name])
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(results | {name: result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
