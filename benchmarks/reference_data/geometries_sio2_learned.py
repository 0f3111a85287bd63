"""Geometries of the vacancy where a trained model takes it: dynamics of the model itself.

GFN1-xTB and PBE differ in how far the silicon atoms move apart, and a model has to know the places
it will visit. Writes ``geometries/sio2_<host>.xyz.xz`` unless it is there::

    python geometries_sio2_learned.py ../../models/silica-vacancy
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ase import Atoms
from geometries_sio2 import CHARGES, first_oxygen, quartz, store, with_vacancy
from sampling import relaxed, snapshots

from asesc import SCCalculator

HOSTS = {"quartz35learned": 1, "quartz36learned": 0}
"""Name -> number of vacancies."""
TEMPERATURES = (300.0, 600.0)
COUNT = {1: 4, 0: 2}
"""Snapshots of every charge and temperature, by number of vacancies."""


def sample(name: str, vacancies: int, model: str) -> Iterator[Atoms]:
    """Snapshots of dynamics in every charge state, each from what is relaxed at its charge."""
    crystal = quartz().repeat((2, 2, 1))
    atoms = with_vacancy(crystal, first_oxygen(crystal))[0] if vacancies else crystal
    for charge in CHARGES[vacancies]:
        calc = SCCalculator(model, charge=charge)
        start = relaxed(atoms, calc, steps=150)
        for number, temperature in enumerate(TEMPERATURES):
            frames = snapshots(
                start,
                calc,
                temperature=temperature,
                count=COUNT[vacancies],
                interval=40,
                timestep=2.0,
                seed=500 + 10 * charge + number,
            )
            for frame in frames:
                frame.info = {"config_type": f"{name}-md{temperature:.0f}-q{charge}"}
                yield frame


def main() -> None:
    """Sample both hosts, shuffle with a fixed seed and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name or folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "geometries")
    options = parser.parse_args()
    for name, vacancies in HOSTS.items():
        path = options.out / f"sio2_{name}.xyz.xz"
        if not path.exists():
            frames = list(sample(name, vacancies, options.model))
            store(path, name, vacancies, frames, seed=7)


if __name__ == "__main__":
    main()
