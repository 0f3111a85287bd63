"""Geometries of Al(111) slabs with water, bare slabs and water films, open along z.

Writes ``geometries/al_water_<shape>_<seed>.xyz.xz``, one file per shape, and skips those that are
there. Every geometry carries ``geometry_id``, ``config_type`` and ``fields`` (V/Angstrom along z,
to label). The water moves with GFN1-xTB above a smooth wall in the place of the metal; every fourth
interface is then relaxed for a few steps with GFN1-xTB, metal included.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.mixing import SumCalculator
from ase.geometry import get_distances
from ase.io import write
from sampling import gfn1, rattled, relaxed, snapshots

LATTICE_CONSTANT = 4.05
VACUUM = 5.5
WATER_VOLUME = 30.0
WALL = {8: (2.75, 0.25), 1: (2.5, 0.02)}
"""Minimum (Angstrom) and depth (eV) of the wall, oxygen and hydrogen."""


class Wall(Calculator):
    """A 9-3 wall at z = 0: E = sum_i depth_i / 2 ((r_i / z)^9 - 3 (r_i / z)^3)."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Energy in eV and forces in eV/Angstrom."""
        super().calculate(atoms, properties, system_changes)
        minimum, depth = np.array([WALL[z] for z in atoms.numbers]).T
        height = np.maximum(atoms.positions[:, 2], 0.8)
        ratio = minimum / height
        forces = np.zeros((len(atoms), 3))
        forces[:, 2] = 4.5 * depth * (ratio**9 - ratio**3) / height
        self.results["energy"] = 0.5 * float(depth @ (ratio**9 - 3 * ratio**3))
        self.results["forces"] = forces


@dataclass(frozen=True)
class Interface:
    """How many layers, and how many water molecules below and above them.

    Attributes
    ----------
    layers : int
        Zero: a water film alone.
    below, above : int
        Water molecules on the two faces.
    lift : float, Angstrom
        Extra distance between the metal and the water.
    """

    layers: int
    below: int
    above: int
    lift: float = 0.0

    @property
    def name(self) -> str:
        """For example ``al4-water0+6``, with ``-lift3`` when separated."""
        tail = f"-lift{self.lift:g}" if self.lift else ""
        return f"al{self.layers}-water{self.below}+{self.above}{tail}"


INTERFACES = (
    Interface(3, 0, 4),
    Interface(4, 0, 4),
    Interface(4, 4, 4),
    Interface(3, 0, 6),
    Interface(5, 0, 4),
    Interface(4, 3, 3),
    Interface(3, 0, 8),
    Interface(4, 0, 5, lift=2.5),
    Interface(5, 2, 4),
    Interface(4, 5, 5),
    Interface(3, 6, 6),
    Interface(3, 0, 4, lift=4.0),
)


def metal(layers: int) -> Atoms:
    """A 2x2 Al(111) slab with its lowest layer at z = 0."""
    slab = fcc111("Al", (2, 2, layers), a=LATTICE_CONSTANT, vacuum=1.0)
    slab.positions[:, 2] -= slab.positions[:, 2].min()
    return Atoms(slab.symbols, slab.positions, cell=slab.cell, pbc=(True, True, False))


def random_molecule(rng: np.random.Generator) -> np.ndarray:
    """Coordinates (O, H, H) of a randomly oriented water molecule with the oxygen at zero."""
    water = molecule("H2O")
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return (water.positions - water.positions[0]) @ rotation


def packed_water(count: int, rng: np.random.Generator) -> Atoms:
    """Water at about 1 g/cm3 above z = 0, molecules put in one by one without overlap."""
    cell = metal(1).cell
    area = np.linalg.norm(np.cross(cell[0], cell[1]))
    thickness = count * WATER_VOLUME / area
    cell[2] = [0, 0, 60.0]
    film = Atoms(cell=cell, pbc=(True, True, False))
    while len(film) < 3 * count:
        thickness += 0.01
        origin = rng.random(3) @ np.diag([1, 1, 0]) @ cell
        trial = random_molecule(rng) + origin + [0, 0, 2.5 + thickness * rng.random()]
        if len(film):
            _, distances = get_distances(trial, film.positions, cell=cell, pbc=film.pbc)
            if distances.min() < 1.75 or distances[0, ::3].min() < 2.5:
                continue
        film += Atoms("OH2", trial)
    return film


