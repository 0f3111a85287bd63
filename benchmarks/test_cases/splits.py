"""Frames to train on and frames held out: one split for all families.

Every seventh geometry of every file is held out with all its charges or fields: numbers 3, 10, 17,
… of the samplers, which shuffled their geometries with a seed. The split of a geometry therefore
does not change while the data grow, and no model is chosen by the held-out frames. Frames rattled
by 0.05 Å or more, with forces two to three times those at 600 K, are all trained on: they keep a
model from strange places, but are no measure of it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

DATA = Path(__file__).parents[1] / "reference_data" / "data"
EVERY, OFFSET = 7, 3
RESERVOIR = 3.0
"""Level (eV, on the labels' scale) of the reservoir that takes the electrons of charged cells. The
average potential of a cell depends on how the cores are smeared, so that the zero of the levels in
the labels has no meaning; from this one, in the middle of the defect levels, E(Q) is small."""


def labelled_frames(system: str, folder: Path = DATA) -> list[Atoms]:
    """All finished frames of a system in the form of :func:`prepared`, ordered by name."""
    frames = []
    for path in folder.glob(f"{system}_*.xyz.xz"):
        frames += read(path, ":", format="extxyz")
    return [prepared(atoms) for atoms in sorted(frames, key=lambda a: a.info["frame_id"])]


def prepared(atoms: Atoms) -> Atoms:
    """A frame with its labels as ``REF_…`` in the conventions of asesc.

    Slabs are moved so that the middle of the cell, where the applied potential of the labels is
    zero, is at z = 0. A Fermi level is kept as a label where there is metal; in an insulator it is
    any number in the gap, and ``gap`` = (highest occupied, lowest empty level) is kept instead. The
    net force, an error of the grid, is removed. Energies of charged cells and levels of insulators
    are counted from ``RESERVOIR``.
    """
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    given = atoms.info
    kept = ("frame_id", "geometry_id", "config_type", "charge", "electric_field", "REF_energy")
    frame.info = {key: given[key] for key in kept}
    forces = atoms.arrays["REF_forces"]
    frame.arrays["REF_forces"] = forces - forces.mean(axis=0)
    for key in ("REF_charges", "REF_dipoles"):
        frame.arrays[key] = atoms.arrays[key]
    if not atoms.pbc.all():
        frame.positions[:, 2] -= 0.5 * atoms.cell[2, 2]
        frame.info["REF_dipole"] = given["REF_dipole"]
        frame.info["profile"] = given["potential_profile"]
    if 13 in atoms.numbers:
        frame.info["REF_fermi_level"] = given["fermi_level"]
    elif "vbm" in given:
        frame.info["gap"] = np.array(gap(given)) - RESERVOIR
        frame.info["REF_energy"] += RESERVOIR * given["charge"]
    return frame


def gap(info: dict) -> tuple[float, float]:
    """Highest occupied and lowest empty level of an SiO2 frame, eV.

    The vacancy holds two electrons when neutral, one at +1 and none at +2.
    """
    defect = np.atleast_1d(info.get("defect_levels", []))
    electrons = 2 * bool(defect.size) - int(info["charge"])
    if not defect.size or electrons == 0:
        return info["vbm"], float(defect.min()) if defect.size else info["cbm"]
    return float(defect.min()), info["cbm"] if electrons == 2 else float(defect.max())


def is_held_out(atoms: Atoms) -> bool:
    """Whether a frame is tested on and not trained on."""
    if re.search(r"rattle0\.(0[5-9]|[1-9])", atoms.info["config_type"]):
        return False
    return int(atoms.info["geometry_id"].rpartition("-")[2]) % EVERY == OFFSET


def is_reference(atoms: Atoms) -> bool:
    """Whether a frame is neutral and in no field."""
    return atoms.info["charge"] == 0 and not np.any(atoms.info["electric_field"])


def write_split(
    system: str, folder: Path, data: Path = DATA, only: Path | None = None
) -> tuple[Path, Path]:
    """Write ``train.xyz`` and ``test.xyz`` unless they are there: a run keeps its frames.

    Parameters
    ----------
    only : path, optional
        Names of the frames to take, one in a line; default: all that are finished.

    Raises
    ------
    SystemExit
        If there are too few frames for both.
    """
    train, test = folder / "train.xyz", folder / "test.xyz"
    if not (train.is_file() and test.is_file()):
        frames = labelled_frames(system, data)
        if only is not None:
            wanted = set(only.read_text().split())
            frames = [atoms for atoms in frames if atoms.info["frame_id"] in wanted]
        held = [atoms for atoms in frames if is_held_out(atoms)]
        kept = [atoms for atoms in frames if not is_held_out(atoms)]
        if not held or not any(map(is_reference, kept)):
            raise SystemExit(f"{len(frames)} frames of {system} in {data}: too few to hold any out")
        folder.mkdir(parents=True, exist_ok=True)
        write(train, kept, format="extxyz")
        write(test, held, format="extxyz")
    return train, test


def main() -> None:
    """Write both files of one system, for a training of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=("sio2", "al_water"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", type=Path, help="file with the names of the frames to take")
    options = parser.parse_args()
    for path in write_split(options.system, options.folder, options.data, options.only):
        print(path, len(read(path, ":")))


if __name__ == "__main__":
    main()
