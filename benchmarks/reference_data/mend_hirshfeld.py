"""Correct the Hirshfeld labels of frames whose promolecule was scaled as a whole.

The first labels divided the density n by GPAW's promolecule n' instead of the sum n0 of free atoms
(see ``hirshfeld.py``). What that changed is int n0_a n (1/n0' - 1/n0), and with n0 in place of n it
needs no calculation of the electrons: seconds per geometry. What is left of the difference between
the dipole of a slab and that of its atoms, up to 0.035 e Angstrom, is taken off by charges
proportional to the height, below 1 me. Corrected frames get ``hirshfeld=corrected``, those that
never needed it have ``hirshfeld=sum``; run again at will::

    python mend_hirshfeld.py al_water
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from frames import replace_frames
from gpaw.analyse.hirshfeld import HirshfeldDensity
from hirshfeld import free_atoms, moments
from labels import calculator
from settings import SETTINGS

HERE = Path(__file__).parent


def corrections(atoms: Atoms, system: str) -> tuple[np.ndarray, np.ndarray]:
    """What to add to charges (e) and dipoles (e Angstrom) of a geometry, before they are summed."""
    settings = SETTINGS[system]
    frame = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell)
    frame.pbc = True, True, not settings.open_axis
    calc = calculator(settings, (1, 1, 1), charge=0, field=0.0, magnetic=False)
    frame.calc = calc
    calc.initialize(frame)
    calc.set_positions(frame)
    scaled, _ = HirshfeldDensity(calc).get_density()
    parts, grid = free_atoms(calc)
    ratio = np.divide(sum(parts), scaled, out=np.ones_like(scaled), where=scaled > 1e-12)
    return moments(parts, ratio - 1, grid, frame.get_scaled_positions(wrap=False))


def mended(atoms: Atoms, change: tuple[np.ndarray, np.ndarray]) -> Atoms:
    """A copy with corrected labels; charges sum to that of the cell again."""
    result = atoms.copy()
    charges = atoms.arrays["REF_charges"] + change[0]
    charges += (atoms.info["charge"] - charges.sum()) / len(atoms)
    result.arrays["REF_charges"] = charges
    result.arrays["REF_dipoles"] = atoms.arrays["REF_dipoles"] + change[1]
    result.info["hirshfeld"] = "corrected"
    return result


def balanced(atoms: Atoms) -> Atoms:
    """A slab whose charges and atomic dipoles have its dipole, by charges ~ z that sum to zero."""
    result, height = atoms.copy(), atoms.positions[:, 2] - 0.5 * atoms.cell[2, 2]
    charges = result.arrays["REF_charges"]
    missing = atoms.info["REF_dipole"][2] - charges @ height
    missing -= atoms.arrays["REF_dipoles"][:, 2].sum()
    height = height - height.mean()
    result.arrays["REF_charges"] = charges + missing * height / (height @ height)
    return result


def needs_balance(atoms: Atoms) -> bool:
    """Whether a frame is a corrected slab."""
    return atoms.info["hirshfeld"] == "corrected" and not atoms.pbc[2]


def main() -> None:
    """Correct all frames of one system in place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=SETTINGS)
    parser.add_argument("--data", type=Path, default=HERE / "data")
    options = parser.parse_args()
    known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path in sorted(options.data.glob(f"{options.system}_*.xyz.xz")):
        frames = read(path, ":", format="extxyz")
        for number, atoms in enumerate(frames):
            if "hirshfeld" not in atoms.info:
                name = atoms.info["geometry_id"]
                if name not in known:
                    known[name] = corrections(atoms, options.system)
                frames[number] = mended(atoms, known[name])
        frames = [balanced(a) if needs_balance(a) else a for a in frames]
        replace_frames(path, frames)
        print(path.name, flush=True)


if __name__ == "__main__":
    main()
