"""The structures that ship with the models, ``models/<name>/example.xyz``.

They are built from published numbers, not taken from training data, and relaxed with the model of
their folder where it is there already::

    python benchmarks/training/make_examples.py          # all of them
    python benchmarks/training/make_examples.py batio3   # one
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import fcc111, molecule
from ase.filters import FrechetCellFilter
from ase.io import write
from ase.optimize import BFGS
from ase.spacegroup import crystal

MODELS = Path(__file__).resolve().parents[2] / "models"

#: C–C–N of the acetyl group, Å and degrees; the rest is placed from these three atoms.
_FIRST = {"C–C": 1.51, "C–N": 1.36, "C–C–N": 116.0}
#: Atom; the atoms a, b, c before it; distance to a (Å), angle with a–b, dihedral with a–b–c (°).
#: Usual lengths and angles of a peptide. Trans: carbonyl O and amide H are on opposite sides.
_REST = (
    ("O", (1, 2, 0), (1.23, 122.0, 180.0)),
    ("C", (2, 1, 0), (1.45, 122.0, 180.0)),
    ("H", (2, 1, 0), (1.01, 119.0, 0.0)),
    *(("H", (0, 1, 2), (1.09, 110.0, dihedral)) for dihedral in (180.0, 60.0, -60.0)),
    *(("H", (4, 2, 1), (1.09, 110.0, dihedral)) for dihedral in (180.0, 60.0, -60.0)),
)


def quartz() -> Atoms:
    """α-quartz at room temperature, 9 atoms.

    L. Levien, C. T. Prewitt, D. J. Weidner, Am. Mineral. 65, 920 (1980), at 1 bar; their origin is
    moved by 2c/3 to that of the International Tables for P3₂21.
    """
    return crystal(
        ("Si", "O"),
        basis=[(0.4697, 0.0, 2 / 3), (0.4135, 0.2669, 0.1191 + 2 / 3)],
        spacegroup=154,
        cellpar=(4.916, 4.916, 5.4054, 90, 90, 120),
    )


def silica_vacancy() -> Atoms:
    """α-quartz of 36 atoms without one oxygen atom; the cell is that of the training data.

    Levien et al. as in :func:`quartz`, with a = 4.9134 and c = 5.4052 Å.
    """
    atoms = quartz()
    atoms.set_cell((4.9134, 4.9134, 5.4052, 90, 90, 120), scale_atoms=True)
    atoms = atoms.repeat((2, 2, 1))
    del atoms[next(atom.index for atom in atoms if atom.symbol == "O")]
    return atoms


def barium_titanate() -> Atoms:
    """Tetragonal BaTiO3, polarised along +c, 5 atoms.

    a and c are those of the training data (PBE with pressure, c/a = 1.085) and stay: that model has
    seen no other cell. Ti and O start off centre and are relaxed.
    """
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    atoms = Atoms("BaTiO3", scaled_positions=places, cell=(3.96608, 3.96608, 4.30403), pbc=True)
    atoms.positions[:, 2] += (0.0, 0.08, -0.15, -0.1, -0.1)
    return atoms


def aluminium_water() -> Atoms:
    """Four water molecules on four layers of Al(111), 28 atoms, open along z.

    a = 4.05 Å is that of the training data. Two molecules begin flat above atoms of the metal,
    2.3 Å from it, and two above these at the distance of a hydrogen bond, one hydrogen atom down.
    """
    slab = fcc111("Al", (2, 2, 4), a=4.05, vacuum=6.0)
    top = slab.positions[-4:]
    flat = molecule("H2O")
    flat.rotate(90, "y")
    down = molecule("H2O")
    down.rotate(-52, "x")
    for layer, water in enumerate((flat, down)):
        for site, turn in ((0, 340.0), (3, 300.0)):
            placed = water.copy()
            placed.rotate(turn, "z")
            placed.positions += top[site] + (0, 0, 2.3 + 2.8 * layer) - placed.positions[0]
            slab += placed
    slab.center(vacuum=6.0, axis=2)
    return Atoms(slab.numbers, slab.positions, cell=slab.cell, pbc=(True, True, False))


def n_methylacetamide() -> Atoms:
    """trans-N-methylacetamide from internal coordinates, 12 atoms, amide group in the xy plane."""
    turn = np.deg2rad(180.0 - _FIRST["C–C–N"])
    carbonyl = np.array([_FIRST["C–C"], 0.0, 0.0])
    nitrogen = carbonyl + _FIRST["C–N"] * np.array([np.cos(turn), np.sin(turn), 0.0])
    atoms = Atoms("CCN", [np.zeros(3), carbonyl, nitrogen])
    for symbol, neighbours, (distance, angle, dihedral) in _REST:
        a, b, c = atoms.positions[list(neighbours)]
        atoms.append(symbol)
        atoms.positions[-1] = a + distance * _direction(a, b, c, angle, dihedral)
    return atoms


def _direction(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, angle: float, dihedral: float
) -> np.ndarray:
    """Unit vector from a at an angle with a–b and a dihedral with a–b–c, degrees."""
    theta, phi = np.deg2rad((angle, dihedral))
    along = (b - a) / np.linalg.norm(b - a)
    normal = np.cross(along, c - b)
    normal /= np.linalg.norm(normal)
    side = np.cos(phi) * np.cross(normal, along) + np.sin(phi) * normal
    return np.cos(theta) * along + np.sin(theta) * side


def relax(atoms: Atoms, name: str, *, cell: bool) -> None:
    """Relax atoms, and the cell if wanted, where the model exists."""
    from asesc import SCCalculator, list_models

    if name not in list_models():
        print(f"no model {name!r}: the structure stays as built")
        return
    atoms.calc = SCCalculator(name)
    BFGS(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=1e-3)
    largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
    print(f"{name}: {atoms.get_potential_energy():.6f} eV, largest force {largest:.1e} eV/Å")
    atoms.calc = None


#: How each is built, and whether its cell is relaxed.
EXAMPLES = {
    "quartz": (quartz, True),
    "batio3": (barium_titanate, False),
    "nma": (n_methylacetamide, False),
    "silica-vacancy": (silica_vacancy, False),
    "al-water": (aluminium_water, False),
}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXAMPLES)}; default: all")
    for name in parser.parse_args().names or EXAMPLES:
        build, cell = EXAMPLES[name]
        built = build()
        # Only elements, positions and cell: the file is an input, not a result.
        atoms = Atoms(built.numbers, built.positions, cell=built.cell, pbc=built.pbc)
        relax(atoms, name, cell=cell)
        (MODELS / name).mkdir(parents=True, exist_ok=True)
        write(MODELS / name / "example.xyz", atoms)


if __name__ == "__main__":
    main()
