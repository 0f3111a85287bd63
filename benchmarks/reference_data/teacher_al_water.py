"""Frames of slabs and films labelled by SevenNet-0, on which a backbone learns before it sees DFT.

The model was trained on PBE energies of other geometries (doi:10.1021/acs.jctc.4c00190, MIT
licence) and knows neither charges nor fields. ``--check`` compares its forces with the labels of
this folder. Its frames take a quarter of a second where a label takes minutes, and are no labels of
ours: they are made where they are needed, from all geometries that are there, and not kept::

    pip install torch==2.13.0 sevenn==0.13.0
    python teacher_al_water.py ../training/runs/al-water-backbone/data

Dynamics of the teacher start from the sampled geometries, those that are held out excepted; every
snapshot is labelled as it is and rattled.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read, write
from sampling import rattled, snapshots

HERE = Path(__file__).parent
TEMPERATURE, INTERVAL = 400.0, 10
SIGMAS = (0.0, 0.03, 0.08)
"""Standard deviations of the displacements of the copies, Angstrom."""
EVERY, OFFSET = 7, 3
"""Geometries held out, as in ``../test_cases/splits.py``."""
VALIDATE = 20


def starts(seed: int) -> list[Atoms]:
    """All sampled geometries that are not held out, shuffled."""
    found = [
        atoms
        for path in sorted((HERE / "geometries").glob("al_water_*.xyz.xz"))
        for atoms in read(path, ":", format="extxyz")
        if int(atoms.info["geometry_id"].rpartition("-")[2]) % EVERY != OFFSET
    ]
    np.random.default_rng(seed).shuffle(found)
    return found


def labelled(atoms: Atoms, teacher: Calculator) -> Atoms:
    """A copy with the teacher's energy and forces as ``REF_…``, neutral and in no field."""
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.calc = teacher
    energy, forces = frame.get_potential_energy(), frame.get_forces()
    frame.calc = None
    frame.info = {"REF_energy": energy, "config_type": atoms.info["config_type"]}
    frame.arrays["REF_forces"] = forces
    return frame


def sample(start: Atoms, teacher: Calculator, count: int, seed: int) -> Iterator[Atoms]:
    """Snapshots of one run, each with its rattled copies."""
    moving = Atoms(start.numbers, start.positions, cell=start.cell, pbc=start.pbc)
    moving.set_masses([2.0 if z == 1 else None for z in moving.numbers])
    moving.info["config_type"] = start.info["config_type"]
    frames = snapshots(
        moving,
        teacher,
        temperature=TEMPERATURE,
        count=count,
        interval=INTERVAL,
        timestep=1.0,
        seed=seed,
    )
    for number, frame in enumerate(frames):
        for sigma in SIGMAS:
            yield labelled(rattled(frame, sigma, 1000 * seed + number), teacher)


def check(teacher: Calculator) -> None:
    """Print the teacher's errors on our labels in no field."""
    errors: dict[str, list] = {"films": [], "bare": [], "interfaces": []}
    for path in sorted((HERE / "data").glob("al_water_*.xyz.xz")):
        for atoms in read(path, ":", format="extxyz"):
            if not np.any(atoms.info["electric_field"]):
                forces = labelled(atoms, teacher).arrays["REF_forces"]
                wanted = atoms.arrays["REF_forces"]
                error = forces - (wanted - wanted.mean(axis=0))
                errors[atoms.info["geometry_id"].split("-")[1]].append(np.mean(error**2))
    for name, squares in errors.items():
        if squares:
            root = 1e3 * np.sqrt(np.mean(squares))
            print(f"{name}: {len(squares)} frames, forces {root:.0f} meV/Angstrom")


def main() -> None:
    """Sample, or check the teacher."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of train.xyz and test.xyz")
    parser.add_argument("--snapshots", type=int, default=4, help="of every geometry")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--check", action="store_true", help="compare with the labels instead")
    options = parser.parse_args()
    if not options.check and options.folder is None:
        parser.error("the folder is missing")
    from sevenn.calculator import SevenNetCalculator

    teacher = SevenNetCalculator("7net-0", device="cpu")
    if options.check:
        check(teacher)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = starts(options.seed)
    for name in ("test.xyz", "train.xyz"):
        (options.folder / name).unlink(missing_ok=True)
    for number, start in enumerate(chosen):
        name = "test.xyz" if number % VALIDATE == 0 else "train.xyz"
        frames = list(sample(start, teacher, options.snapshots, options.seed + number))
        write(options.folder / name, frames, format="extxyz", append=True)


if __name__ == "__main__":
    main()