def water_frames(count: int, frames: int, seed: int) -> list[Atoms]:
    """Molecular dynamics (350 K) of a water film above the wall; z = 0 is the metal layer."""
    film = packed_water(count, np.random.default_rng(seed))
    forces = SumCalculator([gfn1(film), Wall()])
    start = relaxed(film, forces, steps=40, fmax=0.2)
    start.set_masses(np.where(start.numbers == 1, 2.0, 16.0))
    return snapshots(
        start, forces, temperature=350.0, count=frames, interval=60, timestep=1.0, seed=seed
    )


def assemble(shape: Interface, below: Atoms | None, above: Atoms | None, seed: int) -> Atoms:
    """Put slab and films together, centred between two vacuum layers."""
    atoms = rattled(metal(shape.layers), 0.06, seed) if shape.layers else Atoms()
    top = atoms.positions[:, 2].max() if shape.layers else 0.0
    shift = np.random.default_rng(seed).uniform(-0.3, 0.5) + shape.lift
    for film, sign, plane in ((above, 1, top), (below, -1, 0.0)):
        if film is not None:
            part = film.copy()
            part.positions[:, 2] = plane + sign * (part.positions[:, 2] + shift)
            atoms += part
    atoms.cell = metal(1).cell
    atoms.pbc = (True, True, False)
    atoms.center(vacuum=VACUUM, axis=2)
    return atoms


def touched_up(atoms: Atoms, steps: int) -> Atoms:
    """A few GFN1-xTB steps, so that the contact to the metal is not only the wall's."""
    moved = relaxed(atoms, gfn1(atoms), steps=steps, fmax=0.2)
    moved.center(vacuum=VACUUM, axis=2)
    return moved


def fields(number: int, rng: np.random.Generator) -> np.ndarray:
    """Zero, one positive and one negative field; every fourth geometry the full range."""
    if number % 4 == 0:
        return np.array([0.0, 0.3, -0.3])
    low, high = rng.uniform(0.05, 0.3, size=2).round(3)
    return np.array([0.0, high, -low])


def one_field(number: int, rng: np.random.Generator) -> np.ndarray:
    """Any field, and none for every third geometry: most geometries for the money."""
    return np.array([0.0 if number % 3 == 0 else round(rng.uniform(-0.3, 0.3), 3)])


def interfaces(shape: Interface, frames: int, seed: int) -> Iterator[Atoms]:
    """Snapshots of one interface or film; every fourth interface is touched up."""
    above = water_frames(shape.above, frames, seed)
    below = water_frames(shape.below, frames, seed + 1) if shape.below else [None] * frames
    for number in range(frames):
        atoms = assemble(shape, below[number], above[number], seed + number)
        if shape.layers and number % 4 == 1:
            atoms = touched_up(atoms, steps=8)
        yield atoms


def bare(shape: Interface, frames: int, seed: int) -> Iterator[Atoms]:
    """A slab without water, displaced more and more."""
    for number, sigma in enumerate(np.linspace(0.0, 0.12, frames)):
        yield rattled(assemble(shape, None, None, seed + number), sigma, seed + number)


KINDS = {
    "bare": (bare, [Interface(layers, 0, 0) for layers in (3, 4, 5)]),
    "films": (interfaces, [Interface(0, 0, count) for count in (4, 6, 9)]),
    "interfaces": (interfaces, INTERFACES),
}
"""Name -> (sampler, shapes)."""


def sample(kind: str, place: int, frames: int, seed: int, choose: Callable = fields) -> list[Atoms]:
    """``frames`` geometries of one shape; numbers run over the shapes of the kind first."""
    sampler, shapes = KINDS[kind]
    rng, found = np.random.default_rng([seed, place]), []
    for frame, atoms in enumerate(sampler(shapes[place], frames, seed + 100 * place)):
        name = f"al-{kind}-{seed}-{frame * len(shapes) + place:03d}"
        atoms.info = {"config_type": shapes[place].name, "geometry_id": name}
        atoms.info["fields"] = choose(frame, rng)
        found.append(atoms)
    return found


def main() -> None:
    """Sample and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help="default: all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "geometries")
    parser.add_argument("--frames", type=int, default=4, help="geometries of each shape")
    parser.add_argument("--seed", type=int, default=60)
    parser.add_argument("--one-field", action="store_true", help="one label per geometry")
    parser.add_argument("--shapes", nargs="*", help="names, al3-water0+4 for example; default: all")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    choose = one_field if options.one_field else fields
    for kind in options.kinds:
        for place, shape in enumerate(KINDS[kind][1]):
            path = options.out / f"al_water_{shape.name}_{options.seed}.xyz.xz"
            wanted = not options.shapes or shape.name in options.shapes
            if wanted and not path.exists():
                found = sample(kind, place, options.frames, options.seed, choose)
                write(path, found, format="extxyz")


if __name__ == "__main__":
    main()
