"""Label the sampled geometries with DFT; interrupt and rerun at will.

Examples
--------
Both systems in turn for two hours, first of two processes::

    python generate.py sio2 al_water --shard 0/2 --minutes 120
"""

import argparse
import itertools
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from frames import FrameStore
from gpaw import KohnShamConvergenceError
from labels import VacuumElectrons, label
from settings import SETTINGS

HERE = Path(__file__).parent
MAX_DROP = 2.2
"""Voltage along the vacuum beyond which electrons leave a slab (``labels.require_bound``)."""


@dataclass(frozen=True)
class Task:
    """One frame to compute: a geometry at a total charge (e) in a field along z (V/Angstrom)."""

    atoms: Atoms
    system: str
    charge: int
    field: float

    @property
    def frame_id(self) -> str:
        """Stable name, for example ``sio2-012_q+1`` or ``al-007_f-0.150``."""
        state = f"q{self.charge:+d}" if self.system == "sio2" else f"f{self.field:+.3f}"
        return f"{self.atoms.info['geometry_id']}_{state}"


def tasks(system: str) -> list[Task]:
    """All tasks of a system, so ordered that any first part has every kind in its final share;
    the states of a geometry come together, and far rattled ones come last."""
    near, far = defaultdict(list), defaultdict(list)
    for path in sorted((HERE / "geometries").glob(f"{system}_*.xyz.xz")):
        for atoms in read(path, ":", format="extxyz"):
            if SETTINGS[system].covers(atoms):
                (far if is_far_rattled(atoms) else near)[kind(atoms)].append(atoms)
    found = []
    for atoms in spread(near.values()) + spread(far.values()):
        charges = np.atleast_1d(atoms.info.get("charges", 0))
        fields = np.atleast_1d(atoms.info.get("fields", 0.0))
        found += [
            Task(atoms, system, int(q), float(f))
            for q in charges
            for f in fields
            if drop(atoms, f) <= MAX_DROP
        ]
    return found


def drop(atoms: Atoms, field: float) -> float:
    """Voltage between the metal, or the middle of a film, and the face that electrons go to."""
    metal = atoms.positions[atoms.numbers == 13, 2]
    if not len(metal):
        return abs(field) * 0.5 * atoms.cell[2, 2]
    return abs(field) * (metal.min() if field > 0 else atoms.cell[2, 2] - metal.max())


def is_far_rattled(atoms: Atoms) -> bool:
    """Whether it is rattled by 0.05 Angstrom or more: forces of 3 to 5 eV/Angstrom."""
    return bool(re.search(r"rattle0\.(0[5-9]|[1-9])", atoms.info["config_type"]))


def kind(atoms: Atoms) -> str:
    """Host and origin of an SiO2 geometry (``quartz35hex-md``), or the shape of an interface."""
    name, _, state = atoms.info["config_type"].partition("-")
    return f"{name}-{state if name.startswith('al') else re.match('[a-z]+', state)[0]}"


def spread(groups: Iterable[list]) -> list:
    """All items, number k of n in a group at (k + 1/2)/n of the way."""
    placed = [((k + 0.5) / len(group), item) for group in groups for k, item in enumerate(group)]
    return [item for _, item in sorted(placed, key=lambda pair: pair[0])]


def interleaved(groups: list[list]) -> Iterator:
    """One item from each list in turn."""
    for row in itertools.zip_longest(*groups):
        yield from (item for item in row if item is not None)


def alternate(groups: list[list[Task]]) -> Iterator[Task]:
    """Three tasks from each group in turn, so that every system grows together."""
    batches = [[group[i : i + 3] for i in range(0, len(group), 3)] for group in groups]
    for batch in interleaved(batches):
        yield from batch


def compute(task: Task, store: FrameStore) -> str:
    """Run one task, store the frame or the reason of the failure, and describe what happened."""
    start = time.process_time()
    try:
        frame = label(task.atoms, SETTINGS[task.system], charge=task.charge, field=task.field)
    except (KohnShamConvergenceError, VacuumElectrons) as error:
        store.record_failure(task.frame_id, f"{type(error).__name__}: {error}".strip())
        return f"{task.frame_id} failed"
    seconds = time.process_time() - start
    for key in ("charges", "fields"):
        frame.info.pop(key, None)
    frame.info |= {"frame_id": task.frame_id, "cpu_seconds": round(seconds, 1)}
    path = store.append(frame)
    return f"{task.frame_id} {len(frame)} atoms {seconds:.0f} s -> {path.name}"


def main() -> None:
    """Work through the unfinished tasks of this shard until a limit is reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("systems", nargs="+", choices=SETTINGS)
    parser.add_argument("--out", type=Path, default=HERE / "data")
    parser.add_argument("--shard", default="0/1", help="i/n: every n-th task, beginning with i")
    parser.add_argument("--limit", type=int, help="stop after this many tasks")
    parser.add_argument("--atoms", type=int, default=1000, help="only geometries up to this size")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start none later")
    options = parser.parse_args()
    shard, shards = map(int, options.shard.split("/"))
    options.out.mkdir(parents=True, exist_ok=True)
    stores = {s: FrameStore(options.out, s, shard) for s in options.systems}
    done = set().union(*(store.finished() for store in stores.values()))
    own = [tasks(system)[shard::shards] for system in options.systems]
    deadline = time.monotonic() + 60 * options.minutes
    waiting = [
        task
        for task in alternate(own)
        if task.frame_id not in done and len(task.atoms) <= options.atoms
    ]
    for task in waiting[: options.limit]:
        if time.monotonic() > deadline:
            break
        print(compute(task, stores[task.system]), flush=True)


if __name__ == "__main__":
    main()
