"""Geometries of SiO2 with and without an oxygen vacancy, sampled with GFN1-xTB.

Writes one ``geometries/sio2_<host>.xyz.xz`` per host, unless it is there. Every geometry carries
``geometry_id``, ``config_type``, ``charges`` (the charge states to label) and ``n_vacancies``.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.constraints import FixAtoms
from ase.io import write
from ase.spacegroup import crystal
from sampling import gfn1, rattled, relaxed, snapshots

CHARGES = {0: (0, 1), 1: (0, 1, 2)}
"""Charge states to label, by number of vacancies."""
STEPS = 40
"""Longest GFN1-xTB relaxation."""


@dataclass(frozen=True)
class Host:
    """A supercell and how densely it is sampled.

    Attributes
    ----------
    name : str
    atoms : Atoms
        Pristine supercell.
    vacancies : int
        0 or 1 missing oxygen atom.
    temperatures : tuple of float, K
        Molecular dynamics, every charge state.
    count : int
        Snapshots per trajectory.
    sigmas : tuple of float, Angstrom
        Rattles about every relaxed structure.
    pucker : bool
        Also relax from puckered configurations of either silicon atom next to the vacancy.
        GFN1-xTB takes most of them back to the ordinary vacancy.
    held : tuple of float
        Instead of everything else: puckered configurations in which the silicon atom is held this
        far beyond the plane of its oxygen neighbours (in units of its distance from the plane).
    """

    name: str
    atoms: Atoms
    vacancies: int
    temperatures: tuple[float, ...]
    count: int
    sigmas: tuple[float, ...]
    pucker: bool = False
    held: tuple[float, ...] = ()


def quartz() -> Atoms:
    """Alpha-quartz, 9 atoms; Levien et al., Am. Mineral. 65, 920 (1980)."""
    return crystal(
        ["Si", "O"],
        [(0.4697, 0.0, 2 / 3), (0.4135, 0.2669, 0.1191 + 2 / 3)],
        spacegroup=154,
        cellpar=[4.9134, 4.9134, 5.4052, 90, 90, 120],
    )


def cristobalite() -> Atoms:
    """Alpha-cristobalite, 12 atoms; Dollase, Z. Kristallogr. 121, 369 (1965)."""
    return crystal(
        ["Si", "O"],
        [(0.3003, 0.3003, 0.0), (0.2392, 0.1044, 0.1787)],
        spacegroup=92,
        cellpar=[4.971, 4.971, 6.928, 90, 90, 90],
    )


def hosts() -> dict[str, Host]:
    """Two 36-atom cells and one 72-atom cell of quartz, one 48-atom cell of cristobalite."""
    hexagonal, cubic = quartz().repeat((2, 2, 1)), cristobalite().repeat((2, 2, 1))
    orthorhombic = make_supercell(quartz(), [[1, 0, 0], [1, 2, 0], [0, 0, 2]])
    table = (
        Host("quartz35hex", hexagonal, 1, (300.0, 600.0), 3, (0.03, 0.08), pucker=True),
        Host("quartz35puckered", hexagonal, 1, (), 0, (0.03, 0.06), held=(0.6, 1.2, 1.8)),
        Host("quartz35ort", orthorhombic, 1, (600.0,), 3, (0.03, 0.08)),
        Host("cristobalite47", cubic, 1, (600.0,), 2, (0.03, 0.08)),
        Host("quartz71", quartz().repeat((2, 2, 2)), 1, (300.0,), 1, (0.03,)),
        Host("quartz36hex", hexagonal, 0, (300.0, 600.0), 6, (0.03, 0.05, 0.08)),
        Host("quartz36ort", orthorhombic, 0, (300.0, 600.0), 4, (0.03, 0.08)),
        Host("cristobalite48", cubic, 0, (600.0,), 4, (0.03, 0.08)),
    )
    return {host.name: host for host in table}


def silicon_neighbours(atoms: Atoms, oxygen: int) -> list[int]:
    """The two silicon atoms bonded to an oxygen atom, nearest first."""
    distances = atoms.get_distances(oxygen, range(len(atoms)), mic=True)
    order = [i for i in np.argsort(distances) if atoms[i].symbol == "Si"]
    return [int(i) for i in order[:2]]


def with_vacancy(atoms: Atoms, oxygen: int) -> tuple[Atoms, list[int]]:
    """Remove an oxygen atom; also return the indices of its two silicon neighbours."""
    neighbours = silicon_neighbours(atoms, oxygen)
    result = atoms.copy()
    del result[oxygen]
    return result, [i - (i > oxygen) for i in neighbours]


def puckered(atoms: Atoms, silicon: int, beyond: float = 1.4) -> Atoms:
    """Push a three-fold silicon atom through the plane of its oxygen neighbours."""
    distances = atoms.get_distances(silicon, range(len(atoms)), mic=True)
    oxygens = [i for i in np.argsort(distances) if atoms[i].symbol == "O"][:3]
    a, b, c = atoms.get_distances(silicon, oxygens, mic=True, vector=True)
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal)
    result = atoms.copy()
    result.positions[silicon] += (1 + beyond) * (a @ normal) * normal
    return result


def minima(host: Host) -> dict[str, tuple[int, Atoms]]:
    """Relaxed structures: name -> (charge at which it was relaxed, atoms)."""
    if not host.vacancies:
        return {"relaxed0": (0, relaxed(host.atoms, gfn1(host.atoms), steps=STEPS))}
    vacancy, pair = with_vacancy(host.atoms, first_oxygen(host.atoms))
    found = {}
    for charge in CHARGES[1]:
        start = rattled(vacancy, 0.02, seed=charge)
        calculator = gfn1(start, charge=charge)
        found[f"relaxed{charge}"] = charge, relaxed(start, calculator, steps=STEPS)
    if host.pucker:
        for charge, silicon in ((1, pair[0]), (1, pair[1]), (2, pair[0]), (2, pair[1])):
            start = puckered(found["relaxed1"][1], silicon)
            calculator = gfn1(start, charge=charge)
            name = f"puckered{charge}-{pair.index(silicon)}"
            found[name] = charge, relaxed(start, calculator, steps=STEPS)
    return found


def held_minima(host: Host) -> dict[str, tuple[int, Atoms]]:
    """Puckered structures, +1 and +2, relaxed for a few steps with the silicon atom fixed."""
    vacancy, pair = with_vacancy(host.atoms, first_oxygen(host.atoms))
    found = {}
    for number, (charge, silicon) in enumerate(((1, pair[0]), (1, pair[1]), (2, pair[0]))):
        for beyond in host.held:
            start = rattled(puckered(vacancy, silicon, beyond), 0.02, seed=400 + number)
            start.set_constraint(FixAtoms([silicon]))
            moved = relaxed(start, gfn1(start, charge=charge), steps=12)
            moved.set_constraint()
            found[f"puckered{charge}-{pair.index(silicon)}-held{beyond}"] = (charge, moved)
    return found


def first_oxygen(atoms: Atoms) -> int:
    """Index of the first oxygen atom."""
    return atoms.get_chemical_symbols().index("O")


def sample(host: Host) -> list[Atoms]:
    """All geometries of one host, with or without the vacancy."""
    structures = held_minima(host) if host.held else minima(host)
    frames = []

    def add(atoms: Atoms, kind: str) -> None:
        atoms = atoms.copy()
        atoms.info = {"config_type": f"{host.name}-{kind}"}
        frames.append(atoms)

    for number, (name, (charge, atoms)) in enumerate(structures.items()):
        add(atoms, name)
        for sigma in host.sigmas:
            add(rattled(atoms, sigma, seed=100 + number), f"{name}-rattle{sigma}")
        if host.held:
            continue
        if name.startswith("puckered"):
            middle = atoms.copy()
            middle.positions = 0.5 * (atoms.positions + structures["relaxed1"][1].positions)
            add(rattled(middle, 0.03, seed=200 + number), f"{name}-halfway")
            continue
        for temperature in host.temperatures:
            trajectory = snapshots(
                atoms,
                gfn1(atoms, charge=charge),
                temperature=temperature,
                count=host.count,
                interval=15,
                timestep=2.0,
                seed=300 + number,
            )
            for atoms_at_t in trajectory:
                add(atoms_at_t, f"md{temperature:.0f}-q{charge}")
    return frames


def store(path: Path, name: str, vacancies: int, frames: list[Atoms], *, seed: int) -> None:
    """Shuffle the geometries of a host, name them in their new order, and write them."""
    frames = [frames[i] for i in np.random.default_rng(seed).permutation(len(frames))]
    for number, atoms in enumerate(frames):
        atoms.info |= {
            "geometry_id": f"{name}-{number:03d}",
            "charges": np.array(CHARGES[vacancies]),
            "n_vacancies": vacancies,
        }
    write(path, frames, format="extxyz")


def main() -> None:
    """Sample the hosts asked for, shuffle with a fixed seed and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hosts", nargs="*", default=list(hosts()), help="default: all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "geometries")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for host in (hosts()[name] for name in options.hosts):
        path = options.out / f"sio2_{host.name}.xyz.xz"
        if not path.exists():
            store(path, host.name, host.vacancies, sample(host), seed=6)


if __name__ == "__main__":
    main()
