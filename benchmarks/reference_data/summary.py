"""Count the finished frames and what they cost; writes ``summary.json``."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from ase import Atoms
from frames import load
from settings import SETTINGS

HERE = Path(__file__).parent
DATA = HERE / "data"


def group(system: str, atoms: Atoms) -> str:
    """Host and charge of an SiO2 frame, or the interface of a metal-water frame."""
    if system == "sio2":
        return f"{atoms.info['geometry_id'].rpartition('-')[0]} q={atoms.info['charge']:+d}"
    return atoms.info["config_type"]


def summarise(system: str) -> dict:
    """Frames, geometries, atoms and mean CPU seconds by group, and the failures by reason."""
    groups = defaultdict(list)
    for atoms in load(DATA, system):
        groups[group(system, atoms)].append(atoms)
    failed = {}
    for path in sorted(DATA.glob(f"{system}_*_failed.json")):
        failed |= json.loads(path.read_text())
    every = [atoms for frames in groups.values() for atoms in frames]
    return {
        "frames": len(every),
        "geometries": len({atoms.info["geometry_id"] for atoms in every}),
        "cpu_hours": round(sum(atoms.info["cpu_seconds"] for atoms in every) / 3600, 2),
        "failed": failed,
        "groups": {
            name: {
                "frames": len(frames),
                "atoms": sorted({len(atoms) for atoms in frames}),
                "cpu_seconds": round(np.mean([a.info["cpu_seconds"] for a in frames])),
            }
            for name, frames in sorted(groups.items())
        },
    }


def main() -> None:
    """Summarise both systems."""
    summary = {system: summarise(system) for system in SETTINGS}
    text = json.dumps(summary, indent=1)
    (HERE / "summary.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
