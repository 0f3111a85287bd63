"""Finished and failed frames on disk: chunked, compressed extended XYZ plus a list of failures."""

import json
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io import read, write

CHUNK = 10


@dataclass(frozen=True)
class FrameStore:
    """The frames one process writes; several processes may share a folder.

    Attributes
    ----------
    folder : Path
    system : str
        First part of every file name.
    shard : int
        Second part; every process needs its own.
    """

    folder: Path
    system: str
    shard: int

    def finished(self) -> set[str]:
        """Frame ids that need no further work, whichever process wrote them."""
        ids = set()
        for path in self.folder.glob(f"{self.system}_*.xyz.xz"):
            ids |= {atoms.info["frame_id"] for atoms in read(path, ":", format="extxyz")}
        for path in self.folder.glob(f"{self.system}_*_failed.json"):
            ids |= set(json.loads(path.read_text()))
        return ids

    def append(self, atoms: Atoms) -> Path:
        """Add a frame to the last chunk, or begin a new one."""
        chunks = sorted(self.folder.glob(f"{self.system}_{self.shard}_*.xyz.xz"))
        frames = read(chunks[-1], ":", format="extxyz") if chunks else []
        if not chunks or len(frames) >= CHUNK:
            path, frames = self._chunk(len(chunks)), []
        else:
            path = chunks[-1]
        replace_frames(path, [*frames, atoms])
        return path

    def record_failure(self, frame_id: str, reason: str) -> None:
        """Remember a frame that was dropped, and why."""
        path = self.folder / f"{self.system}_{self.shard}_failed.json"
        failed = json.loads(path.read_text()) if path.exists() else {}
        failed[frame_id] = reason
        path.write_text(json.dumps(failed, indent=1) + "\n")

    def _chunk(self, number: int) -> Path:
        return self.folder / f"{self.system}_{self.shard}_{number:03d}.xyz.xz"


def replace_frames(path: Path, frames: list[Atoms]) -> None:
    """Write a file that an interruption leaves as it was or makes new, but never cuts."""
    temporary = path.with_name(f".{path.name}")
    write(temporary, frames, format="extxyz")
    temporary.replace(path)


def geometry(folder: Path, geometry_id: str) -> Atoms:
    """One sampled geometry by its name.

    Raises
    ------
    KeyError
        If no file of the folder holds it.
    """
    for path in sorted(folder.glob("*.xyz.xz")):
        for atoms in read(path, ":", format="extxyz"):
            if atoms.info["geometry_id"] == geometry_id:
                return atoms
    raise KeyError(f"{geometry_id} is in no file of {folder}")


def load(folder: Path, system: str) -> list[Atoms]:
    """All finished frames of a system, ordered by frame id."""
    frames = []
    for path in folder.glob(f"{system}_*.xyz.xz"):
        frames += read(path, ":", format="extxyz")
    return sorted(frames, key=lambda atoms: atoms.info["frame_id"])
